"""The PA's playout: samples in and out, by a clock of the test's own."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from apps.common.pa import PACKET_SECONDS, RATE, SAMPLES
from apps.player.pa_concealment import Concealment
from apps.player.pa_playout import JUMP, Anchor, Pace, Playout

DELAY = 0.010
CHUNK = RATE // 400
BEGAN = 1000.0


def tone(seconds: int, frequency: float = 440.0) -> NDArray[np.float64]:
    angle = 2 * np.pi * frequency * np.arange(seconds * RATE) / RATE
    return np.array(8000 * np.sin(angle), np.float64)


def voice(seconds: int) -> NDArray[np.float64]:
    """Like a vowel: harmonics of a pitch that wanders."""
    at = np.arange(seconds * RATE) / RATE
    pitch = 120 + 15 * np.sin(2 * np.pi * 2.1 * at)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    harmonics = [3000 / n * np.sin(n * phase + n) for n in range(1, 15)]
    return np.array(np.sum(harmonics, axis=0), np.float64)


@dataclass
class Line:
    """Packets on their way: `ppm` is how fast the sender's clock is, `loss` a share.

    `transit` is milliseconds: the least, and what is added to it at random.
    """

    samples: NDArray[np.float64]
    ppm: float = 0
    loss: float = 0
    transit: tuple[float, float] = (0.5, 1.0)
    late: dict[int, float] = field(default_factory=dict)
    timestamp: int = 2**32 - 500
    playout: Playout = field(default_factory=lambda: Playout(DELAY))

    def play(self, chunk: int = CHUNK) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """What is heard, and the delay of each chunk in seconds since it was said."""
        random = np.random.default_rng(7)
        packets = self.samples.astype(">i2").reshape(-1, SAMPLES)
        speed = 1 + self.ppm * 1e-6
        arrivals = BEGAN + np.arange(len(packets)) * PACKET_SECONDS / speed
        least, more = self.transit
        arrivals += (least + more * random.random(len(packets))) / 1000
        for index, by in self.late.items():
            arrivals[index:] += by
        lost = random.random(len(packets)) < self.loss
        lost[0] = False
        heard, delays, due = [], [], None
        for index in map(int, np.argsort(arrivals, kind="stable")):
            at = float(arrivals[index])
            while due is not None and due < at:
                heard.append(self.playout.pull(chunk, due))
                played = self.playout._position - chunk
                delays.append((due - BEGAN) * speed - played / RATE)
                due += chunk / RATE
            if not lost[index]:
                timestamp = (self.timestamp + index * SAMPLES) % 2**32
                self.playout.put(timestamp, packets[index].tobytes(), at)
            due = self.playout.begins_at if due is None else due
        return np.concatenate(heard), np.array(delays)


def snr(said: NDArray[np.float64], heard: NDArray[np.floating]) -> float:
    return float(10 * np.log10((said**2).sum() / ((said - heard) ** 2).sum()))


def test_what_comes_on_time_is_heard_unchanged_at_its_turn() -> None:
    said = tone(1)
    heard, delays = Line(said, transit=(0.5, 0)).play()
    assert snr(said[: len(heard)], heard) > 40
    assert np.allclose(delays, DELAY + 0.0005, atol=1e-4)


@pytest.mark.parametrize("ppm", [-100, 100])
@pytest.mark.parametrize("loss", [0.01, 0.05])
def test_with_a_clock_that_is_off_the_delay_does_not_grow(ppm: float, loss: float) -> None:
    line = Line(tone(40), ppm=ppm, loss=loss)
    _, delays = line.play(2 * CHUNK)
    assert delays.max() < DELAY + 0.0015
    assert abs(delays[-1000:].mean() - delays[1000:2000].mean()) < 0.0005
    assert line.playout.late == line.playout.jumps == 0


def test_an_hour_with_a_clock_that_is_off() -> None:
    """The same two pieces that decide on it, without the samples."""
    random = np.random.default_rng(7)
    for ppm in (-100, 100):
        anchor, pace, worst, now, played = Anchor(), Pace(), 0.0, BEGAN, -DELAY
        packet = PACKET_SECONDS / (1 + ppm * 1e-6)
        for index in range(3600 * 200):
            if index == 0 or random.random() > 0.01:
                anchor.arrived(index, now + 0.0005 + 0.001 * random.random())
            off = played - (now - anchor.at - DELAY)
            worst = max(worst, abs(off))
            played += packet * pace.speed(off, now)
            now += packet
        assert worst < 0.002, "seconds off what is due"
        assert not pace.must_jump


@pytest.mark.parametrize("frequency", [440, 5000, 10_000])
def test_resampling_leaves_a_tone_pure(frequency: float) -> None:
    playout = Playout(DELAY)
    playout._pcm = tone(1, frequency).astype(np.float32)
    places = 100 + np.arange(RATE - 200) * (1 + 1e-4)
    ideal = 8000 * np.sin(2 * np.pi * frequency * places / RATE)
    assert snr(ideal, playout._resample(places)) > 80


def test_a_late_first_packet_costs_its_delay_only_for_a_moment() -> None:
    """Anchored on it, all would be 12 ms later for good."""
    line = Line(tone(10))
    line.late = {0: 0.012, 1: -0.005, 2: -0.005, 3: -0.002}
    _, delays = line.play()
    assert delays[-400:].mean() < DELAY + 0.0015


def test_a_way_that_becomes_longer_is_followed_within_a_tenth_of_a_second() -> None:
    line = Line(tone(10), late={1000: 0.030})
    _, delays = line.play()
    assert line.playout.concealed < 20
    assert line.playout.jumps == 1
    assert DELAY + 0.030 - JUMP < delays[-1] < DELAY + 0.035


def test_a_hole_is_bridged_with_silence_and_then_goes_on_in_time() -> None:
    line = Line(tone(4))
    line.late = {400: 0.2, 440: -0.2}
    heard, delays = line.play()
    assert line.playout.late >= 30
    assert np.abs(heard).max() < 9000
    assert delays[-1] < DELAY + 0.002


@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=200),
    st.integers(0, 2**32 - 1),
    st.integers(1, 480),
)
def test_whatever_comes_there_is_always_as_much_as_is_wanted(
    order: list[int], timestamp: int, chunk: int
) -> None:
    playout, now = Playout(DELAY), BEGAN
    loud = np.full(SAMPLES, 32767, ">i2").tobytes()
    for index in order:
        playout.put((timestamp + index * SAMPLES) % 2**32, loud, now)
        samples = playout.pull(chunk, now)
        assert samples.shape == (chunk,)
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() < 3 * 32768
        now += chunk / RATE
    assert len(playout._waiting) <= 64
    assert len(playout._pcm) < 2000


def test_what_nobody_plays_takes_a_bounded_room() -> None:
    playout = Playout(DELAY)
    for index in range(500):
        playout.put(index * SAMPLES, bytes(2 * SAMPLES), BEGAN)
    assert len(playout._waiting) == 64


def test_concealment_is_better_than_silence_and_than_repeating() -> None:
    said = voice(10)
    blocks = said.astype(np.float32).reshape(-1, SAMPLES)
    for loss in (0.01, 0.05):
        lost = np.random.default_rng(7).random(len(blocks)) < loss
        lost[:4] = False
        ours = Concealment()
        heard = [ours.next(None if gone else b) for gone, b in zip(lost, blocks, strict=True)]
        silent = np.where(lost[:, None], 0, blocks)
        repeated = blocks.copy()
        for index in np.flatnonzero(lost):
            repeated[index] = repeated[index - 1]
        best = max(snr(said, silent.ravel()), snr(said, repeated.ravel()))
        assert snr(said, np.concatenate(heard)) > best + 6


def test_a_long_gap_fades_to_silence_without_a_click() -> None:
    concealment = Concealment()
    blocks = tone(1).astype(np.float32).reshape(-1, SAMPLES)
    steepest = np.abs(np.diff(blocks.ravel())).max()
    heard = [concealment.next(block) for block in blocks[:20]]
    heard += [concealment.next(None) for _ in range(20)]
    heard += [concealment.next(block) for block in blocks[43:60]]
    assert not heard[35].any()
    assert np.abs(np.diff(np.concatenate(heard))).max() < 2 * steepest
