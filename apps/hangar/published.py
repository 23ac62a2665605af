"""What the repository on this Hangar has: the versions that its metadata tell, no more.

Whether the metadata is to be trusted is for each aircraft to check (TUF); the Hangar only compares.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from apps.common.content import CATALOGUE, KINDS, MAX_KIND, target_name

log = logging.getLogger(__name__)


class _Meta(BaseModel):
    version: Annotated[int, Field(ge=0)]


class _Signed(BaseModel):
    meta: dict[str, _Meta] = {}
    targets: dict[str, Any] = {}


class _Metadata(BaseModel):
    signed: _Signed


class Published(BaseModel):
    """A content set: its version, that of the snapshot, and those of its kinds; 0 for none.

    A kind of which nothing was ever published is signed, but not among them.
    """

    version: int = 0
    kinds: dict[str, int] = {}


class Repository:
    """Reads a repository anew when it has changed. Threads may share it."""

    def __init__(self, folder: Path) -> None:
        self._metadata = folder / "metadata"
        self._read: tuple[int, Published] = (-1, Published())

    def published(self) -> Published:
        """What is published now; what was before, where that cannot be read."""
        timestamp = self._metadata / "timestamp.json"
        try:
            if not timestamp.exists():
                return Published()
            changed = timestamp.stat().st_mtime_ns
            if changed != self._read[0]:
                self._read = (changed, self._look(timestamp))
        except (OSError, ValidationError, KeyError) as error:
            log.warning("the repository cannot be read", extra={"error": str(error)[:200]})
        return self._read[1]

    def _look(self, timestamp: Path) -> Published:
        version = _signed(timestamp).meta["snapshot.json"].version
        meta = _signed(self._metadata / f"{version}.snapshot.json").meta
        kinds = {kind: meta[f"{kind}.json"].version for kind in KINDS if f"{kind}.json" in meta}
        return Published(
            version=version,
            kinds={
                kind: number
                for kind, number in kinds.items()
                if target_name(kind, CATALOGUE)
                in _signed(self._metadata / f"{number}.{kind}.json").targets
            },
        )


def _signed(path: Path) -> _Signed:
    with path.open("rb") as file:
        return _Metadata.model_validate_json(file.read(MAX_KIND)).signed
