"""Where a PA is played, when that does not work."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apps.common.testing import wait_until
from apps.player import sinks
from apps.player.sinks import AlsaSink, SinkError, Speaker
from apps.player.testing import own_address

ffi: Any = import_module("_sounddevice").ffi


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


def test_a_device_that_hangs_while_it_is_closed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the child is started anew, which else would have no sound for good."""

    class GoneDevice(HangingDevice):
        def write(self, samples: bytes) -> None:
            raise SinkError("it is gone")

        def close(self) -> None:
            self.free.wait(10)

    monkeypatch.setattr(sinks, "HANGS_AFTER", 0.3)
    device = GoneDevice()
    device.free.clear()
    speaker = Speaker(device, lambda *_: None, lambda: None, 1.0)
    speaker.start()
    wait_until(lambda: speaker.trouble == "the sound device hangs", "it is told")
    device.free.set()
    speaker.stop()


class PortAudio:
    """The library, which starts, or does not, and has no devices."""

    def __init__(self) -> None:
        self._constants = ffi.dlopen(None)
        self.starts = True
        self.is_up = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._constants, name)

    def Pa_Initialize(self) -> int:  # noqa: N802 - as PortAudio has it
        self.is_up = self.starts
        return 0 if self.starts else int(self.paInsufficientMemory)

    def Pa_Terminate(self) -> int:  # noqa: N802
        was_up, self.is_up = self.is_up, False
        return 0 if was_up else int(self.paNotInitialized)

    def Pa_GetErrorText(self, number: int) -> Any:  # noqa: N802
        return ffi.new("char[]", f"number {number}".encode())


class Stream:
    """Of a device that is gone as soon as `fails_in` is called."""

    fails_in = ""
    taken = 0

    def __init__(self, **_: object) -> None:
        self._call("open")

    def start(self) -> None:
        self._call("start")

    def write(self, samples: bytes) -> None:
        self._call("write")
        type(self).taken += len(samples)
        time.sleep(0.005)

    def close(self, ignore_errors: bool) -> None:
        self._call("close")

    def _call(self, name: str) -> None:
        if name == self.fails_in:
            raise import_module("sounddevice").PortAudioError(f"no {name}", -9999)


@pytest.fixture
def port_audio(monkeypatch: pytest.MonkeyPatch) -> PortAudio:
    """The real sounddevice on that library, and with such streams."""
    library = PortAudio()
    on_it = SimpleNamespace(dlopen=lambda _: library, NULL=ffi.NULL, string=ffi.string)
    monkeypatch.setitem(sys.modules, "_sounddevice", SimpleNamespace(ffi=on_it))
    monkeypatch.setattr("ctypes.util.find_library", lambda name: name)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    module = import_module("sounddevice")
    monkeypatch.setattr(module, "RawOutputStream", Stream)
    monkeypatch.setattr(Stream, "fails_in", "")
    return library


@pytest.mark.parametrize("call", ["open", "start", "write"])
def test_a_device_that_fails_is_told_and_opened_again(
    port_audio: PortAudio, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    speaker = Speaker(AlsaSink("default"), lambda *_: None, lambda: None, 1.0)
    speaker.start()
    wait_until(lambda: speaker.trouble is None, "it plays")
    # None is opened but after one that was lost.
    monkeypatch.setattr(Stream, "fails_in", "write")
    wait_until(lambda: speaker.trouble == "default: no write [PaErrorCode -9999]", "it is told")
    if call != "write":
        monkeypatch.setattr(Stream, "fails_in", call)
        wait_until(lambda: f"no {call}" in str(speaker.trouble), "it is told")
    time.sleep(0.6)
    assert speaker.is_alive
    monkeypatch.setattr(Stream, "fails_in", "")
    wait_until(lambda: speaker.trouble is None, "it is open again")
    taken = Stream.taken
    wait_until(lambda: Stream.taken > taken, "it plays again")
    speaker.stop()


def test_the_speaker_ends_when_a_lost_device_cannot_be_given_back(
    port_audio: PortAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The PA child ends with it, and with the process all that it holds of the device."""

    def close(self: Stream, ignore_errors: bool) -> None:
        if not ignore_errors:
            raise import_module("sounddevice").PortAudioError("no close", -9999)

    speaker = Speaker(AlsaSink("default"), lambda *_: None, lambda: None, 1.0)
    speaker.start()
    wait_until(lambda: speaker.trouble is None, "it plays")
    monkeypatch.setattr(Stream, "close", close)
    monkeypatch.setattr(Stream, "fails_in", "write")
    wait_until(lambda: not speaker.is_alive, "it ends")


def test_a_library_that_does_not_start_is_started_later(port_audio: PortAudio) -> None:
    sink = AlsaSink("default")
    sink.open()
    sink.close()
    port_audio.starts = False
    for _ in range(2):
        with pytest.raises(SinkError, match="default: Error initializing PortAudio"):
            sink.open()
    port_audio.starts = True
    sink.open()
    sink.write(bytes(480))
    sink.close()


PROGRAM = """
from apps.player import pa
from apps.player.settings import PaSettings

class Surprise:
    chunk = 240
    def open(self): raise KeyError("nobody foresaw it")
    def close(self): pass

pa.sink_of = lambda _: Surprise()
pa.PaChild(PaSettings.load(), []).run()
"""


def test_the_pa_child_ends_when_nothing_plays_any_more(tmp_path: Path) -> None:
    keys = tmp_path / "pa.keys"
    keys.write_text("A" * 43 + "\n")
    settings = {
        "IFE_REGISTRATION": "EC-LAB",
        "IFE_MULTICAST_INTERFACE": "lo",
        "IFE_MULTICAST_SOURCE": str(own_address()),
        "IFE_PA_AREA": "2",
        "IFE_PA_PUBLIC_KEYS_FILE": str(keys),
        "IFE_PA_SINK": "alsa:default",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "nobody foresaw it" in done.stderr
