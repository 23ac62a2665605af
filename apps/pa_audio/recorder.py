"""Each PA is written down: a WAV file an announcement, in a folder with bounds."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from apps.common.announcements import RecordingView
from apps.common.files import put_in_place
from apps.common.pa import RATE, Source
from apps.pa_audio.tap import OnTap, Tap
from apps.pa_audio.wav import header

log = logging.getLogger(__name__)

MOST_WAITING = 4000
"""Packets (20 s of one announcement) that a slow disk may leave waiting."""

LOOK_EVERY = 0.1

LONGEST = 30 * 60 * RATE
"""Samples; what is longer is kept up to there."""

ENDED_AFTER = 30.0
"""Seconds without a packet after which one is over, though nobody said so."""

NOT_KEPT = {Source.MUSIC}

_NAME = re.compile(
    r"(?P<order>[0-9]{1,10})-(?P<number>[0-9]{1,10})-(?P<since>[0-9]{1,16})"
    r"-(?P<source>[a-z]+)-(?P<areas>(?:[0-9]+[.])*[0-9]+)[.]wav"
)
"""In the order in which they were made, which no clock can change."""

DAY = 86_400_000
"""Milliseconds of PA time."""

_HEAD = len(header(0))
_PART = ".part"


class _Open:
    """One that is being written."""

    def __init__(self, folder: Path, order: int, first: OnTap) -> None:
        areas = ".".join(str(area) for area in sorted(first.areas))
        name = f"{order}-{first.number}-{first.since}-{first.source.name.lower()}-{areas}.wav"
        self.path = folder / name
        self.aside = folder / f".{name}{_PART}"
        self.frames = 0
        self.heard = time.monotonic()
        self.file: BinaryIO = self.aside.open("wb")
        self.file.write(header(0))


class Recorder:
    """Writes what comes out of a tap, in a thread of its own.

    Args:
        areas: their numbers by their names.
        most: recordings that are kept.
        most_bytes: of all of them.
        days: on which somebody spoke, of which they are kept.
    """

    def __init__(
        self, folder: Path, areas: Mapping[str, int], most: int, most_bytes: int, days: int
    ) -> None:
        self._folder = folder
        self._names = {number: name for name, number in areas.items()}
        self._most, self._most_bytes, self._days = most, most_bytes, days
        self._order = 0
        self._open: dict[int, _Open | None] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self.tap = Tap(MOST_WAITING)
        self.trouble: str | None = None

    def start(self) -> None:
        """Begin; parts that a crash left behind are taken up."""
        self._thread.start()

    def close(self) -> None:
        """Finish what is being written."""
        self._closing.set()
        self._thread.join(timeout=10)

    def all(self) -> list[RecordingView]:
        """All there are, the newest first."""
        found = []
        for path in self._recordings():
            match = _match(path)
            try:
                size = path.stat().st_size
            except OSError:
                continue
            areas = (int(area) for area in match["areas"].split("."))
            found.append(
                RecordingView(
                    number=int(match["number"]),
                    since=int(match["since"]),
                    source=match["source"],
                    areas=tuple(self._names[area] for area in areas if area in self._names),
                    seconds=round(max(0, size - _HEAD) / 2 / RATE, 3),
                )
            )
        return found[::-1]

    def path_of(self, number: int) -> Path | None:
        """The file of a recording."""
        return next(
            (path for path in self._recordings() if int(_match(path)["number"]) == number), None
        )

    def _recordings(self) -> list[Path]:
        """Those files with a name of ours, the oldest first."""
        try:
            with os.scandir(self._folder) as entries:
                names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        except OSError:
            return []
        matches = [match for match in map(_NAME.fullmatch, names) if match]
        matches.sort(key=lambda match: int(match["order"]))
        return [self._folder / match[0] for match in matches]

    def _run(self) -> None:
        self._begin()
        while True:
            closing = self._closing.wait(LOOK_EVERY)
            for packet in self.tap.take():
                self._write(packet)
            # The end of one may have been too much for the tap.
            for number in self._given_up():
                self._finish(number)
            if closing:
                for number in list(self._open):
                    self._finish(number)
                return

    def _begin(self) -> None:
        """Make the folder, finish what a crash left half."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            for aside in self._folder.glob(f".*{_PART}"):
                self._take_up(aside)
            self._prune()
        except OSError as error:
            self._failed(error)

    def _take_up(self, aside: Path) -> None:
        try:
            frames = (aside.stat().st_size - _HEAD) // 2
            # Longer than any of ours is what a file system made of one.
            if not 0 < frames <= LONGEST:
                aside.unlink()
                return
            with aside.open("r+b") as file:
                _complete(file, frames)
            put_in_place(aside, self._folder / aside.name[1 : -len(_PART)])
        except OSError as error:
            self._failed(error)

    def _write(self, packet: OnTap) -> None:
        if packet.source in NOT_KEPT:
            return
        try:
            if packet.ended:
                self._finish(packet.number)
                return
            if packet.number not in self._open:
                self._open[packet.number] = None
                self._prune()
                self._open[packet.number] = _Open(self._folder, self._next(), packet)
            entry = self._open[packet.number]
            if entry is not None:
                entry.heard = time.monotonic()
            if entry is not None and entry.frames < LONGEST:
                entry.file.write(np.frombuffer(packet.samples, ">i2").astype("<i2").tobytes())
                entry.frames += len(packet.samples) // 2
        except OSError as error:
            self._failed(error)
            self._drop(packet.number)

    def _next(self) -> int:
        """Of the next recording, its place in the order."""
        last = self._recordings()[-1:]
        self._order = 1 + max([self._order, *(int(_match(path)["order"]) for path in last)])
        return self._order

    def _given_up(self) -> list[int]:
        before = time.monotonic() - ENDED_AFTER
        return [number for number, entry in self._open.items() if entry and entry.heard < before]

    def _finish(self, number: int) -> None:
        entry = self._open.pop(number, None)
        if entry is None:
            return
        try:
            with entry.file as file:
                _complete(file, entry.frames)
            put_in_place(entry.aside, entry.path)
            self._prune()
        except OSError as error:
            self._failed(error)
            _remove(entry.aside)
        else:
            self.trouble = None

    def _drop(self, number: int) -> None:
        """Give up one that cannot be written; its space is free for the next."""
        entry = self._open.get(number)
        self._open[number] = None
        if entry is None:
            return
        try:
            entry.file.close()
        except OSError:
            log.debug("what was buffered is lost", extra={"file": str(entry.aside)})
        _remove(entry.aside)

    def _failed(self, error: OSError) -> None:
        if self.trouble is None:
            log.warning("an announcement is not recorded", extra={"error": str(error)})
        self.trouble = f"{self._folder}: {error.strerror or error}"

    def _prune(self) -> None:
        """Delete the oldest until all bounds hold."""
        recordings = self._recordings()
        sizes = [path.stat().st_size for path in recordings]
        # Not by their age: after one start with a clock that is ahead all would be old.
        days = [int(_match(path)["since"]) // DAY for path in recordings]
        while recordings and (
            len(recordings) > self._most
            or sum(sizes) > self._most_bytes
            or len(set(days)) > self._days
        ):
            recordings.pop(0).unlink()
            sizes.pop(0)
            days.pop(0)


def _match(recording: Path) -> re.Match[str]:
    match = _NAME.fullmatch(recording.name)
    assert match is not None  # noqa: S101 - `_recordings` has those alone
    return match


def _remove(path: Path) -> None:
    """Where the disk lets us; it may have gone read-only."""
    with contextlib.suppress(OSError):
        path.unlink()


def _complete(file: BinaryIO, frames: int) -> None:
    """Say in its head how long it is, and sync it."""
    file.seek(0)
    file.write(header(frames))
    file.flush()
    os.fsync(file.fileno())
