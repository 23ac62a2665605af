"""Who is heard where: the highest source wins, area by area. No I/O, no clock.

An *area* is the nth of the layout, from 1; a *group* is an area or 0, which is all of them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from apps.common.pa import ALL_AREAS, Keylines, Line, Source

MAX_QUEUE = 16
"""Messages that wait, the one that is being played among them."""

MAX_QUEUED = 120_000
"""Packets of all of them: ten minutes, 60 MB."""

WhenInterrupted = Literal["restart", "sentence"]
"""Whether a message is played again from its start, or from the sentence it was interrupted in."""

Groups = frozenset[int]
NOWHERE: Groups = frozenset()


@dataclass(frozen=True, slots=True)
class PramItem:
    """A message in the queue. `packets` are 5 ms each; `sentences` begin at these packets."""

    id: int
    message: str
    languages: tuple[str, ...]
    groups: Groups
    packets: Sequence[bytes]
    sentences: tuple[int, ...]
    when_interrupted: WhenInterrupted

    def again_from(self, position: int) -> int:
        """The packet to go on from after an interruption at `position`."""
        if self.when_interrupted == "restart":
            return 0
        return self.sentences[bisect_right(self.sentences, position) - 1]


@dataclass(frozen=True, slots=True)
class Calls:
    """What the keylines say, with areas by their number."""

    pilot: Groups = NOWHERE
    crew: Groups = NOWHERE
    ent_pause: Groups = NOWHERE
    pram_pause: bool = False
    decompression: bool = False


NO_CALLS = Calls()


def read_calls(keylines: Keylines, areas: Mapping[str, int]) -> Calls:
    """The keylines with `areas`' numbers for their names.

    An area that the layout does not have counts as all of them: better heard everywhere than
    nowhere.
    """

    def groups(line: Line) -> Groups:
        if line.all:
            return frozenset({ALL_AREAS})
        found = frozenset(areas.get(name, ALL_AREAS) for name in line.areas)
        return frozenset({ALL_AREAS}) if ALL_AREAS in found else found

    return Calls(
        pilot=groups(keylines.pilot),
        crew=groups(keylines.crew),
        ent_pause=groups(keylines.ent_pause),
        pram_pause=keylines.pram_pause,
        decompression=keylines.decompression,
    )


class OnAir(NamedTuple):
    """A source that is heard: sent to these `groups`, the winner in these `areas`.

    `item` is the message of a PRAM source.
    """

    source: Source
    groups: Groups
    areas: frozenset[int]
    item: PramItem | None = None


class QueueFullError(Exception):
    """No more messages are taken."""


class DecompressionError(Exception):
    """Neither messages nor music are taken."""


class Arbiter:
    """Decides who is heard; holds the messages that wait and where each is.

    Args:
        areas: how many the cabin has.
    """

    def __init__(self, areas: int) -> None:
        self._all = frozenset(range(1, areas + 1))
        self._queue: deque[PramItem] = deque()
        self._position = 0
        self._music: Groups = NOWHERE
        self._decompression = False

    @property
    def queue(self) -> tuple[PramItem, ...]:
        """The messages that wait; the first is being played, or interrupted."""
        return tuple(self._queue)

    def areas_of(self, groups: Groups) -> frozenset[int]:
        """The areas that groups reach."""
        return self._all if ALL_AREAS in groups else groups

    def add(self, item: PramItem) -> None:
        """Let a message wait for its turn.

        Raises:
            QueueFullError: there are `MAX_QUEUE`, or they take too long.
            DecompressionError: not now.
        """
        if self._decompression:
            raise DecompressionError
        queued = sum(len(waiting.packets) for waiting in self._queue)
        if len(self._queue) >= MAX_QUEUE or queued + len(item.packets) > MAX_QUEUED:
            raise QueueFullError
        self._queue.append(item)

    def remove(self, ident: int) -> bool:
        """Take a message out, be it playing; whether it was there."""
        found = next((item for item in self._queue if item.id == ident), None)
        if found is None:
            return False
        if found is self._queue[0]:
            self._position = 0
        self._queue.remove(found)
        return True

    def clear(self) -> None:
        """Take all messages out."""
        self._queue.clear()
        self._position = 0

    @property
    def music(self) -> Groups:
        """Where boarding music plays, if nobody speaks there."""
        return self._music

    def switch_music(self, groups: Groups, *, on: bool) -> None:
        """Let it play there, or no longer; elsewhere it stays as it is.

        Raises:
            DecompressionError: not now.
        """
        if on and self._decompression:
            raise DecompressionError
        if not on:
            self._music = self.areas_of(self._music) - self.areas_of(groups)
        elif ALL_AREAS in groups:
            self._music = groups
        elif ALL_AREAS not in self._music:
            self._music |= groups

    def decide(self, calls: Calls) -> tuple[OnAir, ...]:
        """Who is heard now, the highest first."""
        self._decompression = calls.decompression
        if calls.decompression:
            self.clear()
            self._music = NOWHERE
        item = self._queue[0] if self._queue else None
        free = self._all
        heard: list[OnAir] = []
        for source, groups in (
            (Source.PILOT, calls.pilot),
            (Source.CREW, calls.crew),
            (Source.PRAM, item.groups if item else NOWHERE),
            (Source.MUSIC, self._music),
        ):
            areas = self.areas_of(groups) & free
            if source is Source.PRAM and item:
                # All who are to hear a message hear the whole of it, at the same time.
                if areas != self.areas_of(groups):
                    self._position = item.again_from(self._position)
                    continue
                if calls.pram_pause:
                    continue
            if areas:
                sent_to = groups if ALL_AREAS in groups else areas
                heard.append(OnAir(source, sent_to, areas, item if source is Source.PRAM else None))
                free -= areas
        return tuple(heard)

    def next_packet(self) -> bytes | None:
        """The next 5 ms of the message that is heard; None at its end, when the next is up."""
        item = self._queue[0]
        if self._position >= len(item.packets):
            self._queue.popleft()
            self._position = 0
            return None
        packet = item.packets[self._position]
        self._position += 1
        return packet
