"""How screens are spoken to: blocking code, one driver a bus, each call with a time-out.

`LineDriver` speaks the line protocol of docs/protocols/streams.md over a serial line. `CecDriver`
speaks to cec-client (libCEC), by its own words, over a pipe.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import subprocess
import termios
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import reduce
from operator import xor
from typing import IO, NamedTuple, Protocol, cast

import serial

from apps.vlc_stream.screens.config import Bus

TIMEOUT = 1.0
"""Seconds for one line and its answer."""

MAX_ANSWER = 200
"""Bytes of a line."""


class ScreenError(Exception):
    """A screen did not answer, or not as it should; the message says what happened."""


class Wanted(NamedTuple):
    """What a screen is to be."""

    deployed: bool
    power: bool
    input: str


class Status(NamedTuple):
    """What a screen says it is; None is what it cannot tell."""

    deployed: bool | None
    power: bool | None
    input: str | None


class Driver(Protocol):
    """One bus. Every call may block for some seconds, and raise ScreenError or OSError."""

    def look(self, address: int) -> Status:
        """How a screen is."""

    def apply(self, address: int, wanted: Wanted) -> None:
        """Tell a screen what to be."""

    def close(self) -> None:
        """Let go of the bus, also where another thread hangs in a call. Never raises."""


def open_driver(bus: Bus) -> Driver:
    """The driver of a bus.

    Raises:
        OSError: its device is not there.
    """
    if bus.driver == "cec":
        return CecDriver(("cec-client", "-d", "1", bus.device))
    return LineDriver(bus.device, bus.baud)


def checksum(text: bytes) -> int:
    """All bytes by exclusive or, as in NMEA 0183."""
    return reduce(xor, text, 0)


class LineDriver:
    """Lines over a serial line: ``>05 PWR 1*4A`` and, as the answer, ``<05 OK*6D``."""

    def __init__(self, device: str, baud: int) -> None:
        self._port = serial.Serial(
            device, baud, timeout=TIMEOUT, write_timeout=TIMEOUT, exclusive=True
        )
        self._letting_go = threading.Lock()

    def look(self, address: int) -> Status:
        """How a screen is."""
        fields = dict(word.split("=", 1) for word in self._ask(address, "STAT") if "=" in word)
        flags = {"1": True, "0": False}
        return Status(
            flags.get(fields.get("deployed", "")),
            flags.get(fields.get("power", "")),
            fields.get("input"),
        )

    def apply(self, address: int, wanted: Wanted) -> None:
        """Tell a screen what to be; one that comes down is switched on when it is there."""
        if wanted.deployed:
            self._ask(address, "DEPLOY")
            self._ask(address, f"PWR {wanted.power:d}")
            self._ask(address, f"INP {wanted.input}")
        else:
            self._ask(address, f"PWR {wanted.power:d}")
            self._ask(address, "STOW")

    def close(self) -> None:
        """Let go of the line, once: who hung in it and who took over may both do so."""
        if not self._letting_go.acquire(blocking=False):
            return
        with suppress(OSError):
            # Else a call that hangs would hold the lock, too, until it returns.
            fcntl.flock(self._port.fileno(), fcntl.LOCK_UN)
            self._port.close()

    def _ask(self, address: int, words: str) -> list[str]:
        body = f"{address:02X} {words}".encode("ascii")
        try:
            self._port.reset_input_buffer()
            self._port.write(b">%b*%02X\r" % (body, checksum(body)))
            answer = self._port.read_until(b"\r", MAX_ANSWER)
        except serial.SerialTimeoutException as error:
            raise ScreenError("the line takes nothing") from error
        except termios.error as error:  # what pyserial lets through when the device is gone
            raise OSError(*error.args) from error
        if not answer.endswith(b"\r"):
            raise ScreenError("no answer")
        match = re.fullmatch(rb"<(([0-9A-F]{2}) (OK|ERR)( [ -)+-~]*)?)\*([0-9A-F]{2})\r", answer)
        if match is None or int(match[5], 16) != checksum(match[1]):
            raise ScreenError("its answer is garbled")
        if int(match[2], 16) != address:
            raise ScreenError("another screen answered")
        if match[3] == b"ERR":
            raise ScreenError(f"it refuses: {(match[4] or b'').decode().strip()}")
        return (match[4] or b"").decode().split()


class CecDriver:
    """Words for cec-client. CEC (HDMI 1.4, supplement 1) knows power and inputs, no motor."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._stdin = cast("IO[bytes]", self._process.stdin)
        self._stdout = cast("IO[bytes]", self._process.stdout)
        self._input: str | None = None

    def look(self, address: int) -> Status:
        """How a screen is: it tells its power; its input is what it was told last."""
        match = re.search(rb"power status: ([a-z ]+)", self._ask(b"pow %X" % address))
        if match is None:
            raise ScreenError("no answer")
        power = {b"on": True, b"standby": False}.get(match[1].strip())
        if power is None:
            raise ScreenError(f"its power is {match[1].decode().strip()}")
        return Status(None, power, self._input)

    def apply(self, address: int, wanted: Wanted) -> None:
        """Switch it, and its input: <Active Source>, with the address n.0.0.0 of HDMI input n."""
        on = wanted.power and wanted.deployed
        self._write(b"%b %X" % (b"on" if on else b"standby", address))
        if on:
            number = int(wanted.input) if wanted.input.isdigit() else 1
            self._write(b"tx 1F:82:%X0:00" % (number & 0xF))
            self._input = wanted.input

    def close(self) -> None:
        """End cec-client."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)
        for pipe in (self._stdin, self._stdout):
            with suppress(OSError):
                pipe.close()

    def _write(self, line: bytes) -> None:
        self._stdin.write(line + b"\n")
        self._stdin.flush()

    def _ask(self, line: bytes) -> bytes:
        self._write(line)
        answer, deadline = b"", time.monotonic() + TIMEOUT
        while b"power status:" not in answer or not answer.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._stdout], [], [], left)[0]:
                raise ScreenError("no answer")
            data = os.read(self._stdout.fileno(), 4096)
            if not data:
                raise ScreenError("cec-client has ended")
            answer = (answer + data)[-4096:]
        return answer
