"""PA time: milliseconds since boot plus an offset that stays while the server is up."""

from __future__ import annotations

import logging
import math
import threading
import time
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from apps.common.files import write_whole
from apps.pa_audio.real_time import PRIORITY, go_first

log = logging.getLogger(__name__)

FILE = "pa-time.json"

NOTE_EVERY = 30.0
OVERDUE = 90.0
"""Seconds between two notes of PA time, and after which the disk is not to be relied on."""

FIRST_WITHIN = 0.5
"""Seconds that the PA waits for a boot's first note: a disk that is slow is not in its way."""

AHEAD = 120_000
"""Milliseconds from the last note to where the next boot begins: more than went by after it."""

MOST = 2**43
"""In the year 2248: more is not PA time, but a damaged file."""


class Kept(BaseModel):
    """The file: a boot, its offset, and PA time when it was written."""

    boot_id: str
    offset: Annotated[int, Field(ge=-MOST, le=MOST)]
    noted: Annotated[int, Field(ge=0, le=MOST)] = 0


class PaTime:
    """Near Unix time, but it never goes back, whatever is done to the clock, nor at the next boot.

    The offset is kept in a file, with the boot that it is of, and PA time is noted there again and
    again, by a thread of its own: a disk may hang. `trouble` says if it cannot be noted: then after
    a restart of the service PA time may differ by what the clock was set meanwhile.
    """

    def __init__(self, folder: Path, boot_id: str) -> None:
        self._path = folder / FILE
        self._boot_id = boot_id
        self._refused: str | None = None
        self._noted_at = -math.inf
        self._tried = threading.Event()
        """The offset is on the disk, or the disk has refused it."""
        kept = self._read()
        if kept is not None and kept.boot_id == boot_id:
            self._offset = kept.offset
            self._noted_at = time.monotonic()
            self._tried.set()
        else:
            least = 0 if kept is None else kept.noted + AHEAD
            self._offset = max(time.time_ns() // 1_000_000, least) - _since_boot()
        threading.Thread(target=self._keep, name="pa-time", daemon=True).start()
        self._tried.wait(FIRST_WITHIN)

    @property
    def trouble(self) -> str | None:
        """A sentence while PA time cannot be noted."""
        if time.monotonic() - self._noted_at > OVERDUE:
            return self._refused or f"{self._path}: the disk hangs"
        return None

    def now(self) -> int:
        """Milliseconds."""
        return _since_boot() + self._offset

    def _read(self) -> Kept | None:
        try:
            return Kept.model_validate_json(self._path.read_bytes())
        except (OSError, ValueError) as error:
            log.info("PA time begins anew", extra={"error": str(error)})
            return None

    def _note(self) -> None:
        kept = Kept(boot_id=self._boot_id, offset=self._offset, noted=self.now())
        try:
            write_whole(self._path, kept.model_dump_json().encode())
        except OSError as error:
            self._refused = f"{self._path}: {error.strerror}"
        else:
            self._refused, self._noted_at = None, time.monotonic()

    def _keep(self) -> None:
        # As all threads here have it: whoever holds Python's interpreter is in the sender's way.
        go_first(PRIORITY)
        while True:
            self._note()
            self._tried.set()
            time.sleep(NOTE_EVERY)


def _since_boot() -> int:
    return time.monotonic_ns() // 1_000_000
