"""What the repository on this Hangar has: the versions that its metadata tell, no more.

Whether the metadata is to be trusted is for each aircraft to check (TUF); the Hangar only compares.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

log = logging.getLogger(__name__)

MAX_METADATA = 1024 * 1024
"""Bytes of one of its files."""

_NO_KINDS = {"root", "targets"}


class _Meta(BaseModel):
    version: Annotated[int, Field(ge=0)]


class _Signed(BaseModel):
    meta: dict[str, _Meta]


class _Metadata(BaseModel):
    signed: _Signed


class Published(BaseModel):
    """A content set: its version, that of the snapshot, and those of its kinds; 0 for none."""

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
            changed = timestamp.stat().st_mtime_ns
            if changed != self._read[0]:
                self._read = (changed, self._look(timestamp))
        except FileNotFoundError:
            return Published()
        except (OSError, ValidationError, KeyError) as error:
            log.warning("the repository cannot be read", extra={"error": str(error)[:200]})
        return self._read[1]

    def _look(self, timestamp: Path) -> Published:
        version = _meta(timestamp)["snapshot.json"].version
        meta = _meta(self._metadata / f"{version}.snapshot.json")
        kinds = {name.removesuffix(".json"): entry.version for name, entry in meta.items()}
        return Published(
            version=version,
            kinds={name: kinds[name] for name in sorted(kinds) if name not in _NO_KINDS},
        )


def _meta(path: Path) -> dict[str, _Meta]:
    with path.open("rb") as file:
        return _Metadata.model_validate_json(file.read(MAX_METADATA)).signed.meta
