"""A player's sense of time: cabin time, when to report, when to join the group again. No clock.

All times are monotonic seconds, given by the caller; `rand` gives numbers from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from apps.common.backoff import BackOff

REPORT_EVERY = 1.0
CONFIRM_WITHIN = 0.1
"""Seconds in which a seat reports that it applied a command; 300 must not do so at once."""
ASK_WITHIN = 0.02
"""Seconds in which a seat asks for what it misses."""

FAILURES_BEFORE_BACK_OFF = 3
BACK_OFF_FIRST = 2.0
BACK_OFF_MAX = 5.0

SILENCE = 3.0
"""Seconds without a frame after which the membership may have been forgotten on the way."""
REJOIN_FIRST = 6.0
REJOIN_MAX = 30.0


class CabinClock:
    """Estimates cabin time, in milliseconds, from what the server said and what passed since.

    The estimate is never ahead of cabin time by more than this clock runs fast between two
    answers: what comes from the server was sent before it arrived.
    """

    def __init__(self) -> None:
        self._offset = -math.inf
        self._floor = 0

    def answered(self, cabin_ms: int, now: float) -> None:
        """Take the `Ife-Time` of a status answer."""
        self._offset = cabin_ms - now * 1000

    def heard(self, iat: int, now: float) -> None:
        """Take the `iat` of a verified frame."""
        self._floor = max(self._floor, iat)
        self._offset = max(self._offset, iat - now * 1000)

    def now(self, now: float) -> float:
        """Cabin time; 0 as long as nothing was heard."""
        return max(self._floor, now * 1000 + self._offset)


class Allowance:
    """So many a second, and so many at once (a token bucket)."""

    def __init__(self, a_second: float, at_once: float, now: float) -> None:
        self._a_second = a_second
        self._at_once = at_once
        self._left = at_once
        self._at = now

    def left(self, now: float) -> bool:
        """Whether there is one to take."""
        self._left = min(self._at_once, self._left + (now - self._at) * self._a_second)
        self._at = now
        return self._left >= 1

    def take(self, now: float) -> None:
        """Take one, if there is."""
        if self.left(now):
            self._left -= 1


class ReportTimer:
    """When the next status report is due: each second, sooner when asked, backing off."""

    def __init__(self, rand: Callable[[], float], now: float) -> None:
        self._rand = rand
        self._regular = now + REPORT_EVERY * rand()
        self._early = math.inf
        self._failures = 0
        self._back_off = BackOff(BACK_OFF_FIRST, BACK_OFF_MAX, rand)
        self._under_way = False

    @property
    def due(self) -> float:
        """When to report; never, while a report is under way."""
        return math.inf if self._under_way else min(self._regular, self._early)

    def soon(self, within: float, now: float) -> None:
        """Report in a random moment of the next `within` seconds, if not before."""
        self._early = min(self._early, now + within * self._rand())

    def begin(self, now: float) -> None:
        """A report is made."""
        self._under_way = True
        self._early = math.inf
        if self._regular <= now:
            behind = math.floor((now - self._regular) / REPORT_EVERY)
            self._regular += REPORT_EVERY * (behind + 1)

    def answered(self) -> None:
        """The server answered."""
        self._under_way = False
        self._failures = 0
        self._back_off.reset()

    def failed(self, now: float) -> None:
        """It did not."""
        self._under_way = False
        self._failures += 1
        if self._failures >= FAILURES_BEFORE_BACK_OFF:
            self._regular = now + self._back_off.delay()

    def server_heard(self, now: float) -> None:
        """The server is alive: a back-off ends, spread over a second."""
        if self._failures >= FAILURES_BEFORE_BACK_OFF:
            self._regular = min(self._regular, now + REPORT_EVERY * self._rand())


class SilenceTimer:
    """When to join the multicast group again: after a silence, then backing off.

    `due` is that time.
    """

    def __init__(self, rand: Callable[[], float], now: float) -> None:
        self._back_off = BackOff(REJOIN_FIRST, REJOIN_MAX, rand)
        self.due = now + SILENCE

    def heard(self, now: float) -> None:
        """A good frame came."""
        self._back_off.reset()
        self.due = now + SILENCE

    def rejoined(self, now: float) -> None:
        """It was tried."""
        self.due = now + self._back_off.delay()
