"""The OpenAPI document of the PA, made from the models that check its input."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from apps.common.health import HealthReport
from apps.common.protocol import CREW_HEADER
from apps.common.web import CONTENT_TYPE
from apps.pa_audio.pram import MusicRequest, PramRequest
from apps.pa_audio.recorder import RecordingsView
from apps.pa_audio.service import PaView, PramView, QueuedView


class ProblemDocument(BaseModel):
    """A refusal (RFC 9457)."""

    type: str = Field(pattern="^urn:ife:problem:[a-z0-9-]+$")
    title: str
    status: int
    detail: str


_MODELS: list[type[BaseModel]] = [
    HealthReport,
    MusicRequest,
    PaView,
    PramRequest,
    PramView,
    ProblemDocument,
    QueuedView,
    RecordingsView,
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
            "title": "PA",
            "version": "1",
            "description": "The crew comes in through sessions of crew_web, which names them.",
        },
        "paths": _paths(),
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "crew": {"type": "apiKey", "in": "header", "name": CREW_HEADER},
            },
        },
    }


def _paths() -> dict[str, Any]:
    return {
        "/api/v1/pa": {
            "get": _crew(
                "getPa", "Who speaks, and how the PA is", {"200": _content("Everything", PaView)}
            ),
        },
        "/api/v1/pa/listen": {
            "get": _crew(
                "listenIn",
                "What is on the air, as WAV without end, for five minutes",
                {"200": _audio("A stream")},
            ),
        },
        "/api/v1/pram": {
            "get": _crew("getMessages", "The messages", {"200": _content("All", PramView)}),
            "post": _crew(
                "playMessage",
                "Let a message wait for its turn",
                {"202": _content("It waits", QueuedView), **_problems(400, 409, 413, 422, 429)},
                PramRequest,
            ),
            "delete": _crew("clearMessages", "Stop all messages", _DONE),
        },
        "/api/v1/pram/{id}": {
            "parameters": [_number("id")],
            "delete": _crew("removeMessage", "Stop one message", {**_DONE, **_problems(404)}),
        },
        "/api/v1/music": {
            "put": _crew(
                "playMusic",
                "Play boarding music",
                {**_DONE, **_problems(400, 409, 413, 422)},
                MusicRequest,
            ),
            "delete": _crew("stopMusic", "Stop boarding music", _DONE),
        },
        "/api/v1/announcements": {
            "get": {
                "summary": "The announcements that were recorded",
                "operationId": "getAnnouncements",
                "responses": {"200": _content("The newest first", RecordingsView)},
            },
        },
        "/api/v1/announcements/{number}/audio": {
            "parameters": [_number("number")],
            "get": {
                "summary": "A recorded announcement",
                "operationId": "getAnnouncementAudio",
                "responses": {
                    "200": _audio("The whole of it"),
                    "206": _audio("The range that was asked for"),
                    "304": {"description": "It is as the client has it"},
                    **_problems(404, 416),
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


_DONE = {"204": {"description": "Done"}}


def _crew(
    operation: str, summary: str, responses: dict[str, Any], body: type[BaseModel] | None = None
) -> dict[str, Any]:
    """An operation of the crew's."""
    found: dict[str, Any] = {
        "summary": summary,
        "operationId": operation,
        "security": [{"crew": []}],
        "responses": {**responses, **_problems(401, 503)},
    }
    if body is not None:
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _reference(body)}},
        }
    return found


def _number(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    }


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _content(description: str, model: type[BaseModel]) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": _reference(model)}},
    }


def _audio(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"audio/wav": {}}}


def _problems(*statuses: int) -> dict[str, Any]:
    return {
        str(status): {
            "description": "Refused; the body says why",
            "content": {CONTENT_TYPE: {"schema": _reference(ProblemDocument)}},
        }
        for status in statuses
    }
