"""The content store: objects by their SHA-256, slots that link to them, and one that is current.

::

    objects/ab/abcd...   files that were checked and are on the disk, whole
    partial/abcd...      files that are still coming
    slots/a|b|c          trees <kind>/<name> of hard links to objects, with slot.json
    current              a link to the slot that is in force, for whoever shows content

A slot is built aside and then `current` is switched, in one step; the slot that was current stays
as the former one. docs/decisions/0015 has the why. Only content_sync writes here.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import shutil
import signal
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from apps.common.commands import Strict
from apps.common.content import (
    CATALOGUE,
    KINDS,
    OBJECTS,
    ContentSet,
    Kind,
    SetFile,
    TargetName,
    object_path,
    target_name,
)
from apps.common.files import point, sync, write_whole
from apps.content_sync.trust import Offer, OfferedKind

log = logging.getLogger(__name__)

RESERVE = 256 * 1024 * 1024
"""Bytes that content leaves free, for what else the machine writes."""

SlotName = Literal["a", "b", "c"]
SLOTS: tuple[SlotName, ...] = ("a", "b", "c")
"""The current one, the former one, and one to build the next in."""

TUF = "tuf"
"""The folder beside these of what is trusted (`trust.py`)."""

SLOT_FILE = "slot.json"
CURRENT = "current"
CHUNK = 1024 * 1024


class StoreError(Exception):
    """It cannot be done; the message says why, for people."""


class Slot(Strict):
    """What ``slot.json`` says; a slot without one is not whole, and counts for nothing.

    `former` is where the set was that this one replaced.
    """

    former: SlotName | None
    content: ContentSet


class Store:
    """The store. One thread brings objects; sets may be switched, and looked at, by any.

    Args:
        folder: of the store; made if need be.
        reserve: bytes to leave free.
    """

    def __init__(self, folder: Path, reserve: int = RESERVE) -> None:
        self.folder = folder
        self._reserve = reserve
        self._lock = threading.RLock()
        self._known: dict[str, tuple[int, Slot]] = {}
        self._partial = folder / "partial"
        self._slots = folder / "slots"
        for inner in (folder / OBJECTS, self._partial, self._slots):
            inner.mkdir(parents=True, exist_ok=True)

    # -- what there is ------------------------------------------------------------------------

    @property
    def current(self) -> ContentSet | None:
        """The set that is in force."""
        slot = self._current()
        return slot[1].content if slot else None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in force, be what says which set it is damaged or not."""
        return not (self.folder / CURRENT).is_symlink()

    @property
    def former(self) -> ContentSet | None:
        """The set that a rollback brings back."""
        slot = self._former()
        return slot[1].content if slot else None

    def free(self) -> int:
        """Bytes on the file system, without the reserve."""
        return max(0, self._beyond_reserve())

    def room_for(self, offer: Offer) -> int:
        """Bytes that would be free if all went that neither a set nor the current one needs.

        What somebody reads just now would not go.
        """
        current = self.current
        needed = {file.digest for file in offer.files().values()}
        needed |= {file.digest for file in current.files.values()} if current else set()
        rest = [*self._objects(), *self._partial.iterdir()]
        more = sum(_size_if_unread(path) for path in rest if path.name not in needed)
        return max(0, self._beyond_reserve() + more)

    def _beyond_reserve(self) -> int:
        system = os.statvfs(self.folder)
        return system.f_bavail * system.f_frsize - self._reserve

    def has(self, digest: str) -> bool:
        """Whether an object is on board."""
        return self.object(digest).exists()

    def object(self, digest: str) -> Path:
        """Where an object is, or is to be."""
        return self.folder / object_path(digest)

    def partial(self, digest: str) -> Path:
        """Where an object is while it is still coming."""
        return self._partial / digest

    def in_force(self, target: TargetName) -> Path | None:
        """The file of this name in the current set: a basis for deltas, to be read only."""
        path = self.folder / CURRENT / target
        return path if path.is_file() else None

    def wants(self, offer: Offer) -> bool:
        """Whether a set should come on board.

        Not one that is whole already, and not the one that the crew went back from, nor that one
        signed anew without a change.
        """
        current, former, files = self.current, self.former, offer.files()
        if former is not None and former.version == offer.version:
            # Versions begin anew with another root, so what is in them is looked at, too: of the
            # kinds that had come by then, since the crew may go back from a set that still comes.
            came = {
                kind for kind, it in offer.kinds.items() if former.kinds.get(kind) == it.version
            }
            return _differs(former, files, came)
        if current and former and current.version < former.version <= offer.version:
            if not former.missing:
                return former.files != files
            # It still came: what the crew went back from is what had come of it.
            undone = {kind for kind, it in former.kinds.items() if current.kinds.get(kind) != it}
            return _differs(former, files, undone)
        return current is None or current.version != offer.version or current.files != files

    def missing(self, files: Collection[SetFile]) -> dict[str, int]:
        """Digests of what is not on board, each once, with the bytes that are still to come."""
        found = {}
        for file in files:
            if file.digest not in found and not self.has(file.digest):
                partial = self.partial(file.digest)
                there = partial.stat().st_size if partial.exists() else 0
                found[file.digest] = max(0, file.length - there)
        return found

    # -- objects ------------------------------------------------------------------------------

    def put(self, digests: Collection[str]) -> None:
        """Partial files whose bytes were checked become objects; on return they are on the disk.

        Raises:
            OSError: the disk refuses.
        """
        # All of them are written before the first is waited for: the disk takes them together.
        for digest in digests:
            self.partial(digest).chmod(0o440)
        for digest in digests:
            sync(self.partial(digest))
        folders = set()
        for digest in digests:
            place = self.object(digest)
            if place.parent not in folders and not place.parent.exists():
                place.parent.mkdir()
                folders.add(place.parent.parent)
            self.partial(digest).rename(place)
            folders.add(place.parent)
        for folder in folders:
            sync(folder)

    def make_room(self, needed: int, offer: Offer) -> None:
        """See that there is room for `needed` bytes of a set.

        What no slot needs goes first. The former set, which the new one ends anyway, goes if it
        must, and if that is enough.

        Raises:
            StoreError: there is not enough, whatever goes.
        """
        if needed <= self.free():
            return
        keep = {file.digest for file in offer.files().values()}
        self.collect(keep)
        slot = self._current()
        if slot and self.free() < needed <= self.room_for(offer):
            log.warning("the former set makes room for the next")
            self._write_slot(slot[0], slot[1].model_copy(update={"former": None}))
            self.collect(keep)
        if needed > self.free():
            raise StoreError(
                f"there is no room for it: it takes {size_of(needed)}, and {size_of(self.free())} "
                f"are free"
            )

    def collect(self, keep: Collection[str] = ()) -> int:
        """Remove what no slot needs, nobody reads, and is not in `keep`; how many bytes that were.

        Args:
            keep: digests of a set that is coming.
        """
        needed = set(keep)
        with self._lock:
            for slot in (self._current(), self._former()):
                if slot:
                    needed.update(file.digest for file in slot[1].content.files.values())
            for name in self._spare():
                shutil.rmtree(self._slots / name, ignore_errors=True)
        freed = 0
        for path in self._objects():
            if path.name not in needed:
                freed += _remove_unless_read(path)
        for path in self._partial.iterdir():
            if path.name not in needed:
                path.unlink()
        return freed

    def discard(self, path: Path) -> None:
        """Remove an object that is damaged, so that the next import brings it again."""
        path.unlink(missing_ok=True)

    def damaged(self) -> Iterator[tuple[Path, int, bool]]:
        """Read every object again: each with its size, and whether it is not what it should be."""
        for path in self._objects():
            digest = hashlib.sha256()
            size = 0
            try:
                with path.open("rb", buffering=0) as file:
                    while chunk := file.read(CHUNK):
                        digest.update(chunk)
                        size += len(chunk)
                yield path, size, digest.hexdigest() != path.name
            except OSError as error:
                log.warning("cannot be read", extra={"object": path.name, "error": str(error)})
                yield path, size, True

    def objects(self) -> tuple[int, int]:
        """How many there are, and their bytes."""
        sizes = [path.stat().st_size for path in self._objects()]
        return len(sizes), sum(sizes)

    def _objects(self) -> Iterator[Path]:
        for folder in sorted((self.folder / OBJECTS).iterdir()):
            yield from sorted(folder.iterdir())

    # -- sets ---------------------------------------------------------------------------------

    def compose(self, offer: Offer, kinds: Collection[Kind]) -> ContentSet:
        """The set with these kinds of an offer, as far as they are on board; the rest stays.

        Of a kind there are its catalogue and those entries of which every file is there. Without
        its catalogue it stays what it was.
        """
        current = self.current
        files: dict[TargetName, SetFile] = {}
        versions: dict[Kind, int] = {}
        for kind in KINDS:
            offered = offer.kinds.get(kind)
            if kind in kinds and offered is None:
                continue
            here = self._here(offered) if offered and kind in kinds else {}
            if offered and here:
                files |= here
                versions[kind] = offered.version
            elif current and kind in current.kinds:
                files |= {
                    name: file
                    for name, file in current.files.items()
                    if name.startswith(f"{kind}/") and self.has(file.digest)
                }
                versions[kind] = current.kinds[kind]
        wanted = offer.files()
        return ContentSet(
            version=offer.version,
            kinds=versions,
            missing=sum(files.get(name) != file for name, file in wanted.items()),
            made=offer.made,
            expires=offer.expires,
            files=files,
        )

    def leave_out_what_is_gone(self, trusted: Offer | None) -> None:
        """Put the current set in force again without what is not on board, so that it is wanted.

        Args:
            trusted: the newest set; where it is the current one, entries go as a whole.

        Raises:
            OSError: the disk refuses; what was in force still is.
        """
        with self._lock:
            current = self.current
            if current is None or (left := self._on_board(current)) == current:
                return
            if trusted and trusted.version == current.version:
                left = self.compose(trusted, list(current.kinds))
            self.switch(left)

    def _on_board(self, content: ContentSet) -> ContentSet:
        """A set without the files that are not on board."""
        files = {name: file for name, file in content.files.items() if self.has(file.digest)}
        missing = content.missing + len(content.files) - len(files)
        return content.model_copy(update={"files": files, "missing": missing})

    def _here(self, offered: OfferedKind) -> dict[TargetName, SetFile]:
        catalogue = target_name(offered.catalogue.kind, CATALOGUE)
        if not self.has(offered.files[catalogue].digest):
            return {}
        here = {catalogue: offered.files[catalogue]}
        for _, files in offered.entries():
            if all(self.has(file.digest) for file in files.values()):
                here |= files
        return here

    def adds(self, offered: OfferedKind) -> bool:
        """Whether what is on board of a kind shows anything that the current set does not.

        A new catalogue of things that are missing does not: by it alone the passengers would lose
        what they have, and get nothing for it.
        """
        current, here = self.current, self._here(offered)
        shown = current.files if current else {}
        new = {name for name, file in here.items() if shown.get(name) != file}
        if len(here) < len(offered.files):
            new.discard(target_name(offered.catalogue.kind, CATALOGUE))
        return bool(new)

    def put_in_force(self, offer: Offer, kinds: Collection[Kind]) -> bool:
        """Put in force what is on board of these kinds of an offer; whether anything has changed.

        Nothing changes where the crew went back from it: they may do so at any moment.

        Raises:
            OSError: the disk refuses; what was in force still is.
        """
        with self._lock:
            if not self.wants(offer):
                return False
            content = self.compose(offer, kinds)
            if content == self.current:
                return False
            self.switch(content)
            return True

    def switch(self, content: ContentSet) -> None:
        """Put a set in force, of which every object is on board.

        Raises:
            OSError: the disk refuses; what was in force still is.
        """
        with self._lock:
            current = self._current()
            former = None
            if current:
                # A set that grows, or was signed anew without a change, does not push out the one
                # before it.
                before = current[1].content
                renewed = before.files == content.files and not content.missing
                grows = before.version == content.version or renewed
                former = current[1].former if grows else current[0]
            name = self._build(content)
            self._show(name, Slot(former=former, content=content))
        log.info("a set is in force", extra={"set": content.version, "missing": content.missing})

    def rollback(self) -> ContentSet:
        """Put the former set in force, as far as it is sound; the current one becomes the former.

        Raises:
            StoreError: there is no former one.
            OSError: the disk refuses; what was in force still is.
        """
        with self._lock:
            current, former = self._current(), self._former()
            if current is None or former is None:
                raise StoreError("there is no former set to go back to")
            name, content = former[0], former[1].content
            if not self._is_sound(name, content):
                # It has names of objects that were damaged, and have been removed since.
                content = self._on_board(content)
                name = self._build(content)
            self._show(name, Slot(former=current[0], content=content))
        log.warning(
            "went back to the former set",
            extra={"set": content.version, "from": current[1].content.version},
        )
        return content

    def _is_sound(self, slot: SlotName, content: ContentSet) -> bool:
        """Whether each name in a slot is of the object that is on board."""
        try:
            return all(
                (self._slots / slot / name).samefile(self.object(file.digest))
                for name, file in content.files.items()
            )
        except FileNotFoundError:
            return False

    def _build(self, content: ContentSet) -> SlotName:
        """Make the names of a set in a slot that nobody is shown."""
        spare = self._spare()[0]
        slot = self._slots / spare
        shutil.rmtree(slot, ignore_errors=True)
        for kind in content.kinds:
            (slot / kind).mkdir(parents=True)
        for name, file in content.files.items():
            _link(self.object(file.digest), slot / name)
        for kind in content.kinds:
            sync(slot / kind)
        return spare

    def _show(self, name: SlotName, slot: Slot) -> None:
        """Put in force what is in a slot."""
        self._write_slot(name, slot)
        sync(self._slots)
        point(self.folder / CURRENT, f"slots/{name}")

    def _write_slot(self, name: SlotName, slot: Slot) -> None:
        (self._slots / name).mkdir(exist_ok=True)
        write_whole(self._slots / name / SLOT_FILE, slot.model_dump_json().encode())

    def _current(self) -> tuple[SlotName, Slot] | None:
        try:
            name = (self.folder / CURRENT).readlink().name
        except OSError:
            return None
        return self._read_slot(name)

    def _former(self) -> tuple[SlotName, Slot] | None:
        current = self._current()
        return self._read_slot(current[1].former) if current and current[1].former else None

    def _read_slot(self, wanted: str) -> tuple[SlotName, Slot] | None:
        for name in SLOTS:
            if name == wanted:
                path = self._slots / name / SLOT_FILE
                try:
                    written = path.stat().st_mtime_ns
                    if self._known.get(name, (0,))[0] != written:
                        slot = Slot.model_validate_json(path.read_bytes())
                        self._known[name] = written, slot
                    return name, self._known[name][1]
                except (OSError, ValidationError) as error:
                    log.error("a slot is damaged", extra={"slot": name, "error": str(error)})  # noqa: TRY400
        return None

    def _spare(self) -> list[SlotName]:
        used: set[str] = {slot[0] for slot in (self._current(), self._former()) if slot}
        # Also where it cannot be read any more, it is shown.
        with suppress(OSError):
            used.add((self.folder / CURRENT).readlink().name)
        return [name for name in SLOTS if name not in used]


