"""The OpenAPI document of seat control, made from the models that check its input."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from apps.common.cabin import CabinView
from apps.common.commands import Accepted, Armed, ArmRequest, CommandRequest, DeliveryReport
from apps.common.health import HealthReport
from apps.common.protocol import (
    CREW_HEADER,
    EPOCH_HEADER,
    PROTOCOL_HEADER,
    SEAT_HEADER,
    TIME_HEADER,
    Status,
    StatusAnswer,
)
from apps.common.web import CONTENT_TYPE


class ProblemDocument(BaseModel):
    """A refusal (RFC 9457)."""

    type: str = Field(pattern="^urn:ife:problem:[a-z0-9-]+$")
    title: str
    status: int
    detail: str


_MODELS: list[type[BaseModel]] = [
    Accepted,
    Armed,
    ArmRequest,
    CabinView,
    CommandRequest,
    DeliveryReport,
    HealthReport,
    ProblemDocument,
    Status,
    StatusAnswer,
]


@cache
def document() -> dict[str, Any]:
    """The document (OpenAPI 3.1)."""
    _, schemas = models_json_schema(
        [(model, "validation") for model in _MODELS],
        ref_template="#/components/schemas/{model}",
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Seat control",
            "version": "1",
            "description": (
                "Seats come in through nginx with a client certificate each, the crew through "
                "crew_web's sessions; both set the headers that name them."
            ),
        },
        "paths": _paths(),
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "seat": {"type": "apiKey", "in": "header", "name": SEAT_HEADER},
                "crew": {"type": "apiKey", "in": "header", "name": CREW_HEADER},
            },
        },
    }


def _paths() -> dict[str, Any]:
    seat = {"name": "seat", "in": "path", "required": True, "schema": {"type": "string"}}
    seq = {
        "name": "seq",
        "in": "path",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    }
    status_headers = {
        name: {"schema": {"type": "string"}, "required": True}
        for name in (EPOCH_HEADER, TIME_HEADER, PROTOCOL_HEADER)
    }
    return {
        "/api/v1/seats/{seat}/status": {
            "parameters": [seat],
            "post": {
                "summary": "A seat reports, and gets the commands that it misses",
                "operationId": "reportStatus",
                "security": [{"seat": []}],
                "requestBody": _body(Status),
                "responses": {
                    "204": {
                        "description": "The seat holds all there is",
                        "headers": status_headers,
                    },
                    "200": _content("What it misses", StatusAnswer) | {"headers": status_headers},
                    **_problems(400, 401, 403, 404, 409, 413),
                },
            },
        },
        "/api/v1/commands/arm": {
            "post": {
                "summary": "The first step of a destructive command on several seats",
                "operationId": "armCommand",
                "security": [{"crew": []}],
                "requestBody": _body(ArmRequest),
                "responses": {
                    "200": _content("A token for the second step", Armed),
                    **_problems(400, 401, 413, 422),
                },
            },
        },
        "/api/v1/commands": {
            "post": {
                "summary": "Tell some seats to do something",
                "operationId": "issueCommand",
                "security": [{"crew": []}],
                "requestBody": _body(CommandRequest),
                "responses": {
                    "202": _content("It is written down and on its way", Accepted)
                    | {"headers": {"Location": {"schema": {"type": "string"}}}},
                    **_problems(400, 401, 413, 422, 428, 429),
                },
            },
        },
        "/api/v1/commands/{seq}": {
            "parameters": [seq],
            "get": {
                "summary": "How far a command has come",
                "operationId": "getReport",
                "security": [{"crew": []}],
                "responses": {"200": _content("The report", DeliveryReport), **_problems(401, 404)},
            },
        },
        "/api/v1/cabin": {
            "get": {
                "summary": "The whole cabin",
                "operationId": "getCabin",
                "security": [{"crew": []}],
                "responses": {"200": _content("Every seat", CabinView), **_problems(401)},
            },
        },
        "/api/v1/events": {
            "parameters": [
                {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}},
            ],
            "get": {
                "summary": "What changes, as server-sent events: see apps/common/cabin.py",
                "operationId": "streamEvents",
                "security": [{"crew": []}],
                "responses": {
                    "200": {
                        "description": "A stream that goes on for minutes",
                        "content": {"text/event-stream": {"schema": {"type": "string"}}},
                    },
                    **_problems(401, 503),
                },
            },
        },
        "/healthz": {
            "get": {
                "summary": "Is it ready, and what does it do without",
                "operationId": "getHealth",
                "responses": {
                    "200": _content("Ready", HealthReport),
                    "503": _content("Not ready", HealthReport),
                },
            },
        },
    }


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _body(model: type[BaseModel]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": _reference(model)}}}


def _content(description: str, model: type[BaseModel]) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": _reference(model)}},
    }


def _problems(*statuses: int) -> dict[str, Any]:
    return {
        str(status): {
            "description": "Refused; the body says why",
            "content": {CONTENT_TYPE: {"schema": _reference(ProblemDocument)}},
        }
        for status in statuses
    }
