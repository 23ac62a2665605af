"""rsync over SSH between two network namespaces: what comes, in how many bytes, after what cuts."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from apps.common.testing import hung_disk, small_disk, wait_until
from apps.content_sync.carry import (
    Carrier,
    DiskFullError,
    Line,
    LinkError,
    RefusedError,
    StalledError,
    StoppedError,
    Wanted,
)
from bench.gate.world import POOR, World
from bench.shaper import Order
from tests.gate.conftest import LOST, QUICK

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="making namespaces takes root rights")

ROOT = Path(__file__).parents[2]
MEGABYTE = 1_000_000
EACH = 700_000
"""Bytes after which it is cut off. What is on its way then comes all the same."""

RANDOM = random.Random(0)  # noqa: S311 - the same at each run


def is_right(carrier: Carrier, wanted: Wanted) -> bool:
    data = (carrier.staging / wanted.path).read_bytes()
    return hashlib.sha256(data).hexdigest() == wanted.digest


def fetch(
    world: World, carrier: Carrier, *wanted: Wanted, bandwidth: int | None = None
) -> list[str]:
    """In the aircraft's namespace: connect, and bring these."""
    with Line(world.account(bandwidth), world.folder) as line:
        return carrier.fetch(line, wanted)


def begin(world: World, carrier: Carrier, *wanted: Wanted) -> Future[list[str]]:
    return world.aircraft.start(fetch, world, carrier, *wanted)


@pytest.fixture
def carrier(world: World, request: pytest.FixtureRequest) -> Carrier:
    return Carrier(world.folder / request.node.name)


def test_over_a_poor_line_metadata_come_by_name_and_objects_whole(
    world: World, carrier: Carrier
) -> None:
    world.set(POOR)
    objects = [world.put(RANDOM.randbytes(20_000)) for _ in range(5)]
    absent = Wanted("0" * 64, 1000)
    folder = world.repository / "metadata"
    folder.mkdir()
    (folder / "timestamp.json").write_text("{}")
    (folder / "secret.json").write_text("{}")

    def both() -> list[str]:
        with Line(world.account(), world.folder) as line:
            carrier.fetch_metadata(line, ["timestamp.json", "2.root.json"])
            return carrier.fetch(line, [*objects, absent])

    came = world.aircraft.start(both).result(timeout=40)
    assert [file.name for file in (carrier.staging / "metadata").iterdir()] == ["timestamp.json"]
    assert sorted(came) == sorted(wanted.digest for wanted in objects)
    assert all(is_right(carrier, wanted) for wanted in objects)


FEW_CUTS = ("unplug", "kill")
MANY_CUTS = ("unplug", "kill", "move", "stop", "unplug") * 4


def cut(world: World, carrier: Carrier, how: str) -> None:
    """Cut off what comes, and have the line right again."""
    if how == "kill":
        world.kill_hangar()
        return
    if how == "unplug":
        world.unplug()
    elif how == "move":
        world.move()
    # As the gate does that hears of it from the kernel.
    carrier.stop()


def mend(world: World, carrier: Carrier, how: str) -> None:
    carrier.go_on()
    world.plug()
    if how == "kill":
        world.start_sshd()


def fetch_with_cuts(world: World, carrier: Carrier, wanted: Wanted, cuts: Sequence[str]) -> int:
    """Bring an object of a megabyte a cut and more; how many bytes went over the line."""
    before = world.carried()
    for how in cuts:
        there = carrier.has(wanted)
        run = begin(world, carrier, wanted)
        wait_until(lambda: carrier.has(wanted) > there + EACH or run.done(), "it goes on", 40)  # noqa: B023
        cut(world, carrier, how)
        with pytest.raises((LinkError, StoppedError)):
            run.result(timeout=40)
        mend(world, carrier, how)
    assert begin(world, carrier, wanted).result(timeout=60) == [wanted.digest]
    assert is_right(carrier, wanted)
    return world.carried() - before


many_or_few = pytest.mark.parametrize(
    ("cuts", "order"),
    [
        pytest.param(FEW_CUTS, QUICK, id="few"),
        pytest.param(MANY_CUTS, POOR, id="20", marks=[pytest.mark.long, pytest.mark.timeout(900)]),
    ],
)


@many_or_few
def test_a_new_object_goes_on_where_it_was_cut_off(
    world: World, carrier: Carrier, cuts: Sequence[str], order: Order
) -> None:
    world.set(order)
    new = world.put(RANDOM.randbytes((len(cuts) + 2) * MEGABYTE))
    carried = fetch_with_cuts(world, carrier, new, cuts)
    # Headers, acknowledgements and what is sent twice for what vanished are 9 %.
    assert carried < 1.09 * new.length + len(cuts) * LOST


