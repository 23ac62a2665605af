"""The OpenAPI document of vlc_stream, made from the models that check its input."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel

from apps.common import openapi
from apps.common.channels import (
    ChannelControl,
    ChannelsView,
    ChannelView,
    ImposeAnswer,
    ImposedControl,
    ImposedView,
    ImposeRequest,
)
from apps.common.openapi import CREW, body, content, problems
from apps.common.screens import ScreensOrder, ScreensView

_MODELS: list[type[BaseModel]] = [
    ChannelControl,
    ChannelView,
    ChannelsView,
    ImposeAnswer,
    ImposeRequest,
    ImposedControl,
    ImposedView,
    ScreensOrder,
    ScreensView,
]


@cache
def document() -> dict[str, Any]:
    """The document (OpenAPI 3.1)."""
    return openapi.document("Channels, imposed video and screens", _MODELS, _paths())


def _paths() -> dict[str, Any]:
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "/api/v1/channels": {
            "get": {
                "summary": "All channels and imposed videos: where they are, and how",
                "operationId": "getChannels",
                "responses": {"200": content("Them", ChannelsView)},
            },
        },
        "/api/v1/channels/{name}/control": {
            "parameters": [name],
            "post": {
                "summary": "Play, pause, stop or seek a channel",
                "operationId": "controlChannel",
                "security": CREW,
                "requestBody": body(ChannelControl),
                "responses": {
                    "200": content("How it is now", ChannelView),
                    **problems(400, 401, 404, 409, 413),
                },
            },
        },
        "/api/v1/channels/{name}/picture": {
            "parameters": [name],
            "get": {
                "summary": "A picture of what is on the wire, of a channel or an imposed video",
                "operationId": "getPicture",
                "security": CREW,
                "responses": {
                    "200": {
                        "description": "A JPEG",
                        "content": {
                            "image/jpeg": {"schema": {"type": "string", "format": "binary"}}
                        },
                    },
                    **problems(401, 404, 503),
                },
            },
        },
        "/api/v1/imposed": {
            "post": {
                "summary": "Show an imposed video at some seats, and on the overhead screens",
                "operationId": "impose",
                "security": CREW,
                "requestBody": body(ImposeRequest),
                "responses": {
                    "202": content("It is on", ImposeAnswer),
                    **problems(400, 401, 404, 409, 413, 422, 429),
                },
            },
        },
        "/api/v1/imposed/{name}/control": {
            "parameters": [name],
            "post": {
                "summary": "Pause, resume or stop an imposed video",
                "operationId": "controlImposed",
                "security": CREW,
                "requestBody": body(ImposedControl),
                "responses": {
                    "200": content("How it is now", ImposedView),
                    **problems(400, 401, 404, 409, 413),
                },
            },
        },
        "/api/v1/screens": {
            "get": {
                "summary": "All overhead screens",
                "operationId": "getScreens",
                "security": CREW,
                "responses": {"200": content("How they are", ScreensView), **problems(401)},
            },
            "post": {
                "summary": "Deploy, stow or switch overhead screens",
                "operationId": "orderScreens",
                "security": CREW,
                "requestBody": body(ScreensOrder),
                "responses": {
                    "202": content("How they were when this was said", ScreensView),
                    **problems(400, 401, 409, 413, 422),
                },
            },
        },
    }
