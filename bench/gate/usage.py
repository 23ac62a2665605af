"""Measures how many usage records a second are sealed on board and taken by the Hangar."""

from __future__ import annotations

import random
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
from nacl.signing import SigningKey

from apps.common import usage
from apps.common.testing import PostgresServer, wait_until
from apps.common.usage import BatchHead, Bite, Play, Record, Sale, Stat, Survey
from bench.gate.aircraft import variables
from bench.gate.hangar import Hangar, Keys, cpu_seconds

REGISTRATION = "EC-LAB"
RECORDS = 200_000
_TAKEN = "SELECT coalesce(sum(records), 0) FROM taken"
SEATS = [f"{row}{letter}" for row in range(1, 53) for letter in "ACDFHK"]


@dataclass(frozen=True)
class Measured:
    """What it takes.

    Records a second; microseconds of processor time a record, on board and at the Hangar; bytes a
    record on the link.
    """

    rate: float
    on_board: float
    at_hangar: float
    size: float


def records(count: int) -> Iterator[Record]:
    """What a flight brings: mostly plays, some sales, figures, surveys and faults."""
    dice = random.Random(count)  # noqa: S311 - no secret
    for number in range(count):
        seat, at = dice.choice(SEATS), 1_800_000_000_000 + number * 37
        match dice.randrange(20):
            case 0 | 1:
                yield Sale(
                    item=f"item-{dice.randrange(60)}",
                    quantity=1,
                    amount=dice.randrange(100, 3000),
                    currency="EUR",
                    payment="card",
                    seat=seat,
                    at=at,
                )
            case 2 | 3:
                yield Stat(name="portal.requests", value=dice.randrange(1000), at=at)
            case 4:
                answers: dict[str, int | str] = {
                    "comfort": dice.randrange(5),
                    "why": secrets.token_urlsafe(40),
                }
                yield Survey(survey="cabin", answers=answers, seat=seat, at=at)
            case 5:
                yield Bite(part=f"seat {seat}", fault="silent", at=at)
            case _:
                media = f"film-{dice.randrange(300)}"
                yield Play(media=media, seconds=dice.randrange(7000), seat=seat, at=at)


@contextmanager
def databases() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """An aircraft's PostgreSQL and a Hangar's, on the disk, set as Debian comes."""
    with (
        tempfile.TemporaryDirectory(prefix="ife-", dir="/var/tmp") as aircraft,
        tempfile.TemporaryDirectory(prefix="ife-", dir="/var/tmp") as ground,
        PostgresServer(Path(aircraft)) as on_board,
        PostgresServer(Path(ground)) as at_hangar,
    ):
        yield on_board, at_hangar


def measure(keys: Keys) -> Measured:
    """From the link's coming up until all that waited in the outbox is the Hangar's."""
    with databases() as (on_board, at_hangar), tempfile.TemporaryDirectory(prefix="ife-") as top:
        usage_database = on_board.create("ife-content_sync")
        fleet = at_hangar.create("ife-hangar")
        url = on_board.url(usage_database, "ife-content_sync")
        keys_on_board = keys.aircraft[REGISTRATION]
        environment = variables(url, REGISTRATION, keys_on_board)
        fleet_url = at_hangar.url(fleet, "ife-hangar")
        with Hangar(Path(top), keys, fleet_url, Path(top)) as hangar:
            wait_until(lambda: at_hangar.run(fleet, TABLES) == "4", "the tables are there", 30)
            aircraft = subprocess.Popen(
                [sys.executable, "-m", "bench.gate.aircraft"],
                env=environment | {"GATE_HANGAR_URL": hangar.url},
            )
            try:
                # It has loaded, and is connected, when the first one comes.
                wait_until(lambda: _waits(on_board, usage_database), "the outbox is there", 60)
                fill(url, 1)
                wait_until(lambda: _taken(at_hangar, fleet) == 1, "usage arrives", 60)
                ends = (
                    (aircraft.pid, on_board.pid),
                    (hangar.app_pid, hangar.nginx_pid, at_hangar.pid),
                )
                before: list[float] = []
                began = fill(url, RECORDS, lambda: before.extend(map(cpu_seconds, ends)))
                _wait_for(at_hangar.url(fleet), 1 + RECORDS)
                took = time.monotonic() - began
                spent = [cpu_seconds(end) - at for end, at in zip(ends, before, strict=True)]
            finally:
                aircraft.kill()
                aircraft.wait()
    return Measured(
        RECORDS / took, spent[0] / RECORDS * 1e6, spent[1] / RECORDS * 1e6, _size(keys_on_board)
    )


def _waits(server: PostgresServer, database: str) -> bool:
    return (
        server.run(database, "SELECT count(*) FROM pg_tables WHERE tablename = 'usage_outbox'")
        == "1"
    )


def _wait_for(url: str, count: int) -> None:
    """Until so many records are taken; asks by one connection, and seldom: both ends are busy."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        for _ in range(3000):
            found = connection.execute(_TAKEN).fetchone()
            connection.rollback()
            if found and found[0] == count:
                return
            time.sleep(0.1)
    raise AssertionError("all arrives within 300 s")


def _taken(server: PostgresServer, database: str) -> int:
    return int(server.run(database, _TAKEN))


def _size(keys: Path) -> float:
    """Bytes a record, as full batches of each kind have them."""
    key = SigningKey((keys / "usage.key").read_bytes())
    by_kind: dict[str, list[bytes]] = {}
    for record in records(40_000):
        by_kind.setdefault(record.kind, []).append(usage.line(record))
    size = count = 0
    for kind, lines in by_kind.items():
        some = lines[: usage.fitting(lines)]
        head = BatchHead(registration=REGISTRATION, spool=uuid4(), number=1, kind=kind)
        size += len(usage.seal(key, head, some)) * len(lines) // len(some)
        count += len(lines)
    return size / count


TABLES = "SELECT count(*) FROM pg_tables WHERE tablename IN ('heard', 'asked', 'taken', 'usage')"


def fill(url: str, count: int, before: Callable[[], None] = lambda: None) -> float:
    """Have so many records wait in the outbox, all at once; when that was, in monotonic seconds.

    Args:
        url: SQLAlchemy's, of the database of usage.
        count: how many.
        before: called in the moment before.
    """
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        with (
            connection.cursor() as cursor,
            cursor.copy("COPY usage_outbox (kind, line) FROM STDIN") as copy,
        ):
            for record in records(count):
                copy.write_row((record.kind, usage.line(record).decode()))
        before()
    return time.monotonic()
