"""A crew disk: a repository with its newest set alone, in a folder or as an ext4 file system."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

from apps.common.content import METADATA, OBJECTS, object_path
from apps.common.files import sync, write_whole
from apps.publish.repository import CHUNK, PublishError, Repository

LABEL = "IFE-CONTENT"
MKFS_TIMEOUT = 4 * 3600
"""Seconds; a slow stick takes an hour for each 30 GB."""

ROOM = 64 * 1024 * 1024
"""Bytes of an image beside its files, and a hundredth of them."""

Tell = Callable[[int, int], None]
"""Called with the bytes that are done, and those that there are."""


def to_folder(repository: Repository, folder: Path, tell: Tell) -> tuple[int, int]:
    """Put the newest set into a folder: that of a stick that is mounted. Metadata comes last.

    It is the set that is the newest at the beginning, whoever signs meanwhile. A stick that is used
    again takes what is new only. Nobody knows where it has been, so what is there already is read
    again, and no link on it is ever followed.

    Returns:
        the set, and the bytes of its objects.

    Raises:
        PublishError: there is no room, an object is damaged, or somebody else is at work.
        OSError: it cannot be written, or an object was pruned meanwhile.
    """
    with repository.alone():
        version = repository.version
        files = {file.digest: file.length for file in repository.files().values()}
        metadata = {path.name: path.read_bytes() for path in repository.metadata()}
    folder.mkdir(parents=True, exist_ok=True)
    for name in (OBJECTS, METADATA):
        _make_folder(folder / name)
    done, total = 0, sum(files.values())
    new = {}
    for digest, size in files.items():
        path = folder / object_path(digest)
        _make_folder(path.parent)
        if _is_right(path, digest, size):
            done += size
            tell(done, total)
        else:
            _remove(path)
            new[digest] = size
    _clear(folder / OBJECTS, lambda path: path.name.startswith("."))
    kept = {folder / object_path(digest) for digest in files}
    needed = sum(new.values())
    if needed > shutil.disk_usage(folder).free:
        # Else the former set is whole until this one is.
        _clear(folder / OBJECTS, lambda path: path not in kept)
    room = shutil.disk_usage(folder).free
    if needed > room:
        raise PublishError(f"{folder} lacks room: {needed:,} bytes are to come, {room:,} are free")
    for digest, size in new.items():
        _copy(repository.published / object_path(digest), folder / object_path(digest), digest)
        done += size
        tell(done, total)
    target = folder / METADATA
    for path in target.iterdir():
        if path.is_symlink() or path.name not in metadata:
            _remove(path)
    for name in sorted(metadata, key=lambda one: one == "timestamp.json"):
        write_whole(target / name, metadata[name])
    _clear(folder / OBJECTS, lambda path: path not in kept)
    return version, total


def to_image(repository: Repository, image: Path) -> tuple[int, int]:
    """Make an ext4 file system with the newest set: in a file, or on a whole stick (``/dev/sdX``).

    It is the set that is the newest at the beginning, whoever signs or prunes meanwhile.

    Returns:
        the set, and the bytes of its objects.

    Raises:
        PublishError: mkfs.ext4 fails, or somebody else is at work.
        OSError: it cannot be written.
    """
    with repository.stage() as stage:
        (stage / METADATA).mkdir()
        with repository.alone():
            version = repository.version
            files = {file.digest: file.length for file in repository.files().values()}
            for digest in files:
                path = stage / object_path(digest)
                path.parent.mkdir(parents=True, exist_ok=True)
                os.link(repository.published / object_path(digest), path)
            for path in repository.metadata():
                os.link(path, stage / METADATA / path.name)
        total = sum(files.values())
        stage.chmod(0o755)
        command = ["mkfs.ext4", "-q", "-F", "-m", "0", "-L", LABEL, "-O", "^has_journal"]
        command += ["-E", "root_owner=0:0", "-d", str(stage), str(image)]
        if not image.is_block_device():
            # A block each for file and inode, beside what they are in.
            size = total + total // 100 + ROOM + 2 * 4096 * len(files)
            command += ["-N", str(2 * len(files) + 1024), f"{size // 1024 + 1}k"]
            image.unlink(missing_ok=True)
        try:
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=MKFS_TIMEOUT
            )
        except FileNotFoundError as error:
            raise PublishError("mkfs.ext4 is not there: install e2fsprogs") from error
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = getattr(error, "stderr", "") or error
            raise PublishError(f"mkfs.ext4: {said}") from error
    sync(image)
    return version, total


def _make_folder(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        _remove(path)
        path.mkdir()


def _clear(objects: Path, is_old: Callable[[Path], bool]) -> None:
    """Remove of a stick's objects those that are old; what is cut off may have left some, too."""
    for shelf in objects.iterdir():
        if shelf.is_symlink() or not shelf.is_dir():
            _remove(shelf)
            continue
        for path in shelf.iterdir():
            if is_old(path):
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_right(path: Path, digest: str, size: int) -> bool:
    """Whether an object is there, and what it should be."""
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest
    except OSError:
        return False  # it is not there, or cannot be read: it is made anew


def _copy(source: Path, target: Path, digest: str) -> None:
    aside = target.with_name(f".{target.name}.new")
    _remove(aside)
    hashed = hashlib.sha256()
    with source.open("rb") as reader, aside.open("xb") as writer:
        while chunk := reader.read(CHUNK):
            hashed.update(chunk)
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    if hashed.hexdigest() != digest:
        aside.unlink()
        raise PublishError(f"{source} is damaged: add the entry that it belongs to again")
    aside.replace(target)
