"""The event bus on a real Redis, which is killed, frozen and brought back empty."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from apps.common import bus as bus_module
from apps.common.bus import KEY, MAX_VALUE, Bus
from apps.common.testing import RedisServer, wait_until


class State(BaseModel):
    """As apps publish it."""

    level: int


class Heard:
    """A subscriber that keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def __call__(self, topic: str, value: Any) -> None:
        """Keep it: a subscriber is called so."""
        self.events.append((topic, value))

    def wait(self, topic: str, value: Any, after: int = 0) -> None:
        """Wait until it was told this, not counting its first `after` events."""
        wait_until(
            lambda: (topic, value) in self.events[after:], f"{topic} is {value}: {self.events}"
        )


@contextmanager
def running(server: RedisServer) -> Iterator[Bus]:
    bus = Bus(server.url)
    bus.start()
    try:
        yield bus
    finally:
        bus.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def bus(server: RedisServer) -> Iterator[Bus]:
    with running(server) as bus:
        wait_until(lambda: bus.trouble is None, "the bus is connected")
        yield bus


def last_value(server: RedisServer, topic: str) -> object:
    with server.client() as client:
        return client.get(KEY + topic)


def test_a_subscriber_gets_the_last_value_and_then_each_new_one(bus: Bus) -> None:
    first = Heard()
    bus.subscribe(["pa/state", "cabin/lights"], first)
    first.wait("pa/state", None)
    first.wait("cabin/lights", None)
    bus.publish("pa/state", State(level=1))
    first.wait("pa/state", {"level": 1})
    bus.publish("cabin/lights", {"on": True})
    first.wait("cabin/lights", {"on": True})
    late = Heard()
    bus.subscribe(["pa/state"], late)
    late.wait("pa/state", {"level": 1})
    assert all(topic == "pa/state" for topic, _ in late.events)


def test_two_processes_share_the_topics(bus: Bus, server: RedisServer) -> None:
    heard = Heard()
    with running(server) as other:
        other.subscribe(["pa/state"], heard)
        bus.publish("pa/state", State(level=7))
        heard.wait("pa/state", {"level": 7})


def test_the_newest_of_many_values_wins(bus: Bus) -> None:
    heard = Heard()
    bus.subscribe(["pa/state"], heard)
    for level in range(500):
        bus.publish("pa/state", State(level=level))
    heard.wait("pa/state", {"level": 499})
    levels = [value["level"] for _, value in heard.events if value]
    assert levels[-1] == 499


def test_while_redis_is_away_it_says_so_and_publishing_does_not_wait(
    bus: Bus, server: RedisServer
) -> None:
    server.kill()
    wait_until(lambda: bus.trouble is not None, "the bus says that Redis is away")
    began = time.monotonic()
    for level in range(1000):
        bus.publish("pa/state", State(level=level))
    assert time.monotonic() - began < 0.5
    server.start()
    wait_until(lambda: bus.trouble is None, "the bus says that Redis is back")
    wait_until(lambda: last_value(server, "pa/state") == '{"level":999}', "the newest is there")


def test_a_redis_that_hangs_is_away_too(bus: Bus, server: RedisServer) -> None:
    server.freeze()
    began = time.monotonic()
    bus.publish("pa/state", State(level=1))
    assert time.monotonic() - began < 0.5
    wait_until(lambda: bus.trouble is not None, "the bus says that Redis hangs")
    server.thaw()
    wait_until(lambda: bus.trouble is None, "the bus says that Redis is back")
    wait_until(lambda: last_value(server, "pa/state") == '{"level":1}', "the value is there")


def test_after_redis_came_back_empty_every_last_value_is_there_again(
    bus: Bus, server: RedisServer
) -> None:
    heard = Heard()
    bus.subscribe(["pa/state", "cabin/lights"], heard)
    bus.publish("pa/state", State(level=1))
    bus.publish("cabin/lights", {"on": True})
    heard.wait("cabin/lights", {"on": True})
    before = len(heard.events)
    # At once, so that it is back before anybody noticed that it was away.
    server.kill()
    server.start()
    wait_until(lambda: last_value(server, "pa/state") == '{"level":1}', "the first is there")
    wait_until(lambda: last_value(server, "cabin/lights") == '{"on": true}', "the second is there")
    heard.wait("pa/state", {"level": 1}, after=before)
    heard.wait("cabin/lights", {"on": True}, after=before)
    bus.publish("pa/state", State(level=2))
    heard.wait("pa/state", {"level": 2}, after=before)


def test_a_bus_that_starts_before_redis_catches_up(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    heard = Heard()
    with running(server) as bus:
        bus.subscribe(["pa/state"], heard)
        bus.publish("pa/state", State(level=3))
        assert bus.trouble is not None
        with server:
            heard.wait("pa/state", {"level": 3})
            assert bus.trouble is None


def test_rubbish_and_a_failing_subscriber_do_not_end_a_subscription(
    bus: Bus, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()

    def fails_on_one(topic: str, value: Any) -> None:
        heard(topic, value)
        if value == {"level": 1}:
            raise RuntimeError("no level 1 here")

    bus.subscribe(["pa/state"], fails_on_one)
    heard.wait("pa/state", None)
    with server.client() as client:
        client.publish(KEY + "pa/state", b"\xff{")
    bus.publish("pa/state", State(level=1))
    heard.wait("pa/state", {"level": 1})
    bus.publish("pa/state", State(level=2))
    heard.wait("pa/state", {"level": 2})
    assert caplog.text.count("a subscriber failed") == 2


def test_values_and_topics_are_bounded(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="too large"):
        bus.publish("pa/state", {"text": "x" * MAX_VALUE})
    monkeypatch.setattr(bus_module, "MAX_TOPICS", 2)
    bus.publish("one", {})
    bus.publish("two", {})
    with pytest.raises(ValueError, match="three: one topic too many"):
        bus.publish("three", {})
    bus.publish("two", {"again": True})


def test_closing_ends_its_threads_soon(server: RedisServer) -> None:
    of_others = threading.enumerate()
    with running(server) as bus:
        bus.subscribe(["pa/state"], Heard())
        wait_until(lambda: bus.trouble is None, "the bus is connected")
        began = time.monotonic()
    assert time.monotonic() - began < 2.5
    wait_until(lambda: set(threading.enumerate()) <= set(of_others), "its threads have ended")
