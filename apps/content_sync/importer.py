"""Brings what a source offers on board: each byte is read once, checked while it is copied.

An import may be cut off at any byte. What has come stays in `partial`, and the next import, from
whatever source, goes on behind it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from apps.common.content import (
    CATALOGUE,
    KINDS,
    Entry,
    Kind,
    Progress,
    SetFile,
    object_path,
    target_name,
)
from apps.content_sync.source import FolderSource, GoneError, NotThereError, Source
from apps.content_sync.store import CHUNK, TUF, Store, StoreError, size_of
from apps.content_sync.trust import TRUSTED, Offer, OfferedKind, RefusedError, Trust

log = logging.getLogger(__name__)

BUFFERS = 4
FLUSH_EVERY = 32 * 1024 * 1024
"""Bytes after which the disk is told to begin writing: at the end there is little to wait for."""

BATCH = 200
BATCH_BYTES = 64 * 1024 * 1024
"""So many checked files, or bytes of them, wait for the disk together."""

TELL_EVERY = 0.25
RATE_OVER = 10.0
"""Seconds: between two words on the progress, and of which the rate is told."""

AHEAD: tuple[Kind, ...] = ("news",)
"""Kinds that are put in force as soon as they are whole, while the rest is still coming."""

WHOLE: tuple[Kind, ...] = ("configuration", "firmware")
"""Kinds that are never put in force entry by entry: parts of two versions may not fit together."""


class Halves(Protocol):
    """What came half by another way: room, where somebody has all of it (`carry.Carrier`)."""

    def size(self) -> int:
        """Bytes that `clear` would make free."""

    def clear(self) -> None:
        """Remove it, unless it is just coming."""


class WrongBytesError(Exception):
    """A source gave other bytes for a file than those that were signed."""


@dataclass(frozen=True)
class Outcome:
    """What an import has come to.

    Attributes:
        version: of the set that was offered.
        in_force: whether anything of it was put in force by this import.
        copied: bytes.
        missing: files of the set that are not on board yet.
        wrong: digests of which the source has other bytes, or bytes that cannot be read.
        absent: digests that it does not have.
        older: whether the source is older than that set, of which it could only help with files.
    """

    version: int
    in_force: bool = False
    copied: int = 0
    missing: int = 0
    wrong: tuple[str, ...] = field(default=(), repr=False)
    absent: tuple[str, ...] = field(default=(), repr=False)
    older: bool = False


@dataclass
class _Wanted:
    """One file to fetch, what it is for people, and how many bytes are to come."""

    file: SetFile
    title: str
    left: int


class Importer:
    """Imports, one at a time.

    Args:
        store: where to.
        trust: what is to be believed.
        tell: called with the progress, in the thread of `run`.
        stop: set it, and `run` ends as if the source were gone.
        halves: go where there is no room else.
    """

    def __init__(
        self,
        store: Store,
        trust: Trust,
        tell: Callable[[Progress], None] = lambda _: None,
        stop: threading.Event | None = None,
        halves: Halves | None = None,
    ) -> None:
        self._store = store
        self._trust = trust
        self._tell = tell
        self._stop = stop or threading.Event()
        self._halves = halves

    def run(
        self, source: Source, kinds: Collection[Kind] = KINDS, *, partly: bool = False
    ) -> Outcome:
        """Bring a source's set on board, and put it in force.

        Args:
            source: to import from.
            kinds: only these; the others stay what they are.
            partly: put in force what is whole of them, entry by entry, though files are missing.
                So it is, too, where the source is older than the set that is known: whoever made
                it cannot have put on it what was signed since.

        Raises:
            RefusedError: the source is not to be believed.
            SourceError: it cannot be read, or went away; what has come is kept.
            StoreError: there is no room for some kinds, which stay what they are; the others came.
            OSError: the disk refuses; what has come is kept.
        """
        offer, is_older = self._offer(source)
        if not self._store.wants(offer):
            return Outcome(offer.version)
        kinds = [kind for kind in KINDS if kind in kinds and kind in offer.kinds]
        wanted = {kind: self._wanted(offer.kinds[kind]) for kind in kinds}
        with closing(_Copy(self._store, source, self._tell, self._stop)) as copy:
            needed = copy.plan(wanted.values())
            too_large: list[Kind] = []
            if not source.ours and needed > self._store.free():
                room = self._store.room_for(offer) + (self._halves.size() if self._halves else 0)
                too_large = _too_large(wanted, room)
                kinds = [kind for kind in kinds if kind not in too_large]
                if not any(wanted[kind] for kind in kinds):
                    raise _no_room(too_large, needed, room)
                needed = copy.plan([wanted[kind] for kind in kinds])
                if self._halves and needed > self._store.free():
                    # Before the former set, which is the crew's way back.
                    self._halves.clear()
            self._store.make_room(0 if source.ours else needed, offer)
            in_force = False
            if is_older:
                self._bring_catalogues(offer, kinds)
            for kind in kinds:
                copy.fetch_all(wanted[kind])
                if kind in AHEAD and self._is_new(offer, kind):
                    in_force |= self._put_in_force(offer, [kind], partly=False)
        in_force |= self._put_in_force(offer, kinds, partly=partly or is_older)
        files = offer.files().values()
        self._store.collect({file.digest for file in files})
        if too_large:
            needed = sum(one.left for kind in too_large for one in wanted[kind])
            raise _no_room(too_large, needed, self._store.free())
        return Outcome(
            offer.version,
            in_force=in_force,
            copied=copy.copied,
            missing=len(self._store.missing(files)),
            wrong=tuple(copy.wrong),
            absent=tuple(copy.absent),
            older=is_older,
        )

    def _offer(self, source: Source) -> tuple[Offer, bool]:
        """The set to import: the source's, or (then True) a newer one that can use its files."""
        try:
            return self._trust.look(source), False
        except RefusedError as error:
            known = self._trust.trusted
            if error.slug != "older" or known is None or not self._store.wants(known):
                raise
            if known.expires <= self._trust.reference:
                raise
            log.info("an older source helps a newer set", extra={"set": known.version})
            return known, True

    def _bring_catalogues(self, offer: Offer, kinds: Collection[Kind]) -> None:
        """Those of a known set were kept when it was looked at; an older source has others."""
        kept = FolderSource(self._store.folder / TUF / TRUSTED, "what is trusted")
        with closing(_Copy(self._store, kept, lambda _: None, self._stop)) as copy:
            for kind in kinds:
                catalogue = offer.kinds[kind].files[target_name(kind, CATALOGUE)]
                copy.fetch_all([_Wanted(catalogue, "", catalogue.length)])

    def _is_new(self, offer: Offer, kind: Kind) -> bool:
        current = self._store.current
        return current is None or current.kinds.get(kind) != offer.kinds[kind].version

    def _put_in_force(self, offer: Offer, kinds: Collection[Kind], *, partly: bool) -> bool:
        files = [file for kind in kinds for file in offer.kinds[kind].files.values()]
        if self._store.missing(files):
            kinds = [kind for kind in kinds if partly and self._may_be_partly(offer.kinds[kind])]
            if not kinds:
                return False
        return self._store.put_in_force(offer, kinds)

    def _may_be_partly(self, kind: OfferedKind) -> bool:
        if kind.catalogue.kind in WHOLE and self._store.missing(kind.files.values()):
            return False
        return self._store.adds(kind)

    def _wanted(self, kind: OfferedKind) -> list[_Wanted]:
        """What of a kind is not on board: the catalogue first, then what is small.

        What has come half is last: that may be where the source always breaks off.
        """
        entries = kind.catalogue.names()
        missing = self._store.missing(kind.files.values())
        found: dict[str, _Wanted] = {}
        for name, file in kind.files.items():
            if file.digest in missing and file.digest not in found:
                entry = entries.get(name.partition("/")[2])
                title = _title(entry) if entry else f"the list of {kind.catalogue.kind}"
                found[file.digest] = _Wanted(file, title, missing[file.digest])
        catalogue = kind.files[target_name(kind.catalogue.kind, CATALOGUE)]
        return sorted(
            found.values(),
            key=lambda one: (
                one.file != catalogue,
                one.left < one.file.length,
                one.file.length,
            ),
        )


