"""The cabin layouts that we have, and every way in which a file can be wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apps.common.commands import RowRange, Seats, Selector
from apps.common.layout import (
    Layout,
    LayoutError,
    Seat,
    SelectorError,
    load,
)
from apps.common.yaml_files import MAX_FILE

FOLDER = Path(__file__).parents[3] / "inventory" / "layouts"
A330 = load(FOLDER / "a330-300.yml")
A320 = load(FOLDER / "a320.yml")

GOOD = """\
title: Test Plane
classes:
  first: First
  economy: Economy
zones:
  front: Front
  rear: Rear
pa_areas:
  cabin: Cabin
rows:
  - first: 1
    last: 2
    letters: A K
    class: first
    zone: front
    pa_area: cabin
  - first: 10
    last: 15
    without: [13]
    letters: AC DEFG HK
    class: economy
    zone: rear
    pa_area: cabin
doors:
  1L: {before: 1, side: left}
galleys:
  G1: {after: 15, side: across}
"""


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "plane.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems(folder: Path, text: str | bytes) -> list[str]:
    """What is wrong with a file, without its name: ``12: what``."""
    path = write(folder, text)
    with pytest.raises(LayoutError) as caught:
        load(path)
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert all(problem.startswith(f"{path}:") for problem in caught.value.problems)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


# -- the layouts that we have ---------------------------------------------------------------


def test_the_a330_has_312_seats_in_two_classes() -> None:
    assert A330.name == "a330-300"
    assert A330.title == "Airbus A330-300"
    assert len(A330.seats) == 312
    assert A330.classes == {"business": "Business", "economy": "Economy"}
    by_class = [seat.cabin_class for seat in A330.seats.values()]
    assert by_class.count("business") == 36
    assert A330.seats["12C"] == Seat("12C", 12, "C", "economy", "forward", "economy")
    assert not {"13A", "7A", "1E", "44F", "46A"} & A330.seats.keys()


def test_the_a320_has_180_seats() -> None:
    assert A320.title == "Airbus A320"
    assert len(A320.seats) == 180
    assert not [name for name in A320.seats if name.startswith("13")]


@pytest.mark.parametrize("layout", [A330, A320], ids=lambda layout: layout.name)
def test_seats_go_front_to_back_and_left_to_right(layout: Layout) -> None:
    places = [(seat.row, seat.letter) for seat in layout.seats.values()]
    assert places == sorted(places)
    assert all(name == f"{seat.row}{seat.letter}" for name, seat in layout.seats.items())


@pytest.mark.parametrize("layout", [A330, A320], ids=lambda layout: layout.name)
def test_the_map_can_be_drawn_from_the_blocks(layout: Layout) -> None:
    drawn = [
        f"{row}{letter}"
        for block in layout.blocks
        for row in block.rows
        for group in block.groups
        for letter in group
    ]
    assert drawn == list(layout.seats)
    sides = [door.side for door in layout.doors.values()]
    assert sides.count("left") == sides.count("right") == 4
    assert layout.galleys


def test_a_layout_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        A320.seats["99A"] = A320.seats["1A"]  # type: ignore[index] # that is what is tested
    with pytest.raises(AttributeError):
        A320.name = "other"  # type: ignore[misc] # that is what is tested


def test_blocks_may_come_in_any_order_in_the_file(tmp_path: Path) -> None:
    head, first, second, tail = re.split(r"(?=  - first|doors:)", GOOD)
    turned = load(write(tmp_path, head + second + first + tail))
    assert turned == load(write(tmp_path, GOOD))
    assert list(turned.seats)[:5] == ["1A", "1K", "2A", "2K", "10A"]
    assert turned.blocks[1].rows == (10, 11, 12, 14, 15)
    assert turned.blocks[1].groups == ("AC", "DEFG", "HK")


# -- files that are wrong -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "wrong", "problem"),
    [
        ("letters: A K", "letters: AA K", "13: letters: a letter is there twice, and so would"),
        ("letters: A K", "letters: K A", "13: letters: the letters go from left to right"),
        ("letters: A K", "letters: A I", "13: letters: write the letters A to L without I"),
        ("letters: A K", "letters: A  K", "13: letters: write the letters A to L without I"),
        ("letters: A K", "letters: a k", "13: letters: write the letters A to L without I"),
        ("letters: A K", "letters: M", "13: letters: write the letters A to L without I"),
        ("letters: A K", "letters: ''", "13: letters: write the letters A to L without I"),
        ("letters: A K", "letters: [A, K]", "13: letters: Input should be a valid string"),
        ("first: 10", "first: 2", "17: row 2 is also in the block of line 11"),
        ("last: 2", "last: 12", "17: row 10 is also in the block of line 11"),
        ("last: 2", "last: 10", "17: row 10 is also in the block of line 11"),
        ("first: 10", "first: 16", "17: rows: the block ends (row 15) before it begins"),
        ("last: 15", "last: 100", "18: last: Input should be less than or equal to 99"),
        ("first: 1\n", "first: 0\n", "11: first: Input should be greater than or equal to 1"),
        ("first: 1\n", "first: one\n", "11: first: Input should be a valid integer"),
        ("[13]", "[16]", "17: rows: it goes without row 16, which is not in it anyway"),
        ("[13]", "[10, 11, 12, 13, 14, 15]", "17: rows: no row of the block is left"),
        ("zone: rear", "zone: middle", "22: there is no zone middle in zones"),
        ("class: first", "class: second", "14: there is no class second in classes"),
        ("pa_area: cabin", "pa_area: deck", "16: there is no PA area deck in pa_areas"),
        ("  rear: Rear", "  rear: Rear\n  attic: Attic", "8: the zone attic has no seat"),
        ("  first: First", "  none: None\n  first: First", "3: the class none has no seat"),
        ("  cabin: Cabin", "  cabin: Cabin\n  crew: Crew", "10: the PA area crew has no seat"),
        ("  rear: Rear", "  Rear Zone: Rear", "7: Rear Zone: String should match pattern"),
        ("Rear\n", "''\n", "7: rear: String should have at least 1 character"),
        ("  cabin: Cabin", "  {}", "8: pa_areas is empty"),
        ("    zone: front\n", "", "11: zone is missing"),
        ("galleys:\n  G1: {after: 15, side: across}\n", "", "1: galleys is missing"),
        ("    zone: front\n", "    zone: front\n    legroom: 81\n", "16: legroom is not a field"),
        ("title: Test Plane", "title: Test Plane\nseats: 4", "2: seats is not a field"),
        (
            "class: first",
            "zone: front\n    class: first",
            "16: zone is there twice, also in line 14",
        ),
        ("  front: Front", "  front: Front\n  front: F", "7: front is there twice, also in line 6"),
        ("before: 1,", "before: 3,", "25: there is no row 3"),
        ("after: 15,", "after: 13,", "27: there is no row 13"),
        ("before: 1,", "", "25: 1L: give either before or after"),
        ("before: 1,", "before: 1, after: 2,", "25: 1L: give either before or after"),
        ("side: left", "side: port", "25: side: Input should be 'left', 'right' or 'across'"),
        ("1L:", "door one:", "25: door one: String should match pattern"),
        (
            "letters: A K",
            "letters: 'A K",
            (
                "28: not YAML: found unexpected end of stream while scanning a quoted scalar "
                "(from line 13)"
            ),
        ),
        ("letters: A K", "letters: A: K", "13: not YAML: mapping values are not allowed here"),
        ("letters: A K", "letters: A\0K", "13: not YAML: special characters are not allowed"),
        ("letters: A K", "letters: &a A K\n    zone: *a", "14: aliases (*name) are not allowed"),
        ("title: Test Plane", "title: [[[[[[[]]]]]]]", "1: this is nested too deep"),
        ("title: Test Plane", "? [title]\n: Test Plane", "1: a key is a single word"),
        ("doors:", "---\ndoors:", "24: here a second document begins"),
    ],
)
def test_a_wrong_file_is_refused_with_the_line(
    tmp_path: Path, right: str, wrong: str, problem: str
) -> None:
    assert right in GOOD
    found = problems(tmp_path, GOOD.replace(right, wrong, 1))
    assert any(line.startswith(problem) for line in found), found


def test_every_mistake_is_named_in_order_of_lines(tmp_path: Path) -> None:
    text = GOOD.replace("zone: front", "zone: fornt").replace("[13]", "[]", 1)
    text = text.replace("pa_area: cabin", "pa_area: cabn").replace("before: 1,", "before: 9,")
    assert [line.partition(":")[0] for line in problems(tmp_path, text)] == [
        *("6", "9", "15", "16", "23", "25")
    ]


def test_an_empty_cabin_is_refused(tmp_path: Path) -> None:
    no_rows = re.sub(r"rows:\n.*(?=doors:)", "rows: []\n", GOOD, flags=re.DOTALL)
    assert problems(tmp_path, no_rows) == ["10: rows is empty"]
    assert problems(tmp_path, "") == ["1: the file is empty"]
    assert problems(tmp_path, "# nothing yet\n") == ["1: the file is empty"]
    assert problems(tmp_path, "[]") == ["1: the file: fields belong here, each as name: value"]


def test_more_than_1000_seats_are_refused(tmp_path: Path) -> None:
    letters = "letters: ABC DEFGH JKL"
    at_most = GOOD.replace("letters: AC DEFG HK", letters).replace("last: 15", "last: 99")
    assert len(load(write(tmp_path, at_most)).seats) == 4 + 89 * 11
    too_many = at_most.replace("first: 10\n", "first: 3\n").replace("letters: A K", letters)
    assert problems(tmp_path, too_many) == ["10: 1078 seats, a cabin has 1000 at most"]


def test_what_is_no_text_file_is_refused(tmp_path: Path) -> None:
    assert problems(tmp_path, "#" * (MAX_FILE + 1)) == [
        "1: the file is over 64 KiB, none is that large"
    ]
    assert problems(tmp_path, b"title: x\nclasses: \xff\n") == ["2: this is not UTF-8 text"]
    with pytest.raises(LayoutError, match=r"nowhere\.yml: No such file or directory"):
        load(tmp_path / "nowhere.yml")
    with pytest.raises(LayoutError, match="Is a directory"):
        load(tmp_path)


def test_a_bomb_of_aliases_or_brackets_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 40)]
    assert problems(tmp_path, "\n".join(lines)) == ["2: aliases (*name) are not allowed here"]
    assert problems(tmp_path, "[" * MAX_FILE) == ["1: this is nested too deep"]


@example([(0, 0, "0000\x85"), (0, 0, "0"), (0, 5, "0\x85")])  # a name of two lines
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(GOOD)),
            st.integers(0, 30),
            st.text(max_size=5) | st.sampled_from(list("-:[]{},&*!|>%@'\"#?\n\t ")),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_is_in_a_file_it_is_loaded_or_refused_with_lines(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int, str]]
) -> None:
    text = GOOD
    for start, length, put in changes:
        text = text[:start] + put + text[start + length :]
    path = write(tmp_path_factory.getbasetemp(), text.encode("utf-8", "surrogatepass"))
    try:
        load(path)
    except LayoutError as error:
        found = error.problems
    else:
        return
    line = re.compile(re.escape(str(path)) + r":[1-9]\d*: .+")
    assert found
    assert all(line.fullmatch(problem) for problem in found), found


def check(*files: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "apps.common.layout", *map(str, files)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_command_that_checks_files(tmp_path: Path) -> None:
    fine = check(FOLDER / "a320.yml", FOLDER / "a330-300.yml")
    assert fine.returncode == 0, fine.stderr
    assert fine.stderr == ""
    lines = fine.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{FOLDER}/a320.yml: Airbus A320, 180 seats, ")
    wrong = write(tmp_path, GOOD.replace("zone: rear", "zone: middle"))
    refused = check(FOLDER / "a320.yml", wrong)
    assert refused.returncode == 1
    assert refused.stdout.startswith(f"{FOLDER}/a320.yml: ")
    assert f"{wrong}:22: there is no zone middle in zones\n" in refused.stderr
    assert check().returncode == 2


# -- selectors ------------------------------------------------------------------------------


def oracle(layout: Layout, selector: Selector) -> tuple[str, ...]:
    """The seats that a selector means, by going through them one by one."""

    def chosen(seat: Seat, seats: Seats) -> bool:
        if seats.all or seat.name in seats.seats:
            return True
        if any(span.first <= seat.row <= span.last for span in seats.rows):
            return True
        return seat.cabin_class in seats.classes or seat.zone in seats.zones

    return tuple(
        seat.name
        for seat in layout.seats.values()
        if chosen(seat, selector) and not (selector.exclude and chosen(seat, selector.exclude))
    )


def spans(layout: Layout) -> st.SearchStrategy[RowRange]:
    """Ranges that have at least one of the cabin's rows."""
    rows = sorted({seat.row for seat in layout.seats.values()})
    return st.tuples(st.sampled_from(rows), st.integers(0, 20), st.integers(0, 20)).map(
        lambda parts: RowRange(first=max(1, parts[0] - parts[1]), last=min(99, parts[0] + parts[2]))
    )


