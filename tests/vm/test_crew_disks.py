"""A crew disk in the built image, from its port to what is in force: good ones, and all others."""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from apps.common.content import METADATA, DiskView, Progress
from apps.common.testing import wait_until
from apps.content_sync.store import CHUNK
from apps.publish import disk
from apps.usb_lockdown.tests import images
from apps.usb_lockdown.tests.test_fuzzed_disks import damage
from bench.site import NETWORKS
from image.vm.machine import Machine
from image.vm.vm import VM
from tests.content.helpers import Ground
from tests.vm.conftest import (
    Provisioned,
    StartVm,
    content_state,
    copy,
    sha256,
    wait_for_content_sync,
)

FRONT = "1"
FILM = random.Random(1).randbytes(1 << 20) * 96  # noqa: S311
RATE = 2 << 20
"""Bytes a second of a disk whose import is disturbed: on a fast machine, too, it takes a while."""

PAPER = b"the newspaper of today"
CUTS = 3
YANKS = 50
DAMAGED = 10
"""Disks of each kind of file system."""

SEED = os.environ.get("IFE_SEED") or str(random.getrandbits(32))
LOADED_WITHIN = 300.0
"""Seconds, on an emulated machine, of which SHA-256 takes most."""

CURRENT = "/var/lib/ife/content/current"

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """A publisher with a newspaper."""
    ground = Ground(tmp_path_factory.mktemp("ground"))
    ground.begin()
    ground.publish("news", "today", {"today.pdf": PAPER})
    return ground


@pytest.fixture(scope="module")
def flying(new_vm_of_module: StartVm, provisioned: Provisioned, ground: Ground) -> VM:
    """An aircraft that believes this publisher, and has its newspaper from a disk."""
    vm = new_vm_of_module(Machine(provisioned.disk, networks=NETWORKS, direct=True))
    boot(vm)
    copy(vm, ground.folder / "root.json", "/etc/ife/content-root.json")
    vm.run("systemctl restart ife-content_sync.service && sync")
    wait_for_content_sync(vm)
    image = image_of(ground, ground.folder / "first.img")
    name = vm.plug_disk(image, FRONT)
    wait_for_version(vm, ground.repository.version)
    assert digest(vm, "news/today.pdf") == sha256(PAPER)
    vm.unplug(name)
    return vm


def boot(vm: VM) -> None:
    vm.boot()
    vm.wait_for_ssh()
    wait_for_content_sync(vm)


def image_of(ground: Ground, path: Path) -> Path:
    disk.to_image(ground.repository, path)
    return path


def wait_for_version(vm: VM, version: int) -> None:
    def there() -> bool:
        current = content_state(vm).current
        return current is not None and (current.version, current.missing) == (version, 0)

    wait_until(there, f"set {version} is in force", LOADED_WITHIN)


def digest(vm: VM, name: str) -> str | None:
    """The SHA-256 of what is in force under that name."""
    told = vm.run(f"sha256sum {CURRENT}/{name}", timeout=120, check=False).stdout
    return told.split()[0] if told else None


def in_force(vm: VM) -> str:
    """All that is, with its digests."""
    return vm.run(
        f"cd {CURRENT}/ && find . -type f -exec sha256sum {{}} + | sort", timeout=120
    ).stdout


def loading(vm: VM) -> Progress | None:
    """How far an import is that has begun to copy, and is not through."""
    progress = content_state(vm).progress
    return progress if progress and 0 < progress.bytes_done < progress.bytes else None


def wait_for_loading(vm: VM) -> Progress:
    """Until one is under way; how far it is."""
    found: list[Progress | None] = [None]

    def is_under_way() -> bool:
        found[0] = loading(vm)
        return found[0] is not None

    wait_until(is_under_way, "it is being loaded", LOADED_WITHIN)
    assert found[0] is not None
    return found[0]


def film(number: int) -> bytes:
    """As long as `FILM`, and another."""
    return number.to_bytes(4, "big") + FILM[4:]


def test_the_power_is_cut_while_a_disk_is_loaded(
    flying: VM, ground: Ground, tmp_path: Path
) -> None:
    print(f"IFE_SEED={SEED}")
    rng = random.Random(SEED)  # noqa: S311
    ground.publish("films", "film", {"film.mp4": FILM})
    image = image_of(ground, tmp_path / "disk.img")
    for _ in range(CUTS):
        flying.plug_disk(image, FRONT, rate=RATE)
        wait_for_loading(flying)
        time.sleep(rng.uniform(0, 3))
        flying.run("sync")
        flying.cut_power()
        boot(flying)
        assert digest(flying, "films/film.mp4") is None, "the power is cut while it is copied"
        assert digest(flying, "news/today.pdf") == sha256(PAPER)
    name = flying.plug_disk(image, FRONT, rate=RATE)
    assert wait_for_loading(flying).bytes < len(FILM), "it goes on with what is on board"
    wait_for_version(flying, ground.repository.version)
    assert digest(flying, "films/film.mp4") == sha256(FILM)
    flying.unplug(name)


