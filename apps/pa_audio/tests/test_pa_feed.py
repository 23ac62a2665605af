"""When the packets of a live source go out, and what is in them."""

from __future__ import annotations

import random
from itertools import pairwise
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.pa_audio.feed import EARLY, LATE, MISSED_AFTER, MOST_PIECES, PACKET, SILENCE, Feed

STEP = 0.000_1


def pcm(index: int) -> bytes:
    """A packet that is not silence."""
    return bytes([1 + index % 250]) * PACKET


def run(feed: Feed, arrivals: list[tuple[float, bytes]], until: float) -> list[tuple[float, bytes]]:
    """What goes out when, if somebody looks all the time."""
    sent = []
    waiting = list(arrivals)
    now = 0.0
    while now < until:
        while waiting and waiting[0][0] <= now and not feed.is_full(now):
            feed.put(waiting.pop(0)[1], now)
        while (packet := feed.take(now)) is not None:
            sent.append((now, packet))
        now += STEP
    return sent


def test_a_packet_goes_out_when_its_last_sample_is_there() -> None:
    feed = Feed(waits=False)
    feed.open(0)
    arrivals = [(0.003 + 0.005 * n, pcm(n)) for n in range(200)]
    sent = run(feed, arrivals, 1.0)
    assert [packet for _, packet in sent] == [packet for _, packet in arrivals]
    assert max(out - come for (out, _), (come, _) in zip(sent, arrivals, strict=True)) <= STEP


def test_the_first_goes_at_once_if_the_source_was_there() -> None:
    feed = Feed(waits=False)
    for n in range(5):
        feed.put(pcm(n), 0.005 * n)
    feed.open(0.022)
    assert feed.take(0.022) == pcm(4)  # of the last 5 ms, nothing older
    assert feed.take(0.0221) is None
    feed.put(pcm(5), 0.025)
    assert feed.take(0.025) == pcm(5)


def test_samples_come_in_any_pieces() -> None:
    feed = Feed(waits=False)
    feed.open(0)
    stream = b"".join(pcm(n) for n in range(100))
    generator = random.Random(1)  # noqa: S311 - no secret
    arrivals, at = [], 0
    while at < len(stream):
        piece = stream[at : at + generator.randrange(1, 300)]
        at += len(piece)
        arrivals.append((0.005 * at / PACKET, piece))
    sent = run(feed, arrivals, 0.51)
    assert b"".join(packet for _, packet in sent if packet != SILENCE) == stream


def test_a_starved_source_is_silence_each_5_ms() -> None:
    feed = Feed(waits=False)
    feed.open(0)
    sent = run(feed, [], 1.0)
    assert {packet for _, packet in sent} == {SILENCE}
    gaps = [second[0] - first[0] for first, second in pairwise(sent)]
    assert median(gaps) == pytest.approx(0.005, abs=2 * STEP)
    assert sent[0][0] == pytest.approx(LATE, abs=2 * STEP)


def test_a_source_is_missed_once_it_is_wanted_and_silent_for_long() -> None:
    feed = Feed(waits=False)
    feed.put(pcm(1), 0.0)
    assert not feed.is_missed(60.0), "nobody wants it"
    feed.open(60.0)
    assert not feed.is_missed(60.0 + MISSED_AFTER)
    assert feed.is_missed(60.1 + MISSED_AFTER)
    feed.put(b"", 62.0)
    assert feed.is_missed(62.0)
    feed.put(pcm(2), 62.0)
    assert not feed.is_missed(62.0 + MISSED_AFTER)
    assert feed.is_missed(62.1 + MISSED_AFTER)
    feed.close()
    assert not feed.is_missed(65.0)


def test_after_silence_the_source_is_heard_at_once_again() -> None:
    feed = Feed(waits=False)
    feed.open(0)
    arrivals = [(0.1 + 0.0013 + 0.005 * n, pcm(n)) for n in range(100)]
    sent = [entry for entry in run(feed, arrivals, 0.6) if entry[1] != SILENCE]
    assert len(sent) == 100
    assert max(out - come for (out, _), (come, _) in zip(sent, arrivals, strict=True)) <= STEP


