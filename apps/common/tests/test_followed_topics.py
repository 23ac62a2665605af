"""One topic followed as a model, on a real bus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.common.bus import Bus, Followed
from apps.common.pa import TOPIC, PaState
from apps.common.testing import RedisServer, wait_until


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
    followed = Followed(bus, TOPIC, PaState)
    wanted = PaState(state="announcement", source="crew", areas=("economy",))
    wait_until(lambda: followed.value == wanted, "the last value is known")
    bus.publish(TOPIC, {"state": "idle", "mood": "a field of a newer version"})
    wait_until(lambda: followed.value == PaState(state="idle"), "the new value is known")


def test_nobody_knows_while_there_is_no_value(bus: Bus) -> None:
    assert Followed(bus, TOPIC, PaState).value is None


def test_a_value_that_is_not_understood_is_no_state(bus: Bus) -> None:
    followed = Followed(bus, TOPIC, PaState)
    bus.publish(TOPIC, {"state": "idle"})
    wait_until(lambda: followed.value, "the value is known")
    bus.publish(TOPIC, {"state": "singing"})
    wait_until(lambda: followed.value is None, "nobody knows")


def test_nobody_knows_while_the_bus_is_away(bus: Bus, server: RedisServer) -> None:
    followed = Followed(bus, TOPIC, PaState)
    bus.publish(TOPIC, {"state": "idle"})
    wait_until(lambda: followed.value, "the value is known")
    server.kill()
    wait_until(lambda: followed.value is None, "nobody knows")
    server.start()
    wait_until(lambda: followed.value, "it is known again")


def test_a_value_that_is_not_sent_again_is_believed_for_so_long(bus: Bus) -> None:
    told: list[PaState | None] = []
    followed = Followed(bus, TOPIC, PaState, 0.5, told.append)
    bus.publish(TOPIC, {"state": "idle"})
    wait_until(lambda: PaState(state="idle") in told, "it is told of the value")
    wait_until(lambda: followed.value is None, "it is believed no more")
    bus.publish(TOPIC, {"state": "idle"})
    wait_until(lambda: followed.value, "it was sent again")
