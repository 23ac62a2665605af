"""The seats as they report: who is live, who is lost, what changed. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from apps.common.cabin import QUIET, SeatView
from apps.common.protocol import LOST_AFTER, Status

SILENT_AFTER = 5.0
"""Seconds without a multicast frame after which a seat does not hear multicast."""

_shown = attrgetter(
    *(name for name in SeatView.model_fields if name in Status.model_fields and name not in QUIET)
)
"""The fields of a status whose change is told."""


class ClaimedTwiceError(Exception):
    """Another player, with another boot id, reports as this seat and is alive."""


@dataclass(slots=True)
class Seat:
    """What is known of one seat. Times are monotonic seconds."""

    status: Status | None = None
    heard_at: float = 0.0
    lost: bool = False
    claim_refused_at: float | None = None

    def view(self) -> SeatView:
        """As it is shown."""
        if self.status is None:
            view = SeatView()
        else:
            fields = dict(self.status)
            view = SeatView.model_construct(
                **{name: fields[name] for name in SeatView.model_fields if name in fields}
            )
        view.presence = "lost" if self.lost else "live" if self.status else "waiting"
        view.claimed_twice = self.claim_refused_at is not None
        return view


class SeatTable:
    """What each seat reported last. Times are monotonic seconds, given by the caller.

    Args:
        seats: names of all the seats.
        now: the time of the start; a seat has `LOST_AFTER` from then to report.
    """

    def __init__(self, seats: Iterable[str], now: float) -> None:
        self._seats = {name: Seat(heard_at=now) for name in seats}
        self._told = {name: SeatView().model_dump() for name in self._seats}
        self._touched: set[str] = set()

    def __contains__(self, seat: str) -> bool:
        return seat in self._seats

    def report(self, seat: str, status: Status, now: float) -> None:
        """Take a seat's status.

        Raises:
            ClaimedTwiceError: and the seat that reported before is left as it was.
        """
        entry = self._seats[seat]
        before = entry.status
        if before is None or entry.lost:
            self._touched.add(seat)
        elif before.boot_id != status.boot_id and now - entry.heard_at < LOST_AFTER:
            entry.claim_refused_at = now
            self._touched.add(seat)
            raise ClaimedTwiceError(
                f"another player reports as seat {seat}: give each player its own seat's "
                "certificate, or wait 3 s where this one took its place"
            )
        elif _shown(before) != _shown(status):
            self._touched.add(seat)
        entry.status = status
        entry.heard_at = now
        entry.lost = False

    def is_live(self, seat: str) -> bool:
        """Whether it reports."""
        entry = self._seats[seat]
        return entry.status is not None and not entry.lost

    def check(self, now: float) -> None:
        """Mark the seats that fell silent; call it a few times a second."""
        for name, seat in self._seats.items():
            if not seat.lost and now - seat.heard_at >= LOST_AFTER:
                seat.lost = True
                self._touched.add(name)
            if seat.claim_refused_at is not None and now - seat.claim_refused_at >= LOST_AFTER:
                seat.claim_refused_at = None
                self._touched.add(name)

    def view(self, seat: str) -> SeatView:
        """One seat, as it is shown."""
        return self._seats[seat].view()

    def copy(self) -> dict[str, Seat]:
        """All seats as they are now, for views that are made while others report."""
        return {
            name: Seat(seat.status, seat.heard_at, seat.lost, seat.claim_refused_at)
            for name, seat in self._seats.items()
        }

    def changes(self) -> dict[str, dict[str, Any]]:
        """The fields that changed since the last call, by seat; without the `QUIET` ones."""
        changes = {}
        for name in self._touched:
            new, old = self.view(name).model_dump(exclude=set(QUIET)), self._told[name]
            changed = {key: value for key, value in new.items() if value != old[key]}
            if changed:
                changes[name] = changed
                self._told[name] = new
        self._touched.clear()
        return changes

    def counts(self) -> dict[str, int]:
        """How many seats there are, and how many of them are live and lost."""
        lost = sum(seat.lost for seat in self._seats.values())
        live = sum(map(self.is_live, self._seats))
        return {"seats": len(self._seats), "live": live, "lost": lost}

    def multicast_trouble(self) -> str | None:
        """A sentence when most of the live seats hear no multicast."""
        hearing = deaf = 0
        for seat in self._seats.values():
            if seat.status is None or seat.lost or seat.status.protocol < 2:
                continue
            age = seat.status.link.multicast_age
            if age is None or age > SILENT_AFTER:
                deaf += 1
            else:
                hearing += 1
        if deaf <= hearing:
            return None
        return (
            f"{deaf} of {deaf + hearing} seats hear no multicast: commands reach them within "
            "seconds instead of at once; check the cabin switch (IGMP) and interface"
        )
