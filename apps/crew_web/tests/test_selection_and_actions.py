"""What the crew selected and want done, as the API of seat control wants to hear it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from apps.common import layout as layouts
from apps.common.commands import ACTIONS, AnyAction, RowRange, Selector
from apps.crew_web import actions, cabin_map, selection

LAYOUTS = {
    path.stem: layouts.load(path)
    for path in sorted((Path(__file__).parents[3] / "inventory/layouts").glob("*.yml"))
}
A330 = LAYOUTS["a330-300"]


def row(*numbers: int) -> list[str]:
    return [name for name, seat in A330.seats.items() if seat.row in numbers]


def in_class(name: str) -> list[str]:
    return [seat.name for seat in A330.seats.values() if seat.cabin_class == name]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (list(A330.seats), Selector(all=True)),
        (["12C"], Selector(seats=("12C",))),
        (["31F", "12C"], Selector(seats=("12C", "31F"))),
        (row(10, 11, 12, 14), Selector(rows=(RowRange(first=10, last=14),))),
        (row(10, 12), Selector(rows=(RowRange(first=10, last=10), RowRange(first=12, last=12)))),
        (in_class("economy"), Selector(classes=("economy",))),
        (
            [*in_class("business"), *row(20), "31F"],
            Selector(classes=("business",), rows=(RowRange(first=20, last=20),), seats=("31F",)),
        ),
    ],
)
def test_a_selection_is_said_shortly(names: list[str], expected: Selector) -> None:
    assert selection.selector(names, A330) == expected


@given(st.data(), st.sampled_from(sorted(LAYOUTS)))
def test_a_selection_means_exactly_its_seats(data: st.DataObject, name: str) -> None:
    cabin = LAYOUTS[name]
    rows = sorted({seat.row for seat in cabin.seats.values()})
    names = set(data.draw(st.lists(st.sampled_from(list(cabin.seats)), min_size=1)))
    for number in data.draw(st.sets(st.sampled_from(rows))):
        names |= {seat.name for seat in cabin.seats.values() if seat.row == number}
    assert set(cabin.resolve(selection.selector(names, cabin))) == names


@pytest.mark.parametrize("names", [[], ["99A"], ["12C", "nonsense"]])
def test_no_seat_or_an_unknown_one_is_refused(names: list[str]) -> None:
    with pytest.raises(selection.SelectionError):
        selection.selector(names, A330)


ANY_ACTION: TypeAdapter[AnyAction] = TypeAdapter(AnyAction)
EXAMPLES = {
    "reset": {},
    "power": {"on": "false"},
    "lock_screen": {"locked": "true"},
    "mute": {"muted": "false"},
    "set_volume": {"volume": "0"},
    "limit_volume": {"limit": "100"},
    "set_brightness": {"brightness": "55"},
    "pause": {},
    "resume": {},
    "play": {"media": "film-12", "position": "12.5"},
    "show_message": {"text": "Dinner is served", "seconds": "20"},
    "attendant_call_clear": {},
    "reading_light": {"on": "true"},
    "identify": {},
    "impose": {"channel": "safety"},
}


def test_there_is_an_example_of_every_action() -> None:
    assert EXAMPLES.keys() == ACTIONS.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_form_makes_an_action_and_back(name: str) -> None:
    action = actions.parse({"name": name, **EXAMPLES[name], "csrf_token": "x", "seats": "12C"})
    assert action.name == name
    assert actions.parse(actions.fields(action)) == action


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"name": "explode"},
        {"name": "mute"},
        {"name": "mute", "muted": "yes"},
        {"name": "mute", "muted": "1"},
        {"name": "set_volume", "volume": "101"},
        {"name": "set_volume", "volume": "-1"},
        {"name": "set_volume", "volume": "4.5"},
        {"name": "set_volume", "volume": "٤"},
        {"name": "play", "media": "../etc"},
        {"name": "play", "media": "film", "position": "nan"},
        {"name": "show_message", "text": "   "},
        {"name": "show_message", "text": "x" * 201},
    ],
)
def test_a_form_that_is_no_action_is_refused(form: dict[str, str]) -> None:
    with pytest.raises(actions.ActionError):
        actions.parse(form)


@given(st.dictionaries(st.sampled_from(["name", "muted", "volume", "text", "media"]), st.text()))
def test_whatever_a_form_says_it_is_refused_or_an_action(form: dict[str, str]) -> None:
    try:
        action = actions.parse(form)
    except actions.ActionError:
        return
    assert ANY_ACTION.validate_python(action.model_dump()) == action


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("count", [1, 7, 40, None])
def test_the_map_has_every_seat_once_and_in_order(name: str, count: int | None) -> None:
    cabin = LAYOUTS[name].first(count) if count else LAYOUTS[name]
    drawn = [
        place
        for zone in cabin_map.draw(cabin)
        for part in zone.parts
        if isinstance(part, cabin_map.Row)
        for group in part.groups
        for place in group.places
        if place
    ]
    assert [place.seat.name for place in drawn] == list(cabin.seats)


def test_aisles_are_in_line_and_doors_in_place() -> None:
    zones = cabin_map.draw(A330)
    rows = [part for zone in zones for part in zone.parts if isinstance(part, cabin_map.Row)]
    assert {tuple(group.width for group in row.groups) for row in rows} == {(2, 4, 2)}
    assert [row.index for row in rows] == list(range(len(rows)))
    first = zones[0].parts[0]
    assert isinstance(first, cabin_map.Fixture)
    assert first.doors == {"left": ["1L"], "right": ["1R"]}
    assert first.galleys == {"across": ["G1"]}
