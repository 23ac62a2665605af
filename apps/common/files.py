"""Files that are there whole or not at all, also after a power cut; and whose turn it is."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

LOCK_POLL = 0.02


def write_whole(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write a file aside, sync and rename it; on return it is on the disk.

    Without `sync` a power cut may bring the former one back, and this returns at once.

    Raises:
        OSError: the disk refuses; what was there before is still.
    """
    aside = path.with_name(f".{path.name}.new")
    with aside.open("wb") as file:
        file.write(data)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    if sync:
        put_in_place(aside, path)
    else:
        aside.replace(path)


def put_in_place(aside: Path, path: Path) -> None:
    """Give a file that was written and synced its name.

    Raises:
        OSError: the disk refuses.
    """
    aside.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have a file or a folder on the disk, of a folder the names in it.

    Raises:
        OSError: the disk refuses.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def point(link: Path, target: str) -> None:
    """Make a symbolic link, or have one point elsewhere, in one step; on return it is on the disk.

    Raises:
        OSError: the disk refuses; it points where it did.
    """
    aside = link.with_name(f".{link.name}.new")
    aside.unlink(missing_ok=True)
    aside.symlink_to(target)
    put_in_place(aside, link)


def take_lock(fd: int, within: float) -> bool:
    """Lock an open file; False: somebody else has held it for `within` seconds.

    The lock goes when the file is closed, so with the process, however it ends.
    """
    deadline = time.monotonic() + within
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOCK_POLL)
        else:
            return True
