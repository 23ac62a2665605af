"""Does a child still go on, does the screen show something new, does a title end it?

No I/O, no clock: times are monotonic seconds.
"""

from __future__ import annotations

import math
from collections import deque

from apps.common.backoff import BackOff
from apps.player.screen_messages import HUNG_AFTER, Running

START_FIRST, START_MAX = 10.0, 80.0
"""Seconds in which a new child reports for the first time: twice as many after each that did not.
Else a processor that is slow, or busy, would have none that ever begins."""

FROZEN_AFTER = 4.0
"""Seconds without a new picture, where there should be some."""

GAP = 1.0
WELL_AFTER = 2.0
"""Seconds of pictures, with no gap longer than `GAP`, after which all is well again."""

RESTART_FIRST, RESTART_MAX = 6.0, 30.0
"""Seconds between two restarts for a frozen picture, so that a channel that is off the air, or a
server that is down, does not keep the seat busy."""

MOST_ENDS, ENDS_WITHIN = 3, 60.0
"""As often may the screen end by itself within as many seconds of one title, which is then given
up: a file that has libvlc crash, or take all memory, would do so for ever."""


class Ends:
    """When the screen ended by itself while one title played."""

    def __init__(self) -> None:
        self._at: deque[float] = deque(maxlen=MOST_ENDS)

    def are_too_many(self, now: float) -> bool:
        """It has ended again; whether that is too often."""
        self._at.append(now)
        return len(self._at) == MOST_ENDS and now - self._at[0] <= ENDS_WITHIN

    def forget(self) -> None:
        """Another title plays."""
        self._at.clear()


class Silence:
    """Whether a child has said nothing for so long that it hangs.

    Args:
        most: seconds from one word to the next.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._to_start = START_FIRST
        self._ends_at = math.inf

    def started(self, now: float) -> None:
        """There is a new child."""
        self._ends_at = now + self._to_start
        self._to_start = min(2 * self._to_start, START_MAX)

    def broken(self, now: float) -> None:
        """It says something."""
        self._ends_at = now + self._most
        self._to_start = START_FIRST

    def is_too_long(self, now: float) -> bool:
        """Whether it hangs; told once of each child."""
        if now <= self._ends_at:
            return False
        self._ends_at = math.inf
        return True


class StallWatch:
    """Judges by what the screen child reports.

    `trouble` is a sentence while it does not go on as it should.
    """

    def __init__(self) -> None:
        self.trouble: str | None = None
        self._back_off = BackOff(RESTART_FIRST, RESTART_MAX)
        self._not_before = 0.0
        self._silence = Silence(HUNG_AFTER)
        self._shown: int | None = None
        self._moved = self._well_since = math.inf

    def started(self, now: float) -> None:
        """There is a new child."""
        self._silence.started(now)
        # Until it reports for the first time, on a slow processor some seconds later.
        self._moved = math.inf

    def running(self, report: Running, now: float) -> None:
        """The child reports."""
        self._silence.broken(now)
        if self._moved == math.inf:
            self._moved = self._well_since = now
        if report.moving and report.shown == self._shown:
            return
        self._shown = report.shown
        if now - self._moved > GAP:
            self._well_since = now
        self._moved = now
        if now - self._well_since > WELL_AFTER:
            self.trouble = None
            self._back_off.reset()

    def hung(self) -> None:
        """The child says that it does."""
        self.trouble = "the screen hangs"

    def must_restart(self, now: float) -> bool:
        """Whether the child is to be killed; asked regularly."""
        if self._silence.is_too_long(now):
            self.hung()
            return True
        if now - self._moved <= FROZEN_AFTER:
            return False
        self.trouble = "the picture stands still"
        if now < self._not_before:
            return False
        self._not_before = now + self._back_off.delay()
        return True
