"""Damaged file systems: a reader may refuse or die, but not hang, grow or serve anything else.

``IFE_SEED`` in the environment has other disks damaged, or those of a failure again.
"""

from __future__ import annotations

import http.client
import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from apps.usb_lockdown.tests import images
from apps.usb_lockdown.tests.reading import Reading

SEED = int(os.environ.get("IFE_SEED", "1"))
MEMORY = 192 << 20
"""What the unit may take."""

DEADLINE = 20.0
"""Seconds for all that is asked of one disk; a good one takes 0.1."""

SECTOR = 512
TREE = images.content(*(bytes([n]) * (3000 * n) for n in range(12)))


def damage(disk: bytearray, rng: random.Random) -> None:
    """Change some bytes of what is not empty, most often where the file system keeps itself."""
    used = [at for at in range(0, len(disk), SECTOR) if any(disk[at : at + SECTOR])]
    begin = used[: max(1, len(used) // 4)]
    for _ in range(rng.choice((1, 2, 8, 64, 512))):
        sector = rng.choice(begin if rng.random() < 0.7 else used)
        at = sector + rng.randrange(SECTOR)
        kind = rng.randrange(4)
        if kind == 0:
            disk[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            disk[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            size = rng.choice((2, 4, 8))
            value = rng.choice((0, 1, 1 << (8 * size - 1), (1 << 8 * size) - 1))
            disk[at : at + size] = value.to_bytes(size, "little")[: len(disk) - at]
        else:  # another place of the same file system
            other = rng.choice(used)
            disk[sector : sector + SECTOR] = disk[other : other + SECTOR]


def ask(image: Path, at: Path, seen: Counter[str]) -> None:
    """Ask for all that was on a disk."""
    begun = time.monotonic()
    with Reading(image, at) as reading:
        seen[reading.said.get("state", "died at once")] += 1
        for name in TREE if reading.said.get("state") == "ready" else ():
            try:
                status, body = reading.get(name)
            except (OSError, http.client.HTTPException):
                seen["broken off"] += 1
                continue
            seen[str(status)] += 1
            assert status in {200, 404}
            assert len(body) <= image.stat().st_size
        memory = reading.most_memory()
        assert memory < MEMORY
        seen["most memory"] = max(seen["most memory"], memory)
    assert time.monotonic() - begun < DEADLINE


def run(folder: Path, count: int) -> Counter[str]:
    """Damage `count` disks of all kinds, and ask for what was on them."""
    good = {
        kind: images.make(folder / f"{kind}.img", kind, TREE, 4 + 4 * (kind != "ext4")).read_bytes()
        for kind in images.KINDS
    }
    seen: Counter[str] = Counter()
    for number in range(count):
        kind = images.KINDS[number % len(images.KINDS)]
        disk = bytearray(good[kind])
        damage(disk, random.Random(f"{SEED} {number}"))  # noqa: S311
        image = folder / f"IFE_SEED={SEED}-{number}.img"
        image.write_bytes(disk)
        ask(image, folder / "disk.sock", seen)
        image.unlink()
    return seen


@pytest.mark.timeout(120)
def test_damaged_disks(tmp_path: Path) -> None:
    seen = run(tmp_path, 18)
    assert seen["200"], seen


@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_hundred_damaged_disks(tmp_path: Path) -> None:
    seen = run(tmp_path, 200)
    print(seen)
    assert seen["200"], seen
    assert seen["unreadable"], seen
