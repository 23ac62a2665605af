"""A process that sends, where it does not do as it should."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from apps.common.testing import hung_disk, wait_until
from apps.vlc_stream import ts
from apps.vlc_stream.orders import Control, Output, StartClip
from apps.vlc_stream.process import MAX_ORDERS, SendingProcess


def _new() -> SendingProcess:
    output = Output("lo", IPv4Address("127.0.0.1"), 1)
    return SendingProcess("apps.vlc_stream.pacer", output, lambda _: None, lambda: None, "WARNING")


@pytest.fixture
def process() -> Iterator[SendingProcess]:
    process = _new()
    assert process.tend()
    yield process
    process.close()


def test_one_that_takes_no_orders_keeps_nobody_waiting(process: SendingProcess) -> None:
    wait_until(lambda: process.speaks, "it has loaded", 20)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    order = Control(do="stop", id="x" * 200)
    began = time.monotonic()
    # What is in the pipe, and what waits for it.
    for _ in range(MAX_ORDERS + 500):
        process.tell(order)
    assert time.monotonic() - began < 1.0
    wait_until(lambda: not process.alive, "it is ended")
    process.tell(order)
    wait_until(process.tend, "there is another")
    process.tell(order)
    wait_until(lambda: process.speaks, "it has loaded", 20)


def test_one_that_loads_slowly_gets_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.vlc_stream.process.LOADING", 0.02)
    slow = _new()

    def speaks() -> bool:
        slow.tend()
        return slow.speaks

    try:
        wait_until(speaks, "it has loaded", 40)
        assert slow.starts > 1, "once it did not have the time"
    finally:
        slow.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a disk takes root rights")
def test_one_that_waits_for_a_disk_is_not_waited_for(
    process: SendingProcess, clips: Path, tmp_path: Path
) -> None:
    shutil.copy(clips / "one.ts", tmp_path)
    clip = ts.examine(tmp_path / "one.ts")
    order = StartClip(
        id="x", run=1, group="239.192.95.2", port=5004, clip=clip, loop=False, position=0.0
    )
    with hung_disk(tmp_path) as asked:
        process.tell(order)
        assert asked.wait(20), "it did not ask for the file"
        began = time.monotonic()
        process.kill()
        assert time.monotonic() - began < 1.0
        assert not process.alive
        # As long as it is there, another would be sent beside it.
        assert not process.tend()
    wait_until(process.tend, "there is another")
