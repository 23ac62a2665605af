"""The OpenAPI document of the PA, made from the models that check its input."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel

from apps.common import openapi
from apps.common.announcements import (
    MusicRequest,
    PaView,
    PramRequest,
    PramView,
    QueuedView,
    RecordingsView,
)
from apps.common.openapi import CREW, body, content, problems

_MODELS: list[type[BaseModel]] = [
    MusicRequest,
    PaView,
    PramRequest,
    PramView,
    QueuedView,
    RecordingsView,
]


@cache
def document() -> dict[str, Any]:
    """The document (OpenAPI 3.1)."""
    return openapi.document("PA", _MODELS, _paths())


def _paths() -> dict[str, Any]:
    return {
        "/api/v1/pa": {
            "get": _crew(
                "getPa", "Who speaks, and how the PA is", {"200": content("Everything", PaView)}
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
            "get": _crew("getMessages", "The messages", {"200": content("All", PramView)}),
            "post": _crew(
                "playMessage",
                "Let a message wait for its turn",
                {"202": content("It waits", QueuedView), **problems(400, 409, 413, 422, 429)},
                PramRequest,
            ),
            "delete": _crew("clearMessages", "Stop all messages", _DONE),
        },
        "/api/v1/pram/{id}": {
            "parameters": [_number("id")],
            "delete": _crew("removeMessage", "Stop one message", {**_DONE, **problems(404)}),
        },
        "/api/v1/music": {
            "post": _crew(
                "switchMusic",
                "Play boarding music in some areas, or no longer",
                {**_DONE, **problems(400, 409, 413, 422)},
                MusicRequest,
            ),
        },
        "/api/v1/announcements": {
            "get": {
                "summary": "The announcements that were recorded",
                "operationId": "getAnnouncements",
                "responses": {
                    "200": content("The newest first", RecordingsView),
                    **problems(503),
                },
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
                    **problems(404, 416, 503),
                },
            },
        },
    }


_DONE = {"204": {"description": "Done"}}


def _crew(
    operation: str, summary: str, responses: dict[str, Any], asked: type[BaseModel] | None = None
) -> dict[str, Any]:
    """An operation of the crew's."""
    found: dict[str, Any] = {
        "summary": summary,
        "operationId": operation,
        "security": CREW,
        "responses": {**responses, **problems(401, 503)},
    }
    if asked is not None:
        found["requestBody"] = body(asked)
    return found


def _number(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    }


def _audio(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"audio/wav": {}}}