@pytest.mark.parametrize("ppm", [-300, -100, 100, 300])
def test_a_clock_that_is_off_adds_no_delay_and_loses_nothing(ppm: int) -> None:
    feed = Feed(waits=False)
    feed.open(0)
    step = 0.005 * (1 - ppm / 1e6)
    arrivals = [(0.001 + step * n, pcm(n)) for n in range(4000)]
    sent = run(feed, arrivals, 20.1)
    heard = [entry for entry in sent if entry[1] != SILENCE]
    assert len(heard) == 4000
    delays = [out - come for (out, _), (come, _) in zip(heard, arrivals, strict=True)]
    assert max(delays[200:]) <= EARLY + 2 * STEP


def test_what_is_in_a_pipe_waits_there_and_goes_at_the_right_rate() -> None:
    feed = Feed(waits=True)
    feed.open(0)
    packets = [pcm(n) for n in range(1000)]
    stream = b"".join(packets)
    arrivals = [(0.0, stream[at : at + 4096]) for at in range(0, len(stream), 4096)]
    sent = run(feed, arrivals, 1.0)
    assert [packet for _, packet in sent] == packets[: len(sent)]
    assert len(sent) == pytest.approx(200, abs=3)


@pytest.mark.parametrize("ms", [1, 4, 5, 8, 10, 12, 15, 20, 30])
@pytest.mark.parametrize("ppm", [-100, 100])
def test_a_source_may_send_more_at_once(ms: int, ppm: int) -> None:
    """All of it is heard, with no more delay than that takes."""
    feed = Feed(waits=False)
    feed.open(0)
    stream = b"".join(pcm(n) for n in range(2000))
    size = ms * PACKET // 5
    arrivals = [
        (0.001 * ms * n * (1 + ppm / 1e6), stream[size * n : size * (n + 1)])
        for n in range(len(stream) // size)
    ]
    sent = run(feed, arrivals, 10.2)
    heard = [(at, packet) for at, packet in sent if packet != SILENCE]
    assert [packet for _, packet in heard] == [pcm(n) for n in range(len(heard))]
    assert len(heard) >= 1990
    delays = [at - (0.005 * n) * (1 + ppm / 1e6) for n, (at, _) in enumerate(heard)]
    assert max(delays) - min(delays) <= 0.001 * ms + LATE


def test_what_a_source_left_behind_is_not_heard_an_hour_later() -> None:
    feed = Feed(waits=False)
    feed.put(pcm(1) + b"!!", 0.0)
    feed.open(3600.0)
    assert feed.take(3600.0) is None
    feed.put(pcm(2), 3600.001)
    assert feed.take(3600.001) == pcm(2)
    feed.put(b"??", 3600.002)
    feed.put(pcm(3), 3601.0)
    assert feed.take(3601.0) == pcm(3)


def test_a_backlog_is_dropped_so_that_no_delay_stays() -> None:
    feed = Feed(waits=False)
    feed.open(0)
    feed.put(b"".join(pcm(n) for n in range(10)), 0.0)
    sent = run(feed, [(0.005 * n, pcm(100 + n)) for n in range(1, 20)], 0.1)
    assert sent[0] == (0.0, pcm(9))


def test_a_source_that_floods_is_read_no_faster_than_its_bound() -> None:
    feed = Feed(waits=False)
    pieces, now = 0, 0.0
    while now < 1.0:
        for _ in range(1000):
            if not feed.is_full(now):
                feed.put(b"", now)
                pieces += 1
        now += STEP
    assert pieces <= 52 * MOST_PIECES


def test_what_was_not_sent_while_the_machine_stood_still_is_not_made_up_for() -> None:
    feed = Feed(waits=False)
    feed.open(0)
    assert feed.take(LATE) == SILENCE
    burst = []
    while (packet := feed.take(10.0)) is not None:
        burst.append(packet)
    assert len(burst) <= 1


@given(
    pieces=st.lists(
        st.tuples(st.floats(0, 0.02), st.integers(0, 1500), st.booleans()), max_size=100
    ),
    waits=st.booleans(),
)
def test_it_never_sends_more_than_time_allows_nor_holds_more_than_its_bound(
    pieces: list[tuple[float, int, bool]], waits: bool
) -> None:
    feed = Feed(waits)
    feed.open(0)
    now, sent = 0.0, 0
    for wait, size, look in pieces:
        now += wait
        if not feed.is_full(now):
            feed.put(bytes(size), now)
        if look:
            while (packet := feed.take(now)) is not None:
                assert len(packet) == PACKET
                sent += 1
        assert sent <= now / 0.005 * 1.002 + 2
        assert len(feed._pcm) <= 4 * PACKET + 1500
