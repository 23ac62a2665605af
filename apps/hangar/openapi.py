"""The OpenAPI document of the Hangar, made from the models that check its input."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel

from apps.common import gate, openapi, usage
from apps.common.gate import (
    AIRCRAFT_HEADER,
    OPERATOR_HEADER,
    BatchTaken,
    Heartbeat,
    HeartbeatAnswer,
)
from apps.common.openapi import body, content, problems
from apps.hangar.fleet import FleetView
from apps.hangar.service import AircraftDetail, AskedView, AskRequest

_MODELS: list[type[BaseModel]] = [
    AircraftDetail,
    AskRequest,
    AskedView,
    BatchTaken,
    FleetView,
    Heartbeat,
    HeartbeatAnswer,
]

_AIRCRAFT: list[dict[str, list[str]]] = [{"aircraft": []}]
_OPERATOR: list[dict[str, list[str]]] = [{"operator": []}]


@cache
def document() -> dict[str, Any]:
    """The document (OpenAPI 3.1)."""
    made = openapi.document("The Hangar", _MODELS, _paths())
    made["info"]["description"] = (
        "Aircraft and operators come in through nginx with a client certificate each, which sets "
        "the header that names them."
    )
    made["components"]["securitySchemes"] = {
        "aircraft": {"type": "apiKey", "in": "header", "name": AIRCRAFT_HEADER},
        "operator": {"type": "apiKey", "in": "header", "name": OPERATOR_HEADER},
    }
    return made


def _paths() -> dict[str, Any]:
    registration = {
        "name": "registration",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
    }
    number = {
        "name": "number",
        "in": "path",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    }
    identifier = {
        "name": "identifier",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "format": "uuid"},
    }
    return {
        "/api/v1/heartbeats": {
            "post": {
                "summary": "An aircraft tells how it is, and hears what is asked of it",
                "operationId": "postHeartbeat",
                "security": _AIRCRAFT,
                "requestBody": body(Heartbeat),
                "responses": {
                    "200": content("What is asked of it", HeartbeatAnswer),
                    **problems(400, 403, 413, 503),
                },
            },
        },
        "/api/v1/batches/{number}": {
            "parameters": [number],
            "put": {
                "summary": "An aircraft hands over a batch of usage",
                "operationId": "putBatch",
                "security": _AIRCRAFT,
                "requestBody": {
                    "required": True,
                    "content": {
                        usage.CONTENT_TYPE: {"schema": {"type": "string", "format": "binary"}}
                    },
                },
                "responses": {
                    "200": content("It had been taken before", BatchTaken),
                    "201": content("It is taken, and on the disk", BatchTaken),
                    **problems(400, 403, 409, 413, 422, 429, 503),
                },
            },
        },
        "/api/v1/logs/{identifier}": {
            "parameters": [identifier],
            "put": {
                "summary": "An aircraft sends the logs that it was asked for",
                "operationId": "putLogs",
                "security": _AIRCRAFT,
                "requestBody": {
                    "required": True,
                    "content": {gate.LOGS_TYPE: {"schema": {"type": "string", "format": "binary"}}},
                },
                "responses": {
                    "204": {"description": "They are on the disk"},
                    **problems(403, 404, 413, 503),
                },
            },
        },
        "/api/v1/fleet": {
            "get": {
                "summary": "All aircraft",
                "operationId": "getFleet",
                "security": _OPERATOR,
                "responses": {"200": content("They", FleetView), **problems(403, 503)},
            },
        },
        "/api/v1/aircraft/{registration}": {
            "parameters": [registration],
            "get": {
                "summary": "One aircraft",
                "operationId": "getAircraft",
                "security": _OPERATOR,
                "responses": {
                    "200": content("All that is known", AircraftDetail),
                    **problems(403, 404, 503),
                },
            },
        },
        "/api/v1/aircraft/{registration}/requests": {
            "parameters": [registration],
            "post": {
                "summary": "Ask something of an aircraft",
                "operationId": "askAircraft",
                "security": _OPERATOR,
                "requestBody": body(AskRequest),
                "responses": {
                    "202": {"description": "It is told with its next heartbeat"},
                    **problems(400, 403, 404, 409, 413, 503),
                },
            },
        },
    }
