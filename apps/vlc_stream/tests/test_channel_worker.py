"""A process that sends channels, told what to do by a test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from apps.common.testing import wait_until
from apps.vlc_stream import probe
from apps.vlc_stream.orders import Output, Report, StartFiles
from apps.vlc_stream.process import SendingProcess
from apps.vlc_stream.tests.served import SERVER, Cabin

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="making namespaces takes root rights")


def test_a_file_that_goes_on_at_its_end_is_not_broken(cabin: Cabin, clips: Path) -> None:
    film = probe.probe(clips / "two.ts")
    reports: list[Report] = []
    process = SendingProcess(
        module="apps.vlc_stream.channel_worker",
        output=Output("cabin0", SERVER, 1),
        on_report=reports.append,
        on_end=lambda: None,
        log_level="WARNING",
    )
    assert cabin.server.run(process.tend)
    try:
        wait_until(lambda: process.speaks, "it has loaded", 20)
        process.tell(
            StartFiles(
                id="one",
                run=1,
                group="239.192.80.1",
                port=5004,
                items=(film,),
                loop=True,
                index=0,
                position=film.duration - 0.3,
            )
        )
        wait_until(lambda: any(report.position > 2 for report in reports), "it goes round", 20)
        assert [report.broken for report in reports if report.broken] == []
    finally:
        process.close()
