"""Where live sources come from. What fails is mended by `mend`, in a thread that may wait.

The real-time thread alone reads; it never waits, and what it reads are whole pieces of signed
16-bit samples, little endian, as ALSA gives them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import subprocess
import threading
import time
from typing import Protocol

import numpy as np

from apps.common.backoff import BackOff
from apps.common.multicast import Membership, receiving_socket
from apps.common.pa import RATE, SAMPLES
from apps.pa_audio.feed import PACKET
from apps.pa_audio.real_time import CAPTURE, go_first
from apps.pa_audio.settings import Alsa, Fifo, Rtp, WavFile
from apps.pa_audio.wav import WavError, read_wav

log = logging.getLogger(__name__)

MAX_READ = 4096
"""Bytes at a time."""

SHORT_PIPE = 4096
"""Bytes, the least that a pipe can have."""

LONG_PIPE = 64 * 1024
"""Bytes that it has before; and how often it is emptied where its writer is quick to fill it."""

TRIES = 8

FIRST_RETRY, LAST_RETRY = 0.2, 2.0

SILENT_AFTER = 2.0
"""Seconds without a sample after which something is wrong with a capture device."""

STARTS_WITHIN = 10.0
"""Seconds that arecord has for its first sample: a slow or busy machine takes some to load it."""

REJOIN_AFTER, REJOIN_MISSED_AFTER = 30.0, 1.0
"""Seconds of a stream's silence, and of that of one that is to be heard."""

TAKEN_OVER_AFTER = 1.0
"""Seconds of a stream's silence after which another is heard."""


class Input(Protocol):
    """A source. `trouble` is a sentence while nothing comes of it.

    `waits`: what writes to it waits while nobody reads.
    """

    waits: bool

    @property
    def trouble(self) -> str | None:
        """None while all is well."""

    def fileno(self) -> int | None:
        """What becomes readable; None while it is away."""

    def read(self) -> bytes:
        """What is there. Never waits, never raises."""

    def mend(self, missed: bool = False) -> None:
        """Look whether it needs opening. May wait; never raises.

        `missed`: it is to be heard, and nothing comes of it.
        """

    def close(self) -> None:
        """End it."""


def open_input(where: Alsa | Fifo | WavFile | Rtp) -> Input:
    """The input that a setting describes, still away."""
    if isinstance(where, Alsa):
        return AlsaInput(where)
    if isinstance(where, Fifo):
        return FifoInput(where)
    return FileInput(where) if isinstance(where, WavFile) else RtpInput(where)


class _PipeInput:
    """What is common to those that read a pipe, up to `most` bytes at a time."""

    def __init__(self, most: int = MAX_READ) -> None:
        self._most = most
        self._pipe: int | None = None
        self._trouble: str | None = "not open yet"
        self._odd = b""

    @property
    def trouble(self) -> str | None:
        return self._trouble

    def fileno(self) -> int | None:
        return self._pipe

    def read(self) -> bytes:
        if self._pipe is None:
            return b""
        try:
            data = os.read(self._pipe, self._most)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self._ended()
            return b""
        data = self._odd + data
        # A piece may end within a sample. What a writer left of one is not the next writer's.
        cut = len(data) % 2
        self._odd = data[len(data) - cut :]
        return data[: len(data) - cut]

    def _ended(self) -> None:
        pipe, self._pipe = self._pipe, None
        self._odd = b""
        if pipe is not None:
            os.close(pipe)

    def close(self) -> None:
        self._ended()


class FifoInput(_PipeInput):
    """A named pipe. Writers come and go; what they wrote too early waits, 43 ms of it at most."""

    waits = True

    def __init__(self, where: Fifo) -> None:
        super().__init__(PACKET)
        self._path = where.path

    def mend(self, missed: bool = False) -> None:
        """Open it, for the next writer."""
        if self._pipe is not None:
            return
        try:
            pipe = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            self._trouble = f"{self._path}: {error.strerror}"
            return
        self._odd = _shorten(pipe)
        self._trouble = None
        self._pipe = pipe


