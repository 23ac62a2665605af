"""What seats play, and what ails them, as records for the ground. No I/O, no clock.

Made of the same changes that the crew's page gets. What plays at the moment is in memory only:
if seat control is killed, that share of it is not told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.common.usage import Bite, Play, Record

SHORTEST_PLAY = 10.0
"""Seconds; less is somebody who looks for something."""

SILENT = "silent"
"""The fault of a seat that is lost."""

MAX_AN_HOUR = 60
"""Records of one seat in an hour: a player that is out of its mind must not crowd out others."""

HOUR = 3600.0


@dataclass(slots=True)
class _Seat:
    """What is known of one seat. Times are monotonic seconds, but for `began`."""

    shown: dict[str, Any] = field(default_factory=dict)
    media: str | None = None
    began: int = 0
    played: float = 0.0
    playing_since: float | None = None
    hour_began: float = 0.0
    told: int = 0


class SeatUsage:
    """Makes records of what changes at the seats."""

    def __init__(self) -> None:
        self._seats: dict[str, _Seat] = {}

    def take(
        self, changes: Mapping[str, Mapping[str, Any]], unix_ms: int, now: float
    ) -> Iterator[Record]:
        """Take changes, as `SeatTable.changes` gives them; what there is to tell of them.

        Args:
            changes: by seat, the fields that changed.
            unix_ms: the time in milliseconds of Unix time.
            now: monotonic seconds.
        """
        for name, fields in changes.items():
            seat = self._seats.setdefault(name, _Seat())
            before = dict(seat.shown)
            seat.shown.update(fields)
            for record in (
                *self._plays(name, seat, unix_ms, now),
                *_faults(name, before, seat.shown, unix_ms),
            ):
                if self._may_tell(seat, now):
                    yield record

    def finish(self, now: float) -> Iterator[Record]:
        """What is under way, for nothing more comes."""
        for name, seat in self._seats.items():
            yield from self._end(name, seat, now)

    def _plays(self, name: str, seat: _Seat, unix_ms: int, now: float) -> Iterator[Record]:
        media = seat.shown.get("media")
        if media != seat.media:
            yield from self._end(name, seat, now)
            seat.media, seat.began, seat.played = media, unix_ms, 0.0
        plays = media is not None and (
            seat.shown.get("presence") == "live" and seat.shown.get("state") == "playing"
        )
        if plays and seat.playing_since is None:
            seat.playing_since = now
        elif not plays:
            _stop(seat, now)

    def _end(self, name: str, seat: _Seat, now: float) -> Iterator[Record]:
        _stop(seat, now)
        if seat.media is not None and seat.played >= SHORTEST_PLAY:
            yield Play(at=seat.began, media=seat.media, seconds=round(seat.played), seat=name)

    def _may_tell(self, seat: _Seat, now: float) -> bool:
        if now - seat.hour_began >= HOUR:
            seat.hour_began, seat.told = now, 0
        seat.told += 1
        return seat.told <= MAX_AN_HOUR


def _stop(seat: _Seat, now: float) -> None:
    if seat.playing_since is not None:
        seat.played += now - seat.playing_since
        seat.playing_since = None


def _faults(
    name: str, before: Mapping[str, Any], after: Mapping[str, Any], unix_ms: int
) -> Iterator[Record]:
    old, new = _ails(before), _ails(after)
    for fault in sorted(old ^ new):
        yield Bite(at=unix_ms, part=f"seat {name}", fault=fault, ended=fault in old)


def _ails(shown: Mapping[str, Any]) -> set[str]:
    silent = {SILENT} if shown.get("presence") == "lost" else set()
    return {*shown.get("faults", ()), *silent}