def _too_large(wanted: Mapping[Kind, list[_Wanted]], room: int) -> list[Kind]:
    """The kinds that have no room any more after those before them."""
    found: list[Kind] = []
    for kind, files in wanted.items():
        left = sum(one.left for one in files)
        if left > room:
            found.append(kind)
        else:
            room -= left
    return found


def _no_room(kinds: Collection[Kind], needed: int, room: int) -> StoreError:
    return StoreError(
        f"there is no room for its {' and '.join(kinds)}: that takes {size_of(needed)}, and "
        f"{size_of(room)} can be had; what else is on it is on board"
    )


def verify(
    store: Store, trust: Trust, tell: Callable[[Progress], None], stop: threading.Event
) -> tuple[str, ...]:
    """Read every object again; what is damaged goes, from the current set too.

    The same set can be imported again then, and brings what has gone.

    Returns:
        the digests of what was damaged.

    Raises:
        GoneError: it was stopped.
        OSError: the disk refuses.
    """
    meter = Meter("verify", "what is on board", tell)
    meter.files, meter.bytes = store.objects()
    found: list[Path] = []
    for path, size, damaged in store.damaged():
        if stop.is_set():
            raise GoneError("the check was stopped")
        meter.files_done += 1
        meter.count(size)
        if damaged:
            log.error("an object is damaged", extra={"object": path.name})
            found.append(path)
    for path in found:
        store.discard(path)
    # Also without any: what was found the last time may have gone just before a power cut.
    store.leave_out_what_is_gone(trust.trusted)
    return tuple(path.name for path in found)


