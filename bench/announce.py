"""Speaks through the bench's PA as a handset does: samples into its pipe, its keyline on."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

from apps.common.pa import Keylines, Line
from bench.instance import BenchError, Paths

Source = Literal["crew", "pilot"]
SOURCES: tuple[Source, ...] = get_args(Source)

PIPE_TIMEOUT = 5.0
"""Seconds that the PA has to begin to listen, and that it may take longer than the speech."""


def pipe(paths: Paths, source: Source) -> Path:
    """Where the samples of a source go in: 48 kHz, one channel, 16 bits, little endian."""
    return paths.run / f"ife/pa_audio/{source}.pcm"


def keylines_socket(paths: Paths) -> Path:
    """Where the PA is told of its keylines."""
    return paths.run / "ife/pa_audio/keylines.sock"


def handset_socket(paths: Paths) -> Path:
    """Where `bench.handset` is told what to hold."""
    return paths.run / "ife/pa_audio/handset.sock"


def announce(paths: Paths, source: Source, areas: Sequence[str], speech: Path) -> None:
    """Press the key, say it, release the key. Ctrl-C releases it at once.

    Args:
        paths: of the bench.
        source: who speaks.
        areas: names of PA areas; none for all.
        speech: a WAV file as `bench.content.speak` makes them.

    Raises:
        BenchError: the PA is not there, or does not listen.
    """
    with wave.open(str(speech)) as file:
        seconds = file.getnframes() / file.getframerate()
        samples = file.readframes(file.getnframes())
    line = Line(areas=tuple(areas)) if areas else Line(all=True)
    with keyed(paths, Keylines.model_validate({source: line})):
        said = threading.Thread(target=_say, args=(pipe(paths, source), samples), daemon=True)
        began = time.monotonic()
        said.start()
        said.join(timeout=seconds + PIPE_TIMEOUT)
        if said.is_alive():
            raise BenchError("the PA does not listen: look at its log")
        # The pipe holds the end of it.
        time.sleep(max(0.0, began + seconds + 0.1 - time.monotonic()))


@contextlib.contextmanager
def keyed(paths: Paths, keylines: Keylines) -> Iterator[None]:
    """The keylines are so until the block ends (`bench.handset`), then they are released.

    Raises:
        BenchError: the handset is not there.
    """
    with socket.socket(socket.AF_UNIX) as handset:
        handset.settimeout(2)
        try:
            handset.connect(str(handset_socket(paths)))
            handset.sendall(keylines.model_dump_json().encode() + b"\n")
            answer = handset.recv(100)
        except OSError as error:
            raise BenchError(f"the handset does not answer: {error.strerror or error}") from error
        if not answer:
            raise BenchError("the handset did not take the keylines: look at its log")
        yield


def _say(path: Path, samples: bytes) -> None:
    with contextlib.suppress(OSError):
        out = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        with os.fdopen(out, "wb", buffering=0) as file:
            view = memoryview(samples)
            while view:
                view = view[file.write(view[:4096]) or 0 :]
