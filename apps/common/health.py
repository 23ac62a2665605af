"""Health: is an app ready, and what is it doing without?

*Ready* is whether the app does its work. *Degraded* names the parts that are away while the
app works on without them. Both are told by ``GET /healthz`` and, under systemd, as the unit's
status line (sd_notify(3)).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress

from pydantic import BaseModel

ALIVE_WITHIN = 30
"""Seconds. A stop of a disk for some seconds is no reason to start an app anew."""


class Degraded(BaseModel):
    """A part that is away, and why."""

    part: str
    why: str


class HealthReport(BaseModel):
    """The body of ``GET /healthz``."""

    app: str
    ready: bool
    why_not: str | None = None
    degraded: list[Degraded] = []


Check = Callable[[], str | None]
"""None when all is well, else one sentence on what is wrong."""


class Health:
    """What an app knows of its own health. Checks must be quick: they look, they never wait."""

    def __init__(self, app: str) -> None:
        self._app = app
        self._needs: list[Check] = []
        self._parts: dict[str, Check] = {}
        self._is_watched = False

    def need(self, check: Check) -> None:
        """Without this the app is not ready."""
        self._needs.append(check)

    def part(self, name: str, check: Check) -> None:
        """Without this the app is degraded."""
        self._parts[name] = check

    def report(self) -> HealthReport:
        """The state right now."""
        why_not = next((why for check in self._needs if (why := check())), None)
        degraded = [
            Degraded(part=name, why=why) for name, check in self._parts.items() if (why := check())
        ]
        return HealthReport(
            app=self._app, ready=why_not is None, why_not=why_not, degraded=degraded
        )

    def alive(self) -> None:
        """Tell systemd that the app's work goes round; it is to be told within 30 s again.

        A unit's ``WatchdogSec=`` counts from gunicorn's start, so it is what a slow machine may
        take to load the app.
        """
        soon = "" if self._is_watched else f"WATCHDOG_USEC={ALIVE_WITHIN * 1_000_000}\n"
        self._is_watched = True
        sd_notify(f"{soon}WATCHDOG=1")

    def notify(self) -> None:
        """Tell systemd how we are (`systemctl status` shows it); nothing happens elsewhere."""
        report = self.report()
        away = ", ".join(f"{part.part} ({part.why})" for part in report.degraded)
        status = report.why_not or (f"degraded: {away}" if away else "ready")
        # What a library says may have several lines; here a line break would end the status.
        sd_notify(f"STATUS={' '.join(status.split())}")


def sd_notify(message: str) -> None:
    """Tell the service manager something, in the words of the manual page sd_notify.

    As that page advises, it does not matter whether anybody hears it.
    """
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
        suppress(OSError),
    ):
        sock.settimeout(1)
        sock.sendto(message.encode(), "\0" + path[1:] if path.startswith("@") else path)
