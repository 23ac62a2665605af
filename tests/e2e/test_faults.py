"""What may happen to an aircraft's server in flight, done to a whole cabin under load."""

from __future__ import annotations

import os
import random
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from apps.common.testing import small_disk, wait_until
from bench import testing, up
from bench.instance import MULTICAST_GROUP, Paths, default_directory, load_instance
from bench.services import postgresql_folder, redis_socket
from bench.testing import Cabin
from tests.e2e.test_cabin import issue, needs_root, report, wait_for_all

pytestmark = pytest.mark.timeout(300)

HEAL = 3.0
"""Seconds after the restart within which every seat is live and nothing is degraded."""

PROGRAMS = ["seat_control", "redis", "nginx", "crew_web", "postgresql"]


class Crew(threading.Thread):
    """Somebody who presses a button each second, whatever happens.

    Not more often: a process that is 312 seats hears each command up to 312 times 8.
    """

    def __init__(self, cabin: Cabin) -> None:
        super().__init__()
        self._cabin = cabin
        self._over = threading.Event()
        self.acknowledged: list[int] = []
        self.refused = 0

    def run(self) -> None:
        """Press until `stop`."""
        with self._cabin.crew_client() as client:
            while not self._over.wait(1.0):
                try:
                    self.acknowledged.append(issue(client, {"name": "identify"}))
                except (httpx.HTTPError, AssertionError):
                    self.refused += 1

    def stop(self) -> None:
        """No more."""
        self._over.set()
        self.join(timeout=15)


@contextmanager
def pressing(cabin: Cabin) -> Iterator[Crew]:
    crew = Crew(cabin)
    crew.start()
    try:
        yield crew
    finally:
        crew.stop()


def is_back(cabin: Cabin, program: str) -> bool:
    """Whether a program answers again."""
    paths = cabin.instance.paths
    try:
        if program in ("seat_control", "crew_web"):
            with up.local_client(paths, program) as client:
                return client.get("/healthz").status_code == 200
        if program == "nginx":
            return httpx.get(f"{cabin.crew_url}/", verify=cabin.tls()).status_code < 500
        path = {
            "redis": redis_socket(paths),
            "postgresql": postgresql_folder(paths) / ".s.PGSQL.5432",
        }[program]
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(1)
            sock.connect(str(path))
    except (OSError, httpx.HTTPError):
        return False
    return True


def trouble(cabin: Cabin) -> str:
    """What is not as it should be; nothing if all is well."""
    try:
        view = cabin.view()
    except (httpx.HTTPError, ValueError) as error:
        return str(error)
    gone = [name for name, seat in view.seats.items() if seat.presence != "live"]
    said = [f"{each.part}: {each.why}" for each in view.degraded]
    return "; ".join([*said, *([f"{len(gone)} seats are away, as {gone[0]}"] if gone else [])])


@pytest.mark.parametrize(
    "programs",
    [
        *(pytest.param([name], id=name, marks=pytest.mark.long) for name in PROGRAMS),
        pytest.param(PROGRAMS, id="all"),
    ],
)
def test_a_cabin_survives_kill_9(cabin: Cabin, programs: list[str]) -> None:
    cabin.wait_until_healthy(30)
    with pressing(cabin) as crew:
        time.sleep(1.5)
        killed = time.monotonic()
        cabin.kill(*programs)
        wait_until(lambda: all(is_back(cabin, name) for name in programs), "they are back", 30)
        back = time.monotonic()
        healed, last = back, ""
        while time.monotonic() < back + HEAL + 2:  # trouble may also come late
            if said := trouble(cabin):
                healed, last = time.monotonic(), said
            time.sleep(0.05)
    print(
        f"{'+'.join(programs)}: back after {back - killed:.1f} s, healed {healed - back:.1f} s "
        f"later; {len(crew.acknowledged)} commands acknowledged, {crew.refused} refused"
    )
    assert healed - back <= HEAL, last
    assert len(crew.acknowledged) == len(set(crew.acknowledged))
    with cabin.crew_client() as client:
        for seq in crew.acknowledged:
            told = wait_for_all(cabin, client, seq, 30)
            assert told.applied == len(cabin.seats), told
    assert crew.acknowledged
    for seq in crew.acknowledged:
        applied = Counter(entry.seat for entry in cabin.applied(seq))
        assert applied == dict.fromkeys(cabin.seats, 1), f"command {seq}, once at each seat"


