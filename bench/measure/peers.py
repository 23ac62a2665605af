"""The peers that seat control is measured against, each run in a process of its own.

For status updates: its own server and three others around the same work. Each hands path,
certificate header and body to `SeatControl.receive_status`, so what differs
is the server around it. For commands: the multicast transport alone, and HTTP to each seat.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import socket
import sys
from importlib import import_module
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import uvloop
from aiohttp import web

from apps.common import layout as layouts
from apps.common.layout import Layout
from apps.common.protocol import MAX_STATUS_BODY, SEAT_HEADER
from apps.seat_control.app import create_app
from apps.seat_control.asgi import Front
from apps.seat_control.multicast import MulticastSender
from apps.seat_control.service import SeatControl
from apps.seat_control.settings import SeatControlSettings

if TYPE_CHECKING:
    from flask import Flask

GROUP = IPv4Address("239.192.73.98")

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
    many = dataclasses.replace(layout, seats=seats)

    def load(path: Path) -> Layout:
        return many

    layouts.load = load
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
    return create_app(service)


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
    from twisted.web import resource

    server: Any = import_module("twisted.web.server")
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

    reactor: Any = import_module("twisted.internet.reactor")  # chosen when it is imported
    page: Any = Status
    reactor.listenTCP(port, server.Site(page()), interface="127.0.0.1", backlog=4096)
    reactor.run()


def multicast(port: int, group_port: int) -> None:
    """The transport alone: what arrives at `port` goes out as seat control sends a frame."""
    source = IPv4Address("127.0.0.1")
    sender = MulticastSender("lo", source, GROUP, group_port, 0, lambda: b"beacon")
    sender.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", port))
        while True:
            sender.send(sock.recv(2048), lambda: False)


async def unicast(port: int, first_seat_port: int, seats: int) -> None:
    """HTTP to each seat: a POST to `port` is posted to every seat's own server."""
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def click(request: web.Request) -> web.Response:
        body = await request.read()

        async def post(seat: int) -> None:
            url = f"http://127.0.0.1:{first_seat_port + seat}/command"
            async with session.post(url, data=body) as answer:
                await answer.read()

        await asyncio.gather(*(post(seat) for seat in range(seats)))
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/click", click)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    if name == "twisted":
        twisted(*map(int, numbers))
    elif name == "multicast":
        multicast(*map(int, numbers))
    else:
        uvloop.run(unicast(*map(int, numbers)))
