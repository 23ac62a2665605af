"""Disks for tests: images of file systems with files on them, made without mounting anything."""

from __future__ import annotations

import hashlib
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

Tree = Mapping[str, bytes]
"""Contents by path, ``metadata/1.root.json``."""

KINDS = ("ext4", "fat", "exfat")


def make(image: Path, kind: str, tree: Tree, mib: int = 8) -> Path:
    """Make an image of a file system with a tree of files.

    Args:
        image: where.
        kind: one of `KINDS`.
        tree: the files.
        mib: its size; FAT has 32 bits from 64 on, 16 below.
    """
    with image.open("wb") as file:
        file.truncate(mib << 20)
    {"ext4": _ext4, "fat": _fat, "exfat": _exfat}[kind](image, tree)
    return image


def content(*objects: bytes) -> dict[str, bytes]:
    """A tree as a crew disk has it, with these targets."""
    named = {hashlib.sha256(data).hexdigest(): data for data in objects}
    return {
        "metadata/1.root.json": b'{"signed": 1}\n',
        "metadata/timestamp.json": b'{"signed": 2}\n',
    } | {f"objects/{name[:2]}/{name}": data for name, data in named.items()}


def write_tree(folder: Path, tree: Tree) -> None:
    """The tree as files in a folder."""
    for name, data in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def run(*argv: str | Path, given: str | None = None) -> None:
    """Run a command; its output is shown if it fails."""
    done = subprocess.run(
        argv, input=given, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _ext4(image: Path, tree: Tree) -> None:
    folder = image.with_suffix(".tree")
    write_tree(folder, tree)
    run("mkfs.ext4", "-q", "-d", folder, image)


def _fat(image: Path, tree: Tree) -> None:
    bits = "32" if image.stat().st_size >= 64 << 20 else "16"
    run("mkfs.vfat", "-s", "1", "-F", bits, image)
    folder = image.with_suffix(".tree")
    write_tree(folder, tree)
    run("mcopy", "-s", "-i", image, *sorted(folder.iterdir()), "::/")


# -- exFAT: Microsoft's "exFAT file system specification", sect. 3, 6 and 7 ---------------------


def _exfat(image: Path, tree: Tree) -> None:
    """Fill what mkfs.exfat has made; fsck.exfat says whether that is right."""
    run("mkfs.exfat", "-c", "4096", image)
    disk = bytearray(image.read_bytes())
    _Exfat(disk).fill(tree)
    image.write_bytes(disk)
    run("fsck.exfat", "-n", image)


class _Exfat:
    def __init__(self, disk: bytearray) -> None:
        self._disk = disk
        self._heap = int(struct.unpack_from("<I", disk, 88)[0]) << disk[108]
        self._cluster = 1 << (disk[108] + disk[109])
        self._root = int(struct.unpack_from("<I", disk, 96)[0])
        at = self._at(self._root)
        entries = [bytes(disk[at + 32 * n : at + 32 * n + 32]) for n in range(8)]
        self._old = [entry for entry in entries if entry[0]]
        bitmap = next(entry for entry in self._old if entry[0] == 0x81)
        self._bitmap = self._at(struct.unpack_from("<I", bitmap, 20)[0])
        self._next = self._root + 1

    def fill(self, tree: Tree) -> None:
        nested: dict[str, dict[str, bytes]] = {}
        entries = b"".join(self._old)
        for path, data in tree.items():
            folder, _, name = path.partition("/")
            nested.setdefault(folder, {})[name] = data
        for folder, inside in nested.items():
            entries += self._folder(folder, inside)
        assert len(entries) <= self._cluster
        at = self._at(self._root)
        self._disk[at : at + len(entries)] = entries

    def _folder(self, name: str, tree: Tree) -> bytes:
        entries = bytearray()
        deeper: dict[str, dict[str, bytes]] = {}
        for path, data in tree.items():
            first, slash, rest = path.partition("/")
            if slash:
                deeper.setdefault(first, {})[rest] = data
            else:
                entries += self._entry(first, 0x20, data)
        for first, inside in deeper.items():
            entries += self._folder(first, inside)
        size = -(-len(entries) // self._cluster) * self._cluster
        return self._entry(name, 0x10, bytes(entries.ljust(size, b"\0")))

    def _entry(self, name: str, attributes: int, data: bytes) -> bytes:
        """The entries of a file whose clusters follow each other."""
        first = self._store(data)
        letters = name.encode("utf-16-le")
        count = -(-len(letters) // 30)
        # 2025-01-01, three times.
        dates = struct.pack("<III", *(0x5A210000,) * 3)
        entry = struct.pack("<BBHHH12s12s", 0x85, count + 1, 0, attributes, 0, dates, b"")
        hashed = _checksum(name.upper().encode("utf-16-le"))
        stream = (0xC0, 3 if data else 1, 0, len(name), hashed, 0, len(data), 0, first, len(data))
        entry += struct.pack("<BBBBHHQIIQ", *stream)
        for at in range(0, len(letters), 30):
            entry += b"\xc1\0" + letters[at : at + 30].ljust(30, b"\0")
        total = _checksum(entry[:2] + entry[4:])
        return entry[:2] + struct.pack("<H", total) + entry[4:]

    def _store(self, data: bytes) -> int:
        if not data:
            return 0
        first = self._next
        for cluster in range(first, first + -(-len(data) // self._cluster)):
            self._disk[self._bitmap + (cluster - 2) // 8] |= 1 << (cluster - 2) % 8
            self._next = cluster + 1
        at = self._at(first)
        assert at + len(data) <= len(self._disk)
        self._disk[at : at + len(data)] = data
        return first

    def _at(self, cluster: int) -> int:
        return self._heap + (cluster - 2) * self._cluster


def _checksum(data: bytes) -> int:
    total = 0
    for byte in data:
        total = ((total << 15 | total >> 1) + byte) & 0xFFFF
    return total
