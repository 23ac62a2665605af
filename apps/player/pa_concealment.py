"""What to play where packets of a PA are lost: the last pitch period, again and fading. No I/O.

After ITU-T G.711 appendix I (waveform substitution from the pitch), without the delay that this
adds: what was played last is led over into the substitute by a correction that dies away.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apps.common.pa import RATE, SAMPLES

Samples = NDArray[np.float32]

_SHORTEST, _LONGEST = RATE // 400, RATE * 15 // 1000
"""Samples of a pitch period: voices are between 66 and 400 Hz."""

_MATCHED = RATE * 8 // 1000
"""Samples at the end of what was played that must look alike one period before."""

_HISTORY = _LONGEST + _MATCHED
_STEP = 4
"""The search looks at every fourth sample first; a PA has little above 6 kHz."""

_LEAD = np.exp(-np.arange(SAMPLES, dtype=np.float32) / (RATE / 1000))
"""How a jump dies away, by 1/e in a millisecond."""

_FULL, _SILENT = RATE // 100, RATE * 6 // 100
"""Samples of a gap after which the substitute begins to fade, and is silent."""

_OVERLAP = RATE * 25 // 10_000
_RISE = np.linspace(0, 1, _OVERLAP, dtype=np.float32)


class Concealment:
    """Blocks of 240 samples in, as they came or None for a lost one; the same number out."""

    def __init__(self) -> None:
        self._history: Samples = np.zeros(_HISTORY, np.float32)
        self._period: Samples | None = None
        self._lost = 0
        """Samples into the gap."""

    def next(self, block: Samples | None) -> Samples:
        """What to play: `block`, led over from the substitute after a gap, or a substitute."""
        if block is None:
            block = self._substitute()
        elif self._lost:
            block = block.copy()
            substitute = self._substitute()[:_OVERLAP]
            block[:_OVERLAP] = substitute + (block[:_OVERLAP] - substitute) * _RISE
            self._lost, self._period = 0, None
        self._history = np.concatenate((self._history[SAMPLES:], block))
        return block

    def lead_over(self) -> None:
        """The next block does not follow on from the last: lead over to it as after a gap."""
        self._lost = max(1, self._lost)

    def _substitute(self) -> Samples:
        if self._lost >= _SILENT:
            return np.zeros(SAMPLES, np.float32)
        jump = np.float32(0)
        if self._period is None:
            period = _pitch(self._history)
            self._period = self._history[-period:]
            jump = self._history[-1] - self._history[-period - 1]
        places = np.arange(self._lost, self._lost + SAMPLES)
        substitute = self._period[places % len(self._period)] + jump * _LEAD
        fade = np.clip((_SILENT - places) / (_SILENT - _FULL), 0, 1)
        self._lost += SAMPLES
        faded: Samples = (substitute * fade).astype(np.float32)
        return faded


def _pitch(history: Samples) -> int:
    """The lag, in samples, at which the end of `history` looks most like what was before."""
    coarse = history[::-1][::_STEP][::-1]
    lag = _best(coarse, _MATCHED // _STEP, range(_SHORTEST // _STEP, _LONGEST // _STEP)) * _STEP
    near = range(max(_SHORTEST, lag - _STEP + 1), min(_LONGEST, lag + _STEP))
    return _best(history, _MATCHED, near)


def _best(samples: Samples, matched: int, lags: range) -> int:
    """The lag with the highest normalised cross-correlation."""
    end = samples[-matched:]
    before = samples[-matched - lags[-1] : -lags[0]]
    windows = np.lib.stride_tricks.sliding_window_view(before, matched)[::-1]
    alike = windows @ end
    energy = np.einsum("ij,ij->i", windows, windows)
    return lags[int(np.argmax(alike / np.sqrt(energy + 1.0)))]
