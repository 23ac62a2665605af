"""The status endpoint in seat control's own server and in its peers, all around the same work.

Each peer hands path, certificate header and body to `SeatControl.receive_status`, so what differs
is the server around it. Run by `bench.measure.status`, each in a process of its own.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
from typing import TYPE_CHECKING, Any

from apps.common import layout as layouts
from apps.common.protocol import MAX_STATUS_BODY, SEAT_HEADER
from apps.seat_control.app import create_app
from apps.seat_control.asgi import Front
from apps.seat_control.service import SeatControl
from apps.seat_control.settings import SeatControlSettings

if TYPE_CHECKING:
    from flask import Flask

_PREFIX, _SUFFIX = "/api/v1/seats/", "/status"


def seat_names(count: int) -> list[str]:
    """Names for more seats than any cabin has: ``1A`` … ``182K``."""
    rows = itertools.count(1)
    return [
        f"{row}{letter}"
        for row, letter in itertools.islice(((r, ch) for r in rows for ch in "ABCDEFGHJKL"), count)
    ]


def make_service() -> SeatControl:
    """A service of `BENCH_SEATS` seats; the layout file gives what else a layout has."""
    settings = SeatControlSettings.load()
    layout = layouts.load(settings.layout)
    some = next(iter(layout.seats.values()))
    names = seat_names(int(os.environ["BENCH_SEATS"]))
    seats = {name: dataclasses.replace(some, name=name) for name in names}
    layouts.load = lambda _: dataclasses.replace(layout, seats=seats)
    return SeatControl(settings)


def _started() -> SeatControl:
    service = make_service()
    service.start()
    return service


seat_control = Front(make_service)
"""As its unit runs it: under gunicorn, with a worker of its own."""


def flask() -> Flask:
    """Plain Flask, for gunicorn's gthread worker."""
    service = _started()
    return create_app(service.settings, service)


def starlette() -> Any:
    """Starlette, for uvicorn."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    service = _started()

    async def status(request: Request) -> Response:
        answer = service.receive_status(
            request.path_params["seat"],
            request.headers.get(SEAT_HEADER, ""),
            (await request.body())[: MAX_STATUS_BODY + 1],
        )
        response = Response(answer.body, answer.status)
        response.raw_headers.extend(answer.headers)
        return response

    return Starlette(routes=[Route("/api/v1/seats/{seat}/status", status, methods=["POST"])])


def twisted(port: int) -> None:
    """Twisted web; runs until it is stopped."""
    from twisted.internet import reactor
    from twisted.web import resource, server

    service = _started()

    class Status(resource.Resource):
        isLeaf = True  # noqa: N815 - the same

        def render_POST(self, request: Any) -> bytes:  # noqa: N802 - Twisted's name
            seat = request.path.decode("latin-1")[len(_PREFIX) : -len(_SUFFIX)]
            certificate = request.getHeader(SEAT_HEADER) or ""
            answer = service.receive_status(
                seat, certificate, request.content.read(MAX_STATUS_BODY + 1)
            )
            request.setResponseCode(answer.status)
            for name, value in answer.headers:
                request.responseHeaders.addRawHeader(name, value)
            return answer.body

    reactor.listenTCP(port, server.Site(Status()), interface="127.0.0.1", backlog=4096)  # type: ignore[attr-defined] - the reactor is chosen at run time
    reactor.run()  # type: ignore[attr-defined] - the same


if __name__ == "__main__":
    twisted(int(sys.argv[1]))
