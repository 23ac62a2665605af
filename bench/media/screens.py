"""Overhead screens that nobody has: a bus of them behind a pseudo-terminal (pty(7)).

It speaks the line protocol of docs/protocols/streams.md, at the other end of the driver. A screen
takes some time to come down and to go up, as its motor does.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import threading
import time
import tty
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import Self

_REQUEST = re.compile(rb">(([0-9A-F]{2}) ([A-Z]+)(?: ([a-z0-9]+))?)\*([0-9A-F]{2})")


@dataclass
class Screen:
    """One screen. `moves_until` is when its motor stops."""

    deployed: bool = False
    power: bool = False
    input: str = "1"
    moves_until: float = 0.0

    @property
    def is_down(self) -> bool:
        """Whether it has come down, or not yet gone up."""
        return self.deployed == (time.monotonic() >= self.moves_until)


class SimulatedBus:
    """A bus; a context manager. `device` is what the driver opens.

    Args:
        addresses: of its screens.
        motor: seconds that a screen takes to move.

    Attributes:
        mood: `garble` and `silence` are what lines do in the noise of an aircraft; `hang`: nothing
            is read any more, as when the adapter's firmware is stuck.
    """

    def __init__(self, addresses: tuple[int, ...], motor: float = 0.0) -> None:
        self.screens = {address: Screen() for address in addresses}
        self.heard: list[str] = []
        self.mood = ""
        self._motor = motor
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        self.device = os.ttyname(self._theirs)
        self._closing, self._close = os.pipe()
        self._thread = threading.Thread(target=self._run, name="simulated bus", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self.unplug()

    def unplug(self) -> None:
        """Pull the adapter: the device hangs up."""
        os.write(self._close, b"\0")
        self._thread.join(timeout=5)
        for end in (self._ours, self._theirs, self._closing, self._close):
            os.close(end)

    def _run(self) -> None:
        line = b""
        while True:
            heard = [] if self.mood == "hang" else [self._ours]
            ready, _, _ = select.select([self._closing, *heard], [], [], 0.1)
            if self._closing in ready:
                return
            if self._ours in ready:
                line += os.read(self._ours, 256)
            while b"\r" in line:
                request, _, line = line.partition(b"\r")
                answer = self._answer(request)
                if answer:
                    os.write(self._ours, answer)

    def _answer(self, request: bytes) -> bytes | None:
        match = _REQUEST.fullmatch(request)
        if self.mood == "silence" or match is None or int(match[5], 16) != _checksum(match[1]):
            return None
        screen = self.screens.get(int(match[2], 16))
        if screen is None:
            return None
        self.heard.append(match[1].decode())
        said = self._do(screen, match[3].decode(), (match[4] or b"").decode())
        body = b"%b %b" % (match[2], said.encode())
        noise = 1 if self.mood == "garble" else 0
        return b"<%b*%02X\r" % (body, _checksum(body) ^ noise)

    def _do(self, screen: Screen, verb: str, argument: str) -> str:
        if verb in {"DEPLOY", "STOW"}:
            if screen.deployed != (verb == "DEPLOY"):
                screen.deployed = verb == "DEPLOY"
                screen.moves_until = time.monotonic() + self._motor
        elif verb == "PWR" and argument in {"0", "1"}:
            screen.power = argument == "1"
        elif verb == "INP" and argument in {"1", "2", "3"}:
            screen.input = argument
        elif verb != "STAT":
            return f"ERR cannot {verb.lower()} {argument}"
        state = f"deployed={screen.is_down:d} power={screen.power:d} input={screen.input}"
        return f"OK {state}" if verb == "STAT" else "OK"


def _checksum(text: bytes) -> int:
    return reduce(xor, text, 0)


def main() -> None:
    """Be a bus of screens until Ctrl-C; the device is printed."""
    parser = argparse.ArgumentParser(prog="python -m bench.media.screens", description=__doc__)
    parser.add_argument("--screens", type=int, default=4, help="how many; 4 unless given")
    options = parser.parse_args()
    with SimulatedBus(tuple(range(1, options.screens + 1)), motor=3.0) as bus:
        print(bus.device, flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
