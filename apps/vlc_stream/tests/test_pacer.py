"""The process that sends imposed videos, where one cannot be sent on."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import BinaryIO

import pytest

from apps.common.testing import wait_until
from apps.vlc_stream import ts
from apps.vlc_stream.orders import Control, Output, Report, StartClip
from apps.vlc_stream.pacer import Pacer


def test_a_video_that_breaks_the_pacer_has_ended_and_says_so(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = ts.examine(clips / "short.ts")
    whole = ts.blocks

    def breaks(clip: ts.Clip, file: BinaryIO, position: float, loop: bool) -> Iterator[ts.Block]:
        yield from itertools.islice(whole(clip, file, position, loop), 3)
        raise IndexError

    monkeypatch.setattr(ts, "blocks", breaks)
    reports: list[Report] = []
    pacer = Pacer(Output("lo", IPv4Address("127.0.0.1"), 1), reports.append)
    order = StartClip(
        id="safety", run=7, group="239.192.95.9", port=5004, clip=clip, loop=False, position=0.0
    )
    pacer.handle(order)
    wait_until(lambda: reports, "it is told")
    (report,) = reports
    assert (report.id, report.run, report.state) == ("safety", 7, "ended")
    assert report.trouble == "short.ts: it cannot be sent on"


def test_a_video_of_which_nothing_goes_out_says_so_until_it_goes_on(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = ts.examine(clips / "short.ts")
    whole = ts.blocks
    answers = threading.Event()

    def hangs(clip: ts.Clip, file: BinaryIO, position: float, loop: bool) -> Iterator[ts.Block]:
        blocks = whole(clip, file, position, loop)
        yield next(blocks)
        answers.wait(30)
        yield from blocks

    monkeypatch.setattr(ts, "blocks", hangs)
    pacer = Pacer(Output("lo", IPv4Address("127.0.0.1"), 1), lambda _: None)
    order = StartClip(
        id="safety", run=7, group="239.192.95.9", port=5004, clip=clip, loop=True, position=0.0
    )

    def trouble() -> str | None:
        (report,) = pacer.reports()
        return report.trouble

    try:
        pacer.handle(order)
        assert trouble() is None
        wait_until(lambda: trouble() == "short.ts: nothing goes out", "it is told")
        answers.set()
        wait_until(lambda: trouble() is None, "it goes on")
        # A video that is paused goes out, too.
        pacer.handle(Control(do="pause", id="safety"))
        time.sleep(1.2)
        assert trouble() is None
    finally:
        answers.set()
        pacer.handle(Control(do="stop", id="safety"))


@pytest.mark.parametrize("loop", [False, True])
def test_a_video_that_is_cut_short_while_it_is_on_says_so(
    clips: Path, tmp_path: Path, loop: bool
) -> None:
    path = tmp_path / "safety.ts"
    shutil.copy(clips / "one.ts", path)
    clip = ts.examine(path)
    reports: list[Report] = []
    pacer = Pacer(Output("lo", IPv4Address("127.0.0.1"), 1), reports.append)
    order = StartClip(
        id="safety", run=7, group="239.192.95.9", port=5004, clip=clip, loop=loop, position=0.0
    )
    pacer.handle(order)
    os.truncate(path, 0)
    wait_until(lambda: reports, "it is told", 20)
    (report,) = reports
    assert report.state == "ended"
    assert "s before its end" in str(report.trouble)
