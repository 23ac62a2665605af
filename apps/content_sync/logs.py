"""The logs that the Hangar asks for: the journal of the last day, compressed, as it fits."""

from __future__ import annotations

import sh
import zstandard

from apps.common.gate import MAX_LOGS

SINCE = "-24h"
LINES = 200_000
TIMEOUT = 120
"""Seconds that journalctl may take."""

MAX_TEXT = 256 * 1024 * 1024
LEVEL = 9


class LogsError(Exception):
    """There are none to be had; the message says why."""


def collect() -> bytes:
    """The newest of the journal, as short lines, in one zstd frame of at most `MAX_LOGS` bytes.

    Raises:
        LogsError: the journal cannot be read.
    """
    try:
        text = str(
            sh.Command("journalctl")(
                *("--no-pager", "--quiet", "--output=short-iso-precise"),
                *(f"--since={SINCE}", f"--lines={LINES}"),
                _timeout=TIMEOUT,
                _return_cmd=True,
            )
        )
    except (sh.ErrorReturnCode, sh.TimeoutException, sh.CommandNotFound) as error:
        raise LogsError(f"the journal cannot be read: {type(error).__name__}") from error
    return pack(text.encode()[-MAX_TEXT:], MAX_LOGS)


def pack(text: bytes, most: int) -> bytes:
    """As much of the end of a text, in whole lines, as comes to `most` bytes compressed."""
    packed = zstandard.ZstdCompressor(level=LEVEL).compress(text)
    while len(packed) > most:
        # It compresses about alike everywhere; a little less than what should fit.
        keep = int(len(text) * most / len(packed) * 0.9)
        text = text[len(text) - keep :].partition(b"\n")[2]
        packed = zstandard.ZstdCompressor(level=LEVEL).compress(text)
    return packed
