"""Brings files of the Hangar's repository into the staging folder: rsync over SSH, driven by `sh`.

The staging folder lies beside the store, and only this app writes to it::

    metadata/ objects/   a repository (apps/common/content.py); its objects have their whole length
    incoming/            what rsync writes to: objects, as much as there is of each
    partial/             as much of an object as came before the last cut, where it is made of
                         something, or the wrong bytes that came in its place
    basis/               what rsync makes an object of: its partial, then its former version

Of an object without a former version rsync appends what is missing (``--append``): nothing is sent
or read twice. One with a former version is made of that (``--compare-dest``), and after a cut of
both, so neither what came nor what was there already is sent again. All of it is checked by its
digest when it is taken on board, and what is wrong then is the basis of the next try.

Whatever the Hangar does, it can write no other files than it was asked for, and no more bytes of
each than the largest of them should have.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import re
import shlex
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self

import sh

from apps.common.content import MAX_KIND, METADATA, OBJECTS, object_path
from apps.common.files import put_in_place
from apps.common.lifeline import die_with
from apps.content_sync.pace import BODY_SHARE

log = logging.getLogger(__name__)
# It tells of every command that it starts.
logging.getLogger("sh").setLevel(logging.WARNING)

CONNECT_TIMEOUT = 15
ALIVE_EVERY, ALIVE_TRIES = 5, 3
"""Seconds: for a connection to come up, and the silence after which one is dead."""

METADATA_WITHIN = 300.0
"""Seconds for a round of metadata, all of it less than a newspaper: a Hangar that gives a byte now
and then must not take up the whole stop without a word."""

STALLED_AFTER = 60
"""Seconds without a byte after which rsync gives up: a poor link stands still for some."""

CRAWLS_AFTER = 300.0
SLOWEST = 1024
"""After so many seconds of a run of objects, and again after as many, so many bytes a second must
have come. It takes rsync minutes to look through a large former version, here and there."""

LOOK_EVERY = 0.5
STOP_WITHIN = 10
"""Seconds between two looks at what has come, and that rsync has to end in when told to."""

PAGE = 4096
PAGED_UP_TO = 256 * 1024 * 1024
"""The length of rsync's blocks for objects up to that size: a page of SQLite, which maps are. What
has changed is found more finely than by rsync's own choice (the square root of the length)."""

COMPRESSED_UP_TO = 16 * 1024 * 1024
"""Bytes of a new object that is compressed on its way. A longer one is a film, and is already:
zstd would only cost the Hangar's processor, and hold back what comes just before a cut."""

COMPRESS = ("--compress", "--compress-choice=zstd")


class CarryError(Exception):
    """It did not come; the message is for people."""


class LinkError(CarryError):
    """The link is away, or too poor. What came is kept; try again."""


class StalledError(LinkError):
    """The line is there, and the Hangar gives nothing over it, or hardly anything."""


class StoppedError(CarryError):
    """It was told to stop. What came is kept."""


class RefusedError(CarryError):
    """The Hangar refuses, or is not the one that it should be."""


