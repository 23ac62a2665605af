"""The PA's state, from a real bus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.common.bus import Bus
from apps.common.testing import RedisServer, wait_until
from apps.crew_web.pa import TOPIC, PaFollower, PaState


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def bus(server: RedisServer) -> Iterator[Bus]:
    bus = Bus(server.url)
    bus.start()
    wait_until(lambda: bus.trouble is None, "the bus is there")
    yield bus
    bus.close()


def test_the_last_value_and_each_new_one_are_followed(bus: Bus) -> None:
    bus.publish(TOPIC, {"state": "announcement", "source": "crew", "areas": ["economy"]})
    follower = PaFollower(bus)
    wanted = PaState(state="announcement", source="crew", areas=("economy",))
    wait_until(lambda: follower.state == wanted, "the last value is known")
    bus.publish(TOPIC, {"state": "idle", "since": "a field of a newer version"})
    wait_until(lambda: follower.state == PaState(state="idle"), "the new value is known")


def test_nobody_knows_while_there_is_no_value(bus: Bus) -> None:
    assert PaFollower(bus).state is None


def test_a_value_that_is_not_understood_is_no_state(bus: Bus) -> None:
    follower = PaFollower(bus)
    bus.publish(TOPIC, {"state": "idle"})
    wait_until(lambda: follower.state, "the value is known")
    bus.publish(TOPIC, {"state": "singing"})
    wait_until(lambda: follower.state is None, "nobody knows")


def test_nobody_knows_while_the_bus_is_away(bus: Bus, server: RedisServer) -> None:
    follower = PaFollower(bus)
    bus.publish(TOPIC, {"state": "idle"})
    wait_until(lambda: follower.state, "the value is known")
    server.kill()
    wait_until(lambda: follower.state is None, "nobody knows")
    server.start()
    wait_until(lambda: follower.state, "it is known again")
