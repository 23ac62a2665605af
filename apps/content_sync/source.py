"""Where content comes from: a repository (apps/common/content.py) that somebody else has.

Nothing that a source gives is believed: it may lie, stop, trickle, never end. Here it is bounded;
what it is worth, `trust` and `importer` find out.
"""

from __future__ import annotations

import errno
import http.client
import io
import os
import socket
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, cast

from apps.common.content import METADATA, TIMESTAMP, is_metadata_path, is_object_path

SLOW_AFTER = 30.0
SLOWEST = 32 * 1024
"""After so many seconds of waiting for a source, it must have given so many bytes for each."""

PER_FILE = 16 * 1024
"""Bytes that a file counts for besides its own: to look many small ones up takes its time."""

BUFFER = 64 * 1024

MAX_HEAD = 4 * BUFFER
"""Bytes that may come before an answer's head is over, with what is buffered of its body."""


class SourceError(Exception):
    """A source did not give what it was asked for; the message is for people."""


class NotThereError(SourceError):
    """It does not have that file, or none that is a file."""


class GoneError(SourceError):
    """It went away, or broke: a disk that was pulled, a link that is down. Try again later."""


class TooSlowError(SourceError):
    """It gives hardly anything, or nothing, for a long time."""


class Reader(Protocol):
    """The bytes of one file."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill `buffer` from its start; how many bytes there were, 0 at the end.

        Raises:
            GoneError: the source went away.
            TooSlowError: it is as good as that.
        """
        ...


class Source(ABC):
    """A repository to read. Used by one thread.

    Attributes:
        name: for people: ``disk front``.
        ours: the folder of the repository where that is ours: whole files on the store's own file
            system, which nobody writes to. They are linked on board, not copied.
    """

    name: str
    ours: Path | None = None

    def read(self, path: str, max_bytes: int) -> bytes:
        """A whole file; of a longer one, `max_bytes` and one more.

        Raises:
            SourceError: it cannot be had.
        """
        with self.open(path, 0) as reader:
            return read_some(reader, max_bytes + 1)

    def is_there(self) -> bool:
        """Whether it can still be read, where one file could not be."""
        try:
            self.read(f"{METADATA}/{TIMESTAMP}", 1)
        except SourceError:
            return False
        return True

    @abstractmethod
    @contextmanager
    def open(self, path: str, offset: int) -> Iterator[Reader]:
        """A file, from a byte on.

        Raises:
            SourceError: it cannot be had.
        """

    def close(self) -> None:  # noqa: B027 - a folder has nothing to let go of
        """Let go of it."""


class Pace:
    """Watches that a file comes along. Only the time that is spent waiting for it counts."""

    def __init__(self, slow_after: float = SLOW_AFTER, slowest: float = SLOWEST) -> None:
        self._slow_after = slow_after
        self._slowest = slowest
        self._waited = 0.0
        self._bytes = 0

    def left(self) -> float:
        """Seconds that the next bytes may take."""
        return max(0.001, self._slow_after - self._waited)

    def count(self, waited: float, count: int) -> None:
        """`count` bytes came after `waited` seconds.

        Raises:
            TooSlowError: they should have been more.
        """
        self._waited += waited
        self._bytes += count
        if self._waited >= self._slow_after:
            if self._bytes < self._slowest * self._waited:
                raise TooSlowError(
                    f"{self._bytes} bytes in {self._waited:.0f} s: it hardly gives anything"
                )
            self._waited, self._bytes = 0.0, 0


def _check(path: str) -> None:
    if not is_metadata_path(path) and not is_object_path(path):
        raise NotThereError(f"{path} is no file of a repository")


