"""A line between two network namespaces that is as poor as one wants, in user space.

A TUN interface in each namespace, and this process between them: what goes in at one end comes out
at the other after `delay`, no faster than `rate`, but for the share `loss`; a queue in front of it
drops what is too much. It counts every byte. The kernel's own netem can do that too, where it is.

``python -m bench.shaper NAMESPACE:INTERFACE NAMESPACE:INTERFACE``, then `Order`s as lines of JSON
on standard input, each answered with a `Counts`. It ends with its standard input. Addresses and
routes are for others to set.
"""

from __future__ import annotations

import contextlib
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
BURST = 64
"""Packets that are read from one end before the other has its turn."""

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
    netns.pushns(namespace)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", interface.encode(), _IFF_TUN | _IFF_NO_PI))
    netns.popns()
    return tun


class _Line:
    """Both ends, and the ways between them."""

    def __init__(self, ends: Sequence[str]) -> None:
        self._tuns = [_tun(end) for end in ends]
        # The same at each run.
        self._ways = [_Way(random.Random(seed)) for seed in (1, 2)]  # noqa: S311
        self._order = Order()

    def serve(self) -> None:
        """Carry packets and take orders, until there are no more orders."""
        self._tell()
        while True:
            ready = select.select([0, *self._tuns], [], [], self._idle())[0]
            now = time.monotonic()
            for tun, way in zip(self._tuns, self._ways, strict=True):
                for packet in _packets(tun) if tun in ready else []:
                    if self._order.up:
                        way.put(packet, self._order, now)
            for tun, way in zip(reversed(self._tuns), self._ways, strict=True):
                for packet in way.take(time.monotonic()):
                    # One that is down is a line that is unplugged.
                    with contextlib.suppress(OSError):
                        os.write(tun, packet)
            if 0 in ready:
                if not (line := sys.stdin.readline()):
                    return
                self._obey(Order.model_validate_json(line))
                self._tell()

    def _idle(self) -> float | None:
        """Seconds until the next packet comes out."""
        due = [at for way in self._ways if (at := way.due()) is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _obey(self, order: Order) -> None:
        self._order = order
        for tun, way in zip(self._tuns, self._ways, strict=True):
            if not order.up:
                way.cut()
            fcntl.ioctl(tun, _TUNSETCARRIER, struct.pack("i", order.up))

    def _tell(self) -> None:
        there, back = self._ways
        print(Counts(there=there.bytes, back=back.bytes).model_dump_json(), flush=True)


def _packets(tun: int) -> list[bytes]:
    packets: list[bytes] = []
    # No more there, or the interface is down.
    with contextlib.suppress(OSError):
        while len(packets) < BURST:
            packets.append(os.read(tun, MAX_PACKET))
    return packets


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
    _Line(sys.argv[1:]).serve()
