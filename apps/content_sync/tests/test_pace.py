"""What is sent to the ground comes whole, and no faster than configured."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.content_sync.pace import PART, Pace


@given(st.binary(max_size=3 * PART))
def test_a_body_comes_whole(body: bytes) -> None:
    for bandwidth in (None, 10_000_000_000):
        assert b"".join(Pace(bandwidth).parts(body)) == body


@pytest.mark.parametrize("threads", [1, 2])
def test_all_threads_together_are_no_faster_than_configured(threads: int) -> None:
    pace = Pace(800_000)

    def send() -> int:
        return sum(map(len, pace.parts(bytes(100_000 // threads))))

    began = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        sent = sum(pool.map(lambda _: send(), range(threads)))
    taken = time.monotonic() - began
    # Of 100 kB/s; each thread's first part may come before its time is over.
    assert (sent - threads * PART) / taken <= 100_000


def test_a_short_message_waits_for_a_second_and_not_for_a_long_one() -> None:
    pace = Pace(80_000)
    long = pace.parts(bytes(100_000))
    next(long)
    began = time.monotonic()
    assert b"".join(pace.parts(b"heartbeat")) == b"heartbeat"
    assert time.monotonic() - began < 3
