"""To test a player with: a PA, which says what pa_audio puts on the wire, and an X server."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from typing import Self

import numpy as np

from apps.common.multicast import EXPEDITED, sending_socket
from apps.common.pa import (
    ALL_AREAS,
    END_PACKETS,
    PACKET_SECONDS,
    PORT,
    RATE,
    SAMPLES,
    Audio,
    Beacon,
    Signer,
    Source,
    group,
)

GROUPS = (ALL_AREAS, 2)
"""Those that seats of tests listen to."""

TONE = (12_000 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(">i2").tobytes()
"""A second of 440 Hz, which joins on to itself."""


class PaServer:
    """The PA of one server, to one area or all; a context manager.

    It sends a beacon a second to all of `GROUPS`, and packets of `TONE` each 5 ms while an
    announcement is open.
    """

    def __init__(
        self, signer: Signer, source: IPv4Address, area: int = ALL_AREAS, interface: str = "lo"
    ) -> None:
        self.area = area
        self.sent = 0
        self._signer = signer
        self._sockets = {
            one: sending_socket(interface, source, group(one), PORT, 1, EXPEDITED)
            for one in {area, *GROUPS}
        }
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._announcement: tuple[Source, int] | None = None
        self._ssrc = random.getrandbits(32)
        self._sequence = random.getrandbits(16)
        self._index = 0
        self.ent_pause = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def announce(self, source: Source, number: int) -> float:
        """Open an announcement; the time of the first packet."""
        with self._lock:
            self._announcement, self._index = (source, number), 0
            self._ssrc = random.getrandbits(32)
            return self._packet()

    def end(self) -> float:
        """Close it, as the protocol says; the time of the last packet that was not silence."""
        with self._lock:
            at = time.monotonic()
            for _ in range(END_PACKETS):
                self._packet(ended=True)
            self._announcement = None
            return at

    def break_off(self) -> float:
        """Fall silent, as a server that was killed."""
        with self._lock:
            self._announcement = None
            self._over.set()
            return time.monotonic()

    def datagram(
        self, source: Source, number: int, samples: bytes, *, ended: bool = False
    ) -> bytes:
        """The next packet of an announcement."""
        audio = Audio(
            area=self.area,
            source=source,
            number=number,
            time=time.time_ns() // 1_000_000,
            ssrc=self._ssrc,
            sequence=(self._sequence + self._index) & 0xFFFF,
            timestamp=self._index * SAMPLES & 0xFFFFFFFF,
            samples=samples,
            first=self._index == 0,
            ended=ended,
            ent_pause=self.ent_pause,
        )
        self._index += 1
        return self._signer.sign(audio)

    def send(self, datagram: bytes) -> None:
        """Put it on the wire."""
        self._send(self.area, datagram)

    def _send(self, area: int, datagram: bytes) -> None:
        try:
            self._sockets[area].send(datagram)
        except OSError:
            # The interface is down, which is what some tests want.
            return
        self.sent += 1

    def _packet(self, *, ended: bool = False) -> float:
        source, number = self._announcement or (Source.CREW, 1)
        at = self._index % (RATE // SAMPLES) * 2 * SAMPLES
        samples = bytes(2 * SAMPLES) if ended else TONE[at : at + 2 * SAMPLES]
        datagram = self.datagram(source, number, samples, ended=ended)
        now = time.monotonic()
        self.send(datagram)
        return now

    def _beacon(self, area: int, *, ent_pause: bool = False) -> None:
        now_ms = time.time_ns() // 1_000_000
        beacon = Beacon(area, None, 0, now_ms, self._ssrc, "pa_audio@EC-LAB", ent_pause)
        self._send(area, self._signer.sign(beacon))

    def _run(self) -> None:
        due = time.monotonic()
        beacon_at = others_at = due
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due += PACKET_SECONDS
            with self._lock:
                if self._announcement is not None:
                    self._packet()
                elif beacon_at <= due:
                    self._beacon(self.area, ent_pause=self.ent_pause)
                    beacon_at = due + (0.02 if self.ent_pause else 1.0)
                if others_at <= due:
                    for other in self._sockets.keys() - {self.area}:
                        self._beacon(other)
                    others_at = due + 1.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for sock in self._sockets.values():
            sock.close()


def own_address() -> IPv4Address:
    """An address of the loopback interface that no other test sends a PA from.

    The groups are the same for all, but receivers take only what their own server sends.
    """
    return IPv4Address("127.0.0.0") + random.randrange(2**16, 2**24 - 2)  # noqa: S311 - no secret


def unix_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends for datagrams, as the agent gives its children."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.settimeout(5)
    return ours, theirs


@contextmanager
def x_server(width: int, height: int) -> Iterator[str]:
    """An X server (Xvfb) without window manager, whose screen has that size; its `DISPLAY`."""
    read, write = os.pipe()
    screen = ["-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp"]
    server = subprocess.Popen(["Xvfb", "-displayfd", str(write), *screen], pass_fds=[write])
    os.close(write)
    try:
        with os.fdopen(read) as number:
            yield f":{number.readline().strip()}"
    finally:
        server.terminate()
        server.wait(10)
