"""The lock-out: after some wrong PINs in a row one has to wait, twice as long each time.

Counted for each person and for each address that tries, and kept over restarts. A try is
counted before the PIN is checked, so that many tries at once are many tries.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from apps.crew_web.store import Store

PERSON_TRIES = 5
"""Wrong PINs of one person before the first wait."""

ADDRESS_TRIES = 15
"""Wrong PINs from one address, which a whole crew may share, before the first wait."""

FIRST_WAIT = 30.0
LONGEST_WAIT = 15 * 60.0
"""Seconds."""

FORGET_AFTER = 24 * 3600.0
"""Seconds after its last try at which a count is dropped."""


def wait_after(failures: int, tries: int) -> float:
    """Seconds to wait after so many wrong PINs in a row, when `tries` are free."""
    if failures < tries:
        return 0.0
    return float(min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(failures - tries, 30)))


class LockedOutError(Exception):
    """Too many wrong PINs: try again in `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"locked for {seconds:.0f} s")
        self.seconds = seconds


class Lockout:
    """Counts wrong PINs.

    Args:
        store: the file.
        now: the clock, in seconds of Unix time. Set back, it never makes a wait longer than
            it was to begin with.
    """

    def __init__(self, store: Store, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now

    def begin_try(self, person: str | None, address: str) -> int:
        """Count a try as wrong until it turns out right; returns the person's tries left.

        Args:
            person: who it is said to be; None for somebody unknown.
            address: of the client.

        Raises:
            LockedOutError: it is too early; nothing is counted.
            StoreError: it could not be written, so nobody may try.
        """
        now = self._now()
        limits = {f"address {address}": ADDRESS_TRIES}
        if person is not None:
            limits[f"person {person}"] = PERSON_TRIES
        with self._store.transaction() as database:
            database.execute("DELETE FROM failure WHERE last < ?", (now - FORGET_AFTER,))
            counts = dict.fromkeys(limits, 0)
            remaining = 0.0
            for who, tries in limits.items():
                row = database.execute(
                    "SELECT count, last FROM failure WHERE who = ?", (who,)
                ).fetchone()
                if row is not None:
                    counts[who] = row[0]
                    wait = wait_after(row[0], tries)
                    remaining = max(remaining, min(wait, row[1] + wait - now))
            if remaining > 0:
                raise LockedOutError(remaining)
            for who, count in counts.items():
                database.execute(
                    "INSERT OR REPLACE INTO failure VALUES (?, ?, ?)", (who, count + 1, now)
                )
        return max(0, min(tries - counts[who] - 1 for who, tries in limits.items()))

    def was_right(self, person: str, address: str) -> None:
        """The try was right: both counts begin anew.

        Raises:
            StoreError: it could not be written.
        """
        with self._store.transaction() as database:
            database.execute(
                "DELETE FROM failure WHERE who IN (?, ?)",
                (f"person {person}", f"address {address}"),
            )
