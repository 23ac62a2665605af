"""The USB of a bench: ports that crew disks are plugged into, and the kernel behind them.

A workstation's own USB is not for a demo to let in and shut out, so the kernel is played, as
files of sysfs (`apps.usb_lockdown.testing`). All above that is real: usb_lockdown reads these
files, decides, and has the disk's image read by a reader of its own.
``python -m bench.usb SYSFS SOCKET``
"""

from __future__ import annotations

import json
import logging
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from apps.common import log as logs
from apps.usb_lockdown.testing import CONTROLLER, DISK, KEYBOARD, Kernel
from bench.instance import BenchError

log = logging.getLogger(__name__)

PORTS = {"front": "1-1", "aft": "1-2", "side": "1-3"}
"""The kernel's names of the ports. The one at the side is none for crew disks."""

CREW_PORTS = ("front", "aft")
CREW_DISK_PORTS = " ".join(
    f"{name}=pci-{CONTROLLER}-usbv2-0:{PORTS[name].partition('-')[2]}" for name in CREW_PORTS
)
"""As usb_lockdown's settings have it."""

LABEL = "Content disk"
KERNEL_EVERY = 0.2
"""Seconds between two looks of the kernel at what was written to it."""

MAX_LINE = 4096
TIMEOUT = 10.0


class Plug(BaseModel):
    """What is to be in a port from now on: an image of a disk, a keyboard, or nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    port: Literal["front", "aft", "side"]
    image: Path | None = None
    keyboard: bool = False


def put(path: Path, plug: Plug) -> None:
    """Put something into a port, in place of what is there.

    Raises:
        BenchError: there is no USB at `path`, or it refuses.
    """
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(TIMEOUT)
            sock.connect(str(path))
            sock.sendall(plug.model_dump_json().encode() + b"\n")
            with sock.makefile("rb") as lines:
                answer = json.loads(lines.readline(MAX_LINE))
    except (OSError, ValueError) as error:
        raise BenchError(f"the bench's USB does not answer ({error}): is the bench up?") from error
    if answer != "done":
        raise BenchError(str(answer))


class Usb:
    """The ports, with the kernel."""

    def __init__(self, root: Path) -> None:
        self._kernel = Kernel(root)
        self._taken: set[str] = set()

    def put(self, plug: Plug) -> None:
        """Put something into a port, in place of what is there; raises OSError."""
        name = PORTS[plug.port]
        if name in self._taken:
            self._kernel.pull(name)
            self._taken.discard(name)
        if plug.keyboard:
            shows = ((3, 1, 1),)
            self._kernel.plug(name, KEYBOARD, shows=shows, label="USB Keyboard")
        elif plug.image is not None:
            plug.image.stat()
            self._kernel.plug(name, DISK, medium=plug.image, label=LABEL)
        else:
            return
        self._taken.add(name)

    def settle(self) -> None:
        """Do what the kernel does."""
        self._kernel.settle()


def serve(root: Path, where: Path) -> None:
    """Serve for ever."""
    root.mkdir(parents=True, exist_ok=True)
    usb = Usb(root)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(where))
        listener.listen()
        listener.settimeout(KERNEL_EVERY)
        while True:
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                with connection:
                    _answer(connection, usb)
            usb.settle()


def _answer(connection: socket.socket, usb: Usb) -> None:
    connection.settimeout(1.0)
    try:
        with connection.makefile("rb") as lines:
            usb.put(Plug.model_validate_json(lines.readline(MAX_LINE)))
        said = "done"
    except (OSError, ValidationError) as error:
        said = f"it cannot be plugged in: {error}"
    with suppress(OSError):
        connection.sendall(json.dumps(said).encode() + b"\n")


if __name__ == "__main__":
    logs.setup("info")
    serve(Path(sys.argv[1]), Path(sys.argv[2]))
