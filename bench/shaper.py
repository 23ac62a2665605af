"""A line between two network namespaces that is as poor as one wants, in user space.

A TUN interface in each namespace, and this process between them: what goes in at one end comes out
at the other after `delay`, no faster than `rate`, but for the share `loss`; a queue in front of it
drops what is too much. It counts every byte. The kernel's own netem can do that too, where it is.

``python -m bench.shaper NAMESPACE:INTERFACE NAMESPACE:INTERFACE``, then `Order`s as lines of JSON on
standard input, each answered with a `Counts`. It ends with its standard input. Addresses and routes
are for others to set.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict
from pyroute2 import netns

MAX_PACKET = 2048

_TUNSETIFF, _TUNSETCARRIER = 0x400454CA, 0x400454E2
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
"""From linux/if_tun.h."""


class Order(BaseModel):
    """How the line is to be from now on.

    Attributes:
        rate: bits a second, each way.
        delay: seconds, each way.
        loss: the share of packets that vanish, each way.
        queue: bytes that wait for the line at most, each way.
        up: whether both ends have a carrier; what is under way when one goes is lost.
    """

    model_config = ConfigDict(frozen=True)

    rate: float = 1e9
    delay: float = 0.0
    loss: float = 0.0
    queue: int = 256 * 1024
    up: bool = True


class Counts(BaseModel):
    """Bytes that came out so far: at the second end, and at the first."""

    there: int = 0
    back: int = 0


class _Way:
    """One direction."""

    def __init__(self, rand: random.Random) -> None:
        self._rand = rand
        self._free_at = 0.0
        self._under_way: list[tuple[float, int, bytes]] = []
        self._number = count()
        self.bytes = 0

    def put(self, packet: bytes, order: Order, now: float) -> None:
        """A packet comes in."""
        if self._rand.random() < order.loss:
            return
        begins = max(now, self._free_at)
        if (begins - now) * order.rate / 8 > order.queue:
            return
        self._free_at = begins + len(packet) * 8 / order.rate
        item = (self._free_at + order.delay, next(self._number), packet)
        heapq.heappush(self._under_way, item)

    def due(self) -> float | None:
        """When the next comes out."""
        return self._under_way[0][0] if self._under_way else None

    def take(self, now: float) -> list[bytes]:
        """What comes out now."""
        out = []
        while self._under_way and self._under_way[0][0] <= now:
            packet = heapq.heappop(self._under_way)[2]
            self.bytes += len(packet)
            out.append(packet)
        return out

    def cut(self) -> None:
        """Lose what is under way."""
        self._under_way.clear()
        self._free_at = 0.0


def _tun(where: str) -> int:
    namespace, interface = where.split(":")
    netns.setns(namespace)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", interface.encode(), _IFF_TUN | _IFF_NO_PI))
    return tun


def _serve(ends: Sequence[str]) -> None:
    tuns = [_tun(end) for end in ends]
    ways = [_Way(random.Random(seed)) for seed in (1, 2)]  # noqa: S311 - the same at each run
    order = Order()
    sys.stdout.write(Counts().model_dump_json() + "\n")
    sys.stdout.flush()
    while True:
        now = time.monotonic()
        due = [at for way in ways if (at := way.due()) is not None]
        timeout = max(0.0, min(due) - now) if due else None
        ready = select.select([0, *tuns], [], [], timeout)[0]
        now = time.monotonic()
        for tun, way in zip(tuns, ways, strict=True):
            if tun in ready:
                for packet in _packets(tun):
                    if order.up:
                        way.put(packet, order, now)
        for tun, way in zip(reversed(tuns), ways, strict=True):
            for packet in way.take(time.monotonic()):
                _send(tun, packet)
        if 0 in ready:
            line = sys.stdin.readline()
            if not line:
                return
            order = Order.model_validate_json(line)
            for tun, way in zip(tuns, ways, strict=True):
                if not order.up:
                    way.cut()
                fcntl.ioctl(tun, _TUNSETCARRIER, struct.pack("i", order.up))
            sys.stdout.write(Counts(there=ways[0].bytes, back=ways[1].bytes).model_dump_json())
            sys.stdout.write("\n")
            sys.stdout.flush()


def _packets(tun: int) -> list[bytes]:
    packets = []
    try:
        while len(packets) < 64:
            packets.append(os.read(tun, MAX_PACKET))
    except OSError:
        # No more there, or the interface is down.
        pass
    return packets


def _send(tun: int, packet: bytes) -> None:
    try:
        os.write(tun, packet)
    except OSError:
        # The interface is down: as on a line that is unplugged.
        pass


class Shaper:
    """The process, for those who make the namespaces; a context manager.

    Args:
        ends: ``NAMESPACE:INTERFACE`` of both.
    """

    def __init__(self, *ends: str) -> None:
        self._ends = ends

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.shaper", *self._ends],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)

    def set(self, order: Order) -> Counts:
        """Have the line so; what it has carried until now."""
        assert self._process.stdin is not None  # noqa: S101 - Popen was told to make it
        self._process.stdin.write(order.model_dump_json() + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Counts:
        assert self._process.stdout is not None  # noqa: S101 - as above
        return Counts.model_validate_json(self._process.stdout.readline())


if __name__ == "__main__":
    _serve(sys.argv[1:])
