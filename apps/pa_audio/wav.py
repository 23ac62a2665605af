"""WAV files: 48 kHz, one channel, 16 bits, of a sensible loudness; nothing else is played."""

from __future__ import annotations

import io
import math
import struct
import wave
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from apps.common.pa import RATE, SAMPLES

MAX_SECONDS = 300
"""Of a file that is held in memory."""

QUIETEST, LOUDEST = -45.0, -9.0
"""Loudness (RMS) in dB of full scale that a file may have."""

FULL_SCALE = 32768
SILENT = -96.0

Samples = npt.NDArray[np.int16]


class WavError(Exception):
    """A file cannot be played; the message says which and why."""


def decibels(samples: npt.NDArray[np.integer]) -> float:
    """The loudness (RMS) in dB of full scale; -96 for silence."""
    # By seconds: of a whole message there would be four times as much in memory.
    return _decibels(samples[at : at + RATE] for at in range(0, len(samples), RATE))


def _decibels(pieces: Iterable[npt.NDArray[np.integer]]) -> float:
    total, count = 0.0, 0
    for piece in pieces:
        values = piece.astype(np.float64)
        total += float(np.dot(values, values))
        count += len(piece)
    rms = math.sqrt(total / count) / FULL_SCALE if count else 0.0
    return max(SILENT, 20 * math.log10(rms)) if rms else SILENT


def read_wav(path: Path) -> Samples:
    """A file's samples.

    Raises:
        WavError: it cannot be read, or is not as it has to be.
    """
    samples = np.concatenate([np.empty(0, np.int16), *_pieces(path, MAX_SECONDS * RATE)])
    check_loudness(path, decibels(samples))
    return samples


def loudness_of(path: Path) -> float:
    """The loudness of a file of any length, which is read through for it.

    Raises:
        WavError: it cannot be read, or is not as it has to be.
    """
    return _decibels(_pieces(path, None))


def check_loudness(path: Path, loudness: float) -> None:
    """Whether a file with this loudness may be played.

    Raises:
        WavError: it may not.
    """
    if not QUIETEST <= loudness <= LOUDEST:
        raise WavError(
            f"{path.name}: its loudness is {loudness:.1f} dB, "
            f"it has to be from {QUIETEST:.0f} to {LOUDEST:.0f}"
        )


def stream_wav(path: Path) -> Iterator[bytes]:
    """A file's packets, of any length of file, read as they are asked for.

    Whether it is too loud is for the caller to see before.

    Raises:
        WavError: it cannot be read, or is not as it has to be.
    """
    for piece in _pieces(path, None):
        yield from packets_of(piece)


def _pieces(path: Path, most: int | None) -> Iterator[Samples]:
    """The samples in pieces of half a second; not more than `most` in all."""
    try:
        with path.open("rb") as file, wave.open(file) as wav:
            form = (wav.getframerate(), wav.getnchannels(), wav.getsampwidth())
            if form != (RATE, 1, 2):
                raise WavError(
                    f"{path.name}: it has {form[0]} Hz, {form[1]} channels, {8 * form[2]} bits, "
                    f"it has to have {RATE} Hz, 1 channel, 16 bits"
                )
            count = 0
            while data := wav.readframes(100 * SAMPLES):
                piece = np.frombuffer(data[: len(data) & ~1], "<i2").astype(np.int16)
                count += len(piece)
                if most is not None and count > most:
                    raise WavError(f"{path.name}: it is longer than {most // RATE} s")
                yield piece
    except OSError as error:
        raise WavError(f"{path.name}: {error.strerror}") from error
    except (wave.Error, EOFError, struct.error, ValueError) as error:
        raise WavError(f"{path.name}: no WAV file: {error}") from error


def packets_of(samples: Samples) -> list[bytes]:
    """The samples as packets' payloads; the last is filled up with silence."""
    # Packet by packet: the real-time thread would wait while all is copied at once.
    packets = [
        samples[at : at + SAMPLES].astype(">i2").tobytes() for at in range(0, len(samples), SAMPLES)
    ]
    if packets:
        packets[-1] = packets[-1].ljust(2 * SAMPLES, b"\0")
    return packets


def header(frames: int | None) -> bytes:
    """The head of a WAV file of so many samples; None where nobody knows how many will come."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(RATE)
        wav.writeframes(b"")
    head = bytearray(buffer.getvalue())
    size = 0xFFFFFFFF if frames is None else 2 * frames
    head[4:8] = struct.pack("<I", min(0xFFFFFFFF, size + 36))
    head[40:44] = struct.pack("<I", size)
    return bytes(head)
