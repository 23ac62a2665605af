"""A crew disk: a repository with its newest set alone, in a folder or as an ext4 file system."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from apps.common.content import METADATA, object_path
from apps.common.files import sync
from apps.publish.repository import CHUNK, PublishError, Repository

LABEL = "IFE-CONTENT"
MKFS_TIMEOUT = 4 * 3600
"""Seconds; a slow stick takes an hour for each 30 GB."""

ROOM = 64 * 1024 * 1024
"""Bytes of an image beside its files, and a hundredth of them."""

Tell = Callable[[int, int], None]
"""Called with the bytes that are done, and those that there are."""


def to_folder(repository: Repository, folder: Path, tell: Tell) -> int:
    """Put the newest set into a folder: that of a stick that is mounted. Metadata comes last.

    What is there already is left as it is, so a stick that is used again takes what is new only.

    Returns:
        the bytes of its objects.

    Raises:
        PublishError: there is no room, or an object is damaged.
        OSError: it cannot be written.
    """
    files = {file.digest: file.length for file in repository.files().values()}
    folder.mkdir(parents=True, exist_ok=True)
    needed = sum(size for digest, size in files.items() if not _has(folder, digest, size))
    room = shutil.disk_usage(folder).free
    if needed > room:
        raise PublishError(f"{folder} lacks room: {needed:,} bytes are to come, {room:,} are free")
    done, total = 0, sum(files.values())
    for digest, size in files.items():
        if not _has(folder, digest, size):
            path = folder / object_path(digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            _copy(repository.published / object_path(digest), path, digest)
        done += size
        tell(done, total)
    target = folder / METADATA
    target.mkdir(exist_ok=True)
    wanted = repository.metadata()
    for path in target.iterdir():
        if path.name not in {one.name for one in wanted}:
            path.unlink()
    for path in sorted(wanted, key=lambda one: one.name == "timestamp.json"):
        shutil.copyfile(path, target / path.name)
        sync(target / path.name)
    sync(target)
    return total


def to_image(repository: Repository, image: Path) -> int:
    """Make an ext4 file system with the newest set: in a file, or on a whole stick (``/dev/sdX``).

    Returns:
        the bytes of its objects.

    Raises:
        PublishError: mkfs.ext4 fails.
        OSError: it cannot be written.
    """
    files = {file.digest: file.length for file in repository.files().values()}
    total = sum(files.values())
    with tempfile.TemporaryDirectory(dir=repository.folder, prefix=".disk-") as name:
        stage = Path(name)
        for digest in files:
            path = stage / object_path(digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(repository.published / object_path(digest), path)
        (stage / METADATA).mkdir()
        for path in repository.metadata():
            os.link(path, stage / METADATA / path.name)
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
    return total


def _has(folder: Path, digest: str, size: int) -> bool:
    path = folder / object_path(digest)
    return path.is_file() and path.stat().st_size == size


def _copy(source: Path, target: Path, digest: str) -> None:
    aside = target.with_name(f".{target.name}.new")
    hashed = hashlib.sha256()
    with source.open("rb") as reader, aside.open("wb") as writer:
        while chunk := reader.read(CHUNK):
            hashed.update(chunk)
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    if hashed.hexdigest() != digest:
        aside.unlink()
        raise PublishError(f"{source} is damaged: add the entry that it belongs to again")
    aside.replace(target)
