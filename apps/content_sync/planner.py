"""What is brought on board in which order, and how much of it a stop at the gate is enough for.

No I/O and no clock. What goes stale within days comes first, the soonest and the smallest before
all; then the rest, what takes least first. So a newspaper of today comes before a film, and of
many films as many as can be are whole in the end. What nobody may see any more comes after what
they may, and what has no time left to come whole after what has: what is there of it then is not
fetched again at the next gate.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from apps.common.content import KINDS, Kind

STALE_SOON = timedelta(days=3)
"""Whose rights end within this time comes before all else."""

NEWS_ARE_GOOD_FOR = timedelta(days=1)
"""News whose rights have no end are stale all the same."""

BATCH_SECONDS = 10.0
"""How long one run of rsync should take: its beginning and end take some 5 round trips, in which
nothing comes, and within one run the order is that of the digests."""

BATCH_LEAST = 256 * 1024
BATCH_FILES = 500

HALF_LIFE = 15.0
"""Seconds after which half of what is known of the rate comes from since then."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One object that is missing on board: its SHA-256, length, and how many bytes are to come.

    `delta`: it is made of a former version, or of what is there of it, and so has a run of its own.
    `more`: bytes of the disk that it takes while it comes, beside those that are to come.
    """

    digest: str
    length: int
    left: int
    delta: bool = False
    more: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """An entry of a catalogue, and what is missing of it: it is of use only as a whole.

    Attributes:
        size: bytes that were missing when the stop began.
        until: when the rights to it end, or it goes stale.
    """

    kind: Kind
    id: str
    title: str
    size: int
    pieces: tuple[Piece, ...] = ()
    until: datetime | None = None

    @property
    def left(self) -> int:
        """Bytes that are to come."""
        return sum(piece.left for piece in self.pieces)

    @property
    def room(self) -> int:
        """Bytes that the disk has to have for it."""
        return self.left + sum(piece.more for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Plan:
    """What comes in which order.

    Attributes:
        order: all that is to come, but for what the disk has no room for.
        no_room: the latter.
        fit: how many of these, from the first on, have the time to come whole.
        seconds: that are left at the gate; None: nobody knows.
        bytes_total: of all that was missing when the stop began.
        bytes_fit: of what will be there of it when the stop ends.
        bytes_done: of what has come.
        kinds: for each how many entries there will be, and are wanted.
    """

    order: tuple[Item, ...]
    no_room: tuple[Item, ...]
    fit: int
    seconds: float | None
    bytes_total: int
    bytes_fit: int
    bytes_done: int
    kinds: dict[Kind, tuple[int, int]]

    @property
    def says(self) -> str:
        """``42 min at the gate, 2.1 GB of 3.4 GB: all news, 3 of 5 films``."""
        if not self.bytes_total:
            return "nothing is missing"
        if not self.order and not self.no_room:
            return f"all of it is on board, {size(self.bytes_total)}"
        time = (
            "as long as the gate is open"
            if self.seconds is None
            else f"{math.floor(self.seconds / 60)} min at the gate"
        )
        kinds = ", ".join(
            f"all {kind}" if fit == total else f"{fit} of {total} {kind}"
            for kind, (fit, total) in self.kinds.items()
        )
        return f"{time}, {size(self.bytes_fit)} of {size(self.bytes_total)}: {kinds}"


def plan(
    items: Iterable[Item],
    now: datetime,
    rate: float,
    seconds: float | None,
    room: float = math.inf,
) -> Plan:
    """Put what is missing in order.

    Args:
        items: all that was missing when the stop began, and what is still left of each.
        now: as far as the clock is known.
        rate: bytes a second that come.
        seconds: that are left at the gate; None where nobody knows: everything fits then.
        room: bytes that the disk has for it.
    """
    items = list(items)
    time = math.inf if seconds is None else max(0.0, rate * seconds)
    fitting: list[Item] = []
    others: list[Item] = []
    no_room: list[Item] = []
    for item in sorted(items, key=lambda item: _urgency(item, now)):
        if item.room > room:
            no_room.append(item)
            continue
        room -= item.left
        if item.left <= time:
            time -= item.left
            fitting.append(item)
        else:
            others.append(item)
    order = [item for item in fitting if item.pieces]
    kinds: dict[Kind, tuple[int, int]] = {}
    for kind in KINDS:
        if total := sum(item.kind == kind for item in items):
            kinds[kind] = (sum(item.kind == kind for item in fitting), total)
    return Plan(
        order=(*order, *sorted(others, key=lambda item: item.left)),
        no_room=tuple(no_room),
        fit=len(order),
        seconds=seconds,
        bytes_total=sum(item.size for item in items),
        bytes_fit=sum(item.size for item in fitting),
        bytes_done=sum(max(0, item.size - item.left) for item in items),
        kinds=kinds,
    )


def _urgency(item: Item, now: datetime) -> tuple[bool, bool, date, int, int, str]:
    """What to sort by: over, stale soon, on which day, how much is to come; the rest parts equals.

    What is over comes all the same: a set is in force when it is whole, and the clock may be wrong.
    """
    until = item.until
    if until is None and item.kind == "news":
        until = now + NEWS_ARE_GOOD_FOR
    is_over = until is not None and until <= now
    is_soon = until is not None and now < until <= now + STALE_SOON
    day = until.date() if until is not None and is_soon else date.max
    return (is_over, not is_soon, day, item.left, KINDS.index(item.kind), item.id)


def batch(order: Sequence[Item], rate: float) -> list[Piece]:
    """What the next run of rsync brings: some seconds' worth, and one object at least.

    All of it is of one kind. An object that is in several entries comes with the first.
    """
    most = max(BATCH_LEAST, rate * BATCH_SECONDS)
    found: dict[str, Piece] = {}
    count = 0
    of_a_kind = itertools.takewhile(lambda item: item.kind == order[0].kind, order)
    for piece in (piece for item in of_a_kind for piece in item.pieces):
        if piece.digest in found:
            continue
        if found and (
            count + piece.left > most
            or len(found) >= BATCH_FILES
            or piece.delta != next(iter(found.values())).delta
        ):
            break
        found[piece.digest] = piece
        count += piece.left
    return list(found.values())


class Rate:
    """Bytes a second, of late: what is long ago counts less and less.

    Args:
        first: what is believed before anything is measured.
    """

    def __init__(self, first: float) -> None:
        self.value = first

    def add(self, count: int, seconds: float) -> None:
        """So many bytes came within so many seconds of waiting for some."""
        if seconds <= 0:
            return
        keep = 0.5 ** (seconds / HALF_LIFE)
        self.value = keep * self.value + (1 - keep) * count / seconds


def size(count: int) -> str:
    """Bytes, for people: ``3.4 GB``."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 999.5:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
