"""Tries grow rarer, up to a bound, and not in step."""

from __future__ import annotations

from apps.common.backoff import BackOff


def test_delays_double_up_to_the_longest_and_begin_anew_after_a_success() -> None:
    for rand, share in ((lambda: 0.0, 0.5), (lambda: 1.0, 1.0)):
        back_off = BackOff(0.25, 2.0, rand)
        delays = [back_off.delay() for _ in range(6)]
        assert delays == [share * delay for delay in (0.25, 0.5, 1.0, 2.0, 2.0, 2.0)]
        back_off.reset()
        assert back_off.delay() == share * 0.25


def test_two_do_not_wait_alike() -> None:
    assert len({BackOff(1.0, 2.0).delay() for _ in range(10)}) > 1