@needs_root
def test_rubbish_on_the_wire_is_counted_and_disturbs_nothing(cabin: Cabin) -> None:
    def fewest() -> int:
        return min(seat.link.refused for seat in cabin.view().seats.values() if seat.link)

    chance = random.Random(1)  # noqa: S311 - the same rubbish each time
    before = fewest()
    for sent in range(100, 1001, 100):  # as many as wait at a socket: a slow cabin keeps up
        for _ in range(100):
            multicast(cabin, chance.randbytes(chance.randint(0, 1472)))
            time.sleep(0.01)  # a process that is 312 seats hears 312 of each
        # A kernel may drop some; nobody takes one for a frame.
        wait_until(lambda: fewest() - before >= 0.9 * sent, "every seat has counted them", 30)  # noqa: B023
    with cabin.crew_client() as client:
        seq = issue(client, {"name": "identify"})
        assert wait_for_all(cabin, client, seq).applied == len(cabin.seats)


def multicast(cabin: Cabin, *datagrams: bytes) -> None:
    """Send to the seats' group from the server's side, as an attacker on the cabin network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, cabin.instance.server.ip.packed)
        for datagram in datagrams:
            sock.sendto(datagram, (MULTICAST_GROUP, cabin.instance.multicast_port))


@needs_root
def test_commands_get_through_a_flood(small_cabin: Cabin) -> None:
    """10,000 unsigned datagrams a second, for some seconds, and commands meanwhile."""
    over = threading.Event()
    sent = 0

    def flood() -> None:
        nonlocal sent
        began = time.monotonic()
        while not over.is_set():
            due = int((time.monotonic() - began) * 10_000) - sent
            multicast(small_cabin, *[b"not a frame" * 20] * min(due, 1000))
            sent += max(0, min(due, 1000))
            time.sleep(0.002)

    thread = threading.Thread(target=flood)
    thread.start()
    began = time.monotonic()
    slowest = 0.0
    try:
        with small_cabin.crew_client() as client:
            for _ in range(10):
                told = wait_for_all(small_cabin, client, issue(client, {"name": "identify"}), 10)
                assert told.applied == len(small_cabin.seats)
                slowest = max(slowest, told.ms_to_last or 0)
                time.sleep(0.2)
    finally:
        over.set()
        thread.join()
    rate = sent / (time.monotonic() - began)
    print(f"{rate:,.0f} datagrams/s; the slowest of 10 commands took {slowest:.0f} ms")
    assert rate > 8_000
    assert all(seat.presence == "live" for seat in small_cabin.view().seats.values())


@pytest.fixture(scope="module")
def small_cabin() -> Iterator[Cabin]:
    with testing.cabin(seats=12) as cabin:
        yield cabin


@needs_root
def test_a_full_disk_under_the_audit_log_stops_no_command() -> None:
    """PostgreSQL on a small file system of its own, which is then filled."""
    with cabin_on_a_small_disk() as (cabin, disk), cabin.crew_client() as client:
        cabin.wait_until_healthy(30)
        filler = disk / "filler"

        def page_says_so() -> bool:
            fill(filler)  # again and again: PostgreSQL frees what it can
            return "audit log" in client.get("/status").raise_for_status().text.lower()

        with pressing(cabin) as crew:
            wait_until(page_says_so, "the page says that the audit log is degraded", 60)
        told = wait_for_all(cabin, client, issue(client, {"name": "mute", "muted": True}))
        assert told.applied == len(cabin.seats)
        filler.unlink()
        wait_until(lambda: not cabin.view().degraded, "it is written again", 60)
        assert report(client, crew.acknowledged[0]).applied == len(cabin.seats)


@contextmanager
def cabin_on_a_small_disk() -> Iterator[tuple[Cabin, Path]]:
    """A small cabin whose PostgreSQL has 120 MB."""
    number = testing.free_instance()
    directory = default_directory(number, os.geteuid())
    shutil.rmtree(directory / "var", ignore_errors=True)
    disk = Paths(directory).state / "postgresql"
    disk.mkdir(parents=True)
    with (
        small_disk(disk, "120M"),
        testing.running("--instance", str(number), "--seats", "6"),
    ):
        yield Cabin(load_instance(directory)), disk


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("ab", buffering=0) as file:
        while (free := os.statvfs(path).f_bavail) > 0:
            file.write(bytes(4096 * min(256, free)))
