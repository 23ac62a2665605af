"""The agent's end of the PA child: keeps it running, and hears what it reports."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from typing import Protocol

from pydantic import ValidationError

from apps.player.children import Child
from apps.player.pa_report import MAX_REPORT, PaReport
from apps.player.stall import Silence

log = logging.getLogger(__name__)

LOOK_EVERY = 0.5
HUNG_AFTER = 3.0
"""Seconds from one report to the next after which the child is killed."""

OnReport = Callable[[PaReport], None]


class PaSource(Protocol):
    """Whatever hears the PA for a seat."""

    def start(self, on_report: OnReport) -> None:
        """Begin; `on_report` is called on the running event loop."""

    async def close(self) -> None:
        """End."""


class PaLink:
    """A `PaSource`: the PA child.

    `for_screen` is where the screen child hears it as well. The sockets outlive both children, so
    that either can be started anew.
    """

    def __init__(self) -> None:
        self._child = Child("apps.player.pa", self._arguments, self._started)
        self._reports, self._tell_us = _pair()
        self.for_screen, self._tell_screen = _pair()
        self._on_report: OnReport = lambda _: None
        self._silence = Silence(HUNG_AFTER)
        self._timer: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """Of the child, while one runs."""
        return self._child.pid

    def start(self, on_report: OnReport) -> None:
        """Start the child."""
        self._on_report = on_report
        asyncio.get_running_loop().add_reader(self._reports, self._hear)
        self._child.start()
        self._look()

    async def close(self) -> None:
        """End it."""
        if self._timer is not None:
            self._timer.cancel()
        asyncio.get_running_loop().remove_reader(self._reports)
        await self._child.close()
        for end in (self._reports, self._tell_us, self.for_screen, self._tell_screen):
            end.close()

    def _arguments(self) -> tuple[list[str], list[int]]:
        descriptors = [self._tell_screen.fileno(), self._tell_us.fileno()]
        return ["--tell", *map(str, descriptors)], descriptors

    def _started(self) -> None:
        self._silence.started(time.monotonic())

    def _hear(self) -> None:
        try:
            report = PaReport.model_validate_json(self._reports.recv(MAX_REPORT))
        except BlockingIOError:
            return
        except (OSError, ValidationError) as error:
            log.warning("a report of the PA is not understood", extra={"error": str(error)})
            return
        self._silence.broken(time.monotonic())
        self._on_report(report)

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY, self._look)
        if self._silence.is_too_long(time.monotonic()):
            log.warning("the PA child hangs and is started anew")
            self._child.kill()


def _pair() -> tuple[socket.socket, socket.socket]:
    """Two ends for datagrams; the first is read."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
