"""The OpenAPI document of seat control, made from the models that check its input."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel

from apps.common import openapi
from apps.common.cabin import CabinView
from apps.common.commands import Accepted, Armed, ArmRequest, CommandRequest, DeliveryReport
from apps.common.openapi import body, content, problems
from apps.common.protocol import (
    EPOCH_HEADER,
    PROTOCOL_HEADER,
    TIME_HEADER,
    Status,
    StatusAnswer,
)

_MODELS: list[type[BaseModel]] = [
    Accepted,
    Armed,
    ArmRequest,
    CabinView,
    CommandRequest,
    DeliveryReport,
    Status,
    StatusAnswer,
]


@cache
def document() -> dict[str, Any]:
    """The document (OpenAPI 3.1)."""
    return openapi.document("Seat control", _MODELS, _paths())


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
                "security": openapi.SEAT,
                "requestBody": body(Status),
                "responses": {
                    "204": {
                        "description": "The seat holds all there is",
                        "headers": status_headers,
                    },
                    "200": content("What it misses", StatusAnswer) | {"headers": status_headers},
                    **problems(400, 401, 403, 404, 409, 413),
                },
            },
        },
        "/api/v1/commands/arm": {
            "post": {
                "summary": "The first step of a destructive command on several seats",
                "operationId": "armCommand",
                "security": openapi.CREW,
                "requestBody": body(ArmRequest),
                "responses": {
                    "200": content("A token for the second step", Armed),
                    **problems(400, 401, 413, 422),
                },
            },
        },
        "/api/v1/commands": {
            "post": {
                "summary": "Tell some seats to do something",
                "operationId": "issueCommand",
                "security": openapi.CREW,
                "requestBody": body(CommandRequest),
                "responses": {
                    "202": content("It is written down and on its way", Accepted)
                    | {"headers": {"Location": {"schema": {"type": "string"}}}},
                    **problems(400, 401, 413, 422, 428, 429),
                },
            },
        },
        "/api/v1/commands/{seq}": {
            "parameters": [seq],
            "get": {
                "summary": "How far a command has come",
                "operationId": "getReport",
                "security": openapi.CREW,
                "responses": {"200": content("The report", DeliveryReport), **problems(401, 404)},
            },
        },
        "/api/v1/cabin": {
            "get": {
                "summary": "The whole cabin",
                "operationId": "getCabin",
                "security": openapi.CREW,
                "responses": {"200": content("Every seat", CabinView), **problems(401)},
            },
        },
        "/api/v1/events": {
            "parameters": [
                {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}},
            ],
            "get": {
                "summary": "What changes, as server-sent events: see apps/common/cabin.py",
                "operationId": "streamEvents",
                "security": openapi.CREW,
                "responses": {
                    "200": {
                        "description": "A stream that goes on for minutes",
                        "content": {"text/event-stream": {"schema": {"type": "string"}}},
                    },
                    **problems(401, 503),
                },
            },
        },
    }
