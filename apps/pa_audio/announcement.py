"""Announcements as packets: numbers, sequence numbers, beginning and end. No I/O.

Random numbers are handed in, and so is PA time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from apps.common.pa import END_PACKETS, SAMPLES, Audio, Beacon, Source
from apps.pa_audio.arbiter import Groups, OnAir, PramItem
from apps.pa_audio.feed import SILENCE

Random = Callable[[int], int]
"""Gives a number of as many bits."""


@dataclass(slots=True)
class Stream:
    """RTP's counters of an announcement in one group."""

    ssrc: int
    sequence: int
    timestamp: int
    is_first: bool = True


@dataclass(slots=True)
class Announcement:
    """One that is open, or is ending: `left` of its packets with the flag *ended* are to go.

    `since` is PA time, ms. `due` is when its next packet goes, for those that nobody else times.
    """

    number: int
    since: int
    on_air: OnAir
    due: float
    left: int | None = None
    streams: dict[int, Stream] = field(default_factory=dict)

    @property
    def source(self) -> Source:
        """Who speaks."""
        return self.on_air.source

    @property
    def item(self) -> PramItem | None:
        """The message, if it is one."""
        return self.on_air.item

    @property
    def groups(self) -> Groups:
        """Where it goes."""
        return frozenset(self.streams)


class Announcements:
    """Makes announcements and their packets.

    Args:
        groups: all that there are.
        cname: of the beacons.
    """

    def __init__(self, groups: Groups, cname: str, random: Random) -> None:
        self._cname = cname
        self._random = random
        self._opened = 0
        self._next_ssrc = {group: random(32) for group in sorted(groups)}

    def open(self, on_air: OnAir, time: int, due: float) -> Announcement:
        """A new one. Its number follows the tenths of PA time, so it is new after a restart."""
        self._opened = max(self._opened + 1, time // 100)
        announcement = Announcement(self._opened & 0xFFFFFFFF or 1, time, on_air, due)
        self._spread(announcement)
        return announcement

    def move(self, announcement: Announcement, on_air: OnAir) -> Announcement | None:
        """Have it heard elsewhere; what ends it in the groups that it leaves, if there are any."""
        gone = announcement.groups - on_air.groups
        ending = None
        if gone:
            ending = Announcement(
                announcement.number, announcement.since, announcement.on_air, announcement.due
            )
            ending.left = END_PACKETS
            ending.streams = {group: announcement.streams.pop(group) for group in gone}
        announcement.on_air = on_air
        self._spread(announcement)
        return ending

    def _spread(self, announcement: Announcement) -> None:
        for group in announcement.on_air.groups - announcement.groups:
            announcement.streams[group] = Stream(
                self._next_ssrc[group], self._random(16), self._random(32)
            )
            self._next_ssrc[group] = self._random(32)

    def packets(
        self, announcement: Announcement, samples: bytes, time: int, paused: Groups
    ) -> Iterator[Audio]:
        """Its next packet, in each of its groups.

        Args:
            announcement: is changed.
            samples: 5 ms, big endian.
            time: PA time.
            paused: the groups in which entertainment stays paused without audio.
        """
        ended = announcement.left is not None
        for group, stream in announcement.streams.items():
            yield Audio(
                group,
                announcement.source,
                announcement.number,
                time,
                stream.ssrc,
                stream.sequence,
                stream.timestamp,
                SILENCE if ended else samples,
                first=stream.is_first,
                ended=ended,
                ent_pause=group in paused,
            )
            stream.is_first = False
            stream.sequence = stream.sequence + 1 & 0xFFFF
            stream.timestamp = stream.timestamp + SAMPLES & 0xFFFFFFFF

    def beacon(
        self, group: int, announcement: Announcement | None, time: int, paused: Groups
    ) -> Beacon:
        """A group's beacon.

        Args:
            group: which.
            announcement: that is open there.
            time: PA time.
            paused: as in `packets`.
        """
        if announcement is None:
            return Beacon(
                group, None, 0, time, self._next_ssrc[group], self._cname, group in paused
            )
        return Beacon(
            group,
            announcement.source,
            announcement.number,
            time,
            announcement.streams[group].ssrc,
            self._cname,
            group in paused,
        )