def _differs(
    content: ContentSet, files: Mapping[TargetName, SetFile], kinds: Collection[Kind]
) -> bool:
    """Whether something that a set has of these kinds is another file among `files`, or none."""
    return any(
        files.get(name) != file
        for name, file in content.files.items()
        if name.partition("/")[0] in kinds
    )


def _link(path: Path, name: Path) -> None:
    try:
        os.link(path, name)
    except OSError as error:
        if error.errno != errno.EMLINK:
            raise
        # Of one file ext4 takes 65,000 names.
        name.symlink_to(os.path.relpath(path, name.parent))


def _size_if_unread(path: Path) -> int:
    with _unread(path) as size:
        return size or 0


def _remove_unless_read(path: Path) -> int:
    """Remove a file that nobody has open; its size, or 0."""
    with _unread(path) as size:
        if size is not None:
            path.unlink(missing_ok=True)
        return size or 0


@contextmanager
def _unread(path: Path) -> Iterator[int | None]:
    """The size of a file that nobody has open, nor opens during the block; else None.

    The kernel gives a lease for writing on such a file only (fcntl(2)), and while there is one,
    who opens the file waits until it is closed here.
    """
    with path.open("rb") as file:
        is_read = False
        try:
            # Who opens it meanwhile has a signal sent here: not the one that would end us.
            fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as error:
            # On a file system without leases, who has it open keeps it all the same.
            is_read = error.errno == errno.EAGAIN
        yield None if is_read else os.fstat(file.fileno()).st_size


def size_of(count: int) -> str:
    """Bytes, for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
