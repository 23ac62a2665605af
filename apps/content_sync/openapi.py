"""The OpenAPI document of content_sync, made from the models that check its input."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel

from apps.common import openapi
from apps.common.content import Catalogue, ContentState, ImportRequest, Job
from apps.common.openapi import CREW, body, content, problems

_MODELS: list[type[BaseModel]] = [Catalogue, ContentState, ImportRequest, Job]


@cache
def document() -> dict[str, Any]:
    """The document (OpenAPI 3.1). It has the schema of catalogues, too."""
    return openapi.document("Content: what is on board, and how more comes", _MODELS, _paths())


def _parameter(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": kind}}


def _paths() -> dict[str, Any]:
    return {
        "/api/v1/content": {
            "get": {
                "summary": "What is on board, what is coming, and the disks",
                "operationId": "getContent",
                "responses": {"200": content("All of it", ContentState)},
            },
        },
        "/api/v1/content/rollback": {
            "post": {
                "summary": "Put the former set in force, at once",
                "operationId": "rollback",
                "security": CREW,
                "responses": {
                    "200": content("How it is now", ContentState),
                    **problems(401, 409, 503),
                },
            },
        },
        "/api/v1/disks/{port}/import": {
            "parameters": [_parameter("port", "string")],
            "post": {
                "summary": "Import a disk that waits for the crew's word, or once more",
                "operationId": "importDisk",
                "security": CREW,
                "responses": {
                    "202": content("It is queued", ContentState),
                    **problems(401, 404, 409),
                },
            },
        },
        "/api/v1/imports": {
            "post": {
                "summary": "Import the repository in a folder of the server",
                "operationId": "importFolder",
                "security": CREW,
                "requestBody": body(ImportRequest),
                "responses": {
                    "202": content("It is queued", Job),
                    **problems(400, 401, 413, 429),
                },
            },
        },
        "/api/v1/verifications": {
            "post": {
                "summary": "Read everything again, and compare it with what was signed",
                "operationId": "verify",
                "security": CREW,
                "responses": {"202": content("It is queued", Job), **problems(401, 429)},
            },
        },
        "/api/v1/jobs/{number}": {
            "parameters": [_parameter("number", "integer")],
            "get": {
                "summary": "How something that takes long comes along",
                "operationId": "getJob",
                "responses": {"200": content("It", Job), **problems(404)},
            },
        },
    }
