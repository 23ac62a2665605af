"""The spool: usage that waits for the Hangar, in PostgreSQL beside the outbox.

Records leave the outbox and become a numbered, compressed, signed batch in one transaction, so each
is in exactly one batch, whenever the power goes. A batch stays, byte for byte, until the Hangar
has acknowledged it. See docs/decisions/0018-usage-exactly-once.md.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any
from uuid import uuid4

from nacl.bindings import crypto_sign_BYTES
from nacl.signing import SigningKey
from sqlalchemy import Connection, Engine, Row, text
from sqlalchemy.exc import SQLAlchemyError

from apps.common import gate, migrations, usage
from apps.common.backoff import BackOff
from apps.common.outbox import connect
from apps.common.usage import BatchError, BatchHead, RecordError

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"

CHUNK = usage.MAX_RECORDS
"""Records that are sealed in one transaction."""

RETRY_FIRST, RETRY_MAX = 1.0, 60.0

# The tables are in migrations/versions/0001_usage.py.
_LOCK = text("SELECT id, next_number FROM usage_spool FOR UPDATE")
_TAKE = text(
    "DELETE FROM usage_outbox WHERE seq IN "
    "(SELECT seq FROM usage_outbox ORDER BY seq LIMIT :limit) RETURNING seq, kind, line"
)
_ADD = text(
    "INSERT INTO usage_batch (number, kind, records, size, batch) "
    "VALUES (:number, :kind, :records, :size, :batch)"
)
_SET = text(
    "UPDATE usage_spool SET id = :id, next_number = :next_number, dropped = dropped + :dropped"
)
_END = text("SELECT next_number FROM usage_spool")
_WAITING = text("SELECT count(*) FROM (SELECT FROM usage_outbox LIMIT :limit) AS first")
_DEPTH = text(
    "SELECT (SELECT count(*) FROM usage_outbox) + coalesce(sum(records), 0), count(*), "
    "coalesce(sum(size), 0), (SELECT dropped FROM usage_spool) FROM usage_batch"
)
_SIZE = text("SELECT coalesce(sum(size), 0) FROM usage_batch")
_OLDEST = text(
    "DELETE FROM usage_batch WHERE number = "
    "(SELECT min(number) FROM usage_batch WHERE kind = :kind) RETURNING records, size"
)
_NEXT = text(
    "SELECT number, kind, batch FROM usage_batch WHERE number > :after AND number < :end "
    "AND kind = :kind ORDER BY number LIMIT 1"
)
_DROP = text("DELETE FROM usage_batch WHERE number = :number RETURNING records")
_REFUSE = text("UPDATE usage_batch SET refused = :why WHERE number = :number")
_REFUSED = text("SELECT count(*), min(refused) FROM usage_batch WHERE refused IS NOT NULL")

BY_WORTH = tuple(usage.KINDS)
"""The kinds of records in the order in which they are handed over."""


def bound_what_is_left(database_url: str, closing: threading.Event) -> None:
    """Where there is no Hangar any more: have the outbox that is left bound (migrations 0003).

    Returns once that is so, or there is none; PostgreSQL is waited for until `closing`.
    """
    engine = connect(database_url, "ife-content_sync")
    back_off = BackOff(RETRY_FIRST, RETRY_MAX)
    while not closing.is_set():
        try:
            with engine.begin() as connection:
                if connection.scalar(text("SELECT to_regclass('usage_outbox')")) is not None:
                    migrations.upgrade(connection, MIGRATIONS)
            break
        except SQLAlchemyError as error:
            log.warning(
                "the outbox is not bound yet", extra={"error": str(error.__cause__ or error)}
            )
            closing.wait(back_off.delay())
    engine.dispose()


class SpoolError(OSError):
    """PostgreSQL is away, or does not do it now; nothing has changed."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A batch of the spool."""

    number: int
    kind: str
    batch: bytes


