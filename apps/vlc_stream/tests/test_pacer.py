"""The process that sends imposed videos, where one cannot be sent on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import BinaryIO

import pytest

from apps.common.testing import wait_until
from apps.vlc_stream import ts
from apps.vlc_stream.orders import Output, Report, StartClip
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
