"""What the crew may ask for, and within what bounds."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from apps.common.commands import ACTIONS, PLAIN, AnyAction, CommandRequest, SeatName, Selector

ACTION: TypeAdapter[Any] = TypeAdapter(AnyAction)
SEAT: TypeAdapter[str] = TypeAdapter(SeatName)

GOOD: list[dict[str, Any]] = [
    {"name": "reset"},
    {"name": "power", "on": True},
    {"name": "power", "on": False},
    {"name": "lock_screen", "locked": True},
    {"name": "mute", "muted": False},
    {"name": "set_volume", "volume": 0},
    {"name": "limit_volume", "limit": 100},
    {"name": "set_brightness", "brightness": 50},
    {"name": "pause"},
    {"name": "resume"},
    {"name": "play", "media": "film-12", "position": 86_400},
    {"name": "show_message", "text": "Cabin crew, \N{SNOWMAN}", "seconds": 60},
    {"name": "attendant_call_clear"},
    {"name": "reading_light", "on": True},
    {"name": "identify", "seconds": 1},
    {"name": "impose", "channel": "safety-en"},
    {"name": "impose", "channel": None},
]


def action(fields: dict[str, Any]) -> Any:
    return ACTION.validate_json(json.dumps(fields))


@pytest.mark.parametrize("fields", GOOD, ids=lambda fields: str(fields["name"]))
def test_every_action_is_read_and_written_alike(fields: dict[str, Any]) -> None:
    parsed = action(fields)
    assert type(parsed) is ACTIONS[fields["name"]]
    assert action(json.loads(parsed.model_dump_json())) == parsed
    assert fields.items() <= parsed.model_dump().items()


def test_every_action_is_among_those_tried() -> None:
    assert {fields["name"] for fields in GOOD} == ACTIONS.keys()


def bad_numbers(field: str, lowest: int, highest: int, **others: Any) -> list[dict[str, Any]]:
    values = [lowest - 1, highest + 1, True, "5", None, [], float("nan"), float("inf")]
    return [{**others, field: value} for value in values]


@pytest.mark.parametrize(
    "fields",
    [
        *({"name": "power", "on": value} for value in (1, 0, "true", None)),
        *({"name": "reading_light", "on": value} for value in (1, "on", None)),
        *({"name": "lock_screen", "locked": value} for value in (1, "yes", None)),
        *({"name": "mute", "muted": value} for value in (0, "no", None)),
        *({"name": "power"}, {"name": "reading_light"}, {"name": "lock_screen"}, {"name": "mute"}),
        *bad_numbers("volume", 0, 100, name="set_volume"),
        *bad_numbers("limit", 0, 100, name="limit_volume"),
        *bad_numbers("brightness", 0, 100, name="set_brightness"),
        *({"name": "set_volume"}, {"name": "limit_volume"}, {"name": "set_brightness"}),
        {"name": "set_volume", "volume": 1.5},
        *bad_numbers("position", 0, 86_400, name="play", media="film-12"),
        *bad_numbers("seconds", 1, 60, name="show_message", text="Hello"),
        *bad_numbers("seconds", 1, 60, name="identify"),
        {"name": "play"},
        *({"name": "play", "media": media} for media in ("", "../x", "a b", "x" * 65, "x\n", 12)),
        {"name": "show_message"},
        *({"name": "show_message", "text": text} for text in ("", "   ", "x" * 201, None)),
        *({"name": name} for name in ("dance", "Reset", "", None, 7)),
        {},
        {"name": "reset", "hard": True},
        {"name": "set_volume", "volume": 30, "brightness": 30},
    ],
)
def test_an_action_out_of_bounds_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        action(fields)


@pytest.mark.parametrize(
    "text",
    [
        "Willkommen an Bord \N{AIRPLANE}\N{VARIATION SELECTOR-16}",
        "\N{MAN}\N{ZERO WIDTH JOINER}\N{AIRPLANE}\N{VARIATION SELECTOR-16}",
        "\u0645\u06cc\N{ZERO WIDTH NON-JOINER}\u062e\u0648\u0627\u0647\u0645",
        "\u0915\u094d\N{ZERO WIDTH JOINER}\u0937",
        "\U0001fbff",  # not assigned when this was written
    ],
)
def test_a_message_in_any_language_is_taken(text: str) -> None:
    assert action({"name": "show_message", "text": text}).text == text


VISIBLE = {0x0600, 0x0601, 0x0602, 0x0603, 0x0604, 0x0605, 0x06DD, 0x070F, 0x0890, 0x0891, 0x08E2}
"""Signs of Arabic and Syriac that Unicode calls format characters; one can see them."""


def test_what_shows_nothing_is_refused_in_a_message() -> None:
    joiners = {0x200C, 0x200D}
    taken = re.compile(f"^{PLAIN}$")
    for code in (code for code in range(0x10000) if not 0xD800 <= code < 0xE000):
        hidden = unicodedata.category(chr(code)) in {"Cc", "Cf", "Co", "Zl", "Zp"}
        expected = not hidden or code in VISIBLE | joiners
        assert bool(taken.match(chr(code))) == expected or code == ord("\n"), hex(code)


@given(st.text(max_size=5))
def test_the_pattern_reads_alike_in_rust_and_in_python(text: str) -> None:
    text = f"x{text}"
    plain = re.fullmatch(f"{PLAIN}+", text) is not None
    try:
        action({"name": "show_message", "text": text})
    except ValidationError:
        assert not plain
    else:
        assert plain


@pytest.mark.parametrize(
    "hidden", ["\u0085", "\u202e", "\u2028", "\ue000", "\U000e0067", "\U0010ffff"]
)
def test_hidden_characters_are_refused(hidden: str) -> None:
    with pytest.raises(ValidationError):
        action({"name": "show_message", "text": f"Go{hidden}od"})


def test_what_takes_entertainment_away_is_destructive() -> None:
    destructive = [fields for fields in GOOD if action(fields).destructive]
    assert destructive == [{"name": "reset"}, {"name": "power", "on": False}]


def test_settings_are_retained_and_the_rest_is_momentary() -> None:
    retained = {fields["name"] for fields in GOOD if action(fields).retained is not None}
    assert retained == {
        *("power", "lock_screen", "mute", "set_volume", "limit_volume", "set_brightness"),
        *("reading_light", "impose"),
    }
    assert all(action(fields).retained in {None, fields["name"]} for fields in GOOD)


@given(st.integers(1, 99), st.sampled_from("ABCDEFGHJKL"))
def test_every_row_and_letter_makes_a_seat(row: int, letter: str) -> None:
    assert SEAT.validate_python(f"{row}{letter}") == f"{row}{letter}"


@pytest.mark.parametrize(
    "name",
    ["", "A", "12", "0A", "00A", "01A", "100A", "12I", "12M", "12c", "12AC", " 12C", "12C\n"],
)
def test_anything_else_is_no_seat(name: str) -> None:
    with pytest.raises(ValidationError):
        SEAT.validate_python(name)


@pytest.mark.parametrize(
    "selector",
    [
        {"all": 1},
        {"seats": ["12I"]},
        {"seats": "12C"},
        {"seats": ["12C"] * 1001},
        {"rows": [{"first": 0, "last": 1}]},
        {"rows": [{"first": 1, "last": 100}]},
        {"rows": [{"first": True, "last": 2}]},
        {"rows": [{"first": 5}]},
        {"rows": [{"first": 1, "last": 2}] * 100},
        {"classes": ["Economy"]},
        {"classes": ["economy"] * 17},
        {"zones": ["zone one"]},
        {"zones": ["forward"] * 33},
        {"zone": ["forward"]},
        {"exclude": {"exclude": {"all": True}}},
        {"exclude": {"rows": [{"first": 5, "last": 100}]}},
    ],
)
def test_a_selector_out_of_bounds_is_refused(selector: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Selector.model_validate_json(json.dumps(selector))


@pytest.mark.parametrize(
    "change",
    [
        {"selector": None},
        {"action": None},
        *({"expires_in": value} for value in (0, 0.05, -1, 86_401, "5", True, float("nan"))),
        {"arm_token": "x" * 65},
        {"crew": "anna"},
    ],
)
def test_a_request_out_of_bounds_is_refused(change: dict[str, Any]) -> None:
    good = {"selector": {"all": True}, "action": {"name": "pause"}, "expires_in": 0.1}
    CommandRequest.model_validate_json(json.dumps(good))
    with pytest.raises(ValidationError):
        CommandRequest.model_validate_json(json.dumps(good | change))


def test_a_request_cannot_be_changed() -> None:
    request = CommandRequest.model_validate(
        {"selector": {"all": True}, "action": {"name": "set_volume", "volume": 30}}
    )
    with pytest.raises(ValidationError):
        request.action = ACTIONS["reset"](name="reset")  # type: ignore[misc,assignment] # that is what is tested
