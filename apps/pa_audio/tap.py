"""What goes on the air, for those that listen in this process and may be slow."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from apps.common.pa import Source


class OnTap(NamedTuple):
    """5 ms of an announcement: its number, when it began (PA time, ms), where it is heard.

    `samples` are big endian. `wins`: no other is higher. `ended`: it is over, without samples.
    """

    number: int
    since: int
    source: Source
    areas: frozenset[int]
    samples: bytes
    wins: bool
    ended: bool = False


class Tap:
    """A queue with a bound, between the real-time thread and one that takes its time.

    Args:
        most: what comes when so many wait is lost; `lost` counts them.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[OnTap] = deque()
        self.lost = 0

    def put(self, packet: OnTap) -> None:
        """Never waits."""
        if len(self._waiting) < self._most:
            self._waiting.append(packet)
        else:
            self.lost += 1

    def take(self) -> list[OnTap]:
        """All that wait, in order."""
        return [self._waiting.popleft() for _ in range(len(self._waiting))]
