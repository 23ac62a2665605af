"""Sources: what they give, and what they do not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.common.content import is_metadata_path, is_object_path
from apps.content_sync.source import FolderSource, NotThereError, Pace, TooSlowError

DIGEST = "ab" + 62 * "0"


def _folder(tmp_path: Path) -> Path:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata/timestamp.json").write_bytes(b"0123456789")
    (tmp_path / "objects/ab").mkdir(parents=True)
    (tmp_path / "objects/ab" / DIGEST).write_bytes(b"an object")
    return tmp_path


def test_a_folder_gives_its_files_and_no_more_than_is_asked_for(tmp_path: Path) -> None:
    source = FolderSource(_folder(tmp_path), "folder")
    assert source.read("metadata/timestamp.json", 100) == b"0123456789"
    assert source.read("metadata/timestamp.json", 3) == b"0123", "one more tells that it is longer"
    buffer = memoryview(bytearray(100))
    with source.open(f"objects/ab/{DIGEST}", 3) as reader:
        assert bytes(buffer[: reader.readinto(buffer)]) == b"object"
        assert reader.readinto(buffer) == 0


@pytest.mark.parametrize(
    "path",
    [
        "metadata/2.root.json",
        "metadata/../metadata/timestamp.json",
        "/etc/passwd",
        "objects/ab",
        "objects/ab/ab",
        f"objects/cd/{DIGEST}",
        f"objects/ab/{DIGEST}/",
        "metadata",
        "",
    ],
)
def test_what_is_not_there(tmp_path: Path, path: str) -> None:
    with pytest.raises(NotThereError):
        FolderSource(_folder(tmp_path), "folder").read(path, 100)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = _folder(tmp_path) / "metadata/timestamp.json"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(NotThereError, match="plain"):
        FolderSource(tmp_path, "folder").read("metadata/timestamp.json", 100)


@given(st.one_of(st.text(), st.from_regex(r"(metadata|objects)/[a-z0-9./%\\]*")))
def test_no_path_leaves_the_repository(path: str) -> None:
    if is_metadata_path(path) or is_object_path(path):
        assert ".." not in path.split("/")
        assert path.count("/") <= 2
        assert path.isascii()
        assert path.isprintable()


def test_the_pace_counts_only_the_time_that_was_waited() -> None:
    pace = Pace(slow_after=1.0, slowest=1000)
    for _ in range(100):
        pace.count(0.25, 250)
    pace.count(0.75, 0)
    assert pace.left() == pytest.approx(0.25)
    with pytest.raises(TooSlowError):
        pace.count(0.25, 10)
