"""OpenAPI documents (3.1) of our apps, made from the models that check what comes in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from apps.common.health import HealthReport
from apps.common.protocol import CREW_HEADER, SEAT_HEADER
from apps.common.web import CONTENT_TYPE

CREW: list[dict[str, list[str]]] = [{"crew": []}]
SEAT: list[dict[str, list[str]]] = [{"seat": []}]
"""The `security` of an operation: who may ask."""

_SCHEMES = {
    "crew": {"type": "apiKey", "in": "header", "name": CREW_HEADER},
    "seat": {"type": "apiKey", "in": "header", "name": SEAT_HEADER},
}
_ABOUT = (
    "Seats come in through nginx with a client certificate each, the crew through crew_web's "
    "sessions; both set the headers that name them."
)


class ProblemDocument(BaseModel):
    """A refusal (RFC 9457)."""

    type: str = Field(pattern="^urn:ife:problem:[a-z0-9-]+$")
    title: str
    status: int
    detail: str


def document(
    title: str, models: Sequence[type[BaseModel]], paths: Mapping[str, Any]
) -> dict[str, Any]:
    """A whole document; ``/healthz`` is added.

    Args:
        title: of the API.
        models: what `paths` refers to.
        paths: Path Item Objects by their path.
    """
    all_models: list[type[BaseModel]] = [*models, HealthReport, ProblemDocument]
    _, schemas = models_json_schema(
        [(model, "validation") for model in all_models],
        ref_template="#/components/schemas/{model}",
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1", "description": _ABOUT},
        "paths": {**paths, "/healthz": {"get": _HEALTH}},
        "components": {"schemas": schemas["$defs"], "securitySchemes": _SCHEMES},
    }


def reference(model: type[BaseModel]) -> dict[str, str]:
    """The schema of a model of the document."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def body(model: type[BaseModel]) -> dict[str, Any]:
    """A request's body."""
    return {"required": True, "content": {"application/json": {"schema": reference(model)}}}


def content(description: str, model: type[BaseModel]) -> dict[str, Any]:
    """An answer with a body."""
    return {
        "description": description,
        "content": {"application/json": {"schema": reference(model)}},
    }


def problems(*statuses: int) -> dict[str, Any]:
    """The answers that are refusals, by status."""
    return {
        str(status): {
            "description": "Refused; the body says why",
            "content": {CONTENT_TYPE: {"schema": reference(ProblemDocument)}},
        }
        for status in statuses
    }


_HEALTH = {
    "summary": "Is it ready, and what does it do without",
    "operationId": "getHealth",
    "responses": {
        "200": content("Ready", HealthReport),
        "503": content("Not ready", HealthReport),
    },
}
