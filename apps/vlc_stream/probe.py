"""Is a file fit to be played? Asked of ffprobe, in a process with limits, before it is offered.

libvlc plays anything as best it can: rubbish in a loop takes all of a core, and a file that is not
there is silence.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from apps.vlc_stream import ts
from apps.vlc_stream.orders import MediaItem

TIMEOUT = 60.0
MEMORY = 512 * 1024 * 1024
CPU_SECONDS = 20
READ = 8 * 1024 * 1024
"""Limits of one look at a file: seconds, bytes, seconds, and bytes that are read of it."""

SHORTEST = 0.5
"""Seconds; less is no programme."""

FORMATS = {"mpegts", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2"}
VIDEO = {"h264", "hevc", "mpeg2video"}
AUDIO = {"aac", "ac3", "eac3", "mp2", "mp3"}
"""What can be sent in a transport stream as it is."""


class BrokenError(Exception):
    """The file cannot be offered; the message says why."""


class _Stream(BaseModel):
    codec_type: str = ""
    codec_name: str = ""


class _Format(BaseModel):
    format_name: str
    duration: Annotated[float, Field(allow_inf_nan=False)] = 0.0


class _Probe(BaseModel):
    streams: list[_Stream]
    format: _Format


def probe(path: Path) -> MediaItem:
    """The file, if it can be played.

    Raises:
        BrokenError: it cannot, or is not there.
    """
    try:
        before = path.stat()
        if not path.is_file():
            raise BrokenError("it is not a file")
        if not os.access(path, os.R_OK):
            raise BrokenError("it may not be read")
        found = _ask(path)
    except OSError as error:
        raise BrokenError(error.strerror or str(error)) from error
    if found.format.format_name not in FORMATS:
        raise BrokenError(f"its format is {found.format.format_name}")
    if found.format.duration < SHORTEST:
        raise BrokenError(f"it takes {found.format.duration:.1f} s only")
    kinds = {(stream.codec_type, stream.codec_name) for stream in found.streams}
    wrong = [
        name
        for kind, name in sorted(kinds)
        if (kind == "video" and name not in VIDEO) or (kind == "audio" and name not in AUDIO)
    ]
    if wrong:
        raise BrokenError(f"it would have to be transcoded: {', '.join(wrong)}")
    if not any(kind in {"video", "audio"} for kind, _ in kinds):
        raise BrokenError("there is neither picture nor sound in it")
    return MediaItem(
        path=str(path),
        size=before.st_size,
        modified_ns=before.st_mtime_ns,
        duration=found.format.duration,
    )


def examine(path: Path) -> ts.Clip:
    """The same for an imposed video, which is paced as it is.

    Raises:
        BrokenError: it cannot be played, or is no transport stream that begins with a key frame.
    """
    probe(path)
    try:
        return ts.examine(path)
    except ts.ClipError as error:
        raise BrokenError(str(error)) from error
    except OSError as error:
        raise BrokenError(error.strerror or str(error)) from error


def _ask(path: Path) -> _Probe:
    try:
        done = subprocess.run(
            [
                *("nice", "-n", "19", "prlimit", f"--as={MEMORY}", f"--cpu={CPU_SECONDS}"),
                *("ffprobe", "-v", "error", "-of", "json", "-protocol_whitelist", "file"),
                *("-probesize", str(READ), "-analyzeduration", "5M"),
                *("-show_format", "-show_streams"),
                f"file:{path}",
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BrokenError(f"ffprobe was not done with it in {TIMEOUT:g} s") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1].removeprefix(f"file:{path}: ") if said else f"ffprobe: {done.returncode}"
        raise BrokenError(reason[:200])
    try:
        return _Probe.model_validate_json(done.stdout)
    except ValidationError as error:
        raise BrokenError("ffprobe does not understand it") from error
