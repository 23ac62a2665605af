"""The Hangar's PostgreSQL: what it is told goes in, what it shows comes out."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, create_engine, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DataError, SQLAlchemyError

from apps.common import migrations
from apps.common.gate import MAX_REQUESTS, BatchTaken, Outcome, Request, RequestKind
from apps.common.usage import Batch, Record
from apps.hangar.tables import Asked, Heard, Taken

MIGRATIONS = Path(__file__).parent / "migrations"

FLIGHT_AFTER = 15 * 60
"""Seconds of silence that are taken for a flight."""

OPEN = ("waiting", "accepted")
"""The states of requests that aircraft are told of."""

_MIGRATING = 4_738_211
"""An advisory lock's number: workers that start at once migrate one after the other."""

# All that were heard since the last time, in one statement. A JSON object's members come in one
# order, so that two workers wait for each other's rows in turn. While this database was away an
# aircraft was not: it counts from the first of its heartbeats that waited (online_since), and
# another worker may have written a later one.
_HEARD = text("""
INSERT INTO heard AS was (registration, heard_at, online_since, heartbeat)
SELECT key, now() - CAST(value->>0 AS float) * interval '1 second',
    now() - CAST(value->>1 AS float) * interval '1 second', value->2
FROM jsonb_each(CAST(:told AS jsonb))
ON CONFLICT (registration) DO UPDATE SET
    heard_at = excluded.heard_at,
    heartbeat = excluded.heartbeat,
    online_since = CASE
        WHEN was.heard_at < excluded.online_since - :offline_after * interval '1 second'
        THEN excluded.online_since ELSE was.online_since END,
    flight_from = CASE
        WHEN was.heard_at < excluded.online_since - :flight_after * interval '1 second'
        THEN was.heard_at ELSE was.flight_from END,
    flight_to = CASE
        WHEN was.heard_at < excluded.online_since - :flight_after * interval '1 second'
        THEN excluded.online_since ELSE was.flight_to END
WHERE excluded.heard_at >= was.heard_at OR was.heard_at > now()
""")

# PostgreSQL takes the lines apart in half the time that Python takes to hand them over one by one.
_RECORDS = text("""
INSERT INTO usage (registration, id, kind, at, record)
SELECT :registration, CAST(record->>'id' AS uuid), :kind,
    to_timestamp(CAST(record->>'at' AS bigint) / 1000.0), record
FROM (SELECT CAST(line AS jsonb) AS record FROM string_to_table(:lines, chr(10)) AS line) AS new
ON CONFLICT DO NOTHING
""")

_SOLD = text(r"""
SELECT record->>'currency', sum((record->>'amount')\:\:bigint) FROM usage
WHERE registration = :registration AND at BETWEEN :start AND :end AND kind = 'sale'
GROUP BY 1
""")

_PLAYED = text(r"""
SELECT record->>'media', count(*), sum((record->>'seconds')\:\:bigint) FROM usage
WHERE registration = :registration AND at BETWEEN :start AND :end AND kind = 'play'
GROUP BY 1 ORDER BY 3 DESC LIMIT 10
""")


@dataclass(frozen=True)
class Waiting:
    """An aircraft's newest heartbeat, as JSON, that is to be written.

    `came` is when it did, on the monotonic clock, and `since` when the first did that is not
    written.
    """

    heartbeat: str
    came: float
    since: float


class StoreError(Exception):
    """PostgreSQL is away, or does not do it now; nothing has changed."""


class OtherBatchError(Exception):
    """There is another batch by this number."""


class NoJsonError(Exception):
    """A record that PostgreSQL cannot keep."""


class AskedAlreadyError(Exception):
    """Such a request is open."""


@dataclass(frozen=True, slots=True)
class Flight:
    """Usage of an aircraft's last flight: sales by currency, in its smallest unit; top titles."""

    sales: dict[str, int]
    titles: list[tuple[str, int, int]]
    """Each with how often it was played, and for how many seconds in all."""


