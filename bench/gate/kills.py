"""Usage on its way from an aircraft to the Hangar, while one side or the other is killed."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self
from uuid import UUID

from apps.common import outbox
from apps.common.testing import PostgresServer, wait_until
from apps.common.usage import Play, Record, Sale, Stat
from bench.gate.aircraft import variables
from bench.gate.hangar import Hangar, Keys

REGISTRATION = "EC-LAB"
DONE_WITHIN = 120.0
"""Seconds after the last kill within which all must have arrived."""


@dataclass
class Outcome:
    """What was written on board, and what the Hangar has of it."""

    kills: dict[str, int]
    written: int
    lost: set[UUID]
    unknown: set[UUID]
    doubled: int
    batches: int


@dataclass
class _Producer:
    """An app that writes records all the time; one whose writing failed it writes again."""

    url: str
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
                *(Play(media=f"film-{number % 7}", seconds=each) for each in range(5)),
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


def run(keys: Keys, kills: int, seed: int) -> Outcome:
    """Kill one of the four so many times: the aircraft's app or database, or the Hangar's.

    Args:
        keys: of the Hangar and of EC-LAB.
        kills: how many times.
        seed: of what is killed when.
    """
    dice = random.Random(seed)  # noqa: S311 - no secret
    with (
        tempfile.TemporaryDirectory(prefix="ife-") as aircraft_folder,
        tempfile.TemporaryDirectory(prefix="ife-") as ground_folder,
        tempfile.TemporaryDirectory(prefix="ife-") as hangar_folder,
        PostgresServer(Path(aircraft_folder)) as aircraft_database,
        PostgresServer(Path(ground_folder)) as hangar_database,
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
            done = dict.fromkeys(victims, 0)
            producer = _Producer(usage_url)
            arrived = _Arrived(hangar_database, fleet)
            wait_until(lambda: arrived.batches() > 0, "usage arrives", timeout=60)
            for kill in range(kills):
                batches = arrived.batches()
                time.sleep(dice.uniform(0, 0.3))
                name = dice.choice(list(victims))
                victims[name].kill()
                victims[name].start()
                done[name] += 1
                # Mostly the next one when usage flows again, now and then at once.
                if dice.random() < 0.8:
                    wait_until(
                        lambda than=batches + 1: arrived.batches() > than,  # type: ignore[misc]
                        f"usage flows again after kill {kill + 1}, of {name}",
                        timeout=60,
                    )
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
        kills=done,
        written=len(written),
        lost=written - set(ids),
        unknown=set(ids) - written,
        doubled=len(ids) - len(set(ids)) + abs(told - len(ids)),
        batches=count,
    )


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
