"""What a seat hears of the PA, and for how long it takes the seat over. No I/O, no clock.

docs/protocols/pa.md from the seat's side, behind the checks of `apps.common.pa.Receiver`. All times
are monotonic seconds, given by the caller.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from apps.common.pa import SILENT_AFTER, Audio, Beacon, Source
from apps.player.pa_concealment import Samples
from apps.player.pa_playout import Playout

HEARD_WITHIN = 2.5
"""Seconds in which something valid comes, at least a beacon."""

MAX_OPEN = 8
"""Announcements at once in the two groups of a seat; the server sends one in each."""

_REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class Override:
    """The PA has the seat. `source` is None, and `number` 0, for a pause without audio."""

    source: Source | None
    number: int
    area: int


@dataclass(slots=True)
class _Announcement:
    audio: Audio
    opened: float
    until: float
    """When it is over, unless more of it is heard."""
    playout: Playout
    ended: bool = False

    @property
    def rank(self) -> tuple[bool, int, float]:
        return (not self.ended, self.audio.source, self.opened)


class Ear:
    """One seat's.

    Args:
        groups: that the seat listens to.
        delay: seconds of the jitter buffer.
    """

    def __init__(self, groups: Collection[int], delay: float) -> None:
        self._groups = groups
        self._delay = delay
        # By SSRC, too: an announcement that comes back to a group is the same, but a new stream.
        self._open: dict[tuple[int, int, int], _Announcement] = {}
        self._over: deque[tuple[int, int, int]] = deque(maxlen=_REMEMBERED)
        self._paused: dict[int, float] = {}
        """For each group until when entertainment is paused without audio."""
        self._valid_at: dict[int, float] = {}
        self._broken_off: set[int] = set()
        """Groups in which an announcement broke off, and nothing valid has followed."""
        self._playing: _Announcement | None = None

    # -- in ---------------------------------------------------------------------------------

    def hear(self, message: Audio | Beacon, now: float) -> None:
        """Something valid arrived."""
        self.tick(now)
        self._valid_at[message.area] = now
        self._broken_off.discard(message.area)
        if message.ent_pause:
            self._paused[message.area] = now + SILENT_AFTER
        else:
            self._paused.pop(message.area, None)
        if isinstance(message, Audio):
            self._audio(message, now)

    def _audio(self, audio: Audio, now: float) -> None:
        key = (audio.area, audio.number, audio.ssrc)
        announcement = self._open.get(key)
        if announcement is None:
            if audio.ended or key in self._over or len(self._open) >= MAX_OPEN:
                return
            announcement = _Announcement(audio, now, now, Playout(self._delay))
            self._open[key] = announcement
        if not announcement.ended:
            announcement.ended = audio.ended
            # What is in the buffer is still played.
            announcement.until = now + (self._delay if audio.ended else SILENT_AFTER)
        announcement.playout.put(audio.timestamp, audio.samples, now)

    def tick(self, now: float) -> None:
        """Time has passed: what was silent for too long is over."""
        for key, announcement in list(self._open.items()):
            if announcement.until <= now:
                del self._open[key]
                if announcement.ended:
                    self._over.append(key)
                else:
                    self._broken_off.add(key[0])
        for area, until in list(self._paused.items()):
            if until <= now:
                del self._paused[area]
                self._broken_off.add(area)

    # -- out --------------------------------------------------------------------------------

    @property
    def next_at(self) -> float:
        """When `tick` wants to be called, at the latest."""
        return min(
            min((one.until for one in self._open.values()), default=math.inf),
            min(self._paused.values(), default=math.inf),
        )

    @property
    def override(self) -> Override | None:
        """What has taken the seat over.

        An announcement has until its last sample is played, and so until the next is there that
        follows at once: entertainment does not come up between the two.
        """
        heard = self._heard()
        if heard is not None:
            return Override(heard.audio.source, heard.audio.number, heard.audio.area)
        if self._paused:
            return Override(None, 0, min(self._paused))
        return None

    def is_heard(self, now: float) -> bool:
        """Whether the PA comes in by all groups: in each there is a beacon a second."""
        return all(
            now - self._valid_at.get(group, -math.inf) < HEARD_WITHIN for group in self._groups
        )

    def relied_on(self, now: float) -> bool:
        """Whether there is no PA where `override` is None.

        That is not known while it does not come in, nor after an announcement that broke off, until
        something valid follows in its group: a switch may have forgotten that one alone.
        """
        return self.is_heard(now) and not self._broken_off

    @property
    def begins_at(self) -> float | None:
        """When the first sample of what is heard is due; None while nothing is."""
        heard = self._heard()
        return None if heard is None else heard.playout.begins_at

    def pull(self, count: int, now: float) -> Samples | None:
        """The next `count` samples, of which `now` is the time of the first; None: silence.

        Where another announcement is heard from now on, it is faded over to.
        """
        heard, before = self._heard(), self._playing
        self._playing = heard
        if heard is before:
            return None if heard is None else heard.playout.pull(count, now)
        rise = np.linspace(0, 1, count, dtype=np.float32)
        samples: Samples = np.zeros(count, np.float32)
        if before is not None:
            samples += before.playout.pull(count, now) * (1 - rise)
            if heard is not None:
                samples += heard.playout.pull(count, now) * rise
        elif heard is not None:
            samples = heard.playout.pull(count, now)
        return samples

    def _heard(self) -> _Announcement | None:
        return max(self._open.values(), key=lambda one: one.rank, default=None)
