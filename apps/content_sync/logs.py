"""The logs that the Hangar asks for: the journal of the last day, compressed, as it fits."""

from __future__ import annotations

from collections import deque

import sh
import zstandard

from apps.common.gate import MAX_LOGS

SINCE = "-24h"
LINES = 200_000
TIMEOUT = 120
"""Seconds that journalctl may take."""

MAX_TEXT = 32 * 1024 * 1024
"""Bytes of the journal's end that are in memory; it compresses to a tenth of that and less."""

LEVEL = 9


class LogsError(Exception):
    """There are none to be had; the message says why."""


def collect() -> bytes:
    """The newest of the journal, as short lines, in one zstd frame of at most `MAX_LOGS` bytes.

    Raises:
        LogsError: the journal cannot be read.
    """
    tail = _Tail(MAX_TEXT)
    try:
        sh.Command("journalctl")(
            *("--no-pager", "--quiet", "--output=short-iso-precise"),
            *(f"--since={SINCE}", f"--lines={LINES}"),
            _out=tail.add,
            _out_bufsize=64 * 1024,
            _decode_errors="replace",
            _timeout=TIMEOUT,
        )
    except (sh.ErrorReturnCode, sh.TimeoutException, sh.CommandNotFound) as error:
        raise LogsError(f"the journal cannot be read: {type(error).__name__}") from error
    return pack(tail.text(), MAX_LOGS)


class _Tail:
    """The end of a long text, of which no more is kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._is_cut = False

    def add(self, part: str) -> None:
        """What comes next."""
        self._parts.append(part.encode())
        self._size += len(self._parts[-1])
        while self._size > self._most:
            self._size -= len(self._parts.popleft())
            self._is_cut = True

    def text(self) -> bytes:
        """What is kept, from the first whole line on."""
        text = b"".join(self._parts)
        return text.partition(b"\n")[2] if self._is_cut else text


def pack(text: bytes, most: int) -> bytes:
    """As much of the end of a text, in whole lines, as comes to `most` bytes compressed."""
    packed = zstandard.ZstdCompressor(level=LEVEL).compress(text)
    while len(packed) > most:
        # It compresses about alike everywhere; a little less than what should fit.
        keep = int(len(text) * most / len(packed) * 0.9)
        text = text[len(text) - keep :].partition(b"\n")[2]
        packed = zstandard.ZstdCompressor(level=LEVEL).compress(text)
    return packed