# -- a folder ---------------------------------------------------------------------------------

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Not following links, and not waiting for the other end of a pipe."""


class FolderSource(Source):
    """A repository in a folder. Links in it are not followed, and only plain files are read.

    Args:
        folder: which has `metadata` and `objects`.
        name: for people.
        ours: see `Source`.
    """

    def __init__(self, folder: Path, name: str, *, ours: bool = False) -> None:
        self.name = name
        self._folder = folder
        self.ours = folder if ours else None

    @contextmanager
    def open(self, path: str, offset: int) -> Iterator[Reader]:
        """See `Source.open`."""
        _check(path)
        try:
            file = self._open(path.split("/"))
        except OSError as error:
            raise _of_the_system(path, error) from error
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise NotThereError(f"{path} is not a plain file")
            os.lseek(file, offset, os.SEEK_SET)
            yield _FileReader(file, path)
        finally:
            os.close(file)

    def _open(self, parts: list[str]) -> int:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parts[:-1]:
                inner = os.open(part, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            return os.open(parts[-1], _FILE, dir_fd=folder)
        finally:
            os.close(folder)


class _FileReader:
    def __init__(self, file: int, path: str) -> None:
        self._file = file
        self._path = path
        self._pace = Pace()

    def readinto(self, buffer: memoryview, /) -> int:
        """See `Reader`."""
        began = time.monotonic()
        try:
            count = os.readv(self._file, [buffer])
        except OSError as error:
            raise _of_the_system(self._path, error) from error
        self._pace.count(time.monotonic() - began, count)
        return count


def _of_the_system(path: str, error: OSError) -> SourceError:
    if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EACCES}:
        return NotThereError(f"{path}: {error.strerror}")
    return GoneError(f"{path}: {error.strerror}")


# -- a disk's reader behind a Unix socket -----------------------------------------------------


class SocketSource(Source):
    """A repository behind a Unix socket, as the reader of a crew disk serves it: GET, with Range.

    Args:
        path: of the socket.
        name: for people.
        slow_after, slowest: see `Pace`.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        *,
        slow_after: float = SLOW_AFTER,
        slowest: float = SLOWEST,
    ) -> None:
        self.name = name
        self._path = path
        # One for all files: what dawdles over each of many is as bad.
        self._pace = Pace(slow_after, slowest)
        self._connection: _Connection | None = None

    @contextmanager
    def open(self, path: str, offset: int) -> Iterator[Reader]:
        """See `Source.open`."""
        _check(path)
        response = self._ask(path, offset)
        try:
            yield _AnswerReader(response, path)
        finally:
            # One that was not read to its end is in the way of the next; so is one that broke off.
            if not response.isclosed() or response.will_close or response.length:
                self.close()

    def _ask(self, path: str, offset: int) -> http.client.HTTPResponse:
        if self._connection is None:
            self._connection = _Connection(self._path, self._pace)
        self._connection.head_left = MAX_HEAD
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            self._connection.request("GET", f"/{path}", headers=headers)
            response = self._connection.getresponse()
        except SourceError:
            self.close()
            raise
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise GoneError(f"{path}: {error or type(error).__name__}") from error
        self._connection.head_left = None
        wanted = f"bytes {offset}-" if offset else ""
        if response.status == (206 if offset else 200) and (
            response.getheader("Content-Range", "").startswith(wanted)
            # Ours tells the length, without which an answer may go on for ever.
            and response.length is not None
        ):
            self._pace.count(0.0, PER_FILE)
            return response
        self.close()
        if response.status in {404, 403, 416}:
            raise NotThereError(f"{path}: it answers {response.status}")
        raise GoneError(f"{path}: it answers {response.status}")

    def close(self) -> None:
        """See `Source.close`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _AnswerReader:
    def __init__(self, response: http.client.HTTPResponse, path: str) -> None:
        self._response = response
        self._path = path

    def readinto(self, buffer: memoryview, /) -> int:
        """See `Reader`."""
        try:
            count = self._response.readinto(buffer)
        except (OSError, http.client.HTTPException) as error:
            raise GoneError(f"{self._path}: {error or type(error).__name__}") from error
        if not count and self._response.length:
            raise GoneError(f"{self._path}: it broke off")
        return count


class _Connection(http.client.HTTPConnection):
    """`head_left` is how many more bytes may come before an answer's head is over."""

    def __init__(self, path: Path, pace: Pace) -> None:
        super().__init__("localhost")
        self._path = path
        self.pace = pace
        self.head_left: int | None = None

    def connect(self) -> None:
        """Connect, or leave nothing behind."""
        sock = _PacedSocket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(self.pace.left())
            sock.connect(str(self._path))
        except OSError:
            sock.close()
            raise
        sock.connection = self
        self.sock = sock


class _PacedSocket(socket.socket):
    connection: _Connection

    def makefile(self, *_: object, **__: object) -> io.BufferedReader:  # type: ignore[override]
        """What http.client reads an answer from."""
        return io.BufferedReader(_PacedFile(self), BUFFER)


class _PacedFile(io.RawIOBase):
    """Reads a socket at a pace, from the first byte of the answer's head on."""

    def __init__(self, sock: _PacedSocket) -> None:
        super().__init__()
        # Of its own: http.client closes the other as soon as an answer says that it is the last.
        self._sock = sock.dup()
        self._connection = sock.connection
        self._pace = sock.connection.pace

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: object, /) -> int:
        """What has come."""
        while True:
            began = time.monotonic()
            self._sock.settimeout(self._pace.left())
            try:
                count = self._sock.recv_into(cast("memoryview", buffer))
            except TimeoutError:
                # Whether that is too slow is for the pace to say.
                self._pace.count(time.monotonic() - began, 0)
                continue
            self._pace.count(time.monotonic() - began, count)
            if self._connection.head_left is not None:
                self._connection.head_left -= count
                if self._connection.head_left < 0:
                    raise GoneError("it answers, and answers, and gives nothing")
            return count

    def close(self) -> None:
        """Close it."""
        super().close()
        self._sock.close()


# -- reading ----------------------------------------------------------------------------------


def read_some(reader: Reader, limit: int) -> bytes:
    """At most `limit` bytes.

    Raises:
        SourceError: as the reader does.
    """
    found = bytearray()
    chunk = memoryview(bytearray(min(limit, BUFFER) or 1))
    while len(found) < limit:
        count = reader.readinto(chunk[: limit - len(found)])
        if not count:
            break
        found += chunk[:count]
    return bytes(found)
