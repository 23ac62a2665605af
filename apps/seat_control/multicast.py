"""Frames out to the cabin: at once, again a few times, and a beacon each second."""

from __future__ import annotations

import heapq
import logging
import socket
import threading
import time
from collections.abc import Callable
from ipaddress import IPv4Address

from apps.common.multicast import sending_socket
from apps.common.protocol import BEACON_EVERY, REPEAT_AFTER, REPEAT_WHILE_MISSING

log = logging.getLogger(__name__)

_Repeat = tuple[float, int, bytes, Callable[[], bool]]
"""When it is due, a number to sort by, the datagram, and whether it is still wanted."""

MAX_WAITING = 10_000
"""Repeats that wait for their time; more are left out (the seats ask for what they miss)."""


class MulticastSender:
    """Sends datagrams to one group through one interface.

    Args:
        interface: its name. While it is away, sending fails and `trouble` says so.
        source: the interface's address to send from; receivers take nothing from any other.
        beacon: makes the datagram of the next beacon.
    """

    def __init__(
        self,
        interface: str,
        source: IPv4Address,
        group: IPv4Address,
        port: int,
        ttl: int,
        beacon: Callable[[], bytes],
    ) -> None:
        self._interface = interface
        self._source = source
        self._group = group
        self._port = port
        self._ttl = ttl
        self._beacon = beacon
        self._socket: socket.socket | None = None
        self._send_lock = threading.Lock()
        self._wake = threading.Condition()
        self._waiting: list[_Repeat] = []
        self._count = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="multicast", daemon=True)
        self.trouble: str | None = None

    def start(self) -> None:
        """Begin with the beacons."""
        self._thread.start()

    def close(self) -> None:
        """Stop; repeats that wait are dropped."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout=2)
        with self._send_lock:
            self._drop_socket()

    def send(self, datagram: bytes, is_missing: Callable[[], bool]) -> None:
        """Send now, and again when the repeats are due. Never blocks, never raises.

        Args:
            datagram: a signed frame.
            is_missing: asked before each of the later repeats, whether it is still wanted.
        """
        self._send(datagram)
        now = time.monotonic()
        repeats = [(delay, _always) for delay in REPEAT_AFTER]
        repeats += [(delay, is_missing) for delay in REPEAT_WHILE_MISSING]
        with self._wake:
            if len(self._waiting) + len(repeats) <= MAX_WAITING:
                for delay, is_wanted in repeats:
                    self._count += 1
                    heapq.heappush(self._waiting, (now + delay, self._count, datagram, is_wanted))
                self._wake.notify()

    def _run(self) -> None:
        next_beacon = time.monotonic()
        while True:
            with self._wake:
                if self._closing:
                    return
                due = min(next_beacon, self._waiting[0][0]) if self._waiting else next_beacon
                if (delay := due - time.monotonic()) > 0:
                    self._wake.wait(delay)
                    continue
                # A beacon first: late repeats, of which there may be many, must not keep it back.
                is_beacon = next_beacon <= time.monotonic()
                repeat = None if is_beacon else heapq.heappop(self._waiting)
            if repeat is None:
                next_beacon = time.monotonic() + BEACON_EVERY
            try:
                self._send_due(repeat)
            except Exception:
                # Without this thread there would be neither repeats nor beacons.
                log.exception("a frame was left out")

    def _send_due(self, repeat: _Repeat | None) -> None:
        """Send a repeat that is still wanted, or a beacon."""
        if repeat is None:
            self._send(self._beacon())
            return
        _due, _count, datagram, is_wanted = repeat
        if is_wanted():
            self._send(datagram)

    def _send(self, datagram: bytes) -> None:
        with self._send_lock:
            try:
                if self._socket is None:
                    self._socket = sending_socket(
                        self._interface, self._source, self._group, self._port, self._ttl
                    )
                self._socket.send(datagram)
            except OSError as error:
                if self.trouble is None:
                    log.warning(
                        "multicast is not going out",
                        extra={"interface": self._interface, "error": str(error)},
                    )
                self.trouble = f"interface {self._interface}: {error.strerror or error}"
                self._drop_socket()
            else:
                if self.trouble is not None:
                    log.info("multicast goes out again", extra={"interface": self._interface})
                self.trouble = None

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _always() -> bool:
    return True
