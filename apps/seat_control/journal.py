"""The command journal: what must survive a `kill -9` and a power cut, in SQLite.

A command is in the journal before it is sent, so its sequence number is never used again and
what the crew were told is never lost. It depends on no other service. Why not PostgreSQL:
docs/decisions/0004-command-journal-in-sqlite.md.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from apps.common.commands import AnyAction, Selector
from apps.common.files import take_lock
from apps.common.protocol import Command
from apps.seat_control.commands import KEPT, Issued

log = logging.getLogger(__name__)

LOCK_TIMEOUT = 10.0
"""Seconds to wait for the process before us to let go of the journal."""

CEILING_AHEAD_MS = 30_000
"""How far ahead the stored ceiling of cabin time is."""

MAX_COMMANDS = 20_000
"""Commands in the journal, at the most, when the audit log is away for long."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS boot (boot_id TEXT PRIMARY KEY, offset_ms INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS command (
    seq INTEGER PRIMARY KEY,
    record TEXT NOT NULL,
    outcome TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    audited_version INTEGER NOT NULL DEFAULT 0
) STRICT;
"""

_UPSERT_COMMAND = """
INSERT INTO command (seq, record, outcome) VALUES (?, ?, ?)
ON CONFLICT (seq) DO UPDATE SET outcome = excluded.outcome, version = version + 1
"""
_RAISE_LAST_SEQ = """
INSERT INTO meta VALUES ('last_seq', ?)
ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)
"""

MakeFrame = Callable[[int, AnyAction, Iterable[str], int, int | None], Command]

_ACTION: TypeAdapter[AnyAction] = TypeAdapter(AnyAction)


class JournalError(Exception):
    """The journal cannot be used; the message says what to do."""


@dataclass(frozen=True)
class AuditRow:
    """A command as the audit log wants it, with the version that the row stands for."""

    seq: int
    version: int
    record: dict[str, Any]
    outcome: dict[str, Any]


class Journal:
    """The journal in `folder`, of which there is one user at a time.

    Args:
        folder: the app's state directory.
        boot_id: of this boot of the machine: while it is the same, cabin time goes on.

    Raises:
        JournalError: another process has it, or it cannot be read.
    """

    def __init__(self, folder: Path, boot_id: str) -> None:
        self._lock = threading.Lock()
        self._path = folder / "journal.db"
        try:
            self._guard = _locked(folder / "journal.lock")
            self._reserve = _Reserve(folder / "sequence.reserve")
            self._db = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=5
            )
        except (OSError, sqlite3.Error) as error:
            raise JournalError(
                f"no journal in {folder}: {error}: seat control needs a folder of its own there "
                "(IFE_STATE_DIRECTORY), with some space"
            ) from error
        self._offline: str | None = None
        with self._usable():
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
            self.epoch = self._meta("epoch", int(time.time()) % 2**32)
            self._offset_ms = self._find_offset(boot_id)
        self.advance()

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Close the journal where it turns out that it cannot be used.

        Raises:
            JournalError: that is so.
        """
        try:
            yield
        except sqlite3.Error as error:
            self.close()
            raise JournalError(
                f"{self._path}: {error}: free some space, or move the file away "
                "to begin a new epoch"
            ) from error

    def _meta(self, name: str, default: int) -> int:
        self._db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, default))
        (value,) = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return int(value)

    def _find_offset(self, boot_id: str) -> int:
        row = self._db.execute(
            "SELECT offset_ms FROM boot WHERE boot_id = ?", (boot_id,)
        ).fetchone()
        if row is not None:
            return int(row[0])
        # Another boot: the monotonic clock began anew, and the wall clock may have gone back.
        begin = max(int(time.time() * 1000), self._meta("cabin_time_ceiling", 0))
        offset = begin - _uptime_ms()
        with _transaction(self._db):
            self._db.execute("DELETE FROM boot")
            self._db.execute("INSERT INTO boot VALUES (?, ?)", (boot_id, offset))
        return offset

    def now(self) -> int:
        """Cabin time, in milliseconds: it never goes back, whatever happens to the clock."""
        return _uptime_ms() + self._offset_ms

    def advance(self) -> None:
        """Store a ceiling that cabin time stays under; call it every 10 s."""
        ceiling = self.now() + CEILING_AHEAD_MS
        self._write(("INSERT OR REPLACE INTO meta VALUES ('cabin_time_ceiling', ?)", [(ceiling,)]))

    @property
    def trouble(self) -> str | None:
        """A sentence while the journal cannot be written."""
        if self._offline is None:
            return None
        return f"commands work, but would be forgotten in a restart: {self._offline}"

    def last_seq(self) -> int:
        """The last sequence number ever given out."""
        with self._usable():
            return max(self._meta("last_seq", 0), self._reserve.read())

    def add(self, issued: Issued) -> None:
        """Write a command down, for good; call it before it is sent.

        Where the disk is full its number at least is kept, in space set aside for that.
        """
        if not self.update([issued]):
            self._reserve.write(issued.seq)

    def update(self, changed: Iterable[Issued]) -> bool:
        """Write down how far commands have come; False when that was not possible.

        A command that could not be written when it was issued is written now.
        """
        rows = [
            (issued.seq, json.dumps(_record(issued)), json.dumps(_outcome(issued)))
            for issued in changed
        ]
        last = max((seq for seq, _record, _outcome in rows), default=0)
        return self._write(
            (_UPSERT_COMMAND, rows),
            # Of its own, for the command itself is deleted one day.
            (_RAISE_LAST_SEQ, [(last,)]),
        )

    def forget_but(self, remembered: Iterable[int]) -> None:
        """Delete all other commands, once the audit log has them (or there are too many)."""
        kept = set(remembered)
        with self._lock:
            rows = self._db.execute(
                "SELECT seq FROM command WHERE audited_version = version "
                "OR seq <= (SELECT max(seq) FROM command) - ?",
                (MAX_COMMANDS,),
            ).fetchall()
        old = [(seq,) for (seq,) in rows if seq not in kept]
        self._write(("DELETE FROM command WHERE seq = ?", old))

    def load(self, frame: MakeFrame, seats: Iterable[str]) -> list[Issued]:
        """The commands that a `CommandLog` remembers, oldest first.

        There may be many more while the audit log is away: the newest are looked at first, and
        of those older than `KEPT` only the ones in force are made.

        Args:
            frame: makes the frame of a command, see `CommandLog.frame`.
            seats: of today's layout; a seat that is gone is dropped from the commands.

        Raises:
            JournalError: the journal is damaged.
        """
        known = set(seats)
        old = self.last_seq() - KEPT
        in_force: set[tuple[str, str]] = set()
        """Seats and settings whose command was found."""
        commands = []
        with self._usable():
            rows = self._db.execute("SELECT seq, record, outcome FROM command ORDER BY seq DESC")
            for seq, text, outcome in rows:
                try:
                    record = json.loads(text)
                    action = _ACTION.validate_python(record["action"])
                    targets = tuple(seat for seat in record["targets"] if seat in known)
                    sets = {(seat, action.retained) for seat in targets if action.retained}
                    if targets and (seq > old or not sets <= in_force):
                        made = frame(seq, action, targets, record["iat"], record["exp"])
                        commands.append(_parse(record, json.loads(outcome), action, targets, made))
                        in_force |= sets
                except (ValueError, LookupError, TypeError):
                    # Of a newer version, before a downgrade. Its number is taken all the same.
                    log.exception("a command in the journal is not understood, and left out")
        commands.reverse()
        return commands

    def unaudited(self, limit: int) -> list[AuditRow]:
        """Commands that the audit log does not have as they are now, oldest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT seq, version, record, outcome FROM command "
                "WHERE audited_version < version ORDER BY seq LIMIT ?",
                (limit,),
            ).fetchall()
        return [AuditRow(seq, version, json.loads(r), json.loads(o)) for seq, version, r, o in rows]

    def count_unaudited(self) -> int | None:
        """How many there are of those; None where the journal is damaged."""
        with self._lock:
            try:
                (count,) = self._db.execute(
                    "SELECT count(*) FROM command WHERE audited_version < version"
                ).fetchone()
            except sqlite3.Error:
                return None
        return int(count)

    def audited(self, rows: Iterable[AuditRow]) -> bool:
        """Note that the audit log has these; False when that was not possible."""
        versions = [(row.version, row.seq) for row in rows]
        return self._write(("UPDATE command SET audited_version = ? WHERE seq = ?", versions))

    def close(self) -> None:
        """Let go of the journal."""
        with self._lock:
            self._db.close()
        self._reserve.close()
        os.close(self._guard)

    def _write(self, *statements: tuple[str, list[tuple[Any, ...]]]) -> bool:
        """Execute statements, each for all of its rows, in one transaction."""
        with self._lock:
            try:
                with _transaction(self._db):
                    for statement, rows in statements:
                        self._db.executemany(statement, rows)
            except sqlite3.Error as error:  # a full disk, a damaged file
                self._offline = str(error)
                return False
            self._offline = None
            return True


class _transaction:  # noqa: N801 - reads as a statement
    """`BEGIN` … `COMMIT`, or `ROLLBACK` on an error, that of the commit included."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")


