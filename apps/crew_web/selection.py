"""What the crew selected on the map, as a selector that says it shortly.

The audit log and the crew read it: "Economy aft and row 12" tells more than 150 seat names.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TypeVar

from apps.common.commands import RowRange, Selector
from apps.common.layout import Layout

K = TypeVar("K", str, int)


class SelectionError(ValueError):
    """No seat is selected, or one that the cabin does not have."""


def selector(names: Iterable[str], layout: Layout) -> Selector:
    """The selector that means exactly these seats.

    Raises:
        SelectionError: there is none, or one that the layout does not have.
    """
    wanted = set(names)
    if not wanted:
        raise SelectionError("no seat is selected")
    if unknown := wanted - layout.seats.keys():
        raise SelectionError(f"the cabin has no seat {min(unknown)[:8]}")
    if len(wanted) == len(layout.seats):
        return Selector(all=True)
    classes = _whole(wanted, {seat.name: seat.cabin_class for seat in layout.seats.values()})
    rest = {name for name in wanted if layout.seats[name].cabin_class not in classes}
    zones = _whole(rest, {seat.name: seat.zone for seat in layout.seats.values()})
    rest = {name for name in rest if layout.seats[name].zone not in zones}
    rows = _whole(rest, {seat.name: seat.row for seat in layout.seats.values()})
    rest = {name for name in rest if layout.seats[name].row not in rows}
    return Selector(
        classes=tuple(classes),
        zones=tuple(zones),
        rows=tuple(_ranges(rows, layout)),
        seats=tuple(name for name in layout.seats if name in rest),
    )


def parts(layout: Layout) -> dict[str, Selector]:
    """By a word each: the whole cabin, its classes, its zones where those are no class."""
    found = {"all": Selector(all=True)}
    found |= {f"class-{name}": Selector(classes=(name,)) for name in layout.classes}
    known = {layout.resolve(part) for part in found.values()}
    for name in layout.zones:
        zone = Selector(zones=(name,))
        if layout.resolve(zone) not in known:
            found[f"zone-{name}"] = zone
    return found


def _whole(wanted: set[str], part_of: dict[str, K]) -> list[K]:
    """The parts of the cabin of which every seat is wanted, in cabin order."""
    seats: dict[K, set[str]] = {}
    for name, part in part_of.items():
        seats.setdefault(part, set()).add(name)
    return [part for part, names in seats.items() if names <= wanted]


def _ranges(rows: list[int], layout: Layout) -> list[RowRange]:
    """Rows as ranges; one goes on where the cabin has no row in between."""
    there = list(dict.fromkeys(seat.row for seat in layout.seats.values()))
    following = dict(pairwise(there))
    ranges: list[RowRange] = []
    for row in rows:
        if ranges and following[ranges[-1].last] == row:
            ranges[-1] = RowRange(first=ranges[-1].first, last=row)
        else:
            ranges.append(RowRange(first=row, last=row))
    return ranges
