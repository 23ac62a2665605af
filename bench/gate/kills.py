"""Usage on its way from an aircraft to the Hangar, while a side is killed or has a full disk."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self
from uuid import UUID

from apps.common import outbox
from apps.common.testing import PostgresServer, small_disk, wait_until
from apps.common.usage import Play, Record, Sale, Stat
from bench.gate.aircraft import variables
from bench.gate.hangar import Hangar, Keys

REGISTRATION = "EC-LAB"
DISK = "300M"
"""Of each database: a PostgreSQL takes some 60 MB, its log up to 96 more."""

STILL = 3.0
"""Seconds without a batch after which nothing flows."""

DONE_WITHIN = 120.0
"""Seconds after the last kill within which all must have arrived."""


@dataclass
class Outcome:
    """What was written on board, and what the Hangar has of it."""

    disturbed: dict[str, int]
    written: int
    lost: set[UUID]
    unknown: set[UUID]
    doubled: int
    batches: int


@dataclass
class _Producer:
    """An app that writes records all the time; one whose writing failed it writes again."""

    url: str
    plays: int
    written: list[UUID] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="producer", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Write what is under way, and stop."""
        self._done.set()
        self._thread.join(timeout=60)

    def _run(self) -> None:
        engine = outbox.connect(self.url, "producer")
        number = 0
        while not self._done.is_set():
            number += 1
            records: list[Record] = [
                Sale(item="cola", quantity=1, amount=number, currency="EUR", payment="card"),
                *(Play(media=f"film-{number % 7}", seconds=each) for each in range(self.plays)),
                Stat(name="loop", value=number),
            ]
            while True:
                try:
                    outbox.write(engine, records)
                    break
                except OSError:
                    time.sleep(0.02)
            self.written += [record.id for record in records]
            time.sleep(0.002)
        engine.dispose()


class _Victim(Protocol):
    """What can be killed, and started again."""

    def kill(self) -> None: ...

    def start(self) -> None: ...


@dataclass
class _Aircraft:
    """The process that hands over; a context manager. `kill` it, and `start` another."""

    environment: dict[str, str]

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.gate.aircraft"],
            env=self.environment,
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@dataclass
class Ends:
    """What usage goes through on its way, by name: each can be killed and started again.

    Attributes:
        victims: all four.
        disks: what the databases among them are on.
        done: how often each was disturbed.
        arrived: what the Hangar has.
    """

    victims: dict[str, _Victim]
    disks: dict[str, Path]
    arrived: _Arrived
    done: dict[str, int] = field(default_factory=dict)

    def kill(self, times: int, seed: int) -> None:
        """Kill one of them so many times, and start it again."""
        dice = random.Random(seed)  # noqa: S311 - no secret
        self.done |= dict.fromkeys(self.victims, 0)
        for number in range(times):
            batches = self.arrived.batches()
            time.sleep(dice.uniform(0, 0.3))
            name = dice.choice(list(self.victims))
            self.victims[name].kill()
            self.victims[name].start()
            self.done[name] += 1
            # Mostly the next one when usage flows again, now and then at once.
            if dice.random() < 0.8:
                self._flows(batches, f"kill {number + 1}, of {name}")

    def fill_disks(self) -> None:
        """Have each disk full, one after the other, until no usage flows any more."""
        for name, disk in self.disks.items():
            ballast = disk / "ballast"
            with suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 16))
            wait_until(self._stands_still, f"nothing can be written: {name}", 60)
            ballast.unlink()
            # As its unit does, where it has ended.
            self.victims[name].start()
            self.done[name] = 1
            self._flows(self.arrived.batches(), f"the disk was full: {name}")

    def _stands_still(self) -> bool:
        batches = self.arrived.batches()
        time.sleep(STILL)
        return self.arrived.batches() == batches

    def _flows(self, batches: int, after: str) -> None:
        wait_until(lambda: self.arrived.batches() > batches, f"usage flows again after {after}", 60)


def run(keys: Keys, disturb: Callable[[Ends], None], plays: int = 5) -> Outcome:
    """Disturb what usage goes through while an app writes; what is there when all has arrived.

    Args:
        keys: of the Hangar and of EC-LAB.
        disturb: does it, and ends.
        plays: how many the app writes at a time, beside a few other records.
    """
    with (
        _disk() as aircraft_disk,
        _disk() as hangar_disk,
        tempfile.TemporaryDirectory(prefix="ife-") as hangar_folder,
        PostgresServer(aircraft_disk / "postgresql") as aircraft_database,
        PostgresServer(hangar_disk / "postgresql") as hangar_database,
    ):
        usage = aircraft_database.create("ife-content_sync")
        fleet = hangar_database.create("ife-hangar")
        usage_url = aircraft_database.url(usage, "ife-content_sync")
        fleet_url = hangar_database.url(fleet, "ife-hangar")
        environment = variables(usage_url, REGISTRATION, keys.aircraft[REGISTRATION])
        with (
            Hangar(Path(hangar_folder), keys, fleet_url, Path(hangar_folder)) as hangar,
            _Aircraft(environment | {"GATE_HANGAR_URL": hangar.url}) as aircraft,
        ):
            victims: dict[str, _Victim] = {
                "the aircraft's app": aircraft,
                "the aircraft's database": aircraft_database,
                "the Hangar's app": hangar,
                "the Hangar's database": hangar_database,
            }
            arrived = _Arrived(hangar_database, fleet)
            disks = {
                "the aircraft's database": aircraft_disk,
                "the Hangar's database": hangar_disk,
            }
            ends = Ends(victims, disks, arrived)
            producer = _Producer(usage_url, plays)
            wait_until(lambda: arrived.batches() > 0, "usage arrives", timeout=60)
            disturb(ends)
            producer.finish()
            waiting = (
                "SELECT (SELECT count(*) FROM usage_outbox) + (SELECT count(*) FROM usage_batch)"
            )
            wait_until(
                lambda: aircraft_database.run(usage, waiting) == "0", "all arrives", DONE_WITHIN
            )
            ids = [
                UUID(line) for line in hangar_database.run(fleet, "SELECT id FROM usage").split()
            ]
            told = int(hangar_database.run(fleet, "SELECT sum(records) FROM taken"))
            count = arrived.batches()
    written = set(producer.written)
    return Outcome(
        disturbed=ends.done,
        written=len(written),
        lost=written - set(ids),
        unknown=set(ids) - written,
        doubled=len(ids) - len(set(ids)) + abs(told - len(ids)),
        batches=count,
    )


@contextmanager
def _disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ife-") as name, small_disk(Path(name), DISK) as disk:
        (disk / "postgresql").mkdir()
        yield disk


@dataclass
class _Arrived:
    """The Hangar's database, which may be away at the moment."""

    server: PostgresServer
    database: str

    def batches(self) -> int:
        """How many there are; 0 where it does not say."""
        with suppress(AssertionError):
            return int(self.server.run(self.database, "SELECT count(*) FROM taken"))
        return 0
