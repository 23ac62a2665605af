"""The layout file of a bench: an aircraft's, or one cut down to its first seats."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

from apps.common import layout as layouts
from apps.common.layout import Layout
from bench.instance import BenchError

FOLDER = Path(__file__).parent.parent / "inventory/layouts"


def load(name: str, seats: int | None) -> tuple[Layout, str]:
    """The layout called `name`, of all or the first `seats`, and the text of its file.

    Raises:
        BenchError: there is no such layout, or it does not have that many seats.
    """
    path = FOLDER / f"{name}.yml"
    if not path.exists():
        there = ", ".join(sorted(path.stem for path in FOLDER.glob("*.yml")))
        raise BenchError(f"there is no layout {name}: LAYOUT can be one of {there}")
    try:
        layout = layouts.load(path)
        if seats is None or seats == len(layout.seats):
            return layout, path.read_text()
        layout = layout.first(seats)
    except (layouts.LayoutError, ValueError) as error:
        raise BenchError(str(error)) from error
    return layout, dump(layout)


def real_seat(layout: Layout) -> str:
    """The seat that a real player suits best: 12A, or else the first of the last class."""
    if "12A" in layout.seats:
        return "12A"
    *_, last = layout.seats.values()
    return next(s.name for s in layout.seats.values() if s.cabin_class == last.cabin_class)


def dump(layout: Layout) -> str:
    """A file that `apps.common.layout` reads as `layout`. In JSON, which is YAML as well."""
    blocks = []
    for block in layout.blocks:
        # The last row may have lost some seats, and then needs a block of its own.
        there = {row: _letters(layout, row, block.groups) for row in block.rows}
        for letters, group in groupby(there, key=lambda row: there[row]):
            rows = list(group)
            gaps = [row for row in range(rows[0], rows[-1]) if row not in rows]
            blocks.append(
                block.model_dump(by_alias=True)
                | {"first": rows[0], "last": rows[-1], "without": gaps, "letters": letters}
            )
    return json.dumps(
        {
            "title": layout.title,
            "classes": dict(layout.classes),
            "zones": dict(layout.zones),
            "pa_areas": dict(layout.pa_areas),
            "rows": blocks,
            "doors": {name: at.model_dump(exclude_none=True) for name, at in layout.doors.items()},
            "galleys": {
                name: at.model_dump(exclude_none=True) for name, at in layout.galleys.items()
            },
        },
        indent=1,
    )


def _letters(layout: Layout, row: int, groups: tuple[str, ...]) -> str:
    kept = (
        "".join(letter for letter in group if f"{row}{letter}" in layout.seats) for group in groups
    )
    return " ".join(group for group in kept if group)
