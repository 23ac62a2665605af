"""Crew time, by which sessions and waits are counted: no step of the machine's clock is in it."""

from __future__ import annotations

import logging
import time

from apps.crew_web.store import Store, StoreError

log = logging.getLogger(__name__)

_NEWEST = """
SELECT max(newest) FROM (
    SELECT max(seen) AS newest FROM session
    UNION ALL SELECT max(last) FROM failure
    UNION ALL SELECT max(logged_in) FROM device
)
"""


class CrewTime:
    """Seconds since boot plus an offset that stays while the machine is up, and is in the file.

    At each boot it begins anew at Unix time, so that a night without power is a night. Where the
    clock is behind what the file knows it begins there, as if no time had passed: a session is
    never younger than it was, and nobody waits longer than their wait from the boot on.

    Args:
        store: the file.
        boot_id: of this boot of the machine.
    """

    def __init__(self, store: Store, boot_id: str) -> None:
        row = store.read("SELECT offset FROM boot WHERE boot_id = ?", (boot_id,))
        if row:
            self._offset = float(row[0])
            return
        (newest,) = store.read(_NEWEST, ()) or (None,)
        self._offset = max(time.time(), newest or 0.0) - _uptime()
        try:
            with store.transaction() as database:
                database.execute("DELETE FROM boot")
                database.execute("INSERT INTO boot VALUES (?, ?)", (boot_id, self._offset))
        except StoreError:
            # A step of the clock is seen then at the next restart, and no sooner.
            log.exception("crew time was not written")

    def now(self) -> float:
        """Seconds."""
        return _uptime() + self._offset


def _uptime() -> float:
    # Goes on while the machine sleeps, as CLOCK_MONOTONIC would not.
    return time.clock_gettime(time.CLOCK_BOOTTIME)
