"""Measures the way over the gate, beside rsync and casync: `make bench-gate`.

What changes is newspapers, some films, a map, and the catalogues that tell of them. The aircraft is
content_sync as its unit runs it; rsync and casync bring the same files as a tree by their names,
over the same line.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from pyroute2 import netns

from apps.common.content import object_path
from apps.common.testing import wait_until
from apps.content_sync.carry import Carrier, Line
from bench.benchmark import in_turn, main
from bench.document import table
from bench.gate.onboard import OnBoard
from bench.gate.world import HANGAR, World
from bench.shaper import Order
from tests.content.helpers import Aircraft, Ground

FILMS, NEW_FILMS, FILM = 20, 3, 100_000_000
PAPERS, PAPER = 5, 1_000_000
MAP, PAGE, PAGES_CHANGED = 32_000_000, 4096, 300
FIRST_PAPER = "news/paper-0.pdf"
FLAPS = 20

LINE = Order(rate=20e6, delay=0.05)
"""20 Mbit/s, 100 ms there and back; none vanish, which rsync alone over TCP would not stand."""

FAST = Order(rate=100e6, delay=0.005)
"""A Hangar's line that a fleet shares; and where only bytes are counted."""

FLEET = 50
FLEET_FILES = (*(PAPER,) * PAPERS, 40_000_000)
"""Bytes of each that every aircraft of a fleet fetches: the line is busy for minutes."""

HTTP_PORT, RSYNC_PORT = 8080, 873
TIMEOUT = 900
_NUMBERS = count()


@dataclass(frozen=True)
class Found:
    """Bytes over the line, both ways; seconds until the first newspaper, and until all is there."""

    carried: int
    first: float
    whole: float


class Day:
    """The Hangar's end, with what it had yesterday and has today; and the aircraft of yesterday."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ground = Ground(world.folder / "hangar")
        self.trees = world.folder / "trees"
        self._former = world.folder / "former"
        rand = random.Random(1)  # noqa: S311 - the same each time
        # The Hangar's, empty, which the publisher makes anew.
        shutil.rmtree(self.ground.folder)
        self.ground.begin()
        for number in range(FILMS):
            self._add_film(number, rand)
        world_map = bytearray(rand.randbytes(MAP))
        self._issue(world_map, rand)
        Aircraft(self._former, self.ground.root).load(self.ground.source())
        self._keep_tree("yesterday")
        for path in (self.trees / "yesterday").rglob("*"):
            # rsync takes a file of the same length and time for the same.
            os.utime(path, (0, 0))
        self.ground.repository.retire("films", {f"film-{number}" for number in range(NEW_FILMS)})
        for number in range(FILMS, FILMS + NEW_FILMS):
            self._add_film(number, rand)
        for page in rand.sample(range(MAP // PAGE), PAGES_CHANGED):
            world_map[page * PAGE : (page + 1) * PAGE] = rand.randbytes(PAGE)
        self._issue(world_map, rand)
        self._keep_tree("today")
        self.paper = (self.trees / "today" / FIRST_PAPER).read_bytes()

    def _add_film(self, number: int, rand: random.Random) -> None:
        self.ground.add("films", f"film-{number}", {f"film-{number}.mp4": rand.randbytes(FILM)})

    def _issue(self, world_map: bytearray, rand: random.Random) -> None:
        for number in range(PAPERS):
            files = {f"paper-{number}.pdf": rand.randbytes(PAPER)}
            self.ground.add("news", f"paper-{number}", files)
        self.ground.publish("maps", "world", {"world.bin": bytes(world_map)})

    def _keep_tree(self, name: str) -> None:
        """All files of the newest set by their names, as links to the objects."""
        for target, file in self.ground.repository.files().items():
            path = self.trees / name / target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(self.ground.published / object_path(file.digest))

    def content_of_yesterday(self, folder: Path) -> None:
        """Put there what an aircraft's store has."""
        _link_all(self._former, folder)

    def tree_of_yesterday(self) -> Path:
        """The same by names."""
        folder = self.world.folder / f"tree-{next(_NUMBERS)}"
        _link_all(self.trees / "yesterday", folder)
        return folder

    def check(self, folder: Path) -> None:
        """End all unless there is all of today's, and no more."""
        diff = ["diff", "--recursive", "--brief", "--exclude=slot.json"]
        if subprocess.run(
            [*diff, self.trees / "today", folder], check=False, timeout=120
        ).returncode:
            raise SystemExit(f"{folder} is not as it was published")


