"""Clips, made once for all tests, and a network with nobody else in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.vlc_stream.tests import served
from bench.media.clips import Clip, make

CLIPS = {
    "one.ts": Clip("One", 4, 440, 1500, "320x180"),
    "two.ts": Clip("Two", 4, 494, 1500, "320x180", b_frames=0),
    "three.ts": Clip("Three", 3, 523, 1500, "320x180"),
    "short.ts": Clip("Short", 1, 587, 1500, "320x180"),
    "safety.ts": Clip("Safety", 8, 330, 1500, "320x180"),
    "sicherheit.ts": Clip("Sicherheit", 5, 350, 1500, "320x180"),
}


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with `CLIPS`. Leave it as it is."""
    folder = tmp_path_factory.mktemp("clips")
    for name, clip in CLIPS.items():
        make(folder / name, clip)
    return folder


@pytest.fixture(scope="module")
def cabin() -> Iterator[served.Cabin]:
    """A network of its own, for the tests of a module."""
    with served.cabin() as cabin:
        yield cabin
