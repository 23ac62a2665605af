"""The cabin layout: which seats an aircraft type has, and where.

A YAML file per type in ``inventory/layouts/``; the crew's map and the selectors of commands
come from it. ``python -m apps.common.layout FILE...`` checks files. A wrong file is refused
as a whole, with the line of each mistake.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from apps.common import yaml_files
from apps.common.commands import AreaName, Seats, Selector, Strict

MAX_SEATS = 1000

LETTERS = "ABCDEFGHJKL"


class LayoutError(Exception):
    """A layout file is wrong. `problems` has a line for each mistake: ``file.yml:12: what``."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class SelectorError(ValueError):
    """A selector names what the cabin does not have; the message says what."""


def _letters(text: str) -> str:
    groups = text.split(" ")
    letters = "".join(groups)
    if not all(groups) or not set(letters) <= set(LETTERS):
        raise ValueError(
            "write the letters A to L without I, with one space at each aisle: AC DEFG HK"
        )
    if len(set(letters)) < len(letters):
        raise ValueError("a letter is there twice, and so would be its seats")
    if sorted(letters) != list(letters):
        raise ValueError("the letters go from left to right, so A comes before B")
    return text


Row = Annotated[int, Field(ge=1, le=99)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=40, strip_whitespace=True)]
Labels = Annotated[dict[AreaName, Label], Field(min_length=1, max_length=16)]
FixtureName = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{1,4}$")]


class Position(Strict):
    """Where a door or a galley is: before or after a row, seen from the nose; `left` is port."""

    before: Row | None = None
    after: Row | None = None
    side: Literal["left", "right", "across"]

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.before is None) == (self.after is None):
            raise ValueError("give either before or after, with the number of a row")
        return self


Positions = Annotated[dict[FixtureName, Position], Field(max_length=32)]


class Block(Strict):
    """Rows alike, from `first` to `last`, less those of `without` (13 is often left out).

    `letters` go from left to right with a space at each aisle: ``AC DEFG HK``.
    """

    first: Row
    last: Row
    without: Annotated[tuple[Row, ...], Field(max_length=99)] = ()
    letters: Annotated[str, StringConstraints(max_length=32), AfterValidator(_letters)]
    cabin_class: Annotated[AreaName, Field(alias="class")]
    zone: AreaName
    pa_area: AreaName

    @model_validator(mode="after")
    def _has_rows(self) -> Self:
        if self.first > self.last:
            raise ValueError(f"the block ends (row {self.last}) before it begins")
        for row in self.without:
            if not self.first <= row <= self.last:
                raise ValueError(f"it goes without row {row}, which is not in it anyway")
        if not self.rows:
            raise ValueError("no row of the block is left")
        return self

    @property
    def rows(self) -> tuple[int, ...]:
        """The row numbers, front to back."""
        return tuple(row for row in range(self.first, self.last + 1) if row not in self.without)

    @property
    def groups(self) -> tuple[str, ...]:
        """The letters between the aisles, left to right: ``("AC", "DEFG", "HK")``."""
        return tuple(self.letters.split(" "))


class _File(Strict):
    """A layout file."""

    title: Label
    classes: Labels
    zones: Labels
    pa_areas: Labels
    rows: Annotated[tuple[Block, ...], Field(min_length=1, max_length=99)]
    doors: Positions
    galleys: Positions


@dataclass(frozen=True, slots=True)
class Seat:
    """One seat; class, zone and PA area by their names in the layout."""

    name: str
    row: int
    letter: str
    cabin_class: str
    zone: str
    pa_area: str


@dataclass(frozen=True)
class Layout:
    """A cabin. `name` is the file's, ``a330-300``.

    Attributes:
        seats: by name, front to back and left to right.
        classes: labels by name, as are `zones` and `pa_areas`.
        blocks: front to back, to draw the cabin by. A place of a block has a seat only if
            `seats` has it (`first` leaves the others empty).
        doors: positions by name, as are `galleys`.
    """

    name: str
    title: str
    seats: Mapping[str, Seat]
    classes: Mapping[str, str]
    zones: Mapping[str, str]
    pa_areas: Mapping[str, str]
    blocks: tuple[Block, ...]
    doors: Mapping[str, Position]
    galleys: Mapping[str, Position]

    def resolve(self, selector: Selector) -> tuple[str, ...]:
        """The seats that a selector means, in cabin order; none may be left.

        Raises:
            SelectorError: it names a seat, row, class or zone that the cabin does not have.
        """
        chosen = self._chosen(selector)
        if selector.exclude is not None:
            chosen -= self._chosen(selector.exclude)
        return tuple(name for name in self.seats if name in chosen)

    def _chosen(self, seats: Seats) -> set[str]:
        _known("seat", seats.seats, self.seats)
        _known("class", seats.classes, self.classes)
        _known("zone", seats.zones, self.zones)
        rows = {seat.row for seat in self.seats.values()}
        wanted: set[int] = set()
        for span in seats.rows:
            found = rows.intersection(range(span.first, span.last + 1))
            if not found:
                raise SelectorError(f"the cabin has no row from {span.first} to {span.last}")
            wanted |= found
        return {
            seat.name
            for seat in self.seats.values()
            if seats.all
            or seat.name in seats.seats
            or seat.row in wanted
            or seat.cabin_class in seats.classes
            or seat.zone in seats.zones
        }

    def pa_area_number(self, area: str) -> int:
        """The number of a PA area on the wire, from 1 (docs/protocols/pa.md)."""
        return list(self.pa_areas).index(area) + 1

    def first(self, count: int) -> Layout:
        """The cabin cut down to its first `count` seats, for a small bench.

        Raises:
            ValueError: the cabin has no seats or not that many.
        """
        if not 1 <= count <= len(self.seats):
            raise ValueError(
                f"{self.title} can have 1 to {len(self.seats)} seats on the bench, not {count}"
            )
        kept = list(self.seats.values())[:count]
        rows = {seat.row for seat in kept}
        last = kept[-1].row
        return replace(
            self,
            seats=MappingProxyType({seat.name: seat for seat in kept}),
            classes=_of(self.classes, {seat.cabin_class for seat in kept}),
            zones=_of(self.zones, {seat.zone for seat in kept}),
            pa_areas=_of(self.pa_areas, {seat.pa_area for seat in kept}),
            blocks=tuple(
                block.model_copy(update={"last": min(block.last, last)})
                for block in self.blocks
                if block.first <= last
            ),
            doors=_beside(self.doors, rows),
            galleys=_beside(self.galleys, rows),
        )


