"""An announcement's packets in, the loudspeaker's samples out. No I/O, no clock.

Two clocks differ: that of the server's source, which the packets count, and that of the sound
device, which takes the samples. The playout follows the first and serves the second. Each sample is
due `delay` after the packet with it could have arrived at the soonest (`Anchor`). How far what is
played is off that is seen at each call, and taken back by resampling, so slowly that nobody hears
it (`Pace`).
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from apps.common.pa import PACKET_SECONDS, RATE, SAMPLES
from apps.player.pa_concealment import Concealment, Samples

WINDOW = 2.0
"""Seconds over which the least transit is looked for: delays that change are followed in that time,
and clocks that differ by 100 ppm put it wrong by 0.2 ms."""

_BUCKETS = 8

LATE_IN_A_ROW = 8
"""Packets that all came too late: the way has become longer, so it is measured anew."""

MAX_WAITING = 64
"""Packets (320 ms) that wait for their turn; the oldest make room."""

JUMP = 0.003
"""Seconds off, from which on resampling would take too long."""

_JUMP_WITHIN = 0.1
_SLOW_WITHIN = 1.0
"""Seconds that a deviation is averaged over before a jump, and to set the speed."""

_CORRECT_WITHIN = 2.0
_FASTEST = 1e-3
"""In how many seconds a deviation is taken back, at a speed that differs by no more than this: less
than two cents, which nobody hears."""

_TAPS = 32
_PHASES = 256
_CUT_OFF = 0.94
"""Of the resampler: a sinc, in a table with a row for each 256th of a sample. With a clock that is
100 ppm off its signal-to-noise ratio is 84 dB and more from 300 Hz to 10 kHz; that of cubic
interpolation is 62 dB at 3 kHz, and leaving samples out under a cross-fade clicks."""


class Anchor:
    """When packet 0 would have arrived, had it come as fast as the fastest of late.

    `at` is that time, in seconds.
    """

    def __init__(self) -> None:
        self._least: deque[tuple[int, float]] = deque(maxlen=_BUCKETS)
        self.at = 0.0

    def arrived(self, index: int, now: float) -> None:
        """Packet `index`, counted from the first, arrived."""
        began = now - index * PACKET_SECONDS
        bucket = int(now * _BUCKETS / WINDOW)
        if not self._least or self._least[-1][0] != bucket:
            while self._least and self._least[0][0] <= bucket - _BUCKETS:
                self._least.popleft()
            self._least.append((bucket, began))
        elif began < self._least[-1][1]:
            self._least[-1] = (bucket, began)
        else:
            return
        self.at = min(least for _, least in self._least)

    def forget(self) -> None:
        """What was measured holds no more."""
        self._least.clear()


def _kernels() -> Samples:
    """For each phase the weights of `_TAPS` samples: a sinc under a Kaiser window."""
    places = np.arange(_TAPS) - _TAPS // 2 + 1
    phases = np.arange(_PHASES + 1)[:, None] / _PHASES
    distance = places - phases
    window = np.i0(8.0 * np.sqrt(np.clip(1 - (distance / (_TAPS / 2)) ** 2, 0, 1))) / np.i0(8.0)
    weights = np.sinc(distance * _CUT_OFF) * window
    table: Samples = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return table


_KERNELS = _kernels()
_AROUND = np.arange(_TAPS) - _TAPS // 2 + 1


class Pace:
    """How fast to play, so that what is played stays with what is due."""

    def __init__(self) -> None:
        self._quick = self._slow = 0.0
        self._at = 0.0

    def speed(self, off: float, now: float) -> float:
        """The speed from now on, 1 is as recorded, while one is `off` seconds ahead."""
        passed = max(0.0, now - self._at)
        self._at = now
        self._quick += (off - self._quick) * min(1.0, passed / _JUMP_WITHIN)
        self._slow += (off - self._slow) * min(1.0, passed / _SLOW_WITHIN)
        return 1 - min(_FASTEST, max(-_FASTEST, self._slow / _CORRECT_WITHIN))

    @property
    def must_jump(self) -> bool:
        """Whether that would take too long."""
        return abs(self._quick) > JUMP

    def jumped(self, off: float) -> None:
        """After a jump one is still so many seconds ahead."""
        self._quick = self._slow = off


class Playout:
    """One announcement in one group.

    Args:
        delay: seconds between the soonest arrival of a sample and its turn.
    """

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._anchor = Anchor()
        self._pace = Pace()
        self._concealment = Concealment()
        self._first: int | None = None
        """RTP's timestamp of packet 0."""
        self._newest = 0
        self._waiting: dict[int, bytes] = {}
        self._late_in_a_row = 0
        self._next: int | None = None
        """The packet that is made into samples next; None until the first call of `pull`."""
        self._pcm: Samples = np.zeros(_TAPS, np.float32)
        self._at = 0.0
        """Where in `_pcm` the next sample out is; it needs `_TAPS` // 2 more after it."""
        self.played = self.concealed = self.late = self.jumps = 0
        """Packets that were played, that were missing, that came too late; jumps."""

    @property
    def begins_at(self) -> float:
        """When its first sample is due."""
        return self._anchor.at + self._delay

    def put(self, timestamp: int, samples: bytes, now: float) -> None:
        """A packet arrived: its RTP timestamp, and 240 samples of 16 bits, big endian."""
        if self._first is None:
            self._first = timestamp
        # The 32 bits begin again after a day, so what counts is the difference.
        ahead = (timestamp - self._first - self._newest * SAMPLES + 2**31 & 0xFFFFFFFF) - 2**31
        index = self._newest + round(ahead / SAMPLES)
        self._newest = max(self._newest, index)
        self._anchor.arrived(index, now)
        if self._next is not None and index < self._next:
            self._too_late(index, now)
            return
        self._late_in_a_row = 0
        self._waiting[index] = samples
        if len(self._waiting) > MAX_WAITING:
            del self._waiting[min(self._waiting)]

    def _too_late(self, index: int, now: float) -> None:
        self.late += 1
        self._late_in_a_row += 1
        if self._late_in_a_row >= LATE_IN_A_ROW:
            self._anchor.forget()
            self._anchor.arrived(index, now)
            self._late_in_a_row = 0

    def pull(self, count: int, now: float) -> Samples:
        """The next `count` samples, from -32,768 to 32,767; `now` is when the first is heard."""
        due = (now - self.begins_at) * RATE
        if self._next is None:
            self._start(due)
        speed = self._pace.speed((self._position - due) / RATE, now)
        if self._pace.must_jump:
            self._jump(due)
        places = self._at + np.arange(count) * speed
        self._fill(int(places[-1]) + _TAPS // 2 + 1)
        samples = self._resample(places)
        self._at += count * speed
        cut = max(0, int(self._at) - _TAPS // 2)
        self._pcm, self._at = self._pcm[cut:], self._at - cut
        return samples

    def _start(self, due: float) -> None:
        """Begin where it is due, be it in the middle of the announcement."""
        self._next = int(due // SAMPLES)
        self._at = len(self._pcm) + due - self._next * SAMPLES

    @property
    def _position(self) -> float:
        """Which sample of the announcement comes next."""
        return (self._next or 0) * SAMPLES - len(self._pcm) + self._at

    def _jump(self, due: float) -> None:
        """Leave packets out, or put substitutes in."""
        packets = round((due - self._position) / SAMPLES)
        self._next = (self._next or 0) + packets
        self._concealment.lead_over()
        self._pace.jumped((self._position - due) / RATE)
        self.jumps += 1

    def _fill(self, until: int) -> None:
        blocks = [self._pcm]
        length = len(self._pcm)
        while length < until:
            blocks.append(self._concealment.next(self._take()))
            length += SAMPLES
        self._pcm = np.concatenate(blocks)

    def _take(self) -> Samples | None:
        index = self._next or 0
        self._next = index + 1
        packet = self._waiting.pop(index, None)
        if packet is None:
            self.concealed += self.played > 0
            return None
        self.played += 1
        return np.frombuffer(packet, ">i2").astype(np.float32)

    def _resample(self, places: NDArray[np.floating]) -> Samples:
        whole = np.floor(places).astype(np.intp)
        phase = (places - whole) * _PHASES
        row = phase.astype(np.intp)
        part = (phase - row)[:, None].astype(np.float32)
        weights = _KERNELS[row] * (1 - part) + _KERNELS[row + 1] * part
        around = self._pcm[whole[:, None] + _AROUND]
        samples: Samples = np.einsum("ij,ij->i", weights, around)
        return samples