class _Reserve:
    """A sequence number in space that was set aside, so that a full disk cannot refuse it."""

    SIZE = 4096

    def __init__(self, path: Path) -> None:
        new = not path.exists()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if new or os.fstat(self._fd).st_size < self.SIZE:
            os.pwrite(self._fd, bytes(self.SIZE), 0)
            os.fsync(self._fd)

    def read(self) -> int:
        return int.from_bytes(os.pread(self._fd, 8, 0), "big")

    def write(self, seq: int) -> None:
        os.pwrite(self._fd, seq.to_bytes(8, "big"), 0)
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def _locked(path: Path) -> int:
    """Take the lock file. A process that was killed may take a moment to be gone."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not take_lock(fd, LOCK_TIMEOUT):
        os.close(fd)
        raise JournalError(f"{path} is held by another process: is seat control running twice?")
    return fd


def _uptime_ms() -> int:
    # Goes on while the machine sleeps, as CLOCK_MONOTONIC would not.
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def _record(issued: Issued) -> dict[str, Any]:
    return {
        "seq": issued.seq,
        "epoch": issued.frame.epoch,
        "crew": issued.crew,
        "selector": issued.selector.model_dump(mode="json", exclude_defaults=True),
        "action": issued.action.model_dump(mode="json"),
        "targets": list(issued.targets),
        "issued_at": issued.issued_at.isoformat(),
        "iat": issued.iat,
        "exp": issued.exp,
        "expires_in": issued.expires_in,
    }


def _outcome(issued: Issued) -> dict[str, Any]:
    return {
        "open": [seat for seat in issued.targets if seat in issued.open],
        "refused": issued.refused,
        "expired": issued.expired,
        "superseded": issued.superseded,
        "applied_ms": issued.applied_ms,
    }


def _parse(
    record: dict[str, Any],
    outcome: dict[str, Any],
    action: AnyAction,
    targets: tuple[str, ...],
    frame: Command,
) -> Issued:
    """A command for those of its targets that there still are."""
    known = set(targets)
    return Issued(
        seq=record["seq"],
        crew=record["crew"],
        selector=Selector.model_validate(record["selector"]),
        action=action,
        targets=targets,
        issued_at=datetime.fromisoformat(record["issued_at"]),
        iat=record["iat"],
        exp=record["exp"],
        expires_in=record["expires_in"],
        frame=frame,
        open=set(outcome["open"]) & known,
        refused={seat: why for seat, why in outcome["refused"].items() if seat in known},
        expired=[seat for seat in outcome["expired"] if seat in known],
        superseded=[seat for seat in outcome["superseded"] if seat in known],
        applied_ms=outcome["applied_ms"],
        changed=False,
    )
