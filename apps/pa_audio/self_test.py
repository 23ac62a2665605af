"""The self-test: it hears its own streams as a seat does, and measures them.

What it hears comes back inside this machine: that the cable is plugged in is looked at beside it.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from statistics import median

import numpy as np

from apps.common.announcements import SelfTestView
from apps.common.multicast import Membership, is_up, receiving_socket
from apps.common.pa import PORT, Audio, PaError, Verifier, group, parse
from apps.pa_audio.wav import SILENT, decibels

log = logging.getLogger(__name__)

SILENT_AFTER = 3.0
"""Seconds without anything valid in a group after which the test has failed."""

CHECKED = 10
"""Signatures that are checked of a group each second: all of them would keep a small processor busy
that is needed to send."""

KEPT = 200
"""Packets (1 s of one stream) that the measures are of."""

MAX_PACKET = 1500


class _Group:
    def __init__(self, area: int, interface: str, source: IPv4Address) -> None:
        self.socket = receiving_socket(group(area), PORT)
        self.membership = Membership(interface, group(area), source)
        self.heard: float | None = None
        self.joined = float("-inf")
        self.sequence: tuple[int, int] | None = None
        self._counted_from = float("-inf")
        self._checked = 0

    def may_check(self, now: float) -> bool:
        """Whether one more signature may be checked; it counts."""
        if now - self._counted_from >= 1:
            self._counted_from, self._checked = now, 0
        self._checked += 1
        return self._checked <= CHECKED


class SelfTest:
    """Listens to `areas`' groups in a thread of its own.

    Args:
        pa_time: gives PA time, ms.
    """

    def __init__(
        self,
        interface: str,
        source: IPv4Address,
        areas: Iterable[int],
        public_key: bytes,
        pa_time: Callable[[], int],
    ) -> None:
        self._interface = interface
        self._verifier = Verifier([public_key])
        self._pa_time = pa_time
        self._groups = {area: _Group(area, interface, source) for area in areas}
        self._delays: deque[int] = deque(maxlen=KEPT)
        self._packets = self._lost = 0
        self._level = SILENT
        self._began = time.monotonic()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="self-test", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        os.eventfd_write(self._stop, 1)
        self._thread.join(timeout=5)

    def view(self) -> SelfTestView:
        """What it measured."""
        heard = [entry.heard for entry in self._groups.values()]
        known = [at for at in heard if at is not None]
        ago = time.monotonic() - min(known) if len(known) == len(heard) else None
        delays = list(self._delays)
        return SelfTestView(
            passed=self.trouble() is None,
            heard_ago=None if ago is None else round(ago, 3),
            delay_ms=median(delays) if delays else None,
            delay_max_ms=max(delays) if delays else None,
            packets=self._packets,
            lost=self._lost,
            level=round(self._level, 1),
        )

    def cable_trouble(self) -> str | None:
        """None while the cabin's cable is plugged in; without it we would hear ourselves, too."""
        if is_up(self._interface):
            return None
        return f"interface {self._interface}: it is down, or its cable is out"

    def trouble(self) -> str | None:
        """None while every group is heard, and the cabin can hear it."""
        if trouble := self.cable_trouble():
            return trouble
        now = time.monotonic()
        silent = [
            area
            for area, entry in self._groups.items()
            if now - (entry.heard or self._began) > SILENT_AFTER
        ]
        if not silent:
            return None
        return "it does not hear itself in " + ", ".join(str(group(area)) for area in silent[:4])

    def _run(self) -> None:
        areas = {entry.socket.fileno(): area for area, entry in self._groups.items()}
        while True:
            self._join()
            ready, _, _ = select.select([*areas, self._stop], [], [], 1.0)
            if self._stop in ready:
                break
            for number in ready:
                self._hear(areas[number])
        for entry in self._groups.values():
            entry.socket.close()

    def _join(self) -> None:
        """Join what is not heard, again and again."""
        now = time.monotonic()
        for area, entry in self._groups.items():
            if now - max(entry.heard or 0.0, entry.joined) > SILENT_AFTER:
                entry.joined = now
                try:
                    entry.membership.renew(entry.socket)
                except OSError as error:
                    log.debug("not joined", extra={"area": area, "error": str(error)})

    def _hear(self, area: int) -> None:
        entry = self._groups[area]
        try:
            received = parse(entry.socket.recv(MAX_PACKET))
        except (OSError, PaError):
            return
        message = received.message
        if message.area != area or not self._verifier.knows(received.key):
            return
        now = time.monotonic()
        if entry.may_check(now):
            if not self._verifier.is_signed(received):
                return
            entry.heard = now
        elif entry.sequence is None or entry.sequence[0] != message.ssrc:
            return
        if not isinstance(message, Audio):
            return
        self._delays.append(self._pa_time() - message.time)
        self._level = decibels(np.frombuffer(message.samples, ">i2"))
        self._packets += 1
        if entry.sequence is not None and entry.sequence[0] == message.ssrc:
            step = message.sequence - entry.sequence[1] & 0xFFFF
            self._lost += step - 1 if 0 < step < 0x8000 else 0
        entry.sequence = (message.ssrc, message.sequence)
