"""The file of sessions, lock-outs and known devices: SQLite, so that they outlive a power cut."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

BUSY_TIMEOUT = 2.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS session (
    id_hash BLOB PRIMARY KEY,
    person TEXT NOT NULL,
    csrf_token TEXT NOT NULL,
    created REAL NOT NULL,
    seen REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failure (
    who TEXT PRIMARY KEY,
    count INTEGER NOT NULL,
    last REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS device (
    id_hash BLOB NOT NULL,
    person TEXT NOT NULL,
    failures INTEGER NOT NULL,
    logged_in REAL NOT NULL,
    PRIMARY KEY (id_hash, person)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pin (
    person TEXT PRIMARY KEY,
    mark BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS boot (
    boot_id TEXT PRIMARY KEY,
    offset REAL NOT NULL
) WITHOUT ROWID;
"""


class StoreError(Exception):
    """The file cannot be written: the disk is full or broken."""


class Store:
    """One connection, used by one thread at a time; every transaction is a few rows."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "crew_web.sqlite3"
        self._lock = threading.Lock()
        self.trouble: str | None = None
        """None while writing works, else what went wrong last."""
        try:
            self._database = self._open_or_begin_anew()
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}") from error

    def _open_or_begin_anew(self) -> sqlite3.Connection:
        try:
            return self._open()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            # Nothing in it is worth a crew that cannot log in: begin anew.
            log.exception("the session file is broken, kept aside as *.broken")
            self._set_aside()
            return self._open()

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            database.executescript(_SCHEMA)
            _check(database)
        except sqlite3.DatabaseError:
            database.close()
            raise
        return database

    def _set_aside(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            part = self._path.with_name(self._path.name + suffix)
            if part.exists():
                part.replace(part.with_name(part.name + ".broken"))

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything in it happens, or nothing.

        Raises:
            StoreError: it could not be written.
        """
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                yield self._database
                self._database.execute("COMMIT")
            except sqlite3.Error as error:
                self.trouble = f"sessions cannot be written: {error}"
                raise StoreError(self.trouble) from error
            else:
                self.trouble = None
            finally:
                # Some errors, such as a full disk, have rolled back by themselves.
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")

    def read(self, query: str, values: tuple[object, ...]) -> tuple[Any, ...] | None:
        """The first row of a query.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._lock:
            try:
                row: tuple[Any, ...] | None = self._database.execute(query, values).fetchone()
            except sqlite3.Error as error:
                raise StoreError(f"sessions cannot be read: {error}") from error
        return row

    def is_sound(self) -> bool:
        """Whether every page of the file can be read; if not, another start begins it anew."""
        with self._lock:
            try:
                _check(self._database)
            except sqlite3.Error as error:
                self.trouble = f"sessions cannot be read: {error}"
                return False
        return True

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()


def _check(database: sqlite3.Connection) -> None:
    """Read all of it, a few pages: opening reads the first ones only.

    Raises:
        sqlite3.DatabaseError: it is damaged.
    """
    (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(found)


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is at fault: all the others are of the folder, or of a full disk."""
    if isinstance(error, sqlite3.OperationalError):
        return error.sqlite_errorcode == sqlite3.SQLITE_IOERR_CORRUPTFS
    return True