@pytest.mark.timeout(7200)
def test_a_disk_is_pulled_out_while_it_is_loaded(
    flying: VM, ground: Ground, tmp_path: Path
) -> None:
    """What is in force is what was signed, and each byte is copied once."""
    print(f"IFE_SEED={SEED}")
    rng = random.Random(SEED)  # noqa: S311
    image, left, number = tmp_path / "disk.img", 0, 0

    def is_in_force() -> bool:
        return digest(flying, f"films/{number}.mp4") is not None

    for _ in range(YANKS):
        if not number or is_in_force():
            number += 1
            ground.publish("films", "film", {f"{number}.mp4": film(number)})
            image_of(ground, image)
            left = len(FILM)
        name = flying.plug_disk(image, FRONT, rate=RATE)
        wait_until(
            lambda: loading(flying) is not None or is_in_force(), "it is loaded", LOADED_WITHIN
        )
        time.sleep(rng.uniform(0, 1))
        seen = loading(flying)
        flying.unplug(name)
        if seen is not None:
            # What was copied before may still have been on its way to the disk.
            assert seen.bytes <= left + 8 * CHUNK
            left = seen.bytes - seen.bytes_done
        wait_until(lambda: content_state(flying).disks == (), "it is out", LOADED_WITHIN)
        assert digest(flying, f"films/{number}.mp4") in {None, sha256(film(number))}
        assert digest(flying, "news/today.pdf") == sha256(PAPER)
    print(f"{number} films")
    name = flying.plug_disk(image, FRONT)
    wait_for_version(flying, ground.repository.version)
    assert digest(flying, f"films/{number}.mp4") == sha256(film(number))
    flying.unplug(name)


def test_a_disk_with_a_bad_spot(flying: VM, ground: Ground, tmp_path: Path) -> None:
    """All but the file that lies there comes, and the crew are told."""
    spoilt, whole = os.urandom(4 << 20), os.urandom(5 << 20)
    ground.add("films", "spoilt", {"spoilt.mp4": spoilt})
    ground.publish("films", "whole", {"whole.mp4": whole})
    image = image_of(ground, tmp_path / "disk.img")
    spot = image.read_bytes().index(spoilt[2 << 20 : (2 << 20) + 4096])
    name = flying.plug_disk(image, FRONT, bad_spot=spot)
    wait_until(
        lambda: [one.state for one in content_state(flying).disks] == ["failed"],
        "it is told",
        LOADED_WITHIN,
    )
    assert "1 files are damaged and 0 missing" in content_state(flying).disks[0].says
    objects = flying.run("find /var/lib/ife/content/objects -type f", timeout=120).stdout
    assert sha256(whole) in objects
    assert sha256(spoilt) not in objects
    flying.unplug(name)
    name = flying.plug_disk(image, FRONT)
    wait_for_version(flying, ground.repository.version)
    assert digest(flying, "films/spoilt.mp4") == sha256(spoilt)
    flying.unplug(name)


# -- disks that are not to be believed ----------------------------------------------------------

Make = Callable[[Ground, Path], Path]
"""Makes such a disk, at a path."""


def _of_another_airline(ground: Ground, image: Path) -> Path:
    other = Ground(image.with_suffix(".other"))
    other.repository.begin("OTH")
    other.publish("news", "today", {"today.pdf": b"lies"})
    other.repository.expire("timestamp", 20)
    return image_of(other, image)


def _not_signed(ground: Ground, image: Path) -> Path:
    """The newest word is there, but nobody's name is under it."""
    timestamp = ground.published / METADATA / "timestamp.json"
    text = json.loads(timestamp.read_bytes())
    return _with(ground, image, timestamp, json.dumps(text | {"signatures": []}).encode())


def _changed(ground: Ground, image: Path, path: Path) -> Path:
    """One byte is another."""
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1
    return _with(ground, image, path, bytes(changed))


def _with(ground: Ground, image: Path, path: Path, data: bytes) -> Path:
    """With other bytes in a file of what is published."""
    whole = path.read_bytes()
    path.write_bytes(data)
    try:
        return image_of(ground, image)
    finally:
        path.write_bytes(whole)


