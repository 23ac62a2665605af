"""The wall clock is stepped by an hour while seat control runs, and nothing changes."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from apps.seat_control.app import create_app
from apps.seat_control.service import SeatControl
from apps.seat_control.settings import SeatControlSettings
from apps.seat_control.tests.test_seat_control_api import CREW, command, held, report


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Steps the wall clock as Python code sees it; the monotonic clocks go on, as they do."""
    wall = time.time

    def by(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: wall() + seconds)

    return by


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_a_step_of_the_clock_changes_nothing(
    settings: SeatControlSettings, step: Callable[[float], None], seconds: float
) -> None:
    service = SeatControl(settings)
    service.start()
    client = create_app(service).test_client()
    _, headers, _ = report(client, "12C")
    before = int(headers["Ife-Time"])
    assert command(client, {"seats": ["12C"]}, {"name": "pause"})[0] == 202
    step(seconds)
    assert command(client, {"seats": ["12C"]}, {"name": "pause"})[1]["seq"] == 2
    _, headers, answer = report(client, "12C", held=held(headers, 0))
    assert 0 <= int(headers["Ife-Time"]) - before < 5_000
    assert len(answer["frames"]) == 2  # neither expired nor unborn
    assert presence(client, "12C") == "live"
    service.close()

    # And so it stays when seat control starts anew while the clock is wrong.
    again = SeatControl(settings)
    again.start()
    try:
        client = create_app(again).test_client()
        _, later, answer = report(client, "12C", held=held(headers, 0))
        assert later["Ife-Epoch"] == headers["Ife-Epoch"]
        assert 0 <= int(later["Ife-Time"]) - before < 10_000
        assert len(answer["frames"]) == 2
    finally:
        again.close()


def presence(client: FlaskClient, seat: str) -> str:
    seats = client.get("/api/v1/cabin", headers=CREW).get_json()["seats"]
    return str(seats[seat]["presence"])
