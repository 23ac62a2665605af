"""What tests of content share: a ground that signs it, and an aircraft."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.content.helpers import Aircraft, Ground


@pytest.fixture(scope="session")
def empty_ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with its keys, made once."""
    folder = tmp_path_factory.mktemp("ground") / "ground"
    ground = Ground(folder)
    ground.begin()
    return folder


@pytest.fixture
def ground(empty_ground: Path, tmp_path: Path) -> Ground:
    """An empty repository of EXA."""
    shutil.copytree(empty_ground, tmp_path / "ground")
    return Ground(tmp_path / "ground")


@pytest.fixture
def aircraft(ground: Ground, tmp_path: Path) -> Aircraft:
    """An aircraft of EXA, without content."""
    return Aircraft(tmp_path / "store", ground.root)


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A folder whose name is short enough for a socket's (unix(7): 107 bytes)."""
    with tempfile.TemporaryDirectory(prefix="ife-", dir="/tmp") as folder:
        yield Path(folder)
