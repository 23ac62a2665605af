"""A process that sends channels, told what to do by a test."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.common.testing import wait_until
from apps.vlc_stream import probe
from apps.vlc_stream.orders import MediaItem, Output, Report, StartFiles
from apps.vlc_stream.process import SendingProcess
from apps.vlc_stream.tests.served import SERVER, Cabin

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="making namespaces takes root rights")


@pytest.fixture
def reports() -> list[Report]:
    """What the process has said."""
    return []


@pytest.fixture
def process(cabin: Cabin, reports: list[Report]) -> Iterator[SendingProcess]:
    process = SendingProcess(
        module="apps.vlc_stream.channel_worker",
        output=Output("cabin0", SERVER, 1),
        on_report=reports.append,
        on_end=lambda: None,
        log_level="WARNING",
    )
    assert cabin.server.run(process.tend)
    wait_until(lambda: process.speaks, "it has loaded", 20)
    yield process
    process.close()


def start(process: SendingProcess, film: MediaItem, position: float) -> None:
    process.tell(
        StartFiles(
            id="one",
            run=1,
            group="239.192.80.1",
            port=5004,
            items=(film,),
            loop=True,
            index=0,
            position=position,
        )
    )


def test_a_file_that_goes_on_at_its_end_is_not_broken(
    process: SendingProcess, reports: list[Report], clips: Path
) -> None:
    film = probe.probe(clips / "two.ts")
    start(process, film, film.duration - 0.3)
    wait_until(lambda: any(report.position > 2 for report in reports), "it goes round", 20)
    assert [report.broken for report in reports if report.broken] == []


def test_a_file_that_is_cut_short_is_told(
    process: SendingProcess, reports: list[Report], clips: Path, tmp_path: Path
) -> None:
    path = tmp_path / "film.mkv"
    remux = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(clips / "safety.ts"), "-c", "copy"]
    subprocess.run([*remux, str(path)], check=True, timeout=30)
    os.truncate(path, path.stat().st_size * 3 // 10)
    film = probe.probe(path)
    assert film.duration > 7
    start(process, film, 0.0)
    wait_until(lambda: any(report.trouble for report in reports), "it is told", 20)
    assert re.fullmatch(r"film\.mkv: it ended at [1-4] of 8 s", reports[-1].trouble or "")
    assert [report.broken for report in reports if report.broken] == []
