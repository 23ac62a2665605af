"""How long to wait before another try."""

from __future__ import annotations

import random

_RANDOM = random.SystemRandom()


class BackOff:
    """Delays that double from `first` to `longest` seconds, each cut by a random part.

    The random part (up to half) keeps three hundred seats, or two apps, from trying in step.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    def delay(self) -> float:
        """Seconds to wait now."""
        delay = self._next * _RANDOM.uniform(0.5, 1.0)
        self._next = min(self._longest, self._next * 2)
        return delay

    def reset(self) -> None:
        """Begin anew, after a success."""
        self._next = self._first
