"""Does the screen still show something new, and does a title end it? No I/O, no clock."""

from __future__ import annotations

import math
from collections import deque

from apps.common.backoff import BackOff
from apps.player.screen_messages import HUNG_AFTER, Running

START_WITHIN = 10.0
"""Seconds in which a new child reports for the first time."""

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


class StallWatch:
    """Judges by what the screen child reports.

    `trouble` is a sentence while it does not go on as it should. Times are monotonic seconds.
    """

    def __init__(self) -> None:
        self.trouble: str | None = None
        self._back_off = BackOff(RESTART_FIRST, RESTART_MAX)
        self._not_before = 0.0
        self._silent_at = math.inf
        """When a child that said nothing more hangs."""
        self._shown: int | None = None
        self._moved = self._well_since = math.inf

    def started(self, now: float) -> None:
        """There is a new child."""
        self._silent_at = now + START_WITHIN
        # Until it reports for the first time, on a slow processor some seconds later.
        self._moved = math.inf

    def running(self, report: Running, now: float) -> None:
        """The child reports."""
        self._silent_at = now + HUNG_AFTER
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
        if now > self._silent_at:
            self.hung()
            self._silent_at = now + START_WITHIN
            return True
        if now - self._moved <= FROZEN_AFTER:
            return False
        self.trouble = "the picture stands still"
        if now < self._not_before:
            return False
        self._not_before = now + self._back_off.delay()
        return True
