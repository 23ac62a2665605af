"""A day in shortened time: a thousand loops, after which nothing has grown."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from apps.common.testing import wait_until
from apps.vlc_stream.tests.served import Cabin, Served, running, serving
from apps.vlc_stream.tests.test_on_the_wire import impose
from bench.media.clips import Clip, make

CHANNELS = 20
LOOPS = 1000
SECONDS = 1
"""Of a clip: a thousand loops of twenty channels take a minute, or as long as the machine does."""


def usage(served: Served) -> tuple[int, int, int]:
    """MiB, threads and file descriptors of all that vlc_stream has started."""
    memory = threads = files = 0
    for pid in (served.supervisor(), *(pid for pid, _ in running(served.cabin.server.name))):
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        memory += int(status["VmRSS"].split()[0]) // 1024
        threads += int(status["Threads"])
        files += len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return memory, threads, files


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="making namespaces takes root rights")
@pytest.mark.timeout(900)
def test_a_thousand_loops_leave_nothing_behind(cabin: Cabin, tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    make(tmp_path / "media/short.ts", Clip("Short", SECONDS, 440, 500, "160x90"))
    text = "channels:\n" + "".join(
        f"  c{n}: {{names: {{en: C}}, group: 239.192.80.{n}, playlist: [short.ts]}}\n"
        for n in range(1, CHANNELS + 1)
    )
    text += "imposed:\n  safety: {names: {en: S}, group: 239.192.90.1, files: {en: short.ts}}\n"
    with serving(cabin, tmp_path, text) as served:
        for n in range(1, CHANNELS + 1):
            served.wait_for(f"c{n}", "playing", 60)

        def play(loops: int) -> None:
            end = time.monotonic() + SECONDS * loops / CHANNELS
            while time.monotonic() < end:
                impose(served)
                wait_until(lambda: served.video("safety").state == "idle", "it is over", 30)

        play(LOOPS // 5)
        before = usage(served)
        play(LOOPS)
        after = usage(served)
        views = served.view().channels
    assert sum(channel.restarts for channel in views) <= 2  # a busy machine
    assert after[0] <= before[0] * 1.1 + 5, (before, after)
    assert after[1] <= before[1] + 10, (before, after)
    assert after[2] <= before[2] + 10, (before, after)