def test_what_is_stopped_brings_nothing_more_though_the_link_is_back(
    world: World, carrier: Carrier
) -> None:
    """It takes rsync a moment to end, in which the old connection would go on."""
    world.set(Order(rate=20e6, delay=0.05))
    wanted = world.put(RANDOM.randbytes(12 * MEGABYTE))
    run = begin(world, carrier, wanted)
    wait_until(lambda: carrier.has(wanted) > 3 * MEGABYTE, "it comes", 40)
    world.unplug()
    carrier.stop()
    world.plug()
    before = world.carried()
    with pytest.raises(StoppedError):
        run.result(timeout=40)
    time.sleep(1)
    assert world.carried() - before < LOST


@many_or_few
def test_a_changed_object_is_made_of_its_former_version_also_after_cuts(
    world: World, carrier: Carrier, cuts: Sequence[str], order: Order
) -> None:
    world.set(order)
    former = RANDOM.randbytes(8 * MEGABYTE)
    (world.folder / "former").write_bytes(former)
    # All of the former version is moved behind what is new, so it must not be written over.
    new = RANDOM.randbytes((len(cuts) + 2) * MEGABYTE)
    changed = world.put(new[:MEGABYTE] + former + new[MEGABYTE:])
    changed = Wanted(changed.digest, changed.length, world.folder / "former")
    carried = fetch_with_cuts(world, carrier, changed, cuts)
    assert carried < 1.09 * len(new) + len(cuts) * LOST
    assert (world.folder / "former").read_bytes() == former


def test_a_hangar_of_another_key_is_not_spoken_to(world: World, carrier: Carrier) -> None:
    wanted = world.put(b"film")
    world.pin("another")
    with pytest.raises(RefusedError, match="Host key verification failed"):
        begin(world, carrier, wanted).result(timeout=20)
    world.pin("hangar")
    world.allow("another")
    with pytest.raises(RefusedError, match="Permission denied"):
        begin(world, carrier, wanted).result(timeout=20)


def test_a_hangar_that_is_not_there_is_told_as_a_poor_link(world: World, carrier: Carrier) -> None:
    wanted = world.put(b"film")
    world.kill_hangar()
    with pytest.raises(LinkError, match="Connection refused"):
        begin(world, carrier, wanted).result(timeout=20)


def test_what_the_hangar_has_wrong_does_not_get_its_name(world: World, carrier: Carrier) -> None:
    """Too short, too long, a link to another file, a folder: the others come all the same."""
    good = world.put(RANDOM.randbytes(5_000))
    short, long, link, folder = (world.put(RANDOM.randbytes(4_000)) for _ in range(4))
    every = [good, short, long, link, folder]
    paths = [world.repository / wanted.path for wanted in every]
    os.truncate(paths[1], 3_999)
    paths[2].write_bytes(RANDOM.randbytes(5_000))
    for path in paths[3:]:
        path.unlink()
    paths[3].symlink_to("/etc/passwd")
    paths[4].mkdir()
    (paths[4] / "more").write_text("more")
    assert begin(world, carrier, *every).result(timeout=20) == [good.digest]
    assert not (carrier.staging / "incoming" / folder.path).exists()
    # Whatever came of them is no hindrance when the Hangar has them right.
    for path in paths[1:]:
        subprocess.run(["rm", "-rf", path], check=True, timeout=10)
    right = [world.put(RANDOM.randbytes(4_000)) for _ in range(2)]
    assert len(begin(world, carrier, *right).result(timeout=20)) == 2
    written = {file for file in carrier.staging.rglob("*") if not file.is_dir()}
    assert all(file.name in {one.digest for one in (*every, *right)} for file in written)
    assert not any(file.is_symlink() for file in written)


def test_what_nobody_may_read_at_the_hangar_is_readable_here(
    world: World, carrier: Carrier
) -> None:
    """Else it could neither be read nor mended, whatever comes after it."""
    wanted = world.put(RANDOM.randbytes(4_000))
    (world.repository / wanted.path).chmod(0)
    metadata = world.repository / "metadata"
    metadata.mkdir(exist_ok=True)
    (metadata / "timestamp.json").write_text("{}")
    (metadata / "timestamp.json").chmod(0)

    def look() -> None:
        with Line(world.account(), world.folder) as line:
            carrier.fetch_metadata(line, ["timestamp.json"])

    world.aircraft.start(look).result(timeout=20)
    assert begin(world, carrier, wanted).result(timeout=20) == [wanted.digest]
    written = [file for file in carrier.staging.rglob("*") if not file.is_dir()]
    assert len(written) == 2
    assert all(file.stat().st_mode & 0o600 == 0o600 for file in written)
    (metadata / "timestamp.json").unlink()


def test_a_folder_in_the_place_of_metadata_does_not_come(world: World, carrier: Carrier) -> None:
    """It would be in the way of the file for ever."""
    metadata = world.repository / "metadata"
    metadata.mkdir(exist_ok=True)
    (metadata / "2.root.json").mkdir()

    def look() -> None:
        with Line(world.account(), world.folder) as line:
            carrier.fetch_metadata(line, ["2.root.json"])

    world.aircraft.start(look).result(timeout=20)
    assert list((carrier.staging / "metadata").iterdir()) == []
    (metadata / "2.root.json").rmdir()
    (metadata / "2.root.json").write_text("{}")
    world.aircraft.start(look).result(timeout=20)
    assert (carrier.staging / "metadata/2.root.json").read_text() == "{}"
    (metadata / "2.root.json").unlink()


