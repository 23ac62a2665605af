"""A process that sends, where it does not do as it should."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from apps.common.testing import wait_until
from apps.vlc_stream.orders import Control, Output
from apps.vlc_stream.process import MAX_ORDERS, SendingProcess


@pytest.fixture
def process() -> Iterator[SendingProcess]:
    output = Output("lo", IPv4Address("127.0.0.1"), 1)
    process = SendingProcess(
        "apps.vlc_stream.pacer", output, lambda _: None, lambda: None, "WARNING"
    )
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