def parts(layout: Layout) -> dict[str, st.SearchStrategy[object]]:
    return {
        "all": st.booleans(),
        "seats": st.lists(st.sampled_from(list(layout.seats)), max_size=8).map(tuple),
        "rows": st.lists(spans(layout), max_size=3).map(tuple),
        "classes": st.lists(st.sampled_from(list(layout.classes)), max_size=2).map(tuple),
        "zones": st.lists(st.sampled_from(list(layout.zones)), max_size=2).map(tuple),
    }


@pytest.mark.parametrize("layout", [A330, A320, A330.first(47)], ids=["a330", "a320", "bench"])
@given(data=st.data())
def test_a_selector_means_what_going_through_the_seats_finds(
    layout: Layout, data: st.DataObject
) -> None:
    fields = parts(layout)
    exclude = st.none() | st.builds(Seats, **fields)
    selector = data.draw(st.builds(Selector, exclude=exclude, **fields))
    assert layout.resolve(selector) == oracle(layout, selector)


def test_an_empty_selector_and_one_that_excludes_all_mean_nobody() -> None:
    assert A330.resolve(Selector()) == ()
    assert A330.resolve(Selector(zones=("aft",), exclude=Seats(zones=("aft",)))) == ()


@pytest.mark.parametrize(
    ("seats", "message"),
    [
        (Seats(seats=("1A", "13A")), "the cabin has no seat 13A"),
        (Seats(rows=(RowRange(first=7, last=9),)), "the cabin has no row from 7 to 9"),
        (Seats(rows=(RowRange(first=13, last=13),)), "the cabin has no row from 13 to 13"),
        (Seats(rows=(RowRange(first=12, last=10),)), "the cabin has no row from 12 to 10"),
        (Seats(classes=("first",)), "the cabin has no class first"),
        (Seats(zones=("galley",)), "the cabin has no zone galley"),
    ],
)
def test_a_selector_that_names_the_unknown_is_refused(seats: Seats, message: str) -> None:
    with pytest.raises(SelectorError, match=f"^{message}$"):
        A330.resolve(Selector(**seats.model_dump()))
    with pytest.raises(SelectorError, match=f"^{message}$"):
        A330.resolve(Selector(all=True, exclude=seats))


# -- small cabins ---------------------------------------------------------------------------


def test_a_small_cabin_has_only_what_its_seats_need() -> None:
    small = A330.first(40)
    assert list(small.seats) == list(A330.seats)[:40]
    assert list(small.seats)[-1] == "10E"
    assert small.zones == {"business": "Business", "forward": "Economy forward"}
    assert [block.rows for block in small.blocks] == [(1, 2, 3, 4, 5, 6), (10,)]
    assert list(small.doors) == ["1L", "1R", "2L", "2R"]
    assert list(small.galleys) == ["G1", "G2"]
    assert A330.first(36).classes == {"business": "Business"}
    assert A330.first(len(A330.seats)) == A330


@pytest.mark.parametrize("count", [0, -1, 313])
def test_a_small_cabin_has_at_least_a_seat_and_no_more_than_there_are(count: int) -> None:
    with pytest.raises(ValueError, match=f"Airbus A330-300 can have 1 to 312 .* not {count}$"):
        A330.first(count)
