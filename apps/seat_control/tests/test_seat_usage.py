"""What seats play, and what ails them, as records for the ground."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apps.common.testing import PostgresServer, wait_until
from apps.common.usage import Bite, Play, Record
from apps.seat_control import usage
from apps.seat_control.app import create_app
from apps.seat_control.service import SeatControl
from apps.seat_control.settings import SeatControlSettings
from apps.seat_control.tests.test_seat_control_api import report
from apps.seat_control.usage import MAX_AN_HOUR, SeatUsage

LIVE = {"presence": "live"}


def _take(seats: SeatUsage, at: float, **fields: Any) -> list[Record]:
    return list(seats.take({"12C": fields}, unix_ms=round(at * 1000), now=at))


def test_a_play_is_told_when_it_is_over_without_its_pauses() -> None:
    seats = SeatUsage()
    assert _take(seats, 100, **LIVE, state="playing", media="film", faults=()) == []
    assert _take(seats, 160, state="paused") == []
    assert _take(seats, 500, state="playing") == []
    assert _take(seats, 530, state="announcement") == []
    (play,) = _take(seats, 600, state="idle", media=None)
    assert isinstance(play, Play)
    assert (play.media, play.seconds, play.seat, play.at) == ("film", 90, "12C", 100_000)
    assert list(seats.finish(700)) == []


def test_the_next_title_ends_the_one_before_and_the_end_of_all_ends_it_too() -> None:
    seats = SeatUsage()
    _take(seats, 0, **LIVE, state="playing", media="one")
    (first,) = _take(seats, 20, media="two")
    (second,) = seats.finish(50)
    assert isinstance(first, Play)
    assert isinstance(second, Play)
    assert (first.media, first.seconds) == ("one", 20)
    assert (second.media, second.seconds, second.at) == ("two", 30, 20_000)


def test_somebody_who_looks_for_something_plays_nothing() -> None:
    seats = SeatUsage()
    for number in range(20):
        assert _take(seats, number * 5.0, **LIVE, state="playing", media=f"m{number}") == []


def test_while_a_seat_is_silent_nothing_plays_there() -> None:
    seats = SeatUsage()
    _take(seats, 0, **LIVE, state="playing", media="film")
    (lost,) = _take(seats, 20, presence="lost")
    assert isinstance(lost, Bite)
    assert (lost.part, lost.fault, lost.ended) == ("seat 12C", "silent", False)
    (back,) = _take(seats, 100, **LIVE)
    assert isinstance(back, Bite)
    assert (back.fault, back.ended) == ("silent", True)
    (play,) = seats.finish(110)
    assert isinstance(play, Play)
    assert play.seconds == 30


def test_faults_are_told_when_they_come_and_when_they_go() -> None:
    seats = SeatUsage()
    told = _take(seats, 0, **LIVE, faults=("hot", "no-sound"))
    assert [(each.fault, each.ended) for each in told if isinstance(each, Bite)] == [
        ("hot", False),
        ("no-sound", False),
    ]
    (gone,) = _take(seats, 1, faults=("hot",))
    assert isinstance(gone, Bite)
    assert (gone.fault, gone.ended) == ("no-sound", True)


def test_a_player_that_is_out_of_its_mind_tells_little() -> None:
    seats = SeatUsage()
    told = sum(len(_take(seats, n / 10, faults=("hot",) if n % 2 else ())) for n in range(10_000))
    assert told == MAX_AN_HOUR
    assert len(_take(seats, 3700, faults=())) == 1


def test_what_seats_play_comes_into_the_outbox(
    settings: SeatControlSettings, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real PostgreSQL, with the outbox as content_sync's migration makes it."""
    monkeypatch.setattr(usage, "SHORTEST_PLAY", 0.0)
    postgres.create("ife-seat_control")
    database = postgres.create("ife-content_sync")
    url = postgres.url(database, "ife-seat_control")
    service = SeatControl(settings.model_copy(update={"usage_database_url": url}))
    service.start()
    client = create_app(service).test_client()
    try:
        report(client, "12C", state="playing", media="film")
        wait_until(lambda: "12C" in service._usage._seats, "it was looked at")
        report(client, "12C", state="idle", media=None, faults=["hot"])
        # There is no outbox yet, as on an aircraft without a Hangar.
        wait_until(lambda: service._outbox._waiting, "it waits")
        assert "usage" not in _degraded(service)
        postgres.run(
            database,
            "CREATE TABLE usage_outbox (seq bigint GENERATED ALWAYS AS IDENTITY, kind text, "
            "line text); GRANT INSERT (kind, line) ON usage_outbox TO PUBLIC",
        )
        count = "SELECT count(*) FROM usage_outbox"
        wait_until(lambda: postgres.run(database, count).strip() != "0", "it writes", 20)
    finally:
        service.close()
    query = "SELECT kind, line FROM usage_outbox ORDER BY kind"
    lines = postgres.run(database, query).splitlines()
    told = [(line.partition("|")[0], json.loads(line.partition("|")[2])) for line in lines]
    assert [(kind, record.get("media", record.get("fault"))) for kind, record in told] == [
        ("bite", "hot"),
        ("play", "film"),
    ]


def _degraded(service: SeatControl) -> set[str]:
    return {part.part for part in service.health.report().degraded}