def _changed_film(ground: Ground, image: Path) -> Path:
    ground.publish("films", "other", {"other.mp4": os.urandom(1 << 20)})
    return _changed(ground, image, ground.object("films/other.mp4"))


def _changed_catalogue(ground: Ground, image: Path) -> Path:
    ground.publish("news", "more", {"more.pdf": os.urandom(1000)})
    return _changed(ground, image, ground.object("news/catalogue.json"))


def _changed_metadata(ground: Ground, image: Path) -> Path:
    ground.publish("news", "more", {"more.pdf": os.urandom(1000)})
    timestamp = ground.published / METADATA / "timestamp.json"
    later = re.sub(rb'("expires":\s*"2)0', rb"\g<1>1", timestamp.read_bytes())
    return _with(ground, image, timestamp, later)


def _expired(ground: Ground, image: Path) -> Path:
    """Before it was signed: so a clock that nobody told the time knows, too."""
    ground.publish("news", "more", {"more.pdf": os.urandom(1000)})
    ground.repository.expire("timestamp", -1)
    image_of(ground, image)
    ground.repository.expire("timestamp", 20)
    return image


@pytest.mark.parametrize(
    ("make", "then"),
    [
        (_of_another_airline, "refused"),
        (_not_signed, "refused"),
        (_changed_metadata, "refused"),
        (_changed_catalogue, "refused"),
        (_expired, "refused"),
        (_changed_film, "failed"),
    ],
)
def test_nothing_bad_is_in_force(
    flying: VM, ground: Ground, tmp_path: Path, make: Make, then: str
) -> None:
    before = in_force(flying)
    name = flying.plug_disk(make(ground, tmp_path / "disk.img"), FRONT)
    wait_until(
        lambda: [one.state for one in content_state(flying).disks] == [then],
        f"it is {then}",
        LOADED_WITHIN,
    )
    print(content_state(flying).disks[0].says)
    assert_all_was_signed(flying, ground)
    if then == "refused":
        assert in_force(flying) == before
    flying.unplug(name)
    wait_until(lambda: content_state(flying).disks == (), "it is out", LOADED_WITHIN)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", images.KINDS)
def test_of_a_damaged_disk_only_what_was_signed_is_in_force(
    flying: VM, ground: Ground, tmp_path: Path, kind: str
) -> None:
    """Each is newer than what is in force: but for the damage it would be believed."""
    print(f"IFE_SEED={SEED}")
    settled = {"done", "refused", "failed"}
    for number in range(DAMAGED):
        rng = random.Random(f"{SEED} {kind} {number}")  # noqa: S311
        ground.publish("news", "today", {"today.pdf": PAPER, "noise.pdf": rng.randbytes(1 << 20)})
        folder = tmp_path / "disk"
        disk.to_folder(ground.repository, folder, lambda *_: None)
        tree = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and path.stat().st_size < 2 << 20
        }
        image = images.make(tmp_path / "disk.img", kind, tree, 24)
        damaged = bytearray(image.read_bytes())
        damage(damaged, rng)
        image.write_bytes(damaged)
        name = flying.plug_disk(image, FRONT)
        found: list[DiskView] = []

        def is_settled(found: list[DiskView] = found) -> bool:
            found[:] = content_state(flying).disks
            return [one.state in settled for one in found] == [True]

        wait_until(is_settled, "it is dealt with", LOADED_WITHIN)
        print(number, found[0].state, found[0].says)
        assert_all_was_signed(flying, ground)
        flying.unplug(name)
        wait_until(lambda: content_state(flying).disks == (), "it is out", LOADED_WITHIN)


def assert_all_was_signed(flying: VM, ground: Ground) -> None:
    """What is in force, with what the ground has published since ever."""
    signed = {path.name for path in ground.published.glob("objects/*/*")}
    lines = in_force(flying).splitlines()
    assert {line.split()[0] for line in lines if "slot.json" not in line} <= signed


def test_an_older_disk_changes_nothing(flying: VM, ground: Ground, tmp_path: Path) -> None:
    older = image_of(ground, tmp_path / "older.img")
    ground.publish("news", "today", {"today.pdf": b"the newspaper of tomorrow"})
    name = flying.plug_disk(image_of(ground, tmp_path / "newer.img"), FRONT)
    wait_for_version(flying, ground.repository.version)
    flying.unplug(name)
    before = in_force(flying)
    name = flying.plug_disk(older, FRONT)
    wait_until(
        lambda: [one.state for one in content_state(flying).disks] == ["refused"],
        "it is refused",
        LOADED_WITHIN,
    )
    assert in_force(flying) == before
    flying.unplug(name)