def _link_all(source: Path, to: Path) -> None:
    """Copy a folder, with links in place of its files: nobody writes to one."""
    subprocess.run(["cp", "-al", source, to], check=True, timeout=60)


def ours(day: Day, flaps: int = 0) -> Found:
    """The aircraft comes to the gate, where the link is cut off so many times."""
    world = day.world
    world.set(LINE)
    world.unplug()
    folder = world.folder / f"a{next(_NUMBERS)}"
    folder.mkdir()
    day.content_of_yesterday(folder / "content")
    with OnBoard(world, folder, day.ground.root) as aircraft:
        wait_until(lambda: aircraft.gate and not aircraft.gate.open, "it knows of the gate", 30)
        before, began = world.carried(), time.monotonic()
        world.plug()
        paper = _Watch(lambda: aircraft.shows(FIRST_PAPER) == day.paper)
        film = NEW_FILMS * FILM // (flaps + 1)
        for number in range(flaps):
            _wait(lambda: world.carried() - before > (number + 1) * film)  # noqa: B023
            aircraft.flap()
        version = day.ground.repository.version
        _wait(lambda: aircraft.version() == (version, 0))
        whole, carried = time.monotonic() - began, world.carried() - before
        day.check((aircraft.content / "current").resolve())
        return Found(carried, paper.seconds - began, whole)


def rsync(day: Day) -> Found:
    """``rsync -a`` of the tree, over SSH."""
    world = day.world
    world.set(LINE)
    world.allow(folder=day.trees / "today")
    account = world.account()
    board = day.tree_of_yesterday()
    shell = f"ssh -i {account.key} -o UserKnownHostsFile={account.known_hosts}"
    shell += " -o HostKeyAlias=hangar -o BatchMode=yes"
    before, began = world.carried(), time.monotonic()
    paper = _Watch(lambda: (board / FIRST_PAPER).read_bytes() == day.paper)
    _run(world, "rsync", "-a", "--delete", f"--rsh={shell}", f"root@{HANGAR}:", f"{board}/")
    found = Found(world.carried() - before, paper.seconds - began, time.monotonic() - began)
    world.allow()
    day.check(board)
    return found


def casync(day: Day) -> int:
    """Bytes of ``casync extract`` by HTTP, with what was there yesterday as its seed."""
    world = day.world
    world.set(FAST)
    served = world.folder / "casync"
    served.mkdir()
    index = ["casync", "make", f"--store={served}/default.castr", f"{served}/today.caidx"]
    subprocess.run([*index, day.trees / "today"], check=True, timeout=TIMEOUT)
    board, out = day.tree_of_yesterday(), world.folder / "out"
    with _serving(world, HTTP_PORT, *_http(served)):
        before = world.carried()
        url = f"http://{HANGAR}:{HTTP_PORT}/today.caidx"
        _run(world, "casync", "extract", f"--seed={board}", url, str(out))
        carried = world.carried() - before
    day.check(out)
    return carried


def _http(folder: Path) -> list[str]:
    served = [sys.executable, "-m", "http.server", "--protocol=HTTP/1.1"]
    return [*served, f"--directory={folder}", str(HTTP_PORT)]


