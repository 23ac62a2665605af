"""The HTTP server in seat control's worker: uvicorn's, on asyncio's own loop.

uvloop is faster still, but under load it leaves some connections unserved for up to a second,
and a seat that is late is a seat that looks lost (docs/benchmarks.md).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import Server

from apps.common.protocol import MAX_STATUS_BODY
from apps.common.web import Problem
from apps.seat_control.asgi import headers_of, is_status
from apps.seat_control.service import HttpAnswer

log = logging.getLogger(__name__)

END_WITHIN = 1
"""Seconds that requests which are under way have when it ends: a seat is lost after 3 s."""


class StatusProtocol(HttpToolsProtocol):
    """Answers a seat's status in the moment in which it is whole.

    uvicorn makes a task of each request, which runs when the loop comes round again; that is a
    fifth of what a status takes. Everything else, and whatever has to wait, goes uvicorn's way.
    """

    _whole_first: Any = None
    """A status of which some is still to come: uvicorn's RequestResponseCycle."""

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if cycle.more_body and not cycle.waiting_for_100_continue and is_status(cycle.scope):
            self._whole_first = cycle
        else:
            super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        """Some of a body came; one that is too long is read, and refused, by the app."""
        super().on_body(body)
        cycle = self._whole_first
        if cycle is not None and len(cycle.body) > MAX_STATUS_BODY:
            self._whole_first = None
            super()._start_asgi_task(cycle, self.app)

    def on_message_complete(self) -> None:
        """A request is whole."""
        super().on_message_complete()
        cycle, self._whole_first = self._whole_first, None
        if cycle is None:
            return
        front: Any = self.app  # an `apps.seat_control.asgi.Front`, no middleware around it
        try:
            answer = front.receive_status(cycle.scope, bytes(cycle.body))
        except Exception:
            log.exception("a status failed")
            answer = HttpAnswer.of(Problem(500, "internal-server-error", "see the log"))
        if answer.after_writing or self.flow.write_paused or not cycle.keep_alive:
            super()._start_asgi_task(cycle, front.giving(answer))
            return
        head = (b"%b: %b\r\n" % header for header in headers_of(answer))
        self.transport.write(b"".join([STATUS_LINE[answer.status], *head, b"\r\n", answer.body]))
        cycle.response_started = cycle.response_complete = True
        self.on_response_complete()


class _Server(Server):
    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        """Wait for what is under way, but not for pages, which ask for their events anew."""
        self.config.app.end_streams()  # type: ignore[union-attr]  # `apps.seat_control.asgi.Front`
        await super().shutdown(sockets)


def serve(
    app: Any,
    sockets: list[Any],
    keep_alive: int,
    notify: Callable[[], Awaitable[None]],
    notify_every: float,
) -> bool:
    """Serve until the process is told to end (SIGTERM).

    Args:
        app: the ASGI app.
        sockets: that listen.
        keep_alive: seconds for which a connection without a request stays.
        notify: called while all is well.
        notify_every: how often, in seconds.

    Returns:
        Whether it has come up.
    """
    config = Config(
        app,
        loop="asyncio",
        http=StatusProtocol,
        lifespan="on",
        ws="none",
        log_config=None,
        # The crew page asks each 2 s how it is; that is nothing for the journal.
        access_log=False,
        # Answers carry nothing that nobody reads: no `Date`, no `Server`.
        proxy_headers=False,
        date_header=False,
        server_header=False,
        timeout_keep_alive=keep_alive,
        timeout_graceful_shutdown=END_WITHIN,
        callback_notify=notify,
        timeout_notify=int(notify_every),
    )
    server = _Server(config)
    server.run(sockets)
    return server.started
