"""The lock-out: after some wrong PINs in a row one has to wait, twice as long each time.

Counted for each person and for each address that tries, and kept over restarts. A try is
counted before the PIN is checked, so that many tries at once are many tries.

Whoever reaches the page could so keep a person out by wrong PINs. Therefore a browser in which a
person has logged in gets a device cookie (OWASP's term): tries of this person there have a count
of their own, and no wait that others have caused holds for them. The file keeps only its hash.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from apps.crew_web.store import Store

PERSON_TRIES = 5
"""Wrong PINs of one person before the first wait, or before a device is trusted no more."""

ADDRESS_TRIES = 15
"""Wrong PINs from one address, which a whole crew may share, before the first wait."""

FIRST_WAIT = 30.0
LONGEST_WAIT = 15 * 60.0
"""Seconds."""

FORGET_AFTER = 24 * 3600.0
"""Seconds after its last try at which a count is dropped."""

DEVICE_AGE = 30 * 24 * 3600
"""Seconds after a person's last log-in there for which a device is trusted."""

MAX_DEVICES = 20
"""Devices that are trusted for one person; the one not used for longest makes way."""


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


@dataclass(frozen=True)
class Try:
    """A try, counted as wrong until `Lockout.was_right`. After it `left` more are free."""

    person: str | None
    address: str
    device: str
    trusted: bool
    left: int
    at: float
    address_last: float
    """When somebody last tried from the address before this."""


class Lockout:
    """Counts wrong PINs.

    Args:
        store: the file.
        now: crew time, in seconds (`apps.crew_web.clock`); it never goes back.
    """

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now

    def begin_try(self, person: str | None, address: str, device: str = "") -> Try:
        """Count a try: for the device if it is trusted, else for the person and the address.

        Args:
            person: who it is said to be; None for somebody unknown.
            address: of the client.
            device: its device cookie; empty without one.

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
            database.execute("DELETE FROM device WHERE logged_in < ?", (now - DEVICE_AGE,))
            counts = {who: _failures(database, who, now) for who in limits}
            free = max(0, min(tries - counts[who][0] for who, tries in limits.items()))
            trusted, left = _try_on_device(database, person, device)
            if not trusted:
                remaining = max(_wait(*counts[who], tries, now) for who, tries in limits.items())
                if remaining > 0:
                    raise LockedOutError(remaining)
                for who, (count, _) in counts.items():
                    database.execute(
                        "INSERT OR REPLACE INTO failure VALUES (?, ?, ?)", (who, count + 1, now)
                    )
                free = max(0, free - 1)
        # A device that is trusted no more has as many as any other.
        left = left or free
        _, address_last = counts[f"address {address}"]
        return Try(person, address, device, trusted, left, now, address_last)

    def was_right(self, right: Try) -> str:
        """The try was right, so its person begins anew, and is known on this device.

        The address loses no more than this try: the others may have been somebody's guesses.

        Returns:
            The device's new cookie.

        Raises:
            StoreError: it could not be written.
        """
        device, now = secrets.token_urlsafe(32), self._now()
        with self._store.transaction() as database:
            if not right.trusted:
                address = f"address {right.address}"
                database.execute("DELETE FROM failure WHERE who = ?", (f"person {right.person}",))
                database.execute(
                    "UPDATE failure SET count = count - 1, "
                    "last = CASE WHEN last = ? THEN ? ELSE last END WHERE who = ?",
                    (right.at, right.address_last, address),
                )
                database.execute("DELETE FROM failure WHERE who = ? AND count < 1", (address,))
            # Who else has logged in there stays known there.
            database.execute(
                "UPDATE device SET id_hash = ? WHERE id_hash = ?",
                (_hash(device), _hash(right.device)),
            )
            database.execute(
                "INSERT OR REPLACE INTO device VALUES (?, ?, 0, ?)",
                (_hash(device), right.person, now),
            )
            database.execute(
                "DELETE FROM device WHERE person = ? AND id_hash NOT IN "
                "(SELECT id_hash FROM device WHERE person = ? ORDER BY logged_in DESC LIMIT ?)",
                (right.person, right.person, MAX_DEVICES),
            )
        return device


def _wait(failures: int, last: float, tries: int, now: float) -> float:
    """Seconds still to wait; 0 or less for none."""
    return last + wait_after(failures, tries) - now


def _failures(database: sqlite3.Connection, who: str, now: float) -> tuple[int, float]:
    """How many wrong PINs in a row, and when the last one was."""
    row: tuple[int, float] | None = database.execute(
        "SELECT count, last FROM failure WHERE who = ?", (who,)
    ).fetchone()
    return row or (0, now)


def _try_on_device(
    database: sqlite3.Connection, person: str | None, device: str
) -> tuple[bool, int]:
    """Count a try for the device: whether it is trusted, and how many tries it has left.

    With its last one it is trusted no more, unless that turns out right.
    """
    known = (_hash(device), person)
    row = database.execute(
        "SELECT failures FROM device WHERE id_hash = ? AND person = ?", known
    ).fetchone()
    if row is None:
        return False, 0
    left = PERSON_TRIES - row[0] - 1
    if left:
        change = "UPDATE device SET failures = failures + 1 WHERE id_hash = ? AND person = ?"
    else:
        change = "DELETE FROM device WHERE id_hash = ? AND person = ?"
    database.execute(change, known)
    return True, left


def _hash(device: str) -> bytes:
    return hashlib.sha256(device.encode()).digest()
