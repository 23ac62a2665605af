"""Who asks: operators, as nginx names them by their client certificates."""

from __future__ import annotations

import re

from flask import request

from apps.common.gate import OPERATOR_HEADER
from apps.common.web import Problem

_OPERATOR = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def operator() -> str:
    """The operator who asks.

    Raises:
        Problem: there is none, or a browser asks for another site.
    """
    name = request.headers.get(OPERATOR_HEADER, "")
    if not _OPERATOR.fullmatch(name):
        raise Problem(403, "no-operator", "show the client certificate of an operator")
    # The certificate goes with whatever a browser sends, so it must say whose idea it was.
    foreign = request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}
    origin = request.headers.get("Origin")
    if request.method != "GET" and (
        foreign or (origin is not None and origin != f"https://{request.host}")
    ):
        raise Problem(403, "other-site", "this was sent by a page of another site")
    return name