class Store:
    """Threads may share it. Nothing is asked of PostgreSQL before the first call.

    Every call may raise `StoreError`.

    Args:
        database_url: SQLAlchemy's, of a PostgreSQL.
    """

    def __init__(self, database_url: str) -> None:
        self._engine = _engine(database_url, "on")
        # What each second brings is one statement, one round trip; and a heartbeat that a power cut
        # takes back is told anew within 30 s.
        self._soft = _engine(
            database_url, "off", isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True
        )

    def close(self) -> None:
        """Hang up."""
        self._engine.dispose()
        self._soft.dispose()

    def migrate(self) -> None:
        """Bring the tables to this version."""
        with _errors(), self._engine.begin() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(_MIGRATING)))
            migrations.upgrade(connection, MIGRATIONS)

    # -- heartbeats and requests ------------------------------------------------------------

    def heard(self, told: Mapping[str, Waiting], offline_after: float) -> None:
        """Take the newest heartbeat of each aircraft, by registration."""
        now = time.monotonic()
        members = ",".join(
            f'"{name}":[{now - one.came},{now - one.since},{one.heartbeat}]'
            for name, one in told.items()
        )
        with _errors(), self._soft.connect() as connection:
            connection.execute(
                _HEARD,
                {
                    "told": f"{{{members}}}",
                    "offline_after": offline_after,
                    "flight_after": FLIGHT_AFTER,
                },
            )

    def open_requests(self) -> dict[str, tuple[Request, ...]]:
        """The requests that aircraft are to be told of, by registration, the oldest first."""
        query = (
            select(Asked.registration, Asked.id, Asked.kind, Asked.asked_at)
            .where(Asked.state.in_(OPEN))
            .order_by(Asked.asked_at)
        )
        found: dict[str, tuple[Request, ...]] = {}
        with _errors(), self._soft.connect() as connection:
            for name, identifier, kind, asked_at in connection.execute(query):
                at = int(asked_at.timestamp() * 1000)
                request = Request(id=identifier, kind=kind, asked_at=at)
                found[name] = (*found.get(name, ()), request)[:MAX_REQUESTS]
        return found

    def take_outcomes(self, registration: str, outcomes: Sequence[Outcome]) -> None:
        """Take what an aircraft made of requests; on return it is on the disk."""
        with _errors(), self._engine.begin() as connection:
            for outcome in outcomes:
                connection.execute(
                    update(Asked)
                    .where(
                        Asked.id == outcome.id,
                        Asked.registration == registration,
                        Asked.state.in_(OPEN),
                    )
                    .values(state=outcome.state, why=outcome.why, changed_at=func.now())
                )

    def ask(self, registration: str, kind: RequestKind, operator: str) -> UUID:
        """Have a request wait for an aircraft.

        Raises:
            AskedAlreadyError: one of this kind waits, or is under way.
        """
        identifier = uuid4()
        with _errors(), self._engine.begin() as connection:
            # Two operators at once: the second waits for the first.
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(registration))))
            if connection.scalar(
                select(Asked.id).where(
                    Asked.registration == registration, Asked.kind == kind, Asked.state.in_(OPEN)
                )
            ):
                raise AskedAlreadyError
            connection.execute(
                insert(Asked).values(
                    id=identifier,
                    registration=registration,
                    kind=kind,
                    asked_by=operator,
                    asked_at=func.now(),
                    state="waiting",
                    why="",
                    changed_at=func.now(),
                )
            )
        return identifier

    def is_open(self, registration: str, identifier: UUID, kind: RequestKind) -> bool:
        """Whether an aircraft may still answer this request of this kind."""
        with _errors(), self._engine.connect() as connection:
            found = connection.scalar(
                select(Asked.id).where(
                    Asked.id == identifier,
                    Asked.registration == registration,
                    Asked.kind == kind,
                    Asked.state.in_(OPEN),
                )
            )
        return found is not None

    def withdraw(self, registration: str, identifier: UUID, operator: str) -> bool:
        """Take a request back; whether it was open."""
        with _errors(), self._engine.begin() as connection:
            done = connection.execute(
                update(Asked)
                .where(
                    Asked.id == identifier,
                    Asked.registration == registration,
                    Asked.state.in_(OPEN),
                )
                .values(state="withdrawn", why=f"by {operator}", changed_at=func.now())
            )
        return bool(done.rowcount)

    # -- usage ------------------------------------------------------------------------------

    def take(self, raw: bytes, batch: Batch, records: list[Record]) -> BatchTaken:
        """Take a batch, once however often it comes; on return it is on the disk.

        Args:
            raw: the batch as it came.
            batch: the same, opened.
            records: its lines, parsed.

        Raises:
            OtherBatchError: there is another one by its number.
            NoJsonError: one of its lines.
        """
        head, digest = batch.head, hashlib.sha256(raw).digest()
        key = {"registration": head.registration, "spool": head.spool, "number": head.number}
        with _errors(), self._engine.begin() as connection:
            added = connection.execute(
                insert(Taken)
                .values(
                    **key,
                    sha256=digest,
                    kind=head.kind,
                    records=0,
                    first_at=_time(min(record.at for record in records)),
                    last_at=_time(max(record.at for record in records)),
                    taken_at=func.now(),
                )
                .on_conflict_do_nothing()
                .returning(Taken.number)
            ).one_or_none()
            this = [getattr(Taken, name) == value for name, value in key.items()]
            if added is None:
                there = connection.scalars(select(Taken.sha256).where(*this)).one()
                if bytes(there) != digest:
                    raise OtherBatchError
            else:
                new = self._add_records(connection, batch)
                connection.execute(update(Taken).where(*this).values(records=new))
        return BatchTaken(**key, sha256=digest.hex(), records=len(records), again=added is None)

    def _add_records(self, connection: Connection, batch: Batch) -> int:
        """Those that are not there yet; how many they were."""
        try:
            added = connection.execute(
                _RECORDS,
                {
                    "registration": batch.head.registration,
                    "kind": batch.head.kind,
                    "lines": b"\n".join(batch.lines).decode(),
                },
            )
        except DataError as error:
            raise NoJsonError(str(error.orig).partition("\n")[0]) from error
        return added.rowcount

    # -- what is shown ----------------------------------------------------------------------

    def all_heard(self) -> dict[str, Heard]:
        """What each aircraft said last."""
        with _errors(), self._engine.connect() as connection:
            return {row.registration: row for row in connection.execute(select(Heard.__table__))}  # type: ignore[misc]

    def last_flights(self) -> dict[str, dict[str, int]]:
        """How many records of each kind came of each aircraft's last flight.

        By whole batches, of which a few records may be of before or after: to count each record
        would take the page of a fleet minutes.
        """
        query = (
            select(Taken.registration, Taken.kind, func.sum(Taken.records))
            .join(Heard, Heard.registration == Taken.registration)
            .where(Taken.last_at >= Heard.flight_from, Taken.first_at <= Heard.flight_to)
            .group_by(Taken.registration, Taken.kind)
        )
        found: dict[str, dict[str, int]] = {}
        with _errors(), self._engine.connect() as connection:
            for registration, kind, count in connection.execute(query):
                found.setdefault(registration, {})[kind] = int(count)
        return found

    def flight(self, registration: str, start: datetime, end: datetime) -> Flight:
        """What was sold and played between two times."""
        span = {"registration": registration, "start": start, "end": end}
        with _errors(), self._engine.connect() as connection:
            return Flight(
                {currency: int(amount) for currency, amount in connection.execute(_SOLD, span)},
                [
                    (title, plays, int(seconds))
                    for title, plays, seconds in connection.execute(_PLAYED, span)
                ],
            )

    def asked(self, registration: str, limit: int = 20) -> list[Any]:
        """The requests for an aircraft, the newest first: rows of `Asked`."""
        query = (
            select(Asked.__table__)
            .where(Asked.registration == registration)
            .order_by(Asked.asked_at.desc())
            .limit(limit)
        )
        with _errors(), self._engine.connect() as connection:
            return list(connection.execute(query))

    def now(self) -> datetime:
        """The clock of the database, by which all times in it are."""
        with _errors(), self._engine.connect() as connection:
            return connection.execute(select(func.now())).scalar_one()


def _engine(database_url: str, synchronous_commit: str, **more: Any) -> Engine:
    return create_engine(
        database_url,
        # As many as a worker has threads, in either of its two engines.
        pool_size=4,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=True,
        **more,
        connect_args={
            "connect_timeout": 3,
            "options": "-c statement_timeout=20000 -c lock_timeout=10000 "
            f"-c synchronous_commit={synchronous_commit}",
            "application_name": "ife-hangar",
        },
    )


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise StoreError(str(error.__cause__ or error).partition("\n")[0]) from error


def _time(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
