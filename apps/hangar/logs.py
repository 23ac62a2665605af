"""Logs that aircraft send when asked: a file a request, the newest few of each aircraft."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

from apps.common.files import write_whole

KEPT = 10
"""Files of one aircraft; the oldest goes for the next."""


class Logs:
    """The files. Threads and workers may share the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, registration: str, request: UUID, data: bytes) -> None:
        """Keep what an aircraft sent; on return it is on the disk.

        Raises:
            OSError: the disk refuses.
        """
        folder = self._folder / registration
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / f"{request}.zst"
        newest = max((_written_at(path) for path in folder.glob("*.zst")), default=0)
        write_whole(kept, data)
        if _written_at(kept) <= newest:
            # The clock was set back: by its time, the newest would be the first to go.
            os.utime(kept, ns=(newest + 1, newest + 1))
        for path in sorted(folder.glob("*.zst"), key=_written_at)[:-KEPT]:
            path.unlink(missing_ok=True)

    def of(self, registration: str) -> set[UUID]:
        """The requests whose logs are there."""
        return {UUID(path.stem) for path in (self._folder / registration).glob("*.zst")}

    def read(self, registration: str, request: UUID) -> bytes | None:
        """What an aircraft sent; None where it is not, or no longer, there."""
        try:
            return (self._folder / registration / f"{request}.zst").read_bytes()
        except FileNotFoundError:
            return None


def _written_at(path: Path) -> int:
    """A file's time, in nanoseconds."""
    return path.stat().st_mtime_ns
