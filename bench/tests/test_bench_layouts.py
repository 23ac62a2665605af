"""A cut-down cabin is written so that the apps read exactly that cabin."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from apps.common import layout as layouts
from bench.instance import BenchError
from bench.layouts import load, real_seat


@pytest.mark.parametrize("name", ["a330-300", "a320"])
@pytest.mark.parametrize("seats", [1, 7, 40, 173])
def test_cut_down_cabin_has_the_first_seats(name: str, seats: int, tmp_path: Path) -> None:
    whole, _ = load(name, None)
    cut, text = load(name, seats)
    path = tmp_path / f"{name}.yml"
    path.write_text(text)
    read = layouts.load(path)
    assert list(read.seats) == list(whole.seats)[:seats]
    assert replace(read, blocks=()) == replace(cut, blocks=())


def test_whole_cabin_is_the_file_itself() -> None:
    layout, text = load("a320", 180)
    assert len(layout.seats) == 180
    assert text == (Path(layouts.__file__).parents[2] / "inventory/layouts/a320.yml").read_text()


def test_unknown_layout_names_those_there_are() -> None:
    with pytest.raises(BenchError, match="no layout concorde: LAYOUT can be one of a320, a330-300"):
        load("concorde", None)


@pytest.mark.parametrize("seats", [0, -1, 313])
def test_impossible_number_of_seats(seats: int) -> None:
    with pytest.raises(BenchError, match="1 to 312"):
        load("a330-300", seats)


@pytest.mark.parametrize(
    ("name", "seats", "seat"),
    [("a330-300", None, "12A"), ("a320", None, "12A"), ("a330-300", 40, "10A"), ("a320", 1, "1A")],
)
def test_the_real_player_is_at_12a_or_else_where_the_last_class_begins(
    name: str, seats: int | None, seat: str
) -> None:
    assert real_seat(load(name, seats)[0]) == seat
