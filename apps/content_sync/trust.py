"""What a source offers, if it is to be believed: TUF's client workflow (specification 1.0.33, 5.3).

python-tuf does the work. Here are the source that it reads, the time by which it judges, where
what is trusted is kept, and words for what it refuses. A source's metadata is taken as a whole or
not at all, and only what a catalogue names is looked up.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, TypeAdapter, ValidationError
from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, Root, Signed, TargetFile, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from apps.common.content import (
    CATALOGUE,
    KINDS,
    MADE,
    MAX_CATALOGUE,
    MAX_KIND,
    MAX_SET,
    METADATA,
    TIMESTAMP,
    Catalogue,
    Entry,
    Kind,
    SetFile,
    TargetName,
    object_path,
    target_name,
)
from apps.common.files import point, sync, write_whole
from apps.content_sync.clock import Clock
from apps.content_sync.source import (
    BUFFER,
    FolderSource,
    NotThereError,
    Source,
    SourceError,
)

log = logging.getLogger(__name__)

TRUSTED = "trusted"
PLACES = ("a", "b")

_HISTORY = "root_history"
"""Where python-tuf keeps every root, below its own folder."""

_BEGINNING = datetime.min.replace(tzinfo=UTC)
_MOMENT = TypeAdapter(AwareDatetime)


class RefusedError(Exception):
    """A source is not to be believed. `slug` says why for machines, the message for people."""

    def __init__(self, slug: str, words: str) -> None:
        super().__init__(words)
        self.slug = slug


@dataclass(frozen=True)
class OfferedKind:
    """One kind of a set: its catalogue, and its files by target name, the catalogue among them."""

    version: int
    catalogue: Catalogue
    files: dict[TargetName, SetFile]

    def entries(self) -> Iterator[tuple[Entry, dict[TargetName, SetFile]]]:
        """Each entry with its files."""
        for entry in self.catalogue.entries:
            names = [target_name(self.catalogue.kind, name) for name in entry.names()]
            yield entry, {name: self.files[name] for name in names}


@dataclass(frozen=True)
class Offer:
    """A set as the ground has signed it.

    Attributes:
        version: of the snapshot.
        made: when the ground signed its newest word on it, the timestamp.
        expires: until when it stands by it: the first moment at which any of the metadata expires.
        kinds: those that there are.
    """

    version: int
    made: datetime
    expires: datetime
    kinds: dict[Kind, OfferedKind] = field(repr=False)

    def files(self) -> dict[TargetName, SetFile]:
        """All of them, in the order of the kinds."""
        return {name: file for kind in self.kinds.values() for name, file in kind.files.items()}


class Trust:
    """What is trusted on board. It is used by one thread.

    Args:
        folder: where it is kept; made if need be.
        runtime: where python-tuf's own copy is while the app runs; no disk that may be full.
        root: the airline's root metadata, which came with the aircraft's configuration.
        airline: whose content it must be.
        clock: by which it is judged.

    Raises:
        RefusedError: the root is none.
    """

    def __init__(
        self, folder: Path, runtime: Path, root: bytes, airline: str, clock: Clock
    ) -> None:
        self._folder = folder
        self._runtime = runtime
        self._root = root
        self._airline = airline
        self._clock = clock
        self.trusted: Offer | None = None
        """The newest that was ever accepted; older ones are refused from then on."""
        self.trouble: str | None = None
        """What of it has been lost, for people; None once something was accepted again."""
        folder.mkdir(parents=True, exist_ok=True)
        self._cache = runtime / "cache"
        self._load()
        self._made = _made(self._cache)

    @property
    def reference(self) -> datetime:
        """The moment by which it is judged whether something has expired."""
        return self._clock.surely_passed(self._made)

    @property
    def root_version(self) -> int:
        """Of the newest root that is trusted."""
        return _root_version(self._cache)

    def look(self, source: Source) -> Offer:
        """What a source offers; from then on nothing older is accepted.

        Raises:
            RefusedError: it is not to be believed, or too old.
            SourceError: it cannot be read.
            OSError: what is trusted cannot be written down.
        """
        work = self._runtime / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self._cache, work, symlinks=True)
        offer, catalogues = self._judge(source, work)
        is_known = offer == self.trusted and _root_version(work) == self.root_version
        if not is_known or self.trouble:
            self._keep(work, offer, catalogues)
            log.info("content is trusted", extra={"set": offer.version})
        shutil.rmtree(self._cache)
        work.rename(self._cache)
        self.trusted, self._made, self.trouble = offer, offer.made, None
        return offer

    # -- how ----------------------------------------------------------------------------------

    def _load(self) -> None:
        """What was trusted before. It was fresh then, so its age is no matter.

        Of what cannot be read whole any more, each part that can still is what nothing may be older
        than. The other place has the state before, for parts that cannot.
        """
        self._begin()
        link = self._folder / TRUSTED
        if not link.is_symlink():
            return
        kept = self._folder / link.readlink().name
        try:
            self._recall(kept)
        except (RefusedError, SourceError) as error:
            if not self._was_by_this_root():
                log.warning("another root is configured", extra={"error": str(error)})
                self._begin()
                return
            log.error("what was trusted is not whole", extra={"error": str(error)})  # noqa: TRY400
            self.trouble = f"what was trusted is not whole, load the newest disk: {error}"
            self._begin()
            for place in (self._other(kept), kept):
                self.trusted = None
                with suppress(RefusedError, SourceError):
                    self._recall(place)

    def _begin(self) -> None:
        """Know the configuration's root alone. python-tuf's own folder is filled anew each time."""
        shutil.rmtree(self._cache, ignore_errors=True)
        self._cache.mkdir(parents=True)
        try:
            self._updater(FolderSource(self._folder, "nothing"), self._cache, _BEGINNING)
        except RepositoryError as error:
            raise RefusedError("root", f"the airline's root metadata is none: {error}") from error

    def _recall(self, place: Path) -> None:
        source = FolderSource(place, "what is trusted")
        self.trusted, _ = self._read(source, self._cache, _BEGINNING)

    def _was_by_this_root(self) -> bool:
        for path in self._folder.glob(f"[{''.join(PLACES)}]/{METADATA}/*.root.json"):
            with suppress(OSError):
                if path.read_bytes() == self._root:
                    return True
        return False

    def _other(self, place: Path | None) -> Path:
        return next(self._folder / name for name in PLACES if place != self._folder / name)

    def _judge(self, source: Source, work: Path) -> tuple[Offer, dict[Kind, bytes]]:
        try:
            return self._read(source, work, self.reference)
        except RefusedError as error:
            if error.slug != "expired" or self._made is None or self._is_vouched_for(work):
                raise
        # Who has stolen the key that was replaced may have signed any day as that on which he did.
        return self._read(source, work, self._clock.surely_passed(None))

    def _is_vouched_for(self, work: Path) -> bool:
        """Whether the newest root still has the keys that signed what is trusted."""
        timestamp = Metadata[Timestamp].from_file(str(self._cache / TIMESTAMP))
        root = Metadata[Root].from_file(str(work / "root.json")).signed
        try:
            root.verify_delegate("timestamp", timestamp.signed_bytes, timestamp.signatures)
        except UnsignedMetadataError:
            return False
        return True

    def _updater(self, source: Source, folder: Path, reference: datetime) -> Updater:
        updater = Updater(
            str(folder),
            f"{METADATA}/",
            fetcher=_Fetcher(source),
            config=UpdaterConfig(targets_max_length=MAX_KIND),
            bootstrap=self._root,
        )
        # There is no other way to tell it; tests/content/test_tuf_attacks.py holds it to that.
        updater._trusted_set.reference_time = reference  # noqa: SLF001
        return updater

    def _read(
        self, source: Source, folder: Path, reference: datetime
    ) -> tuple[Offer, dict[Kind, bytes]]:
        """The set of a source, and its catalogues as they are.

        Args:
            source: to read.
            folder: of python-tuf's own, with what it knows; it gets what it learns.
            reference: what expires up to then has expired.
        """
        kinds: dict[Kind, OfferedKind] = {}
        catalogues: dict[Kind, bytes] = {}
        try:
            updater = self._updater(source, folder, reference)
            updater.refresh()
            size = 0
            for kind in KINDS:
                target = updater.get_targetinfo(target_name(kind, CATALOGUE))
                with suppress(FileNotFoundError):
                    size += (folder / f"{kind}.json").stat().st_size
                size += target.length if target else 0
                if size > MAX_SET:
                    raise RefusedError("malformed", f"its lists have more than {MAX_SET} bytes")
                if target is not None:
                    catalogues[kind] = _fetch_catalogue(source, target)
                    kinds[kind] = self._offered(kind, target, catalogues[kind], updater, folder)
            return _offer(folder, kinds), catalogues
        except (RepositoryError, DownloadError) as error:
            raise _refusal(error) from error

    def _offered(
        self, kind: Kind, target: TargetFile, text: bytes, updater: Updater, folder: Path
    ) -> OfferedKind:
        try:
            catalogue = Catalogue.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise RefusedError(
                "malformed", f"the catalogue of {kind} is wrong at {where}: {first['msg']}"
            ) from error
        if catalogue.kind != kind:
            raise RefusedError("malformed", f"the catalogue of {kind} is one of {catalogue.kind}")
        if catalogue.airline != self._airline:
            raise RefusedError("airline", f"this content is for {catalogue.airline}")
        files = {target.path: _file(target)}
        for name in catalogue.names():
            found = updater.get_targetinfo(target_name(kind, name))
            if found is None:
                raise RefusedError(
                    "malformed", f"the catalogue of {kind} names {name}, which is not signed"
                )
            files[found.path] = _file(found)
        return OfferedKind(_signed(folder, kind).version, catalogue, files)

    def _keep(self, folder: Path, offer: Offer, catalogues: dict[Kind, bytes]) -> None:
        """Write down what is trusted now, as a repository of its own, in one step."""
        link = self._folder / TRUSTED
        place = self._other(self._folder / link.readlink().name if link.is_symlink() else None)
        shutil.rmtree(place, ignore_errors=True)
        for path, data in _kept(folder, offer, catalogues):
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            write_whole(place / path, data)
        for inner in (*place.rglob("*"), place, self._folder):
            if inner.is_dir():
                sync(inner)
        point(link, place.name)


def _kept(folder: Path, offer: Offer, catalogues: dict[Kind, bytes]) -> Iterator[tuple[str, bytes]]:
    for root in (folder / _HISTORY).glob("*.root.json"):
        yield f"{METADATA}/{root.name}", root.read_bytes()
    yield f"{METADATA}/timestamp.json", (folder / "timestamp.json").read_bytes()
    # Also a kind that has nothing is signed.
    there = [kind for kind in KINDS if (folder / f"{kind}.json").exists()]
    for role in ("snapshot", "targets", *there):
        version = _signed(folder, role).version
        yield f"{METADATA}/{version}.{role}.json", (folder / f"{role}.json").read_bytes()
    for kind, text in catalogues.items():
        file = offer.kinds[kind].files[target_name(kind, CATALOGUE)]
        yield object_path(file.digest), text


def _root_version(folder: Path) -> int:
    history = (folder / _HISTORY).glob("*.root.json")
    return max(int(path.name.split(".")[0]) for path in history)


def _signed(folder: Path, role: str) -> Signed:
    """Of what python-tuf has written down, which it has verified."""
    signed: Signed = Metadata.from_file(str(folder / f"{role}.json")).signed
    return signed


def _offer(folder: Path, kinds: dict[Kind, OfferedKind]) -> Offer:
    made = _made(folder)
    if made is None:
        raise RefusedError("malformed", f"timestamp.json has no right {MADE}")
    signed = [_signed(folder, role) for role in ("timestamp", "root", "snapshot", "targets")]
    signed += [_signed(folder, kind) for kind in kinds]
    expires = min(one.expires for one in signed)
    if expires <= made:
        raise RefusedError("expired", "part of it was too old already when it was signed")
    return Offer(_signed(folder, "snapshot").version, made, expires, kinds)


def _made(folder: Path) -> datetime | None:
    """When the ground signed the timestamp that is there."""
    if not (folder / "timestamp.json").exists():
        return None
    try:
        return _MOMENT.validate_python(_signed(folder, "timestamp").unrecognized_fields.get(MADE))
    except ValidationError:
        return None


def _file(target: TargetFile) -> SetFile:
    try:
        return SetFile(digest=target.hashes.get("sha256", ""), length=target.length)
    except ValidationError as error:
        raise RefusedError("malformed", f"{target.path} is signed without a SHA-256") from error


def _fetch_catalogue(source: Source, target: TargetFile) -> bytes:
    if target.length > MAX_CATALOGUE:
        raise RefusedError("malformed", f"{target.path} is too long: {target.length} bytes")
    text = source.read(object_path(_file(target).digest), target.length)
    target.verify_length_and_hashes(text)
    return text


def _refusal(error: RepositoryError | DownloadError) -> Exception:
    """An error of python-tuf in our words."""
    if isinstance(error, DownloadHTTPError):
        return NotThereError(f"there is no content, or not all of it: {error}")
    if isinstance(error.__cause__, SourceError):
        return error.__cause__
    if isinstance(error, ExpiredMetadataError):
        return RefusedError("expired", f"it is too old, get a newer one ({error})")
    if isinstance(error, BadVersionNumberError):
        return RefusedError("older", f"it is older than what this aircraft knows of ({error})")
    if isinstance(error, UnsignedMetadataError):
        return RefusedError("unsigned", f"it is not signed by who has to ({error})")
    if isinstance(error, LengthOrHashMismatchError | DownloadLengthMismatchError):
        return RefusedError("damaged", f"it is damaged, or was changed ({error})")
    return RefusedError("malformed", f"it is damaged, or none of ours ({error})")


class _Fetcher(FetcherInterface):
    """Has python-tuf read a source. It bounds each file itself."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def _fetch(self, url: str) -> Iterator[bytes]:
        buffer = memoryview(bytearray(BUFFER))
        try:
            with self._source.open(url, 0) as reader:
                while count := reader.readinto(buffer):
                    yield bytes(buffer[:count])
        except NotThereError as error:
            raise DownloadHTTPError(str(error), 404) from error
        except SourceError as error:
            raise DownloadError(str(error)) from error
