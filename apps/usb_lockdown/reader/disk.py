"""The files of a crew disk, read by The Sleuth Kit in this process: ext4, exFAT or FAT.

Nothing is mounted. Whatever the disk has on it can at worst end this process: by a crash, by the
memory that it may take (`main` bounds it), or by the time (`Patience`).
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from types import TracebackType

import pytsk3

NAMES = re.compile(
    r"metadata/[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|objects/([0-9a-f]{2})/\1[0-9a-f]{62}"
)
"""All that is read of a disk: the metadata of TUF, and targets by their SHA-256."""

MAX_METADATA = 8 << 20
"""Bytes. What is below `objects` may be as large as the disk."""

MAX_PARTITIONS = 16

PATIENCE = 60.0
"""Seconds for one look into a file system, or one read of `CHUNK` bytes: a disk that is that slow,
or makes the library run in circles, is given up."""

LOOK_BYTES = 256 << 20
"""What may be read of a disk to find one file."""

CHUNK = 1 << 20

_SECTOR = 512
_FILE_SYSTEMS = (pytsk3.TSK_FS_TYPE_EXT_DETECT, pytsk3.TSK_FS_TYPE_FAT_DETECT)
_PARTITION_TABLES = (pytsk3.TSK_VS_TYPE_GPT, pytsk3.TSK_VS_TYPE_DOS)


class UnreadableError(Exception):
    """There is no content on the disk; the message says why, for people."""


class NotThereError(Exception):
    """There is no such file, or none that is read; the message says which."""


class Patience:
    """A block that one thread at a time is in, for a bounded time: then the process is killed.

    Nothing gentler ends a loop in a library. SIGALRM is left as it is for that (signal(7)).
    """

    def __init__(self, seconds: float = PATIENCE) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()
        signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._lock.release()


class _Image(pytsk3.Img_Info):  # type: ignore[misc]  # it has no types
    """The disk for the library, which reads by these methods alone."""

    def __init__(self, file: int, size: int) -> None:
        self._file = file
        self._size = size
        self.left: int | None = None
        self.has_failed = False
        super().__init__(url="")

    def get_size(self) -> int:
        """Bytes of the whole disk."""
        return self._size

    def read(self, offset: int, count: int) -> bytes:
        """As pread(2); nothing when that fails, or a look has none of its bytes left.

        The library takes what is too short for an error, and an exception for one of its own.
        """
        if self.left is not None:
            self.left -= count
            if self.left < 0:
                return b""
        count = min(count, max(0, self._size - offset))
        try:
            data = os.pread(self._file, count, offset)
        except OSError as error:
            print(f"the disk cannot be read at {offset}:", error, file=sys.stderr)
            data = b""
        self.has_failed |= len(data) < count
        return data

    def check_is_there(self) -> None:
        """See, once a read has failed, whether that is a bad spot, or the whole disk.

        Raises:
            OSError: it is gone.
        """
        if not self.has_failed:
            return
        os.posix_fadvise(self._file, 0, _SECTOR, os.POSIX_FADV_DONTNEED)
        if not os.pread(self._file, _SECTOR, 0):
            raise OSError("the disk is gone")
        self.has_failed = False

    def close(self) -> None:
        """Nothing: the file is not ours."""


class DiskFile:
    """An open file of a disk.

    Attributes:
        size: its bytes.
    """

    def __init__(self, file: pytsk3.File, disk: CrewDisk) -> None:
        self._file = file
        self._disk = disk
        self.size = int(file.info.meta.size)

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from there.

        Raises:
            OSError: the disk is gone, or damaged there.
        """
        with self._disk.patience:
            data = self._file.read_random(offset, min(count, CHUNK, self.size - offset))
        if not data:
            raise OSError("the file ends too early")
        return bytes(data)


class CrewDisk:
    """A disk's content. May be used by several threads.

    Args:
        file: the disk, open for reading.
        size: its bytes.

    Raises:
        UnreadableError: there is no file system on it that is read, or no content in that.
    """

    def __init__(self, file: int, size: int) -> None:
        self.patience = Patience()
        self._size = size
        with self.patience:
            self._image = _Image(file, size)
            self._image.left = LOOK_BYTES
            self._files = self._find()
            self._image.left = None

    def open(self, name: str) -> DiskFile:
        """A file by its name, ``metadata/1.root.json``.

        Raises:
            NotThereError: there is none, or it is not a plain file, larger than can be, damaged.
            OSError: the disk is gone.
        """
        if not NAMES.fullmatch(name):
            raise NotThereError("such names are not read of a disk")
        with self.patience:
            # What the library remembers would be there without a disk, too.
            self._image.check_is_there()
            self._image.left = LOOK_BYTES
            try:
                file = self._files.open(f"/{name}")
            except OSError as error:
                if self._image.has_failed:
                    self._image.check_is_there()
                    raise NotThereError("the disk cannot be read there") from error
                if "path not found" in str(error):
                    raise NotThereError("there is no such file") from error
                raise NotThereError("the file system is damaged there") from error
            finally:
                self._image.left = None
        meta = file.info.meta
        if (
            meta is None
            or meta.type != pytsk3.TSK_FS_META_TYPE_REG
            or not int(meta.flags) & int(pytsk3.TSK_FS_META_FLAG_ALLOC)
            or not int(file.info.name.flags) & int(pytsk3.TSK_FS_NAME_FLAG_ALLOC)
        ):
            raise NotThereError("it is not a plain file")
        limit = MAX_METADATA if name.startswith("metadata/") else self._size
        if not 0 <= meta.size <= limit:
            raise NotThereError(f"it says that it has {meta.size} bytes, which is too many")
        return DiskFile(file, self)

    def _find(self) -> pytsk3.FS_Info:
        """The file system with the content: on the whole disk, or in a partition."""
        found = False
        for offset in (0, *self._partitions()):
            for kind in _FILE_SYSTEMS:
                try:
                    files = pytsk3.FS_Info(self._image, offset=offset, type=kind)
                except OSError:
                    continue
                found = True
                try:
                    files.open_dir("/metadata")
                except OSError:
                    continue
                return files
        if found:
            raise UnreadableError("there is no content on it: it has no folder metadata")
        raise UnreadableError("it has no file system that is read here: ext4, exFAT or FAT")

    def _partitions(self) -> list[int]:
        """Where they begin, in bytes."""
        for kind in _PARTITION_TABLES:
            try:
                table = pytsk3.Volume_Info(self._image, type=kind)
                parts = [part for part in table if part.flags == pytsk3.TSK_VS_PART_FLAG_ALLOC]
            except OSError:
                continue
            starts = [int(part.start) * _SECTOR for part in parts[:MAX_PARTITIONS]]
            return [start for start in starts if 0 < start < self._size]
        return []
