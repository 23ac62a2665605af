"""Which state of the project an image is made of, as git says."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from image.command import run

EPOCH = 1_767_225_600
"""2026-01-01: the time of files in an image that is built outside a git checkout."""

TIMEOUT = 60


@dataclass(frozen=True)
class Checkout:
    """What an image is called, and how old it is.

    Attributes:
        version: the project's version and the commit, like ``0.1.0-bbeeefa1``; with ``-dirty``
            where there is what was not committed. Outside of git the version alone.
        epoch: the time of the files in the image, in seconds: that of the commit.
    """

    version: str
    epoch: int


def look(root: Path) -> Checkout:
    """What is checked out in `root`.

    Raises:
        ImageError: git does not say.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text())
    version = str(project["project"]["version"])
    if not (root / ".git").exists():
        return Checkout(version, EPOCH)
    commit, epoch = _git(root, "log", "-1", "--abbrev=8", "--format=%h %ct").split()
    dirty = "-dirty" if _git(root, "status", "--porcelain") else ""
    return Checkout(f"{version}-{commit}{dirty}", int(epoch))


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", *arguments]
    return run(command, "ask git what is checked out", TIMEOUT, cwd=root, capture=True)
