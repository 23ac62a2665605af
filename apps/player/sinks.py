"""Where a PA is played: a sound device, or a file or FIFO. And the thread that plays it."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from apps.common.backoff import BackOff
from apps.common.pa import RATE
from apps.player.pa_concealment import Samples

log = logging.getLogger(__name__)

REOPEN_FIRST, REOPEN_MAX = 0.25, 5.0
"""Seconds between two tries to open a sink that is away."""

HANGS_AFTER = 2.0
"""Seconds that a sink may take for what it was given."""

IDLE = 0.5
"""Seconds that the thread sleeps at a time while there is nothing to play."""


class SinkError(Exception):
    """The sink is away, or takes nothing any more."""


class Sink(Protocol):
    """Takes `chunk` samples at a time. All calls are from one thread, and may block it."""

    chunk: int

    def open(self) -> None:
        """Get ready.

        Raises:
            SinkError: it is away.
        """

    def turn(self, begins_at: float | None) -> float | None:
        """Wait until the next samples are wanted.

        Args:
            begins_at: when the announcement's first sample is due, monotonic; None: there is none.

        Returns:
            When the first of them is heard, but for the sink's own delay; None: none are wanted.
        """

    def write(self, samples: bytes) -> None:
        """Play 16-bit samples of one channel, in this machine's byte order.

        Raises:
            SinkError: it is away.
        """

    def close(self) -> None:
        """Give it back.

        Raises:
            SinkError: it is held until the process ends.
        """


class FileSink:
    """A FIFO that somebody reads, or a file: for tests.

    It gets what is announced, and no silence in between; its clock is the system's.
    """

    chunk = RATE // 400

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._due: float | None = None

    def open(self) -> None:
        """Open it; a FIFO must have a reader."""
        try:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise SinkError(f"{self._path}: {error.strerror}") from error

    def turn(self, begins_at: float | None) -> float | None:
        """Each chunk at its time, the first when it is due."""
        if begins_at is None:
            self._due = None
            return None
        now = time.monotonic()
        if self._due is None or now - self._due > IDLE:
            self._due = max(now, begins_at)
        due = self._due
        if due > now:
            time.sleep(due - now)
        self._due = due + self.chunk / RATE
        return due

    def write(self, samples: bytes) -> None:
        """Write it, unless the reader is so slow that the FIFO is full."""
        if self._fd is None:
            raise SinkError("not open")
        try:
            with contextlib.suppress(BlockingIOError):
                os.write(self._fd, samples)
        except OSError as error:
            raise SinkError(f"{self._path}: {error.strerror}") from error

    def close(self) -> None:
        """Close it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class AlsaSink:
    """A sound device, by its name in ALSA.

    It runs all the time, so that it is at hand at once, and is missed before it is needed.
    """

    chunk = RATE // 200
    LATENCY = 0.015
    """Seconds of samples that wait in the device."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._portaudio: Any = None
        self._stream: Any = None

    def open(self) -> None:
        """Open it; PortAudio looks for devices only when it starts, so it is started anew."""
        with self._told():
            if self._portaudio is None:
                # It loads libportaudio, which is needed for nothing else.
                self._portaudio = import_module("sounddevice")
            else:
                with contextlib.suppress(self._portaudio.PortAudioError):
                    # It refuses where it did not start the last time.
                    self._portaudio._terminate()  # noqa: SLF001 - there is no other way
                self._portaudio._initialize()  # noqa: SLF001
            self._stream = self._portaudio.RawOutputStream(
                samplerate=RATE,
                blocksize=self.chunk,
                device=self._device,
                channels=1,
                dtype="int16",
                latency=self.LATENCY,
            )
            self._stream.start()

    def turn(self, begins_at: float | None) -> float | None:
        """At once: `write` waits."""
        return time.monotonic()

    def write(self, samples: bytes) -> None:
        """Wait for room, and write."""
        with self._told():
            self._stream.write(samples)

    def close(self) -> None:
        """Close it, without playing what waits.

        PortAudio keeps open and mapped what it cannot stop (`Pa_CloseStream`), such as a card that
        was pulled out, and the kernel does not let that card go before.
        """
        stream, self._stream = self._stream, None
        if stream is not None:
            with self._told():
                stream.close(ignore_errors=False)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # PortAudioError is an Exception and no more; of a library that does not start as it is
            # loaded, nobody has the class.
            raise SinkError(f"{self._device}: {error}") from error


def sink_of(text: str) -> Sink:
    """The sink of a setting: ``alsa:<device>`` or ``file:<path>``."""
    kind, _, rest = text.partition(":")
    return AlsaSink(rest) if kind == "alsa" else FileSink(Path(rest))


class Speaker:
    """Plays what is announced, in a thread of its own, on a sink that may come and go.

    Args:
        pull: gives samples, see `apps.player.pa_hearing.Ear.pull`.
        begins_at: see `Ear.begins_at`.
        volume: 0 to 1.
    """

    def __init__(
        self,
        sink: Sink,
        pull: Callable[[int, float], Samples | None],
        begins_at: Callable[[], float | None],
        volume: float,
    ) -> None:
        self._sink = sink
        self._pull = pull
        self._begins_at = begins_at
        self._volume = volume
        self._wake = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="speaker", daemon=True)
        self._trouble: str | None = "not open yet"
        self._busy_since = math.inf

    @property
    def trouble(self) -> str | None:
        """A sentence while the sink is away, or hangs."""
        return "the sound device hangs" if self.hangs_for() > HANGS_AFTER else self._trouble

    def hangs_for(self) -> float:
        """Seconds since the sink was given something that it has not taken yet; 0: it takes all."""
        return max(0.0, time.monotonic() - self._busy_since)

    @property
    def is_alive(self) -> bool:
        """Whether it plays, or tries to; else only a new process can."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """There is something to play."""
        self._wake.set()

    def stop(self) -> None:
        """End; what hangs in the sink is left behind."""
        self._over = True
        self._wake.set()
        self._thread.join(1)

    def _run(self) -> None:
        back_off = BackOff(REOPEN_FIRST, REOPEN_MAX)
        while not self._over:
            try:
                with self._busy():
                    self._sink.open()
                log.info("the PA's sound is open")
                self._trouble = None
                back_off.reset()
                self._play()
            except SinkError as error:
                if self._trouble is None:
                    log.warning("the PA has no sound", extra={"error": str(error)})
                self._trouble = str(error)
            try:
                with self._busy():
                    self._sink.close()
            except SinkError as error:
                log.warning("the sound device cannot be given back", extra={"error": str(error)})
                return
            if not self._over:
                time.sleep(back_off.delay())

    def _play(self) -> None:
        silence = bytes(2 * self._sink.chunk)
        while not self._over:
            at = self._sink.turn(self._begins_at())
            if at is None:
                self._wake.wait(IDLE)
                self._wake.clear()
                continue
            samples = self._pull(self._sink.chunk, at)
            said = silence
            if samples is not None:
                loud = np.clip(np.rint(samples * self._volume), -32768, 32767)
                said = loud.astype(np.int16).tobytes()
            with self._busy():
                self._sink.write(said)

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        self._busy_since = time.monotonic()
        try:
            yield
        finally:
            self._busy_since = math.inf
