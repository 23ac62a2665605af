"""The OpenAPI document of usb_lockdown, made from the models of what it says."""

from __future__ import annotations

from functools import cache
from typing import Any

from apps.common import openapi
from apps.common.disks import Blocked, Disk, Disks
from apps.common.openapi import CREW, content, problems


@cache
def document() -> dict[str, Any]:
    """The document (OpenAPI 3.1)."""
    return openapi.document(
        "Crew disks, and what is not let in by USB",
        [Blocked, Disk, Disks],
        {
            "/api/v1/usb": {
                "get": {
                    "summary": "The disks in the ports for crew disks, and all that is blocked",
                    "operationId": "getUsb",
                    "security": CREW,
                    "responses": {"200": content("Them", Disks), **problems(401)},
                },
            },
        },
    )