def _shorten(pipe: int) -> bytes:
    """Have a pipe hold little from now on; half of a sample, where the rest of it comes next.

    What was in it before somebody listened goes, where that is more: it would all be heard late.
    """
    odd = b""
    for _ in range(TRIES):
        try:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, SHORT_PIPE)
        except OSError as error:
            if error.errno != errno.EBUSY:
                break
            with contextlib.suppress(BlockingIOError):
                gone = odd + os.read(pipe, LONG_PIPE)
                odd = gone[len(gone) & ~1 :]
        else:
            break
    return odd


class AlsaInput(_PipeInput):
    """A capture device, read by arecord(1): a driver that hangs takes no more along than that."""

    waits = False

    def __init__(self, where: Alsa) -> None:
        super().__init__()
        self._device = where.device
        self._back_off = BackOff(FIRST_RETRY, LAST_RETRY)
        self._process: subprocess.Popen[bytes] | None = None
        self._silent_at = self._next_try = 0.0
        self._is_away = False
        self._said = ""

    @property
    def trouble(self) -> str | None:
        """As arecord's end, or its silence, tells it."""
        if self._trouble is None and time.monotonic() > self._silent_at:
            return f"{self._device}: no samples come"
        return self._trouble

    def read(self) -> bytes:
        """What is there."""
        data = super().read()
        if data:
            self._silent_at = time.monotonic() + SILENT_AFTER
            self._trouble = None
        return data

    def mend(self, missed: bool = False) -> None:
        """Start arecord, or end one that gives nothing."""
        now = time.monotonic()
        if self._process is not None:
            self._listen_to(self._process)
            is_silent = now > self._silent_at
            if self._trouble is None and not is_silent:
                self._back_off.reset()
                if self._is_away:
                    self._is_away = False
                    log.info("a capture device is back", extra={"device": self._device})
            elif is_silent:
                self._process.kill()
            if self._process.poll() is None:
                return
            self._listen_to(self._process)
            self._forget(self._process)
            self._trouble = f"{self._device}: the device is away"
            if not self._is_away:
                # Once, and not at each try of what may be hours.
                self._is_away = True
                said = {"device": self._device, "arecord": self._said}
                log.warning("a capture device is away", extra=said)
            self._next_try = now + self._back_off.delay()
        if now < self._next_try or self._pipe is not None:
            return
        self._start(now)

    def _start(self, now: float) -> None:
        command = [
            *("arecord", "--quiet", f"--device={self._device}", "--file-type=raw"),
            *("--format=S16_LE", f"--rate={RATE}", "--channels=1"),
            *(f"--period-size={SAMPLES}", f"--buffer-size={4 * SAMPLES}"),
        ]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
            )
        except OSError as error:
            self._trouble = f"arecord: {error.strerror}"
            self._next_try = now + self._back_off.delay()
            return
        assert process.stdout is not None  # noqa: S101 - it was asked for
        pipe = os.dup(process.stdout.fileno())
        process.stdout.close()
        os.set_blocking(pipe, False)
        assert process.stderr is not None  # noqa: S101 - likewise
        os.set_blocking(process.stderr.fileno(), False)
        go_first(CAPTURE, process.pid)
        self._silent_at, self._process, self._pipe = now + STARTS_WITHIN, process, pipe

    def _listen_to(self, process: subprocess.Popen[bytes]) -> None:
        """Take what it says of its device, so that it never waits for us; keep the last line."""
        assert process.stderr is not None  # noqa: S101 - it was asked for
        lines = (process.stderr.read(MAX_READ) or b"").decode(errors="replace").splitlines()
        if lines:
            self._said = lines[-1]

    def close(self) -> None:
        """End arecord."""
        super().close()
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=5)
            self._forget(self._process)

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None  # noqa: S101 - likewise
        process.stderr.close()
        self._process = None


