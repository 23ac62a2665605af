"""Which files of a repository are fetched ahead of everything else, each by its exact name.

At the gate a source is not read but filled, so it has to be known what python-tuf will ask for:
what timestamp.json, the snapshot and the kinds' metadata say, in turn. None of it is believed here:
whatever it says, it can only name files that a repository may have, and `trust` judges them later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import AliasChoices, AliasPath, BaseModel, Field, ValidationError

from apps.common.content import (
    CATALOGUE,
    KINDS,
    MAX_CATALOGUE,
    TIMESTAMP,
    Digest,
    Kind,
    target_name,
)

ROOTS_AHEAD = 8
"""Roots that are asked for at once, beyond the newest that is known."""

MAX_ROUNDS = 8
"""Times that something is asked for: mostly three, and one more each `ROOTS_AHEAD` roots."""

MAX_VERSIONS = 64 * 1024
"""Bytes of a timestamp or a snapshot: ours have less than four thousand."""

Version = Annotated[int, Field(ge=1, lt=10**9, strict=True)]


class _Meta(BaseModel):
    version: Version


class _Metas(BaseModel):
    meta: dict[str, _Meta]


class _Snapshot(BaseModel):
    """A timestamp's, or a snapshot's (TUF 1.0.33, 4.4 and 4.5)."""

    signed: _Metas


class _Hashes(BaseModel):
    sha256: Digest


class _Target(BaseModel):
    length: Annotated[int, Field(ge=0, le=MAX_CATALOGUE, strict=True)]
    hashes: _Hashes


class _Kind(BaseModel):
    """What is of interest of a kind's metadata (TUF 1.0.33, 4.6): its catalogue.

    By its path, nothing is made of all else: as objects 8 MiB would take half of the memory.
    """

    catalogue: _Target = Field(
        validation_alias=AliasChoices(
            *(AliasPath("signed", "targets", target_name(kind, CATALOGUE)) for kind in KINDS)
        )
    )


Read = Callable[[str], bytes | None]
"""The file of this name in `metadata/`; None: it is not there."""


class Ahead:
    """What to fetch next.

    Args:
        read: what was fetched until now, of this time or an earlier one.
        root_version: of the newest root that is trusted.
    """

    def __init__(self, read: Read, root_version: int) -> None:
        self._read = read
        self._next_root = root_version + 1
        self._asked: set[str] = set()

    def names(self) -> list[str]:
        """Files of `metadata/` to ask for now. They may not be there: what matters is what comes.

        Empty: that was all.
        """
        wanted = [TIMESTAMP, *self._roots()]
        wanted += [name for name in self._current() if self._read(name) is None]
        new = [name for name in wanted if name not in self._asked]
        self._asked.update(new)
        return new

    def current(self) -> set[str]:
        """The files of `metadata/` that are of any use from now on."""
        return {TIMESTAMP, *self._current(), *(f"{root}.root.json" for root in self._known())}

    def catalogues(self) -> dict[Kind, tuple[str, int]]:
        """Digest and length of each kind's catalogue, as far as its metadata are there."""
        found: dict[Kind, tuple[str, int]] = {}
        for kind in KINDS:
            for name in self._current():
                if name.endswith(f".{kind}.json"):
                    target = self._catalogue(name)
                    if target is not None:
                        found[kind] = (target.hashes.sha256, target.length)
        return found

    def _roots(self) -> list[str]:
        while self._read(f"{self._next_root}.root.json") is not None:
            self._next_root += 1
        first = self._next_root
        return [f"{number}.root.json" for number in range(first, first + ROOTS_AHEAD)]

    def _known(self) -> range:
        return range(1, self._next_root)

    def _current(self) -> list[str]:
        """The snapshot, and what it names, as far as that is known."""
        timestamp = self._versions(TIMESTAMP)
        if "snapshot.json" not in timestamp:
            return []
        snapshot = f"{timestamp['snapshot.json']}.snapshot.json"
        versions = self._versions(snapshot)
        files = [f"{role}.json" for role in ("targets", *KINDS)]
        return [snapshot, *(f"{versions[file]}.{file}" for file in files if file in versions)]

    def _versions(self, name: str) -> dict[str, int]:
        text = self._read(name) or b""
        if len(text) > MAX_VERSIONS:
            return {}
        try:
            signed = _Snapshot.model_validate_json(text).signed
        except ValidationError:
            return {}
        return {role: meta.version for role, meta in signed.meta.items()}

    def _catalogue(self, name: str) -> _Target | None:
        try:
            return _Kind.model_validate_json(self._read(name) or b"").catalogue
        except ValidationError:
            return None
