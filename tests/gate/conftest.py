"""What the tests of the gate share: an aircraft and the Hangar, with a poor line between them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.common.testing import wait_until
from bench.gate.onboard import OnBoard
from bench.gate.world import World
from bench.shaper import Order
from tests.content.helpers import Ground

QUICK = Order(rate=20e6, delay=0.005)
"""A line that is good enough for most tests."""

LOST = 700_000
"""Bytes that were on their way when they were cut off: in buffers, and, where packets vanish, what
has come already and waits for those to come again (some half a megabyte at 5 Mbit/s)."""


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    """Both, for all tests of a module."""
    with World() as world:
        yield world


@pytest.fixture
def world(shared: World) -> World:
    """Both, as they are at the beginning; the line is `QUICK`."""
    shared.kill_hangar()
    shutil.rmtree(shared.repository)
    shared.repository.mkdir()
    shared.pin("hangar")
    shared.allow()
    shared.set(QUICK)
    shared.start_sshd()
    return shared


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with its keys, made once."""
    folder = tmp_path_factory.mktemp("ground") / "ground"
    ground = Ground(folder)
    ground.begin()
    return folder


@pytest.fixture
def desk(world: World, empty: Path) -> Ground:
    """What the airline publishes; the Hangar has it at once."""
    folder = world.folder / "hangar"
    shutil.rmtree(folder)
    shutil.copytree(empty, folder)
    return Ground(folder)


def again(world: World, aircraft: OnBoard) -> None:
    """The gate closes, and opens again."""
    aircraft.flap()
    wait_until(lambda: aircraft.gate and aircraft.gate.open, "the gate is open")