class FileInput(_PipeInput):
    """A file over and over, written into a pipe by a thread: for the bench and for tests."""

    waits = True

    def __init__(self, where: WavFile) -> None:
        super().__init__()
        self._path = where.path
        self._thread: threading.Thread | None = None

    def mend(self, missed: bool = False) -> None:
        """Read the file, and begin."""
        if self._thread is not None:
            return
        try:
            samples = read_wav(self._path).astype("<i2").tobytes()
        except WavError as error:
            self._trouble = str(error)
            return
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reading, False)
        self._thread = threading.Thread(
            target=self._write, args=(writing, samples), name="file-input", daemon=True
        )
        self._thread.start()
        self._trouble = None
        self._pipe = reading

    def _write(self, pipe: int, samples: bytes) -> None:
        with os.fdopen(pipe, "wb", buffering=0) as file, contextlib.suppress(BrokenPipeError):
            while True:
                file.write(samples)


class RtpInput:
    """L16 by RTP in packets of 1 to 30 ms, sent evenly, as audio equipment does (RFC 3551)."""

    waits = False

    def __init__(self, where: Rtp) -> None:
        self._where = where
        self._membership = Membership(where.interface, where.group, where.source)
        self._socket: socket.socket | None = None
        self._trouble: str | None = "not joined yet"
        self._stream = (0, 0, 0)
        self._heard = self._joined = float("-inf")

    @property
    def trouble(self) -> str | None:
        """None while it is joined; until it is to be heard, its sender may be silent."""
        return self._trouble

    def fileno(self) -> int | None:
        """The socket, once it is joined."""
        return None if self._socket is None else self._socket.fileno()

    def read(self) -> bytes:
        """The samples of one packet; none if it is not the stream's next."""
        if self._socket is None:
            return b""
        try:
            packet = self._socket.recv(MAX_READ)
        except OSError:
            return b""
        now = time.monotonic()
        if len(packet) < 12 or packet[0] >> 6 != 2 or not 96 <= packet[1] & 0x7F <= 127:
            return b""
        start = 12 + 4 * (packet[0] & 15)
        if packet[0] & 0x10:
            start += 4 + 4 * int.from_bytes(packet[start + 2 : start + 4], "big")
        samples = packet[start:]
        if packet[0] & 0x20 or not samples or len(samples) % 2:
            return b""
        sequence, ssrc = int.from_bytes(packet[2:4], "big"), int.from_bytes(packet[8:12], "big")
        kind = packet[1] & 0x7F
        last_ssrc, last_kind, last_sequence = self._stream
        is_next = (ssrc, kind) == (last_ssrc, last_kind)
        is_next &= 0 < (sequence - last_sequence & 0xFFFF) < 0x8000
        # Not late ones, doubles, a second sender beside the first, or what that sends beside the
        # sound (RFC 4733: keys that are pressed, as packets of another type).
        if not is_next and now - self._heard < TAKEN_OVER_AFTER:
            return b""
        self._stream, self._heard = (ssrc, kind, sequence), now
        return np.frombuffer(samples, ">i2").astype("<i2").tobytes()

    def mend(self, missed: bool = False) -> None:
        """Join; again from time to time while nothing comes, for switches that forget."""
        now = time.monotonic()
        after = REJOIN_MISSED_AFTER if missed else REJOIN_AFTER
        if self._trouble is None and now - max(self._heard, self._joined) < after:
            return
        try:
            sock = self._socket or receiving_socket(self._where.group, self._where.port)
            try:
                self._membership.renew(sock)
            except OSError:
                if sock is not self._socket:
                    sock.close()
                raise
        except OSError as error:
            self._trouble = f"interface {self._where.interface}: {error.strerror or error}"
        else:
            self._socket, self._joined, self._trouble = sock, now, None

    def close(self) -> None:
        """Hear no more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
