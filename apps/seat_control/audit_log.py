"""The audit log's table in PostgreSQL, by SQLAlchemy, and its migrations by Alembic."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    DateTime,
    Engine,
    Integer,
    String,
    create_engine,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.exc import DataError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from apps.common import migrations
from apps.seat_control.journal import AuditRow

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"

KEPT = 100_000
"""Commands that are kept; then the oldest go. Some 300 MB, where each is for the whole cabin."""

PRUNE_EVERY = 1000
"""Commands that are written between two looks for old ones."""

_PRUNE = text(
    "DELETE FROM seat_control_command WHERE (registration, epoch, seq) IN "
    "(SELECT registration, epoch, seq FROM seat_control_command WHERE registration = :registration "
    "ORDER BY epoch DESC, seq DESC OFFSET :kept LIMIT :at_once)"
)


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


class AuditLog:
    """The audit log of one aircraft. Nothing is asked of PostgreSQL before the first call.

    Args:
        database_url: SQLAlchemy's, of a PostgreSQL.
        registration: of the aircraft.
    """

    def __init__(self, database_url: str, registration: str) -> None:
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
        self._until_pruned = 0
        """Commands; the first look is with the first of them."""

    def write(self, rows: Sequence[AuditRow]) -> None:
        """Write them; one that is there already gets its newer outcome. Of many the oldest go.

        Raises:
            OSError: PostgreSQL is away, or does not take them now.
            Exception: the database is not as this version knows it.
        """
        try:
            if not self._migrated:
                migrate(self._engine)
                self._migrated = True
            with self._engine.begin() as connection:
                connection.exec_driver_sql("SELECT 1")
                for row in rows:
                    self._write_one(connection, row)
        except SQLAlchemyError as error:
            raise OSError(str(error.__cause__ or error)) from error
        self._prune(len(rows))

    def close(self) -> None:
        """Hang up."""
        self._engine.dispose()

    def _prune(self, written: int) -> None:
        """Remove what is too old, if it is time to. A few at once, for writing must not wait."""
        if written and self._until_pruned <= 0:
            self._until_pruned = PRUNE_EVERY
            bounds = {"kept": KEPT, "at_once": 2 * PRUNE_EVERY}
            try:
                with self._engine.begin() as connection:
                    connection.execute(_PRUNE, {"registration": self._registration, **bounds})
            except SQLAlchemyError as error:
                log.warning("old commands stay", extra={"why": str(error.__cause__ or error)})
        self._until_pruned -= written

    def _write_one(self, connection: Connection, row: AuditRow) -> None:
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
    """Bring the tables to this version."""
    with engine.begin() as connection:
        migrations.upgrade(connection, MIGRATIONS)


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