def _title(entry: Entry) -> str:
    return entry.titles.get("en") or next(iter(entry.titles.values()))


class _Copy:
    """Copies files from a source into the store, and tells how it comes along.

    Attributes:
        copied: bytes that the source gave.
        wrong, absent: see `Outcome`.
    """

    def __init__(
        self,
        store: Store,
        source: Source,
        tell: Callable[[Progress], None],
        stop: threading.Event,
    ) -> None:
        self.copied = 0
        self.wrong: list[str] = []
        self.absent: list[str] = []
        self._store = store
        self._source = source
        self._stop = stop
        self._checked: dict[str, int] = {}
        self._pen = _Pen()
        self._meter = Meter("import", source.name, tell)

    def plan(self, kinds: Collection[list[_Wanted]]) -> int:
        """How many bytes there are to copy."""
        every = {one.file.digest: one for kind in kinds for one in kind}.values()
        self._meter.files = len(every)
        self._meter.bytes = sum(one.left for one in every)
        return self._meter.bytes

    def fetch_all(self, wanted: list[_Wanted]) -> None:
        """Fetch files, each unless it is there; what is wrong or absent is noted."""
        try:
            for one in wanted:
                if self._store.has(one.file.digest) or one.file.digest in self._checked:
                    continue
                self._meter.title = one.title
                self._fetch(one.file)
                self._meter.files_done += 1
                if len(self._checked) >= BATCH or sum(self._checked.values()) >= BATCH_BYTES:
                    self._settle()
        finally:
            self._settle()

    def close(self) -> None:
        """End the thread that writes."""
        self._pen.close()

    def _settle(self) -> None:
        checked, self._checked = self._checked, {}
        self._store.put(checked)

    def _fetch(self, file: SetFile) -> None:
        path = object_path(file.digest)
        try:
            if self._source.ours is not None:
                self._take(self._source.ours / path, file)
            else:
                self._copy(path, file)
            self._checked[file.digest] = file.length
        except NotThereError as error:
            log.debug("not there", extra={"source": self._source.name, "error": str(error)})
            self.absent.append(file.digest)
        except WrongBytesError as error:
            log.warning("wrong bytes", extra={"source": self._source.name, "error": str(error)})
            self.wrong.append(file.digest)
        except GoneError as error:
            # Of a disk with a bad spot all the rest is as good as ever.
            if self._stop.is_set() or not self._source.is_there():
                raise
            log.warning("cannot be read", extra={"source": self._source.name, "error": str(error)})
            self.wrong.append(file.digest)

    def _take(self, path: Path, file: SetFile) -> None:
        """Link a file that is ours already, once it was checked."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise NotThereError(f"{path}: {error.strerror}") from error
        with os.fdopen(descriptor, "rb", buffering=0) as reader:
            digest = hashlib.sha256()
            while chunk := reader.read(CHUNK):
                self._go_on(len(chunk))
                digest.update(chunk)
        if digest.hexdigest() != file.digest:
            raise WrongBytesError(f"{path} is not what was signed")
        partial = self._store.partial(file.digest)
        partial.unlink(missing_ok=True)
        os.link(path, partial)

    def _copy(self, path: str, file: SetFile) -> None:
        partial = self._store.partial(file.digest)
        with suppress(FileNotFoundError):
            # A power cut may have come after it was made read-only, and before it got its name.
            partial.chmod(0o640)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(partial, flags, 0o640)
        try:
            there = os.fstat(descriptor).st_size
            if there and not self._copy_rest(descriptor, path, file, min(there, file.length)):
                # What was here may be what a power cut has left of it.
                there = 0
            if not there and not self._copy_rest(descriptor, path, file, 0):
                raise WrongBytesError(f"{path} is not what was signed")
        except WrongBytesError:
            partial.unlink()
            raise
        finally:
            try:
                self._pen.wait()
            finally:
                os.close(descriptor)

    def _copy_rest(self, descriptor: int, path: str, file: SetFile, offset: int) -> bool:
        """Copy from `offset` on; whether the whole file is what it should be then."""
        os.ftruncate(descriptor, offset)
        digest = hashlib.sha256()
        os.lseek(descriptor, 0, os.SEEK_SET)
        hashed = 0
        while hashed < offset:
            chunk = os.read(descriptor, CHUNK)
            digest.update(chunk)
            hashed += len(chunk)
        if offset < file.length:
            with self._source.open(path, offset) as reader:
                while offset < file.length:
                    buffer, count = self._pen.buffer(), 0
                    try:
                        count = reader.readinto(buffer[: file.length - offset])
                    finally:
                        self._pen.write(descriptor, buffer, count)
                    if not count:
                        raise WrongBytesError(f"{path} is shorter than what was signed")
                    digest.update(buffer[:count])
                    offset += count
                    self._go_on(count)
        self._pen.wait()
        return digest.hexdigest() == file.digest

    def _go_on(self, count: int) -> None:
        self.copied += count
        self._meter.count(count)
        if self._stop.is_set():
            raise GoneError("the import was stopped")


class Meter:
    """Counts bytes and files, and tells the progress a few times a second."""

    def __init__(
        self, job: Literal["import", "verify"], source: str, tell: Callable[[Progress], None]
    ) -> None:
        self.title = ""
        self.files = self.bytes = self.files_done = self.bytes_done = 0
        self._job = job
        self._source = source
        self._tell = tell
        self._told = 0.0
        self._points: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def count(self, count: int) -> None:
        """So many bytes more."""
        self.bytes_done += count
        now = time.monotonic()
        if now - self._told < TELL_EVERY:
            return
        self._told = now
        self._points.append((now, self.bytes_done))
        while now - self._points[0][0] > RATE_OVER and len(self._points) > 2:
            self._points.popleft()
        self._tell(self._progress())

    def _progress(self) -> Progress:
        (began, before), (now, done) = self._points[0], self._points[-1]
        rate = (done - before) / max(now - began, 0.001)
        left = max(0, self.bytes - self.bytes_done)
        return Progress(
            job=self._job,
            source=self._source,
            title=self.title,
            files=self.files,
            files_done=self.files_done,
            bytes=self.bytes,
            bytes_done=min(self.bytes, self.bytes_done),
            rate=rate,
            seconds_left=left / rate if rate else None,
        )


class _Pen:
    """Writes in a thread of its own, so that the next bytes are read and checked meanwhile."""

    def __init__(self) -> None:
        self._free: queue.Queue[memoryview] = queue.Queue()
        for _ in range(BUFFERS):
            self._free.put(memoryview(bytearray(CHUNK)))
        self._full: queue.Queue[tuple[int, memoryview, int] | None] = queue.Queue()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._write, name="pen", daemon=True)
        self._thread.start()

    def buffer(self) -> memoryview:
        """One to fill, once there is one."""
        return self._free.get()

    def write(self, descriptor: int, buffer: memoryview, count: int) -> None:
        """Have `count` bytes of a buffer written; it may be read until it is given out again.

        Raises:
            OSError: something before it could not be: the rest of a film need not be read then.
        """
        if self._error is not None:
            self._free.put(buffer)
            self.wait()
        self._full.put((descriptor, buffer, count))

    def wait(self) -> None:
        """Until all is written.

        Raises:
            OSError: something could not be.
        """
        self._full.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """End the thread."""
        self._full.put(None)
        self._thread.join()

    def _write(self) -> None:
        unflushed = 0
        while (order := self._full.get()) is not None:
            descriptor, buffer, count = order
            try:
                if self._error is None:
                    written = 0
                    while written < count:
                        written += os.write(descriptor, buffer[written:count])
                    unflushed += count
                    if unflushed >= FLUSH_EVERY:
                        # The disk begins, and the machine's memory keeps what others read.
                        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                        unflushed = 0
            except OSError as error:
                self._error = error
            self._free.put(buffer)
            self._full.task_done()