def _known(kind: str, names: tuple[str, ...], there: Mapping[str, object]) -> None:
    for name in names:
        if name not in there:
            raise SelectorError(f"the cabin has no {kind} {name}")


def _of(labels: Mapping[str, str], used: set[str]) -> Mapping[str, str]:
    return MappingProxyType({name: label for name, label in labels.items() if name in used})


def _beside(positions: Mapping[str, Position], rows: set[int]) -> Mapping[str, Position]:
    return MappingProxyType(
        {name: at for name, at in positions.items() if at.before in rows or at.after in rows}
    )


def load(path: Path) -> Layout:
    """The layout in a file.

    Raises:
        LayoutError: the file cannot be read, or is wrong; every mistake is named.
    """
    file, problems = yaml_files.read(path, _File, _contradictions)
    if file is None or problems:
        raise LayoutError(problems)
    blocks = tuple(sorted(file.rows, key=lambda block: block.first))
    return Layout(
        name=path.stem,
        title=file.title,
        seats=MappingProxyType({seat.name: seat for seat in _seats(blocks)}),
        classes=MappingProxyType(file.classes),
        zones=MappingProxyType(file.zones),
        pa_areas=MappingProxyType(file.pa_areas),
        blocks=blocks,
        doors=MappingProxyType(file.doors),
        galleys=MappingProxyType(file.galleys),
    )


def _seats(blocks: tuple[Block, ...]) -> Iterator[Seat]:
    for block in blocks:
        for row in block.rows:
            for letter in "".join(block.groups):
                yield Seat(
                    f"{row}{letter}", row, letter, block.cabin_class, block.zone, block.pa_area
                )


def _contradictions(file: _File, lines: yaml_files.Lines) -> Iterator[yaml_files.Problem]:
    """What no single field shows."""
    yield from _overlaps(file, lines)
    for field, section, kind, labels, used in (
        ("class", "classes", "class", file.classes, [block.cabin_class for block in file.rows]),
        ("zone", "zones", "zone", file.zones, [block.zone for block in file.rows]),
        ("pa_area", "pa_areas", "PA area", file.pa_areas, [block.pa_area for block in file.rows]),
    ):
        for index, name in enumerate(used):
            if name not in labels:
                yield lines["rows", index, field], f"there is no {kind} {name} in {section}"
        for name in labels.keys() - set(used):
            yield lines[section, name], f"the {kind} {name} has no seat"
    count = sum(len(block.rows) * len("".join(block.groups)) for block in file.rows)
    if count > MAX_SEATS:
        yield lines["rows",], f"{count} seats, a cabin has {MAX_SEATS} at most"
    rows = {row for block in file.rows for row in block.rows}
    for section, positions in (("doors", file.doors), ("galleys", file.galleys)):
        for name, at in positions.items():
            if (at.before or at.after) not in rows:
                yield lines[section, name], f"there is no row {at.before or at.after}"


def _overlaps(file: _File, lines: yaml_files.Lines) -> Iterator[yaml_files.Problem]:
    in_order = sorted(enumerate(file.rows), key=lambda item: item[1].first)
    for (before, front), (after, back) in pairwise(in_order):
        if back.first <= front.last:
            yield (
                lines["rows", after],
                f"row {back.first} is also in the block of line {lines['rows', before]}",
            )


def main(arguments: list[str]) -> int:
    """Check layout files; the exit code is 1 when one is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m apps.common.layout", description="Check cabin layout files."
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path)
    wrong = False
    for path in parser.parse_args(arguments).files:
        try:
            layout = load(path)
        except LayoutError as error:
            wrong = True
            print(error, file=sys.stderr)
        else:
            classes = ", ".join(layout.classes.values())
            zones = ", ".join(layout.zones.values())
            print(f"{path}: {layout.title}, {len(layout.seats)} seats, {classes}; zones: {zones}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
