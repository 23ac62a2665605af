"""Content: its kinds, its names, its catalogues, and how a repository of it lies on a disk.

A *repository* is a TUF repository (The Update Framework, specification 1.0.33) in this layout, the
same on the ground, on a crew disk and on its way through the gate::

    metadata/            N.root.json, timestamp.json, N.snapshot.json, N.targets.json, N.<kind>.json
    objects/ab/abcd...   each file by its SHA-256: two digits of it, then all 64

A *kind* is a delegation with keys of its own. A *target* is a file that is signed by its kind, and
is called ``<kind>/<name>``. Each kind has a target ``<kind>/catalogue.json``, a `Catalogue`: what
there is, in words for people; only what it names is ever fetched. A *set* is one state of a whole
repository, numbered by the version of its snapshot.

``python -m apps.common.content`` prints the JSON Schema of a catalogue.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints, model_validator

from apps.common.channels import Language, View
from apps.common.commands import PLAIN, Strict

Kind = Literal["news", "configuration", "firmware", "shop", "maps", "films"]
"""In the order in which they are brought on board: what goes stale soonest and is small, first."""

KINDS: tuple[Kind, ...] = get_args(Kind)

CATALOGUE = "catalogue.json"
METADATA = "metadata"
TIMESTAMP = "timestamp.json"
OBJECTS = "objects"

MADE = "x-ife-made"
"""A field of timestamp.json that TUF does not know: when it was signed, as its `expires`."""

MAX_KIND = MAX_CATALOGUE = 8 * 1024 * 1024
"""Bytes of one kind's metadata and of its catalogue."""

MAX_SET = 10 * 1024 * 1024
"""Bytes of all kinds' metadata and catalogues together, some 50,000 files. To put such a set in
force in place of another takes 36 times as much memory, at the gate 54, and there are 768 MiB."""

MAX_ENTRIES = 20_000
MAX_FILES = 40_000
"""Of one catalogue, in files of all its entries, their images among them."""

MAX_LENGTH = 64 * 1024**4
"""Bytes of one file: more than any disk of today, and far from what an integer of JSON can be."""

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
"""A file's name below its kind: no folder, no dot in front, nothing that any file system minds."""