def test_wrong_bytes_are_made_right_without_fetching_them_anew(
    world: World, carrier: Carrier
) -> None:
    right = RANDOM.randbytes(3 * MEGABYTE)
    wanted = world.put(right)
    (world.repository / wanted.path).write_bytes(right[:MEGABYTE] + b"?" + right[MEGABYTE + 1 :])
    assert begin(world, carrier, wanted).result(timeout=20) == [wanted.digest]
    assert not is_right(carrier, wanted)
    carrier.distrust(wanted)
    world.put(right)
    before = world.carried()
    assert begin(world, carrier, wanted).result(timeout=20) == [wanted.digest]
    assert is_right(carrier, wanted)
    assert world.carried() - before < LOST


def test_metadata_that_do_not_come_to_their_end_are_told(
    world: World, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though there always comes something."""
    monkeypatch.setattr("apps.content_sync.carry.METADATA_WITHIN", 2.0)
    world.set(POOR)
    (world.repository / "metadata").mkdir(exist_ok=True)
    (world.repository / "metadata/1.news.json").write_bytes(RANDOM.randbytes(6 * MEGABYTE))

    def look() -> None:
        with Line(world.account(), world.folder) as line:
            carrier.fetch_metadata(line, ["1.news.json"])

    with pytest.raises(LinkError, match="crawls"):
        world.aircraft.start(look).result(timeout=30)
    assert list((carrier.staging / "metadata").iterdir()) == []


def test_an_object_that_crawls_is_told(
    world: World, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.content_sync.carry.CRAWLS_AFTER", 2.0)
    monkeypatch.setattr("apps.content_sync.carry.SLOWEST", 5 * MEGABYTE)
    world.set(Order(rate=2e6, delay=0.005))
    wanted = world.put(RANDOM.randbytes(4 * MEGABYTE))
    with pytest.raises(StalledError, match="crawls"):
        begin(world, carrier, wanted).result(timeout=40)


def test_an_object_over_which_the_hangars_disk_hangs_is_told(
    world: World, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is not taken for a poor link."""
    monkeypatch.setattr("apps.content_sync.carry.STALLED_AFTER", 3)
    wanted = world.put(RANDOM.randbytes(MEGABYTE))
    with (
        hung_disk((world.repository / wanted.path).parent),
        pytest.raises(StalledError, match="timeout"),
    ):
        begin(world, carrier, wanted).result(timeout=40)


def test_no_more_bandwidth_than_configured(world: World, carrier: Carrier) -> None:
    world.set(Order(rate=100e6, delay=0.005))
    wanted = world.put(RANDOM.randbytes(MEGABYTE))

    def timed() -> tuple[int, float]:
        with Line(world.account(2_000_000), world.folder) as line:
            before, began = world.carried(), time.monotonic()
            assert carrier.fetch(line, [wanted]) == [wanted.digest]
            return world.carried() - before, time.monotonic() - began

    carried, seconds = world.aircraft.start(timed).result(timeout=40)
    assert carried * 8 / seconds <= 2_000_000


def test_a_hangar_that_sends_more_than_there_is_room_for_is_stopped(world: World) -> None:
    """Each file may be as large as the largest, so their sum says nothing."""
    world.set(Order(rate=8e6, delay=0.02))
    staging = world.folder / "bounded"
    wanted = world.put(RANDOM.randbytes(6 * MEGABYTE))

    def free() -> int:
        files = (path for path in staging.rglob("*") if path.is_file())
        return max(0, 2 * MEGABYTE - sum(path.stat().st_size for path in files))

    carrier = Carrier(staging, free=free)
    with pytest.raises(DiskFullError, match="takes the room of others"):
        begin(world, carrier, wanted).result(timeout=40)
    assert 2 * MEGABYTE <= carrier.has(wanted) < 5 * MEGABYTE


def test_a_full_disk_is_told_and_what_came_is_kept(world: World, carrier: Carrier) -> None:
    wanted = world.put(RANDOM.randbytes(3 * MEGABYTE))
    with small_disk(carrier.staging / "incoming", "2M") as disk:
        with pytest.raises(DiskFullError, match="No space left on device"):
            begin(world, carrier, wanted).result(timeout=20)
        assert carrier.has(wanted) > 1_500_000
        subprocess.run(["mount", "-o", "remount,size=8M", disk], check=True, timeout=10)
        before = world.carried()
        run = begin(world, carrier, wanted)
        # Its name is on another file system here, so it cannot get it.
        with pytest.raises(OSError, match="cross-device"):
            run.result(timeout=20)
        assert world.carried() - before < 1.1 * (wanted.length - 1_500_000)
