"""The outbox: where apps put records for the ground, in PostgreSQL (database `usage`).

An app may add to it and do nothing else. `apps/content_sync` makes the table, seals what is in it
into batches, and is the only one that reads it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from apps.common import usage
from apps.common.backoff import BackOff
from apps.common.usage import Record, RecordError

if TYPE_CHECKING:
    from sqlalchemy import Engine

log = logging.getLogger(__name__)

DATABASE_URL = "postgresql+psycopg:///usage?host=/run/postgresql"

MAX_WAITING = 10_000
"""Records that wait in memory for PostgreSQL; then the oldest goes for each that comes."""

AT_ONCE = 500
RETRY_FIRST = 0.5
RETRY_MAX = 30.0

LOADING = threading.Lock()
"""Held while a thread loads what an app does not wait for: two at once find SQLAlchemy's modules
half loaded."""

_UNDEFINED_TABLE = "42P01"
"""PostgreSQL's SQLSTATE."""

INSERT = "INSERT INTO usage_outbox (kind, line) SELECT * FROM unnest(%s::text[], %s::text[])"
"""Kinds and lines, as many as there are in one statement."""


class NoOutboxError(OSError):
    """The table is not there: content_sync has not made it yet, or there is no Hangar."""


def connect(database_url: str, application: str) -> Engine:
    """An engine for the database of usage; nothing is asked of PostgreSQL yet."""
    # Here, for it takes an app a second to load, which its users need not wait for.
    with LOADING:
        from sqlalchemy import create_engine

        return create_engine(
            database_url,
            # As many as content_sync has at once; an app that appends has one.
            pool_size=3,
            max_overflow=0,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": 2,
                "options": "-c statement_timeout=20000 -c lock_timeout=5000",
                "application_name": application,
            },
        )


def write(engine: Engine, records: Sequence[Record]) -> None:
    """Put records into the outbox, all or none; on return they are on the disk.

    What must not be lost (a sale) is written by this before anybody is told that it is done. Where
    it is not certain that it was, write the same record again: the Hangar knows it by its id.

    Raises:
        NoOutboxError: the outbox is not there.
        OSError: PostgreSQL is away, or does not take them now.
        RecordError: one is too long.
    """
    _insert(engine, [_row(record) for record in records])


def _row(record: Record) -> tuple[str, str]:
    """A record's kind and line.

    Raises:
        RecordError: it is too long.
    """
    return record.kind, usage.line(record).decode()


def _insert(engine: Engine, rows: Sequence[tuple[str, str]]) -> None:
    from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

    kinds = [kind for kind, _ in rows]
    lines = [line for _, line in rows]
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(INSERT, (kinds, lines))
    except SQLAlchemyError as error:
        if (
            isinstance(error, ProgrammingError)
            and getattr(error.orig, "sqlstate", None) == _UNDEFINED_TABLE
        ):
            raise NoOutboxError("there is no outbox") from error
        raise OSError(str(error.__cause__ or error)) from error


class Outbox:
    """Brings an app's records into the outbox in a thread of its own: the app never waits.

    They are in memory until then, and gone if the app ends before; see `write` for those that must
    not be.

    Args:
        database_url: SQLAlchemy's, of the database of usage.
        application: the app's name, for PostgreSQL's log.
    """

    def __init__(self, database_url: str, application: str) -> None:
        self._database_url = database_url
        self._application = application
        self._waiting: deque[tuple[str, str]] = deque()
        """Kinds and lines."""
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._wanted = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._error: str | None = None
        self._gone = 0
        """Records that went since the last was written, though there is an outbox for them."""
        self.lost = 0
        """Records that went because too many waited, or were refused because they are too long."""

    @property
    def trouble(self) -> str | None:
        """A sentence while records cannot be written, though there is an outbox for them.

        Where there is none, there is no Hangar; if there is one, content_sync tells why it has not
        made the outbox.
        """
        if self._error is None:
            return None
        gone = f", {self._gone} are gone" if self._gone else ""
        return f"{len(self._waiting)} records wait to be written{gone}: {self._error}"

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def append(self, record: Record) -> None:
        """Have a record written soon. Never waits; where PostgreSQL is away, that is no failure.

        Raises:
            RecordError: it is too long; it is counted as lost.
            ValueError: it is of a kind that must not be lost.
        """
        if record.priority is None:
            raise ValueError(f"a {record.kind} must not be lost: write it")
        try:
            # Here, where it is known whose record it is: later, others would be refused with it.
            row = _row(record)
        except RecordError as error:
            with self._lock:
                self.lost += 1
            raise RecordError(f"this {record.kind} is not kept: {error}") from None
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                self._waiting.popleft()
                self.lost += 1
                if self._error is not None:
                    if not self._gone:
                        log.warning("too many records wait: from now on the oldest go")
                    self._gone += 1
            self._waiting.append(row)
        self._wanted.set()

    def close(self) -> None:
        """Write what waits, if PostgreSQL is there, and stop."""
        self._closing.set()
        self._wanted.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        engine = connect(self._database_url, self._application)
        back_off = BackOff(RETRY_FIRST, RETRY_MAX)
        while True:
            self._wanted.wait()
            self._wanted.clear()
            try:
                self._write_waiting(engine)
            except Exception as error:  # noqa: BLE001 - this thread is the only one to tell
                if isinstance(error, NoOutboxError):
                    self._error, self._gone = None, 0
                else:
                    self._failed(str(error))
                if self._closing.wait(back_off.delay()):
                    break
                self._wanted.set()
            else:
                if self._error is not None:
                    log.info("records are written again", extra={"gone": self._gone})
                self._error, self._gone = None, 0
                back_off.reset()
                if self._closing.is_set():
                    break
        engine.dispose()

    def _failed(self, said: str) -> None:
        error = said.partition("\n")[0] or "it does not say why"
        if self._error is None:
            log.warning("records cannot be written", extra={"error": error})
        self._error = error

    def _write_waiting(self, engine: Engine) -> None:
        while True:
            with self._lock:
                some = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
            if not some:
                return
            try:
                _insert(engine, some)
            except OSError:
                with self._lock:
                    self._waiting.extendleft(reversed(some))
                raise