class DiskFullError(CarryError):
    """There is no room left."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where the Hangar is, and how it knows us.

    `key` is the aircraft's private key, `known_hosts` has the Hangar's under the name ``hangar``.
    `bandwidth` is in bits a second, None: all that there is.
    """

    host: IPv4Address
    port: int
    user: str
    key: Path
    known_hosts: Path
    interface: str
    bandwidth: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object to bring: its SHA-256, its length, and what it may be made of."""

    digest: str
    length: int
    former: Path | None = None

    @property
    def path(self) -> str:
        """In a repository."""
        return object_path(self.digest)


class Line:
    """A connection to the Hangar, over which many runs of rsync go; a context manager.

    Args:
        account: whose.
        folder: for its socket, of a short path.

    Raises:
        CarryError: on entering, there is none.
    """

    def __init__(self, account: Account, folder: Path) -> None:
        self._account = account
        self._socket = folder / "line"
        self._said: deque[str] = deque(maxlen=20)
        self._up = threading.Event()
        self._is_cut = False
        self._master: sh.RunningCommand | None = None

    @property
    def bandwidth(self) -> int | None:
        """Bits a second that it may take."""
        return self._account.bandwidth

    @property
    def is_up(self) -> bool:
        """Whether it is there, as far as anybody knows."""
        return self._master is not None and self._master.process.is_alive()[0]

    @property
    def remote_shell(self) -> str:
        """For rsync: over this connection, or not at all."""
        return shlex.join(
            ["ssh", "-F", "none", "-S", str(self._socket), "-o", "ProxyCommand=false"]
        )

    @property
    def target(self) -> str:
        """The account at the Hangar, for rsync. The name is that of the pinned key."""
        return f"{self._account.user}@hangar"

    def __enter__(self) -> Self:
        self._socket.unlink(missing_ok=True)
        account = self._account
        options = {
            "BatchMode": "yes",
            "LogLevel": "ERROR",
            "BindInterface": account.interface,
            "ConnectTimeout": CONNECT_TIMEOUT,
            "ServerAliveInterval": ALIVE_EVERY,
            "ServerAliveCountMax": ALIVE_TRIES,
            "TCPKeepAlive": "no",
            "Hostname": account.host,
            "HostKeyAlias": "hangar",
            "HostKeyAlgorithms": "ssh-ed25519",
            "UserKnownHostsFile": account.known_hosts,
            "GlobalKnownHostsFile": "none",
            "StrictHostKeyChecking": "yes",
            "UpdateHostKeys": "no",
            "PreferredAuthentications": "publickey",
            "IdentityAgent": "none",
            "IdentitiesOnly": "yes",
            "IdentityFile": account.key,
            "Ciphers": "aes128-gcm@openssh.com,chacha20-poly1305@openssh.com",
            "Compression": "no",
            "ControlMaster": "yes",
            "ControlPath": self._socket,
            "ControlPersist": "no",
            # Run once it takes others.
            "PermitLocalCommand": "yes",
            "LocalCommand": "echo up",
        }
        words = [f"-o{name}={value}" for name, value in options.items()]
        self._master = _run(
            ["ssh", "-F", "none", "-N", *words, "-p", str(account.port), self.target],
            said=self._said,
            done=self._up,
            out=self._up,
        )
        if self._is_cut:
            self.cut()
        # ConnectTimeout is for each of the two: TCP, and what SSH says first.
        if not self._up.wait(3 * CONNECT_TIMEOUT) or not self.is_up:
            self.__exit__()
            raise _of_ssh(list(self._said))
        return self

    def __exit__(self, *_: object) -> None:
        if self._master is not None:
            _end(self._master)
            self._master = None
        self._socket.unlink(missing_ok=True)

    def cut(self) -> None:
        """End it at once, also while it is made: nothing more is to come over it."""
        self._is_cut = True
        master = self._master
        if master is not None:
            with contextlib.suppress(ProcessLookupError):
                master.signal_group(signal.SIGKILL)


class Carrier:
    """Brings files over a `Line`. Used by one thread, but for `stop`, `size` and `clear`.

    Args:
        staging: the folder, see above.
        progress: called each `LOOK_EVERY` s while objects come, by the same thread.
        free: bytes of the disk that may be filled; without it all that are free.
    """

    def __init__(
        self,
        staging: Path,
        progress: Callable[[], None] = lambda: None,
        free: Callable[[], int] | None = None,
    ) -> None:
        self.staging = staging
        self._free = free or (lambda: shutil.disk_usage(staging).free)
        self._incoming = staging / "incoming"
        self._partial = staging / "partial"
        self._basis = staging / "basis"
        self._progress = progress
        self._stop = threading.Event()
        self._line: Line | None = None
        self._under_way: set[str] = set()
        """Paths of what is being fetched."""
        self._woken = threading.Event()
        self._in_use = threading.Lock()
        """Held while there is a line."""
        for folder in (METADATA, OBJECTS, "incoming", "partial", "basis"):
            (staging / folder).mkdir(parents=True, exist_ok=True)
        for path in (*staging.glob(f"{METADATA}/*"), *staging.glob(f"**/{OBJECTS}/*/*")):
            _no_folder(path)

    def stop(self) -> None:
        """Have what runs end with a `StoppedError`, from another thread."""
        self._stop.set()
        self._woken.set()
        if line := self._line:
            line.cut()

    def go_on(self) -> None:
        """Forget a `stop`."""
        self._stop.clear()

    @contextlib.contextmanager
    def connected(self, account: Account, runtime: Path) -> Iterator[Line]:
        """A line to the Hangar during the block; `stop` ends it, also while it is made.

        Raises:
            CarryError: it cannot be made.
        """
        line = self._line = Line(account, runtime)
        with self._in_use, contextlib.ExitStack() as stack:
            if self._stop.is_set():
                raise StoppedError("stopped")
            try:
                stack.enter_context(line)
            except CarryError as error:
                if not self._stop.is_set():
                    raise
                raise StoppedError("stopped") from error
            yield line

    # -- metadata ---------------------------------------------------------------------------

    def fetch_metadata(self, line: Line, names: Sequence[str]) -> None:
        """Bring these files of `metadata/`; one that the Hangar does not have is no error.

        Raises:
            CarryError: they did not come.
        """
        paths = [f"{METADATA}/{name}" for name in names]
        options = [*COMPRESS, "--ignore-missing-args"]
        self._rsync(line, paths, self.staging, options, MAX_KIND, METADATA_WITHIN, math.inf)

    # -- objects ----------------------------------------------------------------------------

    def has(self, wanted: Wanted) -> int:
        """How many of its first bytes are here; what a former version has of it is not counted."""
        return max(
            _length(self.staging / wanted.path),
            _length(self._incoming / wanted.path),
            _length(self._partial / wanted.path),
        )

    def room(self, wanted: Wanted) -> int:
        """Bytes of the disk that it takes until it is there: what has a basis is written anew."""
        if self.is_delta(wanted) and wanted.path not in self._under_way:
            return wanted.length
        return max(0, wanted.length - _length(self._incoming / wanted.path))

    def start_over(self, wanted: Wanted) -> None:
        """Forget what has come of it, which takes room that all of it needs."""
        for folder in (self._incoming, self._partial, self._basis):
            (folder / wanted.path).unlink(missing_ok=True)

    def is_whole(self, wanted: Wanted) -> bool:
        """Whether all of it is in `objects`."""
        return (self.staging / wanted.path).exists()

    def seed(self, wanted: Wanted, file: Path) -> None:
        """Link an object that may be on board already, so that it need not come.

        Not if it has decayed there: the Hangar would be taken for who has it wrong.
        """
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            with file.open("rb") as opened:
                if hashlib.file_digest(opened, "sha256").hexdigest() != wanted.digest:
                    log.error("an object is damaged", extra={"object": wanted.digest})
                    return
            (self.staging / wanted.path).parent.mkdir(exist_ok=True)
            os.link(file, self.staging / wanted.path)

    def drop(self, wanted: Wanted) -> None:
        """It is on board: it is not needed here any more."""
        (self.staging / wanted.path).unlink(missing_ok=True)

    def is_delta(self, wanted: Wanted) -> bool:
        """Whether it is made of something that is here, and so cannot be in a run with others."""
        return wanted.former is not None or (self._partial / wanted.path).exists()

    def fetch(self, line: Line, batch: Sequence[Wanted]) -> list[str]:
        """Bring these objects, all with a basis or all without.

        Returns:
            The digests of those that are in `objects/` now. What the Hangar does not have, or
            does not have in that length, is missing.

        Raises:
            CarryError: the others did not come yet; these are in `objects/` all the same.
        """
        is_delta = self.is_delta(batch[0])
        largest = max(wanted.length for wanted in batch)
        if is_delta:
            options = [*COMPRESS, "--inplace", f"--compare-dest={self._basis}"]
            if largest <= PAGED_UP_TO:
                options.append(f"--block-size={PAGE}")
            for wanted in batch:
                self._make_basis(wanted)
        else:
            options = ["--append", *(COMPRESS if largest <= COMPRESSED_UP_TO else ())]
        for wanted in batch:
            if is_delta or _length(self._incoming / wanted.path) > wanted.length:
                (self._incoming / wanted.path).unlink(missing_ok=True)
        paths = [wanted.path for wanted in batch]
        self._under_way = set(paths)
        try:
            least = CRAWLS_AFTER * SLOWEST
            self._rsync(line, paths, self._incoming, options, largest, CRAWLS_AFTER, least)
        finally:
            self._under_way = set()
            whole = [wanted.digest for wanted in batch if self._adopt(wanted)]
        return whole

    def distrust(self, wanted: Wanted) -> None:
        """Its bytes are not those of its digest: keep it only to be made right."""
        _move(self.staging / wanted.path, self._partial / wanted.path)

    def forget_but(self, wanted: Iterable[Wanted]) -> None:
        """Remove what is here of objects other than these, which nobody wants any more."""
        keep = {one.path for one in wanted}
        for folder in (self.staging, self._incoming, self._partial, self._basis):
            for file in (folder / OBJECTS).glob("*/*"):
                if str(file.relative_to(folder)) not in keep:
                    file.unlink(missing_ok=True)

    def size(self) -> int:
        """Bytes that `clear` would make free; what has another name is on board as well."""
        with self._without_line() as is_idle:
            files = self.staging.glob(f"**/{OBJECTS}/*/*") if is_idle else ()
            found = [path.stat() for path in files]
        return sum(status.st_size for status in found if status.st_nlink == 1)

    def clear(self) -> None:
        """Forget what has come of objects, whole or half, unless there is a line."""
        with self._without_line() as is_idle:
            if is_idle:
                self.forget_but([])

    @contextlib.contextmanager
    def _without_line(self) -> Iterator[bool]:
        """Whether there is none; then none is made during the block."""
        is_idle = self._in_use.acquire(blocking=False)
        try:
            yield is_idle
        finally:
            if is_idle:
                self._in_use.release()

    def _make_basis(self, wanted: Wanted) -> None:
        incoming, partial = self._incoming / wanted.path, self._partial / wanted.path
        basis = self._basis / wanted.path
        if _length(incoming) > _length(partial):
            basis.unlink(missing_ok=True)
            _move(incoming, partial)
        elif basis.exists():
            return
        sources = [source for source in (partial, wanted.former) if source and source.exists()]
        copied = sum(_length(source) for source in sources)
        if len(sources) > 1 and self._free() < copied + wanted.length:
            # The one that saves more has to do.
            sources = [max(sources, key=_length)]
        basis.parent.mkdir(parents=True, exist_ok=True)
        aside = basis.with_suffix(".new")
        aside.unlink(missing_ok=True)
        if len(sources) == 1:
            # rsync only reads it.
            with contextlib.suppress(FileNotFoundError):
                os.link(sources[0], aside)
        else:
            with _room(), aside.open("wb") as file:
                for source in sources:
                    _append(source, file.fileno())
        aside.replace(basis)

    def _adopt(self, wanted: Wanted) -> bool:
        """Give an object that has come whole its name."""
        incoming, named = self._incoming / wanted.path, self.staging / wanted.path
        if named.exists():
            return True
        if _length(incoming) != wanted.length or not incoming.exists():
            return False
        named.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(incoming, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)
        put_in_place(incoming, named)
        for folder in (self._partial, self._basis):
            (folder / wanted.path).unlink(missing_ok=True)
        return True

    # -- rsync ------------------------------------------------------------------------------

    def _rsync(
        self,
        line: Line,
        paths: Sequence[str],
        into: Path,
        options: Sequence[str],
        largest: int,
        within: float,
        least: float,
    ) -> None:
        """Bring files by their exact names; none can become larger than `largest`.

        Raises:
            CarryError: they did not come, or fewer than `least` bytes `within` so many seconds.
        """
        # Where there is none already, what little is said of a set has to come all the same.
        has_room = self._free() > 0
        bandwidth = line.bandwidth
        if bandwidth is not None:
            options = [*options, f"--bwlimit={max(1, int(bandwidth * BODY_SHARE / 8 / 1024))}"]
        said: deque[str] = deque(maxlen=20)
        self._woken.clear()
        if self._stop.is_set():
            raise StoppedError("stopped")
        process = _run(
            [
                *("prlimit", f"--fsize={largest}"),
                *("rsync", f"--rsh={line.remote_shell}", "--files-from=-", "--from0"),
                *("--no-implied-dirs", "--ignore-times", f"--timeout={STALLED_AFTER}"),
                # Whatever the Hangar's files are: what cannot be read here could never be mended.
                *(f"--max-size={largest}", "--chmod=Fu+rw", *options),
                *(f"{line.target}:", str(into)),
            ],
            said=said,
            done=self._woken,
            text="\0".join(paths),
        )
        floor = _Floor([into / path for path in paths], within, least)
        trouble: CarryError | None = None
        try:
            while line.is_up and not trouble and not self._woken.wait(LOOK_EVERY):
                self._progress()
                trouble = self._too_much(has_room) or floor.too_little()
        finally:
            if self._stop.is_set():
                # Before rsync, which takes a moment to end: a link may be back by then, and what
                # still came would be for nobody.
                line.cut()
            code = _end(process)
            for path in paths:
                _no_folder(into / path)
        if self._stop.is_set():
            raise StoppedError("stopped")
        if trouble:
            raise trouble
        if not line.is_up:
            raise LinkError("the line is gone")
        if code not in (0, *_SOME_ARE_MISSING):
            raise _of_rsync(code, list(said))

    def _too_much(self, has_room: bool) -> CarryError | None:
        """Why a run may not go on."""
        # `largest` is for each file, so a Hangar that lies may send far more in all.
        if has_room and self._free() == 0:
            return DiskFullError("what comes takes the room of others")
        return None


class _Floor:
    """Watches that of some files `least` bytes come `within` so many seconds, and again within."""

    def __init__(self, files: Sequence[Path], within: float, least: float) -> None:
        self._files = files
        self._within = within
        self._least = least
        self._ends = time.monotonic() + within
        self._before = sum(map(_length, files))

    def too_little(self) -> CarryError | None:
        """Why a run may not go on."""
        if time.monotonic() <= self._ends:
            return None
        there = sum(map(_length, self._files))
        if there - self._before < self._least:
            return StalledError(
                "what is new does not come to its end: the line or the Hangar crawls"
            )
        self._ends, self._before = time.monotonic() + self._within, there
        return None


_SOME_ARE_MISSING = (23, 24)
"""rsync(1): of some files the Hangar has nothing, or could not read it; the rest came."""

_FILE_IO, _TOO_LARGE, _TIMEOUT, _PROTOCOL = 11, -25, 30, frozenset({2, 4, 5, 13, 14})
"""rsync(1); SIGXFSZ, of setrlimit(2)."""


def _of_rsync(code: int, said: list[str]) -> CarryError:
    why = _first(said) or f"rsync ended with {code}"
    if any("No space left" in line or "Disk quota exceeded" in line for line in said):
        return DiskFullError(why)
    if code == _TOO_LARGE or any("File too large" in line for line in said):
        return RefusedError("the Hangar sends more than it should")
    if code == _TIMEOUT:
        return StalledError(why)
    return RefusedError(why) if code in {*_PROTOCOL, _FILE_IO} else LinkError(why)


def _of_ssh(said: list[str]) -> CarryError:
    for line in said:
        if re.search("Host key verification failed|Permission denied|no matching", line):
            return RefusedError(line.strip())
    return LinkError(_first(said) or "no answer")


def _first(said: list[str]) -> str:
    """The line that tells most: the first that is no consequence of another."""
    lines = [" ".join(line.split()) for line in said if line.strip()]
    return next((line for line in lines if "rsync error" not in line), "")


def _run(
    command: Sequence[str],
    *,
    said: deque[str],
    done: threading.Event,
    out: threading.Event | None = None,
    text: str = "",
) -> sh.RunningCommand:
    """Start a command. It ends when we do, also by `kill -9` (prctl(2), PR_SET_PDEATHSIG).

    Args:
        command: the program and its arguments.
        said: gets the lines of its standard error.
        done: is set when it has ended.
        out: is set at the first line of its standard output.
        text: for its standard input.
    """
    return sh.Command(command[0])(
        *command[1:],
        _bg=True,
        _bg_exc=False,
        _new_group=True,
        # Not by setpriv(1): that sets capabilities, too, which the unit does not let it.
        _preexec_fn=partial(die_with, os.getpid(), signal.SIGTERM),
        _return_cmd=True,
        _in=text,
        _out=(lambda _: out.set()) if out else None,
        _err=lambda line: said.append(line),
        _done=lambda *_: done.set(),
        # ssh runs a local command by it, and ours may be one that lets nobody in.
        _env=dict(os.environ) | {"SHELL": "/bin/sh"},
    )


def _end(process: sh.RunningCommand) -> int:
    """End it if it has not ended, and all that it has started; its exit code."""
    for end in (signal.SIGTERM, signal.SIGKILL):
        if process.process.is_alive()[0]:
            with contextlib.suppress(ProcessLookupError):
                process.signal_group(end)
        try:
            # Also where it has ended: until all that it has said is there.
            process.wait(timeout=STOP_WITHIN)
        except sh.TimeoutException:
            continue
        except sh.ErrorReturnCode:
            pass
        break
    return int(process.process.exit_code or 0)


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _no_folder(path: Path) -> None:
    """Rsync makes one where the Hangar has one; it would be in the way of the file."""
    if path.is_dir():
        shutil.rmtree(path)


def _move(source: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    source.replace(to)


def _append(source: Path, out: int) -> None:
    """Copy a file to the end of another, inside of the kernel."""
    with source.open("rb") as file:
        while os.copy_file_range(file.fileno(), out, 1 << 30):
            pass


@contextlib.contextmanager
def _room() -> Iterator[None]:
    """What goes wrong in here, does so for want of room."""
    try:
        yield
    except OSError as error:
        raise DiskFullError(str(error)) from error
