"""Where a PA is played, when that does not work."""

from __future__ import annotations

import threading
import time

import pytest

from apps.common.testing import wait_until
from apps.player import sinks
from apps.player.sinks import Speaker


class HangingDevice:
    """A driver that takes no more after a while."""

    chunk = 240

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()

    def open(self) -> None:
        """It opens."""

    def turn(self, begins_at: float | None) -> float | None:
        """At once."""
        return time.monotonic()

    def write(self, samples: bytes) -> None:
        """As long as it likes."""
        self.free.wait(10)
        time.sleep(0.005)

    def close(self) -> None:
        """It closes."""


def test_a_device_that_hangs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "HANGS_AFTER", 0.3)
    device = HangingDevice()
    speaker = Speaker(device, lambda *_: None, lambda: None, 1.0)
    speaker.start()
    wait_until(lambda: speaker.trouble is None, "it plays")
    time.sleep(0.5)
    assert speaker.trouble is None
    device.free.clear()
    wait_until(lambda: speaker.trouble == "the sound device hangs", "it is told")
    assert speaker.hangs_for() > 0.3
    device.free.set()
    wait_until(lambda: speaker.trouble is None, "it plays again")
    speaker.stop()
