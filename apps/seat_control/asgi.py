"""What gunicorn runs: the Flask app, with a fast lane for the seats' status and for events.

Three hundred seats report each second on a small machine, and Flask takes several times as
long for such a request as the work in it (docs/benchmarks.md); and an event stream would hold
one of its threads for as long as a page is open. Both are answered here, on the event loop;
everything else goes to the Flask app in a thread.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

from a2wsgi import WSGIMiddleware

from apps.common import log as logs
from apps.common import manhole
from apps.common.cabin import PING_EVERY
from apps.common.layout import LayoutError
from apps.common.protocol import CREW_HEADER, MAX_STATUS_BODY, SEAT_HEADER
from apps.common.settings import SettingsError
from apps.common.web import Problem, check_crew
from apps.seat_control.app import create_app
from apps.seat_control.journal import JournalError
from apps.seat_control.service import HttpAnswer, SeatControl
from apps.seat_control.settings import SeatControlSettings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

STREAM_SECONDS = 300
"""A stream of events ends after this time, so that its client is asked for a session again."""

MAX_STREAMS = 32
MAX_STREAMS_OF_ONE = 6
"""A crew member has a page on a panel and on a tablet, and some tabs that were forgotten."""

THREADS = 4
"""Requests that the Flask app works on at a time; a crew is a handful of people."""

_SEAT = SEAT_HEADER.lower().encode()
_CREW = CREW_HEADER.lower().encode()
_PREFIX, _SUFFIX = "/api/v1/seats/", "/status"


class Front:
    """The ASGI app. The service is made and started with gunicorn's worker."""

    def __init__(self, make_service: Callable[[], SeatControl]) -> None:
        self._make_service = make_service
        self._service: SeatControl
        self._flask: Any
        self._streams: Counter[str] = Counter()
        self._clients: set[asyncio.Future[None]] = set()
        """Of the streams; each is done when its client has gone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or the worker's own start and stop."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if is_status(scope):
            await self._status(scope, receive, send)
        elif scope["method"] == "GET" and scope["path"] == "/api/v1/events":
            await self._events(scope, receive, send)
        else:
            await self._flask(scope, receive, send)

    def receive_status(self, scope: Scope, body: bytes) -> HttpAnswer:
        """The answer to a request that `is_status` and is whole."""
        seat = scope["path"][len(_PREFIX) : -len(_SUFFIX)]
        return self._service.receive_status(seat, _header(scope, _SEAT), body)

    def end_streams(self) -> None:
        """End all streams of events, as if their clients had gone."""
        for client in self._clients:
            client.cancel()

    def giving(self, answer: HttpAnswer) -> ASGIApp:
        """An app that gives this answer, once it may be given."""

        async def give(_scope: Scope, _receive: Receive, send: Send) -> None:
            if answer.after_writing:
                await asyncio.to_thread(self._service.write_outcomes)
            await _send_answer(answer, send)

        return give

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    self._service = self._make_service()
                except (SettingsError, LayoutError, JournalError) as error:
                    # uvicorn logs the message, without a traceback, and gunicorn ends.
                    failed = {"type": "lifespan.startup.failed", "message": f"not started: {error}"}
                    await send(failed)
                    return
                app: Any = create_app(self._service)
                self._flask = WSGIMiddleware(app, workers=THREADS)
                self._service.start()
                manhole.open_if_wanted(service=self._service)
                # What was made until here stays. Each full collection would look through all of
                # it, which holds up whoever waits for an answer by some 50 ms.
                gc.collect()
                gc.freeze()
                await send({"type": "lifespan.startup.complete"})
            else:
                await asyncio.to_thread(self._service.close)
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _status(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            if len(body) <= MAX_STATUS_BODY:  # what is longer is read, but not kept
                body += message.get("body", b"")
            if not message.get("more_body"):
                break
        await self.giving(self.receive_status(scope, body))(scope, receive, send)

    async def _events(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            crew = check_crew(_header(scope, _CREW))
            if self._streams.total() >= MAX_STREAMS or self._streams[crew] >= MAX_STREAMS_OF_ONE:
                raise Problem(503, "too-many-streams", "close some of the crew's pages")
        except Problem as problem:
            await _send_answer(HttpAnswer.of(problem), send)
            return
        self._streams[crew] += 1
        try:
            await self._stream(_header(scope, b"last-event-id"), receive, send)
        finally:
            self._streams -= Counter([crew])  # which forgets those who have none

    async def _stream(self, last_event_id: str, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        news = asyncio.Event()
        stop = self._service.events.listen(partial(loop.call_soon_threadsafe, news.set))
        gone = asyncio.ensure_future(_disconnected(receive))
        self._clients.add(gone)
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [
                        (b"content-type", b"text/event-stream"),
                        (b"cache-control", b"no-store"),
                        (b"x-accel-buffering", b"no"),
                    ],
                }
            )
            position = self._service.events.resume(last_event_id)
            deadline = loop.time() + STREAM_SECONDS
            while loop.time() < deadline and not gone.done():
                news.clear()
                position, chunk = await self._next(position)
                if chunk:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    continue
                waiting = asyncio.ensure_future(news.wait())
                await asyncio.wait(
                    {waiting, gone}, timeout=PING_EVERY, return_when=asyncio.FIRST_COMPLETED
                )
                if not waiting.done():
                    waiting.cancel()
                    ping = b"event: ping\ndata: {}\n\n"
                    await send({"type": "http.response.body", "body": ping, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            stop()
            gone.cancel()
            self._clients.discard(gone)

    async def _next(self, position: int | None) -> tuple[int, bytes]:
        """What a client at `position` gets next: a snapshot, or the events since."""
        since = None if position is None else self._service.events.since(position)
        if since is None:
            # It looks at the journal, which may just be waiting for the disk.
            return await asyncio.to_thread(self._service.snapshot)
        return since


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_answer(answer: HttpAnswer, send: Send) -> None:
    await send(
        {"type": "http.response.start", "status": answer.status, "headers": headers_of(answer)}
    )
    await send({"type": "http.response.body", "body": answer.body})


def headers_of(answer: HttpAnswer) -> list[tuple[bytes, bytes]]:
    """All that it is sent with."""
    if answer.status == 204:
        return answer.headers
    return [*answer.headers, (b"content-length", str(len(answer.body)).encode())]


def is_status(scope: Scope) -> bool:
    """Whether a request is a seat's report."""
    path: str = scope["path"]
    return scope["method"] == "POST" and path.startswith(_PREFIX) and path.endswith(_SUFFIX)


def _header(scope: Scope, name: bytes) -> str:
    """The one header of that name; empty when there is none, or more than one."""
    values = [value for key, value in scope["headers"] if key == name]
    return values[0].decode("latin-1") if len(values) == 1 else ""


def make_service() -> SeatControl:
    """The service of this process. Raises what `SeatControl` does."""
    settings = SeatControlSettings.load()
    logs.setup(settings.log_level)
    return SeatControl(settings)


app = Front(make_service)
