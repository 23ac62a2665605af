"""What the tests of the gate share: an aircraft and the Hangar, with a poor line between them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from bench.gate.world import World
from bench.shaper import Order

QUICK = Order(rate=20e6, delay=0.005)
"""A line that is good enough for most tests."""

LOST = 400_000
"""Bytes that were on their way when they were cut off, in buffers here and there."""


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
