"""Renders the templates of the roles, with their defaults: the bench and aircraft have one truth.

The templates that the bench uses keep to plain Jinja, as their first line says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from ruamel.yaml import YAML

ROLES = Path(__file__).parent.parent / "roles"


def defaults(role: str) -> dict[str, Any]:
    """The variables of a role, as its ``defaults/main.yml`` sets them."""
    values: dict[str, Any] = YAML(typ="safe").load(ROLES / role / "defaults/main.yml")
    return values


def render(role: str, template: str, **variables: Any) -> str:
    """A template of a role, with its defaults but for `variables`.

    Raises:
        jinja2.TemplateError: the template wants a variable that is not there.
    """
    environment = Environment(
        loader=FileSystemLoader(ROLES / role / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,  # as Ansible does
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - configuration, no HTML
    )
    return environment.get_template(template).render(defaults(role) | variables)
