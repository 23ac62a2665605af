"""PA time: milliseconds since boot plus an offset that stays while the server is up."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

from apps.common.files import write_whole

log = logging.getLogger(__name__)

FILE = "pa-time.json"


class PaTime:
    """Near Unix time, but it never goes back while the server is up, whatever is done to the clock.

    The offset is kept in a file, with the boot that it is of. `trouble` says if it cannot be: then
    after a restart of the service PA time may differ by what the clock was set meanwhile.
    """

    def __init__(self, folder: Path, boot_id: str) -> None:
        self.trouble: str | None = None
        path = folder / FILE
        try:
            kept = json.loads(path.read_text())
            if kept["boot_id"] == boot_id and isinstance(kept["offset"], int):
                self._offset = kept["offset"]
                return
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.info("PA time begins anew", extra={"error": str(error)})
        self._offset = time.time_ns() // 1_000_000 - _since_boot()
        try:
            write_whole(path, json.dumps({"boot_id": boot_id, "offset": self._offset}).encode())
        except OSError as error:
            self.trouble = f"{path}: {error.strerror}"

    def now(self) -> int:
        """Milliseconds."""
        return _since_boot() + self._offset


def _since_boot() -> int:
    return time.monotonic_ns() // 1_000_000
