"""The audit log in PostgreSQL: who told whom what, and what came of it.

The command journal is the outbox: what PostgreSQL does not have yet is sent when it answers
again, so commands never wait for it.
"""

from __future__ import annotations

import logging
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import BigInteger, Connection, DateTime, Engine, Integer, String, create_engine
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.exc import DataError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from apps.common.backoff import BackOff
from apps.seat_control.journal import AuditRow, Journal

log = logging.getLogger(__name__)

EVERY = 1.0
BATCH = 100
RETRY_FIRST = 0.5
RETRY_MAX = 10.0
MIGRATIONS = Path(__file__).parent / "migrations"


class Base(DeclarativeBase):
    """Seat control's tables."""


class AuditedCommand(Base):
    """One command of the crew, as it was issued, and its outcome so far."""

    __tablename__ = "seat_control_command"

    registration: Mapped[str] = mapped_column(String(16), primary_key=True)
    epoch: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    issued_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
    crew: Mapped[str] = mapped_column(String(64))
    action: Mapped[dict[str, Any]] = mapped_column(JSONB)
    selector: Mapped[dict[str, Any]] = mapped_column(JSONB)
    targets: Mapped[list[str]] = mapped_column(JSONB)
    applied: Mapped[int] = mapped_column(Integer)
    outcome: Mapped[dict[str, Any]] = mapped_column(JSONB)


class Auditor:
    """Copies the journal into the audit log, in a thread of its own."""

    def __init__(self, journal: Journal, database_url: str, registration: str) -> None:
        self._journal = journal
        self._registration = registration
        self._engine = create_engine(
            database_url,
            pool_size=1,
            max_overflow=0,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": 2,
                "options": "-c statement_timeout=3000 -c lock_timeout=2000",
                "application_name": "ife-seat_control",
            },
        )
        self._migrated = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._error: str | None = None

    @property
    def trouble(self) -> str | None:
        """A sentence while the audit log cannot be written."""
        if self._error is None:
            return None
        waiting = self._journal.count_unaudited()
        return f"commands work, {waiting} wait to be written to the audit log: {self._error}"

    def start(self) -> None:
        """Begin to copy."""
        self._thread.start()

    def close(self) -> None:
        """Stop; what was not copied yet is copied after the next start."""
        self._closing.set()
        self._thread.join(timeout=5)
        self._engine.dispose()

    def _run(self) -> None:
        back_off = BackOff(RETRY_FIRST, RETRY_MAX)
        while not self._closing.is_set():
            try:
                if not self._migrated:
                    migrate(self._engine)
                    self._migrated = True
                self._copy()
            except SQLAlchemyError as error:
                self._failed(str(error.__cause__ or error))
                self._closing.wait(back_off.delay())
            except Exception as error:
                # A database of a newer version, say. This thread is the only one to tell.
                log.exception("the audit log cannot be written")
                self._failed(str(error))
                self._closing.wait(back_off.delay())
            else:
                if self._error is not None:
                    log.info("the audit log is written again")
                self._error = None
                back_off.reset()
                self._closing.wait(EVERY)

    def _failed(self, said: str) -> None:
        error = said.partition("\n")[0] or "it does not say why"
        if self._error is None:
            log.warning("the audit log cannot be written", extra={"error": error})
        self._error = error

    def _copy(self) -> None:
        while rows := self._journal.unaudited(BATCH):
            with self._engine.begin() as connection:
                for row in rows:
                    self._copy_one(connection, row)
            if not self._journal.audited(rows):
                break  # a full disk; the rows are copied again later, to no harm
        with self._engine.begin() as connection:
            connection.exec_driver_sql("SELECT 1")

    def _copy_one(self, connection: Connection, row: AuditRow) -> None:
        values = _values(row, self._registration)
        try:
            with connection.begin_nested():
                connection.execute(
                    insert(AuditedCommand)
                    .values(values)
                    .on_conflict_do_update(
                        index_elements=["registration", "epoch", "seq"],
                        set_={key: values[key] for key in ("applied", "outcome")},
                    )
                )
        except DataError:
            # One that PostgreSQL will never take must not keep all others out.
            log.exception("a command is missing from the audit log", extra={"seq": row.seq})


def migrate(engine: Engine) -> None:
    """Bring the tables to this version (Alembic)."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _values(row: AuditRow, registration: str) -> dict[str, Any]:
    record, outcome = row.record, row.outcome
    return {
        "registration": registration,
        "epoch": record["epoch"],
        "seq": row.seq,
        "issued_at": datetime.fromisoformat(record["issued_at"]),
        "crew": record["crew"],
        "action": record["action"],
        "selector": record["selector"],
        "targets": record["targets"],
        "applied": len(outcome["applied_ms"]),
        "outcome": {
            "missing": outcome["open"],
            "refused": outcome["refused"],
            "expired": outcome["expired"],
            "superseded": outcome["superseded"],
        },
    }
