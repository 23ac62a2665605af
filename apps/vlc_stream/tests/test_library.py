"""The files of all channels, looked at by an ffprobe that a test has in its hands."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.common.testing import wait_until
from apps.vlc_stream import ts
from apps.vlc_stream.library import Library


@pytest.fixture
def media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which each file is good."""
    tools = tmp_path / "tools"
    tools.mkdir()
    ffprobe = tools / "ffprobe"
    ffprobe.write_text(FFPROBE)
    ffprobe.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    folder = tmp_path / "media"
    folder.mkdir()
    return folder


FFPROBE = """#!/bin/sh
for file; do :; done
while [ -e "${file#file:}.wait" ]; do sleep 0.05; done
echo '{"streams": [{"codec_type": "video", "codec_name": "h264"}],
       "format": {"format_name": "mpegts", "duration": "60"}}'
"""
"""It takes its time for a file as long as there is one of that name and ``.wait``."""


def test_a_file_that_breaks_the_look_is_broken_and_the_others_are_looked_at(
    media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def examine(path: Path) -> ts.Clip:
        raise IndexError(path.name)

    monkeypatch.setattr(ts, "examine", examine)
    for name in ("clip.ts", "film.ts"):
        (media / name).touch()
    library = Library(media, ["film.ts"], ["clip.ts"], lambda: None)
    library.start()
    try:
        wait_until(lambda: library.looked_at, "all was looked at")
        assert library.trouble(["clip.ts"]) == "clip.ts: it cannot be looked at"
        assert library.clip("clip.ts") is None
        assert [item.path for item in library.items(["film.ts"])] == [str(media / "film.ts")]
    finally:
        library.close()
