"""The cabin as it is drawn: zones of rows, seats between aisles, doors and galleys in place."""

from __future__ import annotations

from dataclasses import dataclass

from apps.common.layout import Block, Layout, Position, Seat


@dataclass(frozen=True)
class Place:
    """A seat's place across the cabin: `column` grows from left to right."""

    seat: Seat
    column: float


@dataclass(frozen=True)
class Group:
    """Places between two aisles, None where there is no seat.

    `width` is in seats of the widest block, so that the aisles of all blocks are in line.
    """

    width: int
    places: tuple[Place | None, ...]


@dataclass(frozen=True)
class Row:
    """A row. `index` counts the rows from the nose, without gaps."""

    index: int
    number: int
    cabin_class: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Fixture:
    """Doors and galleys between two rows; names by side."""

    doors: dict[str, list[str]]
    galleys: dict[str, list[str]]


@dataclass(frozen=True)
class Zone:
    """A zone with its rows and fixtures in order."""

    name: str
    label: str
    seats: int
    parts: tuple[Row | Fixture, ...]


def draw(layout: Layout) -> tuple[Zone, ...]:
    """The zones of a cabin, front to back. A zone that another one interrupts is there twice."""
    widths = _widths(layout.blocks)
    zones: list[tuple[str, list[Row | Fixture]]] = []
    rows = [(block, number) for block in layout.blocks for number in block.rows]
    for index, (block, number) in enumerate(rows):
        if not zones or zones[-1][0] != block.zone:
            zones.append((block.zone, []))
        parts = zones[-1][1]
        parts += _fixture(layout, before=number)
        parts.append(Row(index, number, block.cabin_class, _groups(layout, block, number, widths)))
        parts += _fixture(layout, after=number)
    return tuple(
        Zone(name, layout.zones[name], _count(parts), tuple(parts)) for name, parts in zones
    )


def _widths(blocks: tuple[Block, ...]) -> list[int]:
    """For each group of letters, how wide its widest block is."""
    most = max(len(block.groups) for block in blocks)
    return [
        max(len(block.groups[index]) for block in blocks if index < len(block.groups))
        for index in range(most)
    ]


def _groups(layout: Layout, block: Block, number: int, widths: list[int]) -> tuple[Group, ...]:
    groups = []
    offset = 0.0
    for letters, width in zip(block.groups, widths, strict=False):
        step = width / len(letters)
        places = tuple(
            Place(seat, offset + (index + 0.5) * step)
            if (seat := layout.seats.get(f"{number}{letter}"))
            else None
            for index, letter in enumerate(letters)
        )
        groups.append(Group(width, places))
        offset += width + 0.5
    return tuple(groups)


def _fixture(
    layout: Layout, *, before: int | None = None, after: int | None = None
) -> list[Fixture]:
    def here(positions: dict[str, Position]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, at in positions.items():
            if (at.before, at.after) == (before, after):
                found.setdefault(at.side, []).append(name)
        return found

    doors, galleys = here(dict(layout.doors)), here(dict(layout.galleys))
    return [Fixture(doors, galleys)] if doors or galleys else []


def _count(parts: list[Row | Fixture]) -> int:
    return sum(
        place is not None
        for part in parts
        if isinstance(part, Row)
        for group in part.groups
        for place in group.places
    )