class Fleet:
    """What the Hangar has for a fleet, and aircraft that come for it all at once."""

    def __init__(self, world: World) -> None:
        self._world = world
        world.set(FAST)
        rand = random.Random(2)  # noqa: S311 - the same each time
        self._wanted = [world.put(rand.randbytes(length)) for length in FLEET_FILES]

    def ours(self) -> float:
        """Bytes of content a second that come to all of them by the gate's way."""

        def fetch(folder: Path) -> None:
            carrier = Carrier(folder)
            with Line(self._world.account(), folder) as line:
                for batch in (self._wanted[:-1], self._wanted[-1:]):
                    if len(carrier.fetch(line, batch)) != len(batch):
                        raise SystemExit("not all has come")

        return self._all(fetch)

    def rsyncd(self) -> float:
        """The same by rsync's own daemon."""
        configuration = self._world.folder / "rsyncd.conf"
        configuration.write_text(
            f"use chroot = no\n[content]\npath = {self._world.repository}\nuid = root\ngid = root\n"
        )
        daemon = ["rsync", "--daemon", "--no-detach", f"--config={configuration}"]

        def fetch(folder: Path) -> None:
            source = f"rsync://{HANGAR}/content/"
            subprocess.run(["rsync", "-a", source, folder], check=True, timeout=TIMEOUT)

        with _serving(self._world, RSYNC_PORT, *daemon):
            return self._all(fetch)

    def _all(self, fetch: Callable[[Path], None]) -> float:
        top = self._world.folder / f"f{next(_NUMBERS)}"
        folders = [top / str(number) for number in range(FLEET)]
        for folder in folders:
            folder.mkdir(parents=True)
        inside = {"initializer": netns.setns, "initargs": (self._world.aircraft.name,)}
        with ThreadPoolExecutor(FLEET, **inside) as pool:
            began = time.monotonic()
            list(pool.map(fetch, folders, timeout=TIMEOUT))
            seconds = time.monotonic() - began
        shutil.rmtree(top)
        return FLEET * sum(FLEET_FILES) / seconds


class _Watch:
    """Notes when something is so, looking at it every 20 ms."""

    def __init__(self, is_so: Callable[[], bool]) -> None:
        self._is_so = is_so
        self._noted = 0.0
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._is_so():
            time.sleep(0.02)
        self._noted = time.monotonic()

    @property
    def seconds(self) -> float:
        """When, by the monotonic clock."""
        self._thread.join(timeout=TIMEOUT)
        return self._noted


def _wait(is_so: Callable[[], bool]) -> None:
    wait_until(is_so, "it comes", TIMEOUT)


def _run(world: World, *command: str) -> None:
    """A command in the aircraft's namespace."""
    run = world.aircraft.start(subprocess.run, command, check=True, timeout=TIMEOUT)
    run.result(timeout=TIMEOUT + 10)


@contextmanager
def _serving(world: World, port: int, *command: str) -> Iterator[None]:
    """A server in the Hangar's namespace."""
    server = world.hangar.run(
        subprocess.Popen, command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: world.listens(port), "it listens")
        yield
    finally:
        server.terminate()
        server.wait(timeout=10)


def _day(runs: int) -> str:
    with World() as world:
        day = Day(world)

        def measure(bring: Callable[[Day], Found]) -> tuple[float, ...]:
            found = bring(day)
            return found.carried, found.first, found.whole

        found = in_turn(runs, {"ours": lambda: measure(ours), "rsync -a": lambda: measure(rsync)})
        found[f"ours, cut off {FLAPS} times"] = measure(lambda day: ours(day, FLAPS))
        by_casync = casync(day)
    best = min(found["rsync -a"][0], by_casync)
    peer = found["rsync -a"][1]
    rows = [["", "bytes", "x the best peer", "first newspaper, s", "x rsync -a", "all, s"]]
    for name, (carried, first, whole) in found.items():
        ratios = [f"{carried / best:.3f}", f"{first:.1f}", f"{first / peer:.3f}", f"{whole:.0f}"]
        rows.append([name, f"{carried:,.0f}", *ratios])
    rows.append(["casync", f"{by_casync:,}", f"{by_casync / best:.3f}", "", "", ""])
    return f"### A day's change\n\n{table(*rows)}"


def _fleet(runs: int) -> str:
    with World() as world:
        fleet = Fleet(world)
        found = in_turn(
            runs, {"ours": lambda: (fleet.ours(),), "rsyncd": lambda: (fleet.rsyncd(),)}
        )
    (mine,), (peer,) = found["ours"], found["rsyncd"]
    rows = [
        ["", "Mbit/s of content"],
        *([name, f"{rate * 8 / 1e6:.1f}"] for name, (rate,) in found.items()),
    ]
    return f"### {FLEET} aircraft at once\n\n{table(*rows)}\n{mine / peer:.2f}x rsyncd.\n"


def _results(options: argparse.Namespace) -> str:
    return f"{_day(options.runs)}\n{_fleet(options.runs)}"


if __name__ == "__main__":
    main("carry", _results, __doc__, ["casync", "rsync", "sshd"])
