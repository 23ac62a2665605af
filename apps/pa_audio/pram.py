"""Pre-recorded announcements: the folder that has them, and boarding music."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, StringConstraints, ValidationError, model_validator

from apps.common.announcements import Name, PramRequest
from apps.common.channels import Language
from apps.common.commands import Strict
from apps.common.pa import RATE, SAMPLES
from apps.pa_audio.arbiter import Groups, PramItem, WhenInterrupted
from apps.pa_audio.feed import SILENCE
from apps.pa_audio.wav import (
    MAX_SECONDS,
    Samples,
    WavError,
    check_loudness,
    loudness_of,
    packets_of,
    read_wav,
    stream_wav,
)

log = logging.getLogger(__name__)

INDEX = "announcements.json"
MAX_INDEX = 256 * 1024

PREPARED_WITHIN = 5.0
"""Seconds that a message waits for others to be read."""

FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.wav$")]
Title = Annotated[str, StringConstraints(min_length=1, max_length=80)]
Seconds = Annotated[float, Field(ge=0, le=300, allow_inf_nan=False)]


class Recording(Strict):
    """A message in one language: a file beside the index, and when its sentences begin."""

    title: Title
    file: FileName
    sentences: Annotated[tuple[Seconds, ...], Field(max_length=200)] = ()


class Message(Strict):
    """`when_interrupted` is its kind; `chime` comes before it, once."""

    when_interrupted: WhenInterrupted = "restart"
    chime: Name | None = None
    languages: Annotated[dict[Language, Recording], Field(min_length=1, max_length=16)]


class Index(Strict):
    """The file `announcements.json`. Chimes are files; all are 48 kHz, one channel, 16 bits."""

    chimes: Annotated[dict[Name, FileName], Field(max_length=16, default_factory=dict)]
    messages: Annotated[dict[Name, Message], Field(max_length=500, default_factory=dict)]

    @model_validator(mode="after")
    def _chimes_are_there(self) -> Index:
        for name, message in self.messages.items():
            if message.chime is not None and message.chime not in self.chimes:
                raise ValueError(f"message {name}: there is no chime {message.chime}")
        return self


class PramError(Exception):
    """A message cannot be played; the text says why."""


class Library:
    """The folder with the messages. Read when it is asked, so its content may change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._preparing = threading.Lock()
        """One at a time: each takes its memory."""

    @property
    def trouble(self) -> str | None:
        """None while the index is good."""
        try:
            self.index()
        except PramError as error:
            return str(error)
        return None

    def index(self) -> Index:
        """What there is.

        Raises:
            PramError: the index cannot be read, or is wrong.
        """
        path = self._folder / INDEX
        try:
            with path.open("rb") as file:
                text = file.read(MAX_INDEX + 1)
        except OSError as error:
            raise PramError(f"{path}: {error.strerror}") from error
        if len(text) > MAX_INDEX:
            raise PramError(f"{path}: it is over {MAX_INDEX // 1024} KiB")
        try:
            return Index.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise PramError(f"{path}: {where}: {first['msg']}") from error

    def prepare(self, ident: int, request: PramRequest, groups: Groups) -> PramItem:
        """A message, read and ready to be played.

        Raises:
            PramError: there is no such message, a file of it cannot be played, or it is too long.
        """
        if not self._preparing.acquire(timeout=PREPARED_WITHIN):
            raise PramError("others are being read just now")
        try:
            return self._prepare(ident, request, groups)
        finally:
            self._preparing.release()

    def _prepare(self, ident: int, request: PramRequest, groups: Groups) -> PramItem:
        index = self.index()
        message = index.messages.get(request.message)
        if message is None:
            raise PramError(f"there is no message {request.message}")
        languages = request.languages or tuple(message.languages)
        parts: list[Samples] = []
        sentences: list[int] = [0]
        length = 0
        try:
            if message.chime is not None:
                parts.append(read_wav(self._folder / index.chimes[message.chime]))
                length += len(parts[0])
            for language in languages:
                recording = message.languages.get(language)
                if recording is None:
                    raise PramError(f"message {request.message} is not there in {language}")
                samples = read_wav(self._folder / recording.file)
                starts = {0, *(round(at * RATE) for at in recording.sentences)}
                sentences += [length + at for at in sorted(starts) if at < len(samples)]
                parts.append(samples)
                length += len(samples)
                if length > MAX_SECONDS * RATE:
                    raise PramError(f"message {request.message} takes over {MAX_SECONDS} s")
        except WavError as error:
            raise PramError(str(error)) from error
        return PramItem(
            id=ident,
            message=request.message,
            languages=languages,
            groups=groups,
            packets=packets_of(np.concatenate(parts)),
            sentences=tuple(sorted({at // SAMPLES for at in sentences})),
            when_interrupted=message.when_interrupted,
        )


AHEAD = 400
"""Packets (2 s) of music that are read ahead of the real-time thread."""

LOOK_EVERY = 0.25

NONE_AFTER = 2.0
"""Seconds without a packet of music after which there is none: seats would be held for silence."""


class Music:
    """Boarding music: the files of a folder in the order of their names, over and over.

    A thread reads ahead; a file that cannot be played, or whose loudness is not as it has to be,
    is left out, and `trouble` names it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loudness: dict[Path, tuple[tuple[int, int, int], float]] = {}
        """Of the files, with how each was when it was read through."""
        self._ahead: deque[bytes] = deque()
        self._given_at = -math.inf
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="music", daemon=True)
        self.trouble: str | None = None

    def start(self) -> None:
        """Begin to read, once `want` was called."""
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._closing.set()
        self._wanted.set()
        self._thread.join(timeout=3)

    def want(self) -> None:
        """Have it read ahead from now on."""
        self._wanted.set()

    def next_packet(self) -> bytes:
        """5 ms; silence where nothing was read. Never waits."""
        try:
            packet = self._ahead.popleft()
        except IndexError:
            return SILENCE
        self._given_at = time.monotonic()
        return packet

    @property
    def is_there(self) -> bool:
        """Whether there is any to be heard."""
        return bool(self._ahead) or time.monotonic() - self._given_at < NONE_AFTER

    def _run(self) -> None:
        self._wanted.wait()
        for packet in self._packets():
            self._ahead.append(packet)
            while len(self._ahead) >= AHEAD:
                if self._closing.wait(LOOK_EVERY):
                    return

    def _packets(self) -> Iterator[bytes]:
        """Without end, until it is closed."""
        while not self._closing.is_set():
            began, problems, played = time.monotonic(), [], False
            try:
                files = sorted(self._folder.glob("*.wav"))
            except OSError as error:
                files, problems = [], [f"{self._folder}: {error.strerror}"]
            self._loudness = {path: it for path, it in self._loudness.items() if path in files}
            for path in files:
                try:
                    self._check(path)
                    for packet in stream_wav(path):
                        played = True
                        yield packet
                except WavError as error:
                    problems.append(str(error))
                    # The first at once: the others may play for hours.
                    self.trouble = self.trouble or str(error)
            if not files and not problems:
                problems.append(f"{self._folder}: there is no music")
            self.trouble = "; ".join(problems[:3]) or None
            if not played or time.monotonic() - began < LOOK_EVERY:
                self._closing.wait(5 * LOOK_EVERY)

    def _check(self, path: Path) -> None:
        """Look at a file's loudness before it is played; only a new or changed one is read.

        Raises:
            WavError: it must not be played.
        """
        try:
            status = path.stat()
        except OSError as error:
            raise WavError(f"{path.name}: {error.strerror}") from error
        is_as = (status.st_ino, status.st_size, status.st_mtime_ns)
        was, loudness = self._loudness.get(path, (None, 0.0))
        if was != is_as:
            loudness = loudness_of(path)
            self._loudness[path] = (is_as, loudness)
        check_loudness(path, loudness)