class Spool:
    """Seals records, and keeps the batches. Nothing is asked of PostgreSQL before the first call.

    Every call may raise `SpoolError`.

    Args:
        database_url: SQLAlchemy's, of the database of usage.
        registration: of the aircraft.
        key: signs the batches.
        limit: bytes of batches that are kept; then what has the lowest priority goes. Sales do
            not: where there is nothing else, they are kept beyond it.
    """

    def __init__(self, database_url: str, registration: str, key: SigningKey, limit: int) -> None:
        self._registration = registration
        self._key = key
        self._limit = limit
        self._engine = connect(database_url, "ife-content_sync")
        self._migrated = False

    def close(self) -> None:
        """Hang up."""
        self._engine.dispose()

    def has_full_batch(self) -> bool:
        """Whether so many records wait that they are worth a batch."""
        with self._transaction() as connection:
            return bool(connection.scalar(_WAITING, {"limit": CHUNK}) == CHUNK)

    def seal(self) -> int:
        """Seal what waits in the outbox, at most `CHUNK` records; how many there were.

        They come to lie in as many batches as there are kinds of them, and mostly that is all.
        """
        with self._transaction() as connection:
            spool, number = connection.execute(_LOCK).one()
            rows = connection.execute(_TAKE, {"limit": CHUNK}).all()
            if not rows:
                return 0
            by_kind = _checked(rows)
            dropped = len(rows) - sum(map(len, by_kind.values()))
            for kind, lines in by_kind.items():
                while lines:
                    count = usage.fitting(lines)
                    head = BatchHead(
                        registration=self._registration, spool=spool, number=number, kind=kind
                    )
                    self._add(connection, head, lines[:count])
                    number += 1
                    del lines[:count]
            dropped += self._make_room(connection)
            connection.execute(_SET, {"id": spool, "next_number": number, "dropped": dropped})
            return len(rows)

    def end(self) -> int:
        """The number that the next batch will have."""
        with self._transaction() as connection:
            return int(connection.execute(_END).scalar_one())

    def next(self, after: Sealed | None = None, end: int = 2**53) -> Sealed | None:
        """The batch to hand over first, or next after one: what is worth most, the oldest of it.

        Batches from the number `end` on are left out.
        """
        kinds = BY_WORTH
        number = 0
        if after is not None:
            kinds = kinds[kinds.index(after.kind) :]
            number = after.number
        with self._transaction() as connection:
            for kind in kinds:
                row = connection.execute(
                    _NEXT, {"after": number, "end": end, "kind": kind}
                ).one_or_none()
                if row is not None:
                    return Sealed(row.number, row.kind, bytes(row.batch))
                number = 0
        return None

    def acknowledged(self, sealed: Sealed) -> None:
        """The Hangar has a batch: drop it."""
        with self._transaction() as connection:
            connection.execute(_DROP, {"number": sealed.number})

    def refused(self, sealed: Sealed, why: str) -> None:
        """The Hangar will not have a batch as it is: it stays, and is tried again."""
        with self._transaction() as connection:
            connection.execute(_REFUSE, {"number": sealed.number, "why": why[:200]})

    def renew(self, sealed: Sealed) -> None:
        """Seal a batch's records anew, as the first batch of a new spool.

        For when the Hangar has another batch by that number: this database has been set back to an
        older state, and gives numbers a second time.

        Raises:
            BatchError: it is damaged; it stays as it is.
        """
        with self._transaction() as connection:
            spool, number = connection.execute(_LOCK).one()
            if connection.execute(_DROP, {"number": sealed.number}).one_or_none() is None:
                return
            # It is our own, also where the aircraft has got another key since: sign it by this one.
            signed = sealed.batch[:-crypto_sign_BYTES]
            batch = usage.open_batch(
                signed + self._key.sign(signed).signature, [self._key.verify_key]
            )
            if batch.head.spool == spool:
                spool = uuid4()
                log.warning("the spool begins anew", extra={"spool": str(spool)})
            self._add(
                connection,
                batch.head.model_copy(update={"spool": spool, "number": number}),
                batch.lines,
            )
            connection.execute(_SET, {"id": spool, "next_number": number + 1, "dropped": 0})

    def is_of_our_key(self, sealed: Sealed) -> bool:
        """Whether a batch was signed by the key of today; if not, others may be taken."""
        try:
            usage.open_batch(sealed.batch, [self._key.verify_key])
        except BatchError:
            return False
        return True

    def depth(self) -> gate.Spool:
        """How much waits."""
        with self._transaction() as connection:
            records, batches, size, dropped = connection.execute(_DEPTH).one()
        return gate.Spool(
            records=int(records), batches=batches, bytes=int(size), dropped=int(dropped)
        )

    def refusals(self) -> str | None:
        """A sentence while the Hangar refuses batches."""
        with self._transaction() as connection:
            count, why = connection.execute(_REFUSED).one()
        return f"the Hangar refuses {count} batches: {why}" if count else None

    def _add(self, connection: Connection, head: BatchHead, lines: list[bytes]) -> None:
        batch = usage.seal(self._key, head, lines)
        connection.execute(
            _ADD,
            {
                "number": head.number,
                "kind": head.kind,
                "records": len(lines),
                "size": len(batch),
                "batch": batch,
            },
        )

    def _make_room(self, connection: Connection) -> int:
        """Drop what is worth least until the rest is within the limit; how many records went."""
        over = int(connection.scalar(_SIZE) or 0) - self._limit
        dropped = 0
        for kind in reversed(BY_WORTH):
            if usage.KINDS[kind].priority is None:
                break
            while over > 0:
                row = connection.execute(_OLDEST, {"kind": kind}).one_or_none()
                if row is None:
                    break
                over -= row.size
                dropped += row.records
                log.warning(
                    "the spool is full: records are dropped",
                    extra={"kind": kind, "records": row.records},
                )
        return dropped

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            if not self._migrated:
                migrate(self._engine)
                self._migrated = True
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise SpoolError(str(error.__cause__ or error)) from error


def _checked(rows: Iterable[Row[*tuple[Any, ...]]]) -> dict[str, list[bytes]]:
    """The lines of the outbox by kind, in order, but for those that are no record."""
    by_kind: dict[str, list[bytes]] = {}
    wrong: list[RecordError] = []
    for _, kind, text_ in sorted(rows, key=itemgetter(0)):
        line = text_.encode()
        try:
            usage.parse(kind, line)
        except RecordError as error:
            wrong.append(error)
        else:
            by_kind.setdefault(kind, []).append(line)
    if wrong:
        log.warning(
            "what is no record is dropped", extra={"records": len(wrong), "why": str(wrong[0])}
        )
    return by_kind


def migrate(engine: Engine) -> None:
    """Bring the tables to this version."""
    with engine.begin() as connection:
        migrations.upgrade(connection, MIGRATIONS)
