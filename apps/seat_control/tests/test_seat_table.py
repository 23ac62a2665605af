"""Which seats are live, lost or claimed twice, and what of that is told."""

from __future__ import annotations

from typing import Any

import pytest

from apps.common.protocol import Status
from apps.seat_control.seats import ClaimedTwiceError, SeatTable

ONE, OTHER = "1" * 32, "2" * 32


def status(boot_id: str = ONE, age: float | None = 0.5, **fields: Any) -> Status:
    return Status.model_validate(
        {
            "protocol": 2,
            "boot_id": boot_id,
            "held": {"epoch": 0, "seq": 0},
            "fresh": False,
            "state": "idle",
            "volume": 50,
            "brightness": 50,
            "temperature": 40,
            "firmware": "1.0",
            "link": {
                "frames": 0,
                "duplicates": 0,
                "refused": 0,
                "gaps": 0,
                "http_failures": 0,
                "multicast_age": age,
            },
        }
        | fields
    )


def test_a_seat_waits_then_lives_then_is_lost_and_heals() -> None:
    table = SeatTable(["1A", "1C"], now=0)
    assert table.view("1A").presence == "waiting"
    table.report("1A", status(), now=1)
    assert table.view("1A").presence == "live"
    table.check(now=2.9)
    assert table.counts() == {"seats": 2, "live": 1, "lost": 0}
    table.check(now=3.0)
    assert table.view("1C").presence == "lost"  # never heard of, three seconds after the start
    table.check(now=4.0)
    assert table.view("1A").presence == "lost"
    table.report("1A", status(), now=5)
    assert table.view("1A").presence == "live"


def test_only_what_changed_is_told_and_quiet_fields_are_not() -> None:
    table = SeatTable(["1A", "1C"], now=0)
    table.report("1A", status(), now=1)
    first = table.changes()
    assert first["1A"]["presence"] == "live"
    assert "1C" not in first
    table.report("1A", status(temperature=41.5, position=3.5), now=2)
    assert table.changes() == {}
    table.report("1A", status(volume=70, temperature=42), now=2.5)
    assert table.changes() == {"1A": {"volume": 70}}
    assert table.changes() == {}
    assert table.view("1A").temperature == 42


def test_a_seat_that_changes_all_the_time_is_told_once_a_look() -> None:
    table = SeatTable(["1A", "1C"], now=0)
    for number in range(100):
        table.report("1A", status(volume=number), now=1)
    changes = table.changes()
    assert list(changes) == ["1A"]
    assert changes["1A"]["volume"] == 99
    assert table.changes() == {}


def test_a_copy_stays_as_it_was() -> None:
    table = SeatTable(["1A", "1C"], now=0)
    table.report("1A", status(volume=10), now=1)
    copy = table.copy()
    table.report("1A", status(volume=90), now=2)
    table.check(now=20)
    view = copy["1A"].view()
    assert (view.volume, view.presence, copy["1C"].view().presence) == (10, "live", "waiting")


def test_a_second_player_is_refused_while_the_first_lives() -> None:
    table = SeatTable(["1A"], now=0)
    table.report("1A", status(volume=10), now=1)
    with pytest.raises(ClaimedTwiceError, match="another player reports as seat 1A"):
        table.report("1A", status(OTHER, volume=90), now=2)
    assert table.view("1A").volume == 10
    assert table.view("1A").claimed_twice
    table.report("1A", status(volume=11), now=2.5)  # the first goes on undisturbed
    assert table.view("1A").volume == 11
    table.check(now=5.0)
    assert not table.view("1A").claimed_twice


def test_a_rebooted_player_takes_over_once_the_old_one_is_silent() -> None:
    table = SeatTable(["1A"], now=0)
    table.report("1A", status(), now=1)
    table.report("1A", status(OTHER, volume=90), now=4)
    assert table.view("1A").volume == 90
    assert not table.view("1A").claimed_twice


def test_most_seats_deaf_to_multicast_is_trouble() -> None:
    table = SeatTable(["1A", "1C", "1D"], now=0)
    assert table.multicast_trouble() is None
    table.report("1A", status(age=9), now=1)
    table.report("1C", status(age=None), now=1)
    table.report("1D", status(age=0.2), now=1)
    assert "2 of 3 seats" in (table.multicast_trouble() or "")
    table.report("1C", status(age=0.1), now=2)
    assert table.multicast_trouble() is None


def test_seats_of_protocol_1_are_not_asked_about_beacons() -> None:
    table = SeatTable(["1A"], now=0)
    table.report("1A", status(age=None, protocol=1), now=1)
    assert table.multicast_trouble() is None
