"""What the PA says on the bus goes on to the seats with the beacons: a second way to be told."""

from __future__ import annotations

import socket
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apps.common import pa
from apps.common.bus import Bus
from apps.common.protocol import BEACON_EVERY, Beacon, FrameSigner, FrameVerifier
from apps.common.testing import RedisServer, wait_until
from apps.seat_control import testing
from apps.seat_control.service import SeatControl
from apps.seat_control.settings import SeatControlSettings

Told = Callable[[], tuple[int, ...] | None]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, redis: RedisServer) -> SeatControlSettings:
    a330 = testing.ROOT / "inventory/layouts/a330-300.yml"
    others = {"redis_url": redis.url, "layout": a330, "multicast_port": testing.free_port()}
    return testing.settings(tmp_path).model_copy(update=others)


@pytest.fixture
def told(service: SeatControl) -> Iterator[Told]:
    """The areas of the next beacon, as a seat hears it."""
    verifier = FrameVerifier([FrameSigner(service.settings.command_key.read_bytes()).public_key])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard:
        heard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        heard.settimeout(5)
        group = service.settings.multicast_group
        heard.bind((str(group), service.settings.multicast_port))
        membership = struct.pack("=4s4si", group.packed, bytes(4), socket.if_nametoindex("lo"))
        heard.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)

        def next_told() -> tuple[int, ...] | None:
            beacon = verifier.verify(heard.recv(2000))
            assert isinstance(beacon, Beacon)
            return beacon.pa

        yield next_told


@pytest.fixture
def bus(redis: RedisServer) -> Iterator[Bus]:
    bus = Bus(redis.url)
    bus.start()
    yield bus
    bus.close()


def announcement(*areas: str) -> pa.PaState:
    return pa.PaState(state="announcement", source="crew", areas=areas)


def test_areas_go_by_their_number_and_all_of_them_as_all(told: Told, bus: Bus) -> None:
    assert told() is None
    bus.publish(pa.TOPIC, announcement("economy"))
    wait_until(lambda: told() == (2,), "the second area is told")
    bus.publish(pa.TOPIC, announcement("business", "economy"))
    wait_until(lambda: told() == (0,), "all areas are told")
    bus.publish(pa.TOPIC, pa.PaState(state="idle", ent_pause=("business",)))
    wait_until(lambda: told() == (1,), "a pause without audio is told")
    bus.publish(pa.TOPIC, pa.PaState(state="idle"))
    wait_until(lambda: told() is None, "the end is told")


def test_a_change_is_told_at_once_not_with_the_next_beacon(told: Told, bus: Bus) -> None:
    delays = []
    for areas, wanted in [(["economy"], (2,)), ([], None), (["business"], (1,)), ([], None)] * 2:
        began = time.monotonic()
        bus.publish(pa.TOPIC, announcement(*areas))
        while told() != wanted:
            pass
        delays.append(time.monotonic() - began)
    assert statistics.median(delays) < BEACON_EVERY / 4


def test_an_announcement_whose_app_died_is_over_after_a_while(told: Told, bus: Bus) -> None:
    bus.publish(pa.TOPIC, announcement("economy"))
    wait_until(lambda: told() == (2,), "it is told")
    wait_until(lambda: told() is None, "it is believed no more", pa.STATE_GOOD_FOR + 3)


def test_an_announcement_ends_for_the_seats_when_the_bus_goes(
    told: Told, bus: Bus, redis: RedisServer
) -> None:
    bus.publish(pa.TOPIC, announcement("economy"))
    wait_until(lambda: told() == (2,), "it is told")
    redis.kill()
    wait_until(lambda: told() is None, "nobody knows any more")
