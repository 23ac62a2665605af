"""The fast lane for heartbeats: a thousand aircraft say each 30 s that they are there.

Flask takes a third of such a request's time, and none of what it does is wanted here.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

from apps.common.gate import AIRCRAFT_HEADER, HEARTBEATS_PATH, MAX_HEARTBEAT
from apps.common.web import CONTENT_TYPE, Problem
from apps.hangar.service import Hangar

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_AIRCRAFT = f"HTTP_{AIRCRAFT_HEADER.upper().replace('-', '_')}"


class Lane:
    """Answers heartbeats itself, and hands everything else to Flask (WSGI, PEP 3333)."""

    def __init__(self, app: WSGIApplication, service: Hangar) -> None:
        self._app = app
        self._service = service

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        if environ["PATH_INFO"] != HEARTBEATS_PATH or environ["REQUEST_METHOD"] != "POST":
            return self._app(environ, start_response)
        body = environ["wsgi.input"].read(min(_length(environ), MAX_HEARTBEAT + 1))
        try:
            answer = self._service.heartbeat(environ.get(_AIRCRAFT, ""), body)
            status, kind, text = 200, "application/json", answer.model_dump_json().encode()
        except Problem as problem:
            status, kind, text = problem.status, CONTENT_TYPE, problem.body()
        headers = [("Content-Type", kind), ("Content-Length", str(len(text)))]
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return [text]


def _length(environ: WSGIEnvironment) -> int:
    """Of the body; 0 where it is not said: nginx always says it."""
    said = environ.get("CONTENT_LENGTH", "")
    return int(said) if said.isdecimal() else 0