FileName = Annotated[str, StringConstraints(pattern=rf"^{NAME}$")]
TargetName = Annotated[str, StringConstraints(pattern=rf"^({'|'.join(KINDS)})/{NAME}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 in hexadecimal digits."""

Length = Annotated[int, Field(ge=0, le=MAX_LENGTH, strict=True)]
Airline = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
"""Its designator of ICAO (Doc 8585): ``DLH``."""

Airport = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
"""Its code of IATA: ``MAD``."""

EntryId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Title = Annotated[str, StringConstraints(pattern=rf"^{PLAIN}+$", max_length=120)]
Text = Annotated[str, StringConstraints(pattern=rf"^({PLAIN}|\n)+$", max_length=4000)]
RatingSystem = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,15}$")]
"""Whose rating it is: ``fsk``, ``mpa``, ``bbfc``."""

_METADATA_PATH = re.compile(
    rf"{METADATA}/(timestamp|[1-9][0-9]{{0,8}}\.(root|snapshot|targets|{'|'.join(KINDS)}))\.json"
)
_OBJECT_PATH = re.compile(rf"{OBJECTS}/([0-9a-f]{{2}})/\1[0-9a-f]{{62}}")


def object_path(digest: str) -> str:
    """Where a repository has the file of this SHA-256."""
    return f"{OBJECTS}/{digest[:2]}/{digest}"


def is_metadata_path(path: str) -> bool:
    """Whether a repository may have metadata there."""
    return _METADATA_PATH.fullmatch(path) is not None


def is_object_path(path: str) -> bool:
    """Whether a repository may have a file there."""
    return _OBJECT_PATH.fullmatch(path) is not None


def target_name(kind: Kind, name: str) -> str:
    """``films/metropolis.mp4``."""
    return f"{kind}/{name}"


# -- the catalogue ----------------------------------------------------------------------------


def _ordered(start: datetime | None, until: datetime | None) -> bool:
    return start is None or until is None or start < until


class Window(Strict):
    """When an entry may be shown: the rights to it. `until` itself is out of it already."""

    start: Annotated[AwareDatetime | None, Field(alias="from")] = None
    until: AwareDatetime | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not _ordered(self.start, self.until):
            raise ValueError("rights begin before they end")
        return self


class Image(Strict):
    """A picture for an entry, in one language or for all."""

    name: FileName
    role: Literal["poster", "still", "cover", "icon"]
    language: Language | None = None


class File(Strict):
    """A file of an entry. `languages` are those that are heard or read in it."""

    name: FileName
    role: Literal["video", "audio", "subtitles", "document", "data"]
    languages: Annotated[tuple[Language, ...], Field(max_length=64)] = ()


class Entry(Strict):
    """One thing that is offered: a film, a newspaper, an article of the shop, a package."""

    id: EntryId
    titles: Annotated[dict[Language, Title], Field(min_length=1, max_length=64)]
    texts: Annotated[dict[Language, Text], Field(max_length=64)] = Field(default_factory=dict)
    languages: Annotated[tuple[Language, ...], Field(max_length=64)] = ()
    from_age: Annotated[int, Field(ge=0, le=21, strict=True)] = 0
    ratings: Annotated[dict[RatingSystem, Title], Field(max_length=16)] = Field(
        default_factory=dict
    )
    destinations: Annotated[tuple[Airport, ...], Field(max_length=1000)] = ()
    """On flights to these only; empty: on all."""
    rights: Window = Window()
    images: Annotated[tuple[Image, ...], Field(max_length=64)] = ()
    files: Annotated[tuple[File, ...], Field(max_length=10_000)] = ()

    def names(self) -> Iterator[str]:
        """Of all its files, its images among them."""
        yield from (image.name for image in self.images)
        yield from (file.name for file in self.files)


def _unlike(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    if len({entry.id for entry in entries}) < len(entries):
        raise ValueError("two entries have one id")
    names = [name for entry in entries for name in entry.names()]
    if CATALOGUE in names:
        raise ValueError(f"{CATALOGUE} is the catalogue itself")
    if len(names) > MAX_FILES:
        raise ValueError(f"{len(names)} files, where {MAX_FILES} is the most")
    return entries


class Catalogue(Strict):
    """All that an airline offers of one kind: the target ``<kind>/catalogue.json``.

    Its files are targets of the same kind, by their names.
    """

    kind: Kind
    airline: Airline
    entries: Annotated[
        tuple[Entry, ...], Field(max_length=MAX_ENTRIES), AfterValidator(_unlike)
    ] = ()

    def names(self) -> dict[str, Entry]:
        """Every file's name, with the first entry that has it."""
        found: dict[str, Entry] = {}
        for entry in self.entries:
            for name in entry.names():
                found.setdefault(name, entry)
        return found


def catalogue_schema() -> str:
    """The JSON Schema (2020-12) of a catalogue."""
    return json.dumps(Catalogue.model_json_schema(), indent=2, ensure_ascii=False)


# -- a set on board ---------------------------------------------------------------------------


class SetFile(Strict):
    """One file of a set."""

    digest: Digest
    length: Length


class ContentSet(Strict):
    """A set on board, as a slot holds it.

    It may be under way from one set to the next: some kinds are those of `version` already, the
    others still what they were, and of a kind some entries may be missing, each of them whole.
    `kinds` has the version of each kind's signed metadata.
    """

    version: Annotated[int, Field(ge=1)]
    kinds: dict[Kind, Annotated[int, Field(ge=1)]]
    missing: Annotated[int, Field(ge=0)]
    """Files of `version` that are not in it yet; 0: it is whole."""
    made: AwareDatetime
    """When the ground signed its newest word on it."""
    expires: AwareDatetime
    """Until when the ground stands by it."""
    files: dict[TargetName, SetFile]

    def digests(self) -> dict[str, int]:
        """Every object that it needs, each once, with its length."""
        return {file.digest: file.length for file in self.files.values()}


# -- what content_sync tells of it ------------------------------------------------------------

TOPIC = "content_sync/state"
"""On the bus: a `ContentState`, at each change, and each second while something is under way."""


class SetView(View):
    """A set as people want to know it."""

    version: int
    kinds: dict[Kind, int]
    missing: int
    """Files that are not on board yet."""
    files: int
    bytes: int
    made: AwareDatetime
    expires: AwareDatetime


class Freshness(View):
    """How good the newest word of the ground is. What has expired plays on.

    `none`: nothing of it is on board yet.
    """

    state: Literal["fresh", "expired", "none"]
    until: AwareDatetime | None = None
    clock_is_sure: bool
    """Whether the clock was told the time; without that, only what is surely over has expired."""
    says: str
    """For the crew, in a sentence."""


class Progress(View):
    """What is under way. Sizes in bytes, `rate` in bytes a second."""

    job: Literal["import", "verify"]
    source: str
    """``disk crew-1``, ``gate``, or a folder."""
    title: str
    """What is being loaded, in words: the entry's title."""
    files: int
    files_done: int
    bytes: int
    bytes_done: int
    rate: float
    seconds_left: float | None


class Job(View):
    """Something that takes long: ``GET /api/v1/jobs/<id>``."""

    id: int
    title: str
    state: Literal["queued", "running", "done", "failed"]
    says: str
    """What has come of it, for people."""
    progress: Progress | None


class ImportRequest(Strict):
    """`POST /api/v1/imports`: import the repository that is in a folder of the server."""

    folder: Annotated[
        str, StringConstraints(pattern=rf"^/{PLAIN}*$", min_length=2, max_length=1000)
    ]


class DiskView(View):
    """A disk in one of the crew's ports, as content_sync sees it."""

    port: str
    name: str
    state: Literal["waits", "queued", "importing", "done", "refused", "failed"]
    """`waits`: for usb_lockdown to read it, or for the crew's word."""
    says: str
    """For the crew, in a sentence."""
    safe_to_remove: bool
    tried_again: bool = False
    """Whether it is, by itself, if it stays in: it broke off, and nothing is wrong with it."""


class GateView(View):
    """The gate, and what comes by it. Sizes in bytes, `rate` in bytes a second."""

    open: bool
    says: str
    """For the crew: what will come at this stop, or why nothing does."""
    title: str | None = None
    """What is coming now: the entry's title."""
    bytes: int = 0
    """Of all that was missing when the stop began."""
    bytes_fit: int = 0
    """Of what will be there when it ends."""
    bytes_done: int = 0
    rate: float = 0.0
    seconds_left: float | None = None
    """Of the stop; None: it is longer than they are as a rule, or none."""
    last_heartbeat: AwareDatetime | None = None
    """When the Hangar last answered."""
    trouble: str | None = None
    """What failed last, in a sentence."""


class ContentState(View):
    """All that content_sync tells: the value of `TOPIC`, and of ``GET /api/v1/content``."""

    current: SetView | None
    former: SetView | None
    """What a rollback brings back."""
    coming: SetView | None
    """A newer set that is signed and known, but not whole on board yet."""
    freshness: Freshness
    progress: Progress | None
    disks: tuple[DiskView, ...]
    gate: GateView | None
    """None: this aircraft has no Hangar."""
    trouble: str | None
    """What failed last, in a sentence; None after a success."""
    free: int
    """Bytes on the store's file system."""


if __name__ == "__main__":
    print(catalogue_schema())
