"""Does an announcement have the seat? What the PA's own multicast says, and the command channel.

The PA child hears the PA itself and knows best, also when it is over. What a beacon of the command
channel says counts where the child cannot tell: while nothing of the PA comes in, and after an
announcement that broke off. No I/O; all times are monotonic seconds.
"""

from __future__ import annotations

import math

from apps.common.pa import ALL_AREAS
from apps.player.pa_report import BELIEVED_FOR, PaReport

BEACON_BELIEVED_FOR = 3.0
"""Seconds; a beacon comes each second."""


class Announcement:
    """One seat's.

    Args:
        area: its PA area's number.
    """

    def __init__(self, area: int) -> None:
        self._areas = {ALL_AREAS, area}
        self._report: PaReport | None = None
        self._reported_until = -math.inf
        self._told_until = -math.inf

    def report(self, report: PaReport, now: float) -> None:
        """The PA child says how it is."""
        self._report = report
        self._reported_until = now + BELIEVED_FOR

    def beacon(self, areas: tuple[int, ...] | None, now: float) -> None:
        """A beacon of the command channel names the areas with an announcement; None: unknown."""
        told = areas is not None and not self._areas.isdisjoint(areas)
        self._told_until = now + BEACON_BELIEVED_FOR if told else -math.inf

    def heard(self, now: float) -> bool:
        """Whether the PA child hears one; the screen knows that from it."""
        return now < self._reported_until and self._report is not None and self._report.on

    def told(self, now: float) -> bool:
        """Whether there is one that the PA child does not hear; the screen is to be told of it."""
        if now >= self._told_until or self.heard(now):
            return False
        report = self._report if now < self._reported_until else None
        return report is None or not report.relied_on

    def faults(self, now: float) -> tuple[str, ...]:
        """Of the PA's child."""
        if self._report is None:
            return ()
        return self._report.faults if now < self._reported_until else ("pa",)

    def next_at(self, now: float) -> float:
        """When something of this may change by itself."""
        times = (self._reported_until, self._told_until)
        return min((time for time in times if time > now), default=math.inf)
