"""Usage arrives exactly once, whatever is killed on its way, and when a disk is full."""

from __future__ import annotations

import pytest

from bench.gate import kills
from tests.roles.ground import Ground


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(6, marks=pytest.mark.timeout(180)),
        pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
)
def test_nothing_is_lost_or_doubled_when_either_side_is_killed(ground: Ground, times: int) -> None:
    outcome = kills.run(ground.keys, lambda ends: ends.kill(times, seed=times))
    print(outcome.disturbed, outcome.written, "records in", outcome.batches, "batches")
    assert sum(outcome.disturbed.values()) == times
    assert outcome.written > 20 * times
    assert (outcome.lost, outcome.unknown, outcome.doubled) == (set(), set(), 0)


@pytest.mark.timeout(300)
def test_nothing_is_lost_or_doubled_when_a_disk_is_full(ground: Ground) -> None:
    outcome = kills.run(ground.keys, kills.Ends.fill_disks, plays=500)
    assert set(outcome.disturbed) == {"the aircraft's database", "the Hangar's database"}
    assert (outcome.lost, outcome.unknown, outcome.doubled) == (set(), set(), 0)
