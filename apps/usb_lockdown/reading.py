"""Has a disk read by a process of its own, which gets the open disk and a socket, and nothing else.

The process is a unit that systemd starts for each connection to one socket
(`ife-usb_lockdown-reader.socket`), so nobody here may start anything, or be anybody else.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from errno import EACCES
from itertools import islice
from pathlib import Path
from socket import AF_UNIX, SHUT_RDWR, SOCK_CLOEXEC, SOCK_STREAM, send_fds, socket

from apps.usb_lockdown.sysfs import Unit

log = logging.getLogger(__name__)

READY_WITHIN = 90.0
"""Seconds until a disk is open, and from then on until its reader has said whether it can read; it
gives up by itself after 60."""

BACKLOG = 8
MAX_LINE = 4096
MAX_LINES = 2
WHY_LENGTH = 200


class DiskReader:
    """One disk with its reader, from its start on; see `apps.usb_lockdown.keeper.Reader`.

    The kernel asks a disk whether it is ready before it is open, and nothing ends that but the disk
    or half a minute and more of the kernel's patience. So that is done in a thread of its own.

    Args:
        starter: the socket at which a reader is had.
        disk: the disk's file.
        unit: the disk, as the kernel tells of it.
        at: the path of the socket where it is to be read.
        on_change: called when `state` has changed, in a thread.

    Raises:
        OSError: the disk's file is not ours to read (yet), or `at` cannot be made.
    """

    def __init__(
        self, starter: Path, disk: Path, unit: Unit, at: Path, on_change: Callable[[], None]
    ) -> None:
        self.state = "reading"
        self.why: str | None = None
        self.socket = str(at)
        self._on_change = on_change
        self._closed = False
        disk.stat()
        if not os.access(disk, os.R_OK):
            raise PermissionError(EACCES, os.strerror(EACCES), str(disk))
        listener = _listen(at)
        self._control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        self._thread = threading.Thread(
            target=self._read,
            args=(starter, disk, unit, listener),
            name=f"reader-{at.stem}",
            daemon=True,
        )
        self._thread.start()

    def close(self) -> None:
        """End the reader; the disk is not read any more."""
        self._closed = True
        with suppress(OSError):
            self._control.shutdown(SHUT_RDWR)
        self._control.close()
        Path(self.socket).unlink(missing_ok=True)

    def _read(self, starter: Path, disk: Path, unit: Unit, listener: socket) -> None:
        why = f"it did not answer within {READY_WITHIN:.0f} s"
        late = threading.Timer(READY_WITHIN, self._set, ("unreadable", why))
        late.daemon = True
        late.start()
        with listener:
            try:
                opened = _open(disk, unit)
            except OSError as error:
                self._set("unreadable", f"it cannot be opened: {error.strerror or error}")
                return
            finally:
                late.cancel()
            try:
                # It was too late, or was pulled out meanwhile.
                if self.state == "unreadable" or self._closed:
                    return
                self._hand_over(starter, unit, opened, listener)
            finally:
                os.close(opened)
        self._follow()

    def _hand_over(self, starter: Path, unit: Unit, disk: int, listener: socket) -> None:
        order = json.dumps({"bytes": unit.bytes}).encode()
        try:
            self._control.settimeout(READY_WITHIN)
            self._control.connect(str(starter))
            send_fds(self._control, [order], [disk, listener.fileno()])
        except OSError as error:
            self._set("unreadable", f"no process could be started to read it: {error.strerror}")

    def _follow(self) -> None:
        if self.state == "unreadable":
            return
        try:
            with self._control.makefile("rb") as lines:
                # That it can be read, and perhaps that it cannot any more; no reader says more.
                for line in islice(iter(lambda: lines.readline(MAX_LINE), b""), MAX_LINES):
                    said = json.loads(line)
                    why = said.get("why")
                    self._set(
                        "ready" if said["state"] == "ready" else "unreadable",
                        None if why is None else str(why),
                    )
                    self._control.settimeout(None)
            if self.state != "unreadable":
                self._set("unreadable", "what was to read it has ended: the disk may be damaged")
        except TimeoutError:
            self._set("unreadable", f"it could not be read within {READY_WITHIN:.0f} s")
        except (OSError, ValueError, KeyError, AttributeError) as error:
            self._set("unreadable", f"what reads it is not understood: {type(error).__name__}")

    def _set(self, state: str, why: str | None) -> None:
        if self._closed:
            return
        self.why = why and " ".join(why.split())[:WHY_LENGTH]
        self.state = state
        log.log(
            logging.INFO if state == "ready" else logging.WARNING,
            "a disk is %s",
            state,
            extra={"socket": self.socket, "why": self.why},
        )
        self._on_change()


def _open(path: Path, unit: Unit) -> int:
    """Open a disk for reading alone, if it is the one that sysfs tells of."""
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    number = os.fstat(opened).st_rdev
    if f"{os.major(number)}:{os.minor(number)}" != unit.device:
        os.close(opened)
        raise FileNotFoundError(f"{path} is another disk by now")
    return opened


def _listen(at: Path) -> socket:
    """A socket for whoever is in our group."""
    at.unlink(missing_ok=True)
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        listener.bind(str(at))
        at.chmod(0o660)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
