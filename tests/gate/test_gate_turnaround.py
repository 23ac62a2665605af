"""A whole aircraft at the gate: its content_sync, the line, the Hangar's sshd and repository."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from apps.common.calls import Client
from apps.common.content import METADATA, OBJECTS, ContentState, ImportRequest, Job
from apps.common.discretes import Discretes
from apps.common.testing import small_disk, wait_until
from bench.gate.onboard import OnBoard
from bench.gate.world import POOR, World
from bench.shaper import Order
from tests.content.helpers import Ground, shown
from tests.gate.conftest import LOST, QUICK, again

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="making namespaces takes root rights")

RANDOM = random.Random(0)  # noqa: S311 - the same at each run
TODAY = RANDOM.randbytes(150_000)


@pytest.fixture
def aircraft(world: World, desk: Ground, tmp_path_factory: pytest.TempPathFactory) -> OnBoard:
    """Its server, not started yet."""
    return OnBoard(world, world.folder / tmp_path_factory.mktemp("a").name, desk.root)


def is_right(desk: Ground, aircraft: OnBoard) -> bool:
    """Whether all that is in force is what was signed, in full or in part."""
    signed = desk.repository.files()
    return all(signed[name].digest == digest for name, digest in shown(aircraft.content).items())


@pytest.mark.parametrize(
    ("times", "order", "megabytes"),
    [
        pytest.param(1, QUICK, 6, id="few", marks=pytest.mark.timeout(300)),
        pytest.param(20, POOR, 100, id="20", marks=[pytest.mark.long, pytest.mark.timeout(2400)]),
    ],
)
def test_whatever_is_killed_or_cut_all_of_it_comes_once(
    world: World, desk: Ground, aircraft: OnBoard, times: int, order: Order, megabytes: int
) -> None:
    """A flap of the link, the Hangar killed, another address, the aircraft killed.

    And while the film is still coming, the newspaper is on board.
    """
    film = RANDOM.randbytes(megabytes * 1_000_000)
    desk.add("films", "metropolis", {"metropolis.mp4": film})
    desk.publish("news", "today", {"today.pdf": TODAY})
    world.set(order)
    staging = aircraft.content / "gate"
    # As much again is on its way when it is cut off, and comes all the same.
    each = len(film) // (8 * times + 2)

    def kill_hangar() -> None:
        world.kill_hangar()
        world.start_sshd()

    def kill_aircraft() -> None:
        aircraft.kill()
        aircraft.start()

    before = world.carried()
    with aircraft:
        wait_until(lambda: aircraft.shows("news/today.pdf") == TODAY, "today is on board", 60)
        assert aircraft.shows("films/metropolis.mp4") is None
        gate = aircraft.gate
        assert gate is not None
        assert (
            f"min at the gate, {megabytes} MB of {megabytes} MB: all news, all films" in gate.says
        )
        for cut in (aircraft.flap, kill_hangar, world.move, kill_aircraft) * times:
            there = coming(staging)
            wait_until(lambda: coming(staging) > there + each, "it goes on", 120)  # noqa: B023
            cut()
            assert is_right(desk, aircraft)
        wait_until(lambda: aircraft.version() == (2, 0), "all is on board", 300)
        assert is_right(desk, aircraft)
    assert world.carried() - before < 1.12 * len(film) + 4 * times * LOST


def test_what_had_come_whole_when_it_was_killed_is_taken(desk: Ground, aircraft: OnBoard) -> None:
    film = RANDOM.randbytes(300_000)
    desk.publish("films", "metropolis", {"metropolis.mp4": film})
    shutil.copytree(desk.published / OBJECTS, aircraft.content / "gate" / OBJECTS)
    with aircraft:
        wait_until(lambda: aircraft.version() == (2, 0), "all is on board", 40)
        assert aircraft.shows("films/metropolis.mp4") == film


def coming(staging: Path) -> int:
    """Bytes of the largest object that is under way."""
    sizes = [file.stat().st_size for file in (staging / "incoming").rglob("*") if file.is_file()]
    return max(sizes, default=0)


def test_what_the_crew_went_back_from_comes_no_further(
    world: World, desk: Ground, aircraft: OnBoard
) -> None:
    """Nor does the film that is on its way; all of it goes on once they want it again."""
    desk.publish("news", "today", {"today.pdf": TODAY})
    tomorrow, film = RANDOM.randbytes(140_000), RANDOM.randbytes(12_000_000)
    client = Client(aircraft.folder / "content_sync.sock")
    with aircraft:
        wait_until(lambda: aircraft.version() == (2, 0), "today is on board", 60)
        desk.add("films", "metropolis", {"metropolis.mp4": film})
        desk.publish("news", "today", {"today.pdf": tomorrow})
        world.set(Order(rate=3e6))
        again(world, aircraft)
        staging = aircraft.content / "gate"
        wait_until(lambda: coming(staging) > 200_000, "the film is coming", 60)
        assert aircraft.shows("news/today.pdf") == tomorrow
        client.ask(ContentState, "POST", "/api/v1/content/rollback", "anna")
        wait_until(lambda: aircraft.gate and aircraft.gate.title is None, "nothing comes", 15)
        assert coming(staging) < len(film)
        assert aircraft.shows("news/today.pdf") == TODAY
        world.set(QUICK)
        client.ask(ContentState, "POST", "/api/v1/content/rollback", "anna")
        wait_until(lambda: aircraft.version() == (3, 0), "all is on board", 60)


def test_a_hangar_that_lies_is_told_and_changes_nothing(
    world: World, desk: Ground, aircraft: OnBoard
) -> None:
    desk.publish("news", "today", {"today.pdf": TODAY})
    old = world.folder / "old"
    shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(desk.published, old)
    tomorrow, film = RANDOM.randbytes(140_000), RANDOM.randbytes(400_000)
    desk.publish("news", "today", {"today.pdf": tomorrow})
    with aircraft:
        wait_until(lambda: aircraft.version() == (3, 0), "all is on board", 60)

        new = desk.published.rename(world.folder / "new")
        old.rename(desk.published)
        again(world, aircraft)
        wait_until(lambda: trouble(aircraft, "older than what this aircraft knows"), "told", 60)
        assert aircraft.shows("news/today.pdf") == tomorrow

        shutil.rmtree(desk.published)
        new.rename(desk.published)
        desk.add("films", "metropolis", {"metropolis.mp4": film})
        desk.publish("news", "today", {"today.pdf": TODAY})
        os.truncate(desk.object("films/metropolis.mp4"), 399_999)
        again(world, aircraft)
        wait_until(
            lambda: trouble(aircraft, "does not give Metropolis as it is signed"), "told", 30
        )
        assert aircraft.shows("news/today.pdf") == TODAY
        assert aircraft.shows("films/metropolis.mp4") is None


def test_what_a_lying_hangar_said_is_forgotten(
    world: World, desk: Ground, aircraft: OnBoard
) -> None:
    """It gives other bytes under the names of what was signed; then it does so no more."""
    desk.add("films", "metropolis", {"metropolis.mp4": RANDOM.randbytes(40_000)})
    desk.publish("news", "today", {"today.pdf": TODAY})
    lies = [desk.published / METADATA / "2.snapshot.json", desk.object("news/catalogue.json")]
    honest = {path: path.read_bytes() for path in lies}
    with aircraft:
        for path in lies:
            path.write_bytes(honest[path][:-9] + b"?" + honest[path][-8:])
            again(world, aircraft)
            wait_until(lambda: trouble(aircraft, "it is damaged, or was changed"), "told", 60)
            path.write_bytes(honest[path])
        again(world, aircraft)
        wait_until(lambda: aircraft.version() == (2, 0), "it is believed again", 60)
        assert aircraft.shows("news/today.pdf") == TODAY
        # And what has changed in its catalogue alone comes as well.
        desk.repository.retire("news", {"today"})
        desk.repository.sign()
        again(world, aircraft)
        wait_until(lambda: aircraft.version() == (3, 0), "it is gone", 30)
        assert aircraft.shows("news/today.pdf") is None
        # What has not changed is not put in force under the new version, before what has.
        desk.publish("news", "today", {"today.pdf": RANDOM.randbytes(150_000)})
        again(world, aircraft)
        wait_until(lambda: aircraft.version() == (4, 0), "it is back", 30)
        switches = (aircraft.folder / "log").read_text
        wait_until(lambda: "a set is in force set=4 missing=0" in switches(), "it is told")
        assert switches().count("a set is in force set=4") == 1


def trouble(aircraft: OnBoard, words: str) -> bool:
    """Whether it tells of some such."""
    gate = aircraft.gate
    return bool(gate and gate.trouble and words in gate.trouble)


@pytest.mark.long
def test_wrong_bytes_are_told_and_made_right(world: World, desk: Ground, aircraft: OnBoard) -> None:
    film = RANDOM.randbytes(400_000)
    desk.add("films", "metropolis", {"metropolis.mp4": film})
    desk.publish("news", "today", {"today.pdf": TODAY})
    desk.object("films/metropolis.mp4").write_bytes(film[:-1] + b"?")
    with aircraft:
        wait_until(lambda: trouble(aircraft, "does not give Metropolis"), "it is told", 60)
        assert is_right(desk, aircraft)
        assert aircraft.shows("news/today.pdf") == TODAY

        desk.object("films/metropolis.mp4").write_bytes(film)
        again(world, aircraft)
        wait_until(lambda: aircraft.version() == (2, 0), "all is on board", 60)
        assert is_right(desk, aircraft)


@pytest.mark.long
def test_what_has_no_room_does_not_keep_out_what_has(
    world: World, desk: Ground, aircraft: OnBoard
) -> None:
    desk.add("films", "metropolis", {"metropolis.mp4": RANDOM.randbytes(20_000_000)})
    desk.publish("news", "today", {"today.pdf": TODAY})
    with small_disk(aircraft.content, "8M") as disk, aircraft:
        wait_until(lambda: trouble(aircraft, "no room"), "it is told", 60)
        assert aircraft.shows("news/today.pdf") == TODAY
        subprocess.run(["mount", "-o", "remount,size=80M", disk], check=True, timeout=10)
        again(world, aircraft)
        wait_until(lambda: aircraft.version() == (2, 0), "all is on board", 60)


@pytest.mark.timeout(300)
def test_what_came_half_makes_room_for_a_crew_disk(
    world: World, desk: Ground, aircraft: OnBoard
) -> None:
    film = RANDOM.randbytes(14_000_000)
    desk.publish("films", "metropolis", {"metropolis.mp4": film})
    staging = aircraft.content / "gate"
    client = Client(aircraft.folder / "content_sync.sock")
    disk = ImportRequest(folder=str(desk.published))
    world.set(Order(rate=10e6, delay=0.005))
    with small_disk(aircraft.content, "22M"), aircraft:
        wait_until(lambda: coming(staging) > 10_000_000, "most of it has come", 60)
        client.ask(Job, "POST", "/api/v1/imports", "anna", disk)
        wait_until(lambda: aircraft.state and aircraft.state.trouble, "there is no room", 30)
        assert coming(staging) > 10_000_000, "what is just coming is left alone"
        world.unplug()
        wait_until(lambda: not (aircraft.folder / "line").exists(), "there is no line", 30)
        client.ask(Job, "POST", "/api/v1/imports", "anna", disk)
        wait_until(lambda: aircraft.version() == (2, 0), "all is on board", 30)
        assert aircraft.shows("films/metropolis.mp4") == film
        assert coming(staging) == 0


def connections(world: World) -> int:
    """How many TCP connections have come to the Hangar so far.

    Packets would tell less: of connections that an earlier aircraft left, some still come.
    """
    text = world.hangar.run(Path("/proc/thread-self/net/snmp").read_text)
    names, values = (line.split() for line in text.splitlines() if line.startswith("Tcp:"))
    return int(dict(zip(names, values, strict=True))["PassiveOpens"])


def test_the_gate_is_open_only_with_weight_on_wheels(
    world: World, desk: Ground, tmp_path_factory: pytest.TempPathFactory
) -> None:
    desk.publish("news", "today", {"today.pdf": TODAY})
    folder = world.folder / tmp_path_factory.mktemp("a").name
    with OnBoard(world, folder, desk.root, {"IFE_GATE_NEEDS_WOW": "true"}) as aircraft:
        unknown = "nobody tells whether there is weight on the wheels"
        wait_until(lambda: aircraft.gate and aircraft.gate.says == unknown, "it is closed")
        before = connections(world)
        aircraft.tell(Discretes(wow=False))
        wait_until(lambda: aircraft.gate and aircraft.gate.says == "in flight", "it is closed")
        assert connections(world) == before
        aircraft.tell(Discretes(wow=True))
        wait_until(lambda: aircraft.gate and aircraft.gate.open, "it opens")
        wait_until(lambda: connections(world) > before, "it comes to the Hangar")
        aircraft.tell(Discretes(wow=False))
        wait_until(lambda: aircraft.gate and not aircraft.gate.open, "it closes")
