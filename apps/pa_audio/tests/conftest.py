"""The network and the PA that tests share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.pa_audio.tests.cabin import Network


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a path that is short enough for Unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="pa"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    with Network() as network:
        yield network
