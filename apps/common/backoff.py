"""How long to wait before another try."""

from __future__ import annotations

import random
from collections.abc import Callable

_RANDOM = random.SystemRandom()


class BackOff:
    """Delays that double from `first` to `longest` seconds, each cut by a random part.

    The random part (up to half) keeps three hundred seats, or two apps, from trying in step.

    Args:
        first: seconds before the second try.
        longest: seconds between two tries, at most.
        rand: gives numbers from 0 to 1.
    """

    def __init__(
        self, first: float, longest: float, rand: Callable[[], float] = _RANDOM.random
    ) -> None:
        self._first = first
        self._longest = longest
        self._next = first
        self._rand = rand

    def delay(self) -> float:
        """Seconds to wait now."""
        delay = self._next * (0.5 + 0.5 * self._rand())
        self._next = min(self._longest, self._next * 2)
        return delay

    def reset(self) -> None:
        """Begin anew, after a success."""
        self._next = self._first
