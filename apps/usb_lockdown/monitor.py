"""Hears from udev what is plugged in and pulled out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pyudev

log = logging.getLogger(__name__)

WAIT = 1.0
"""Seconds after which it looks whether it is to end."""


class Monitor:
    """Calls back whenever a USB or block device comes, changes or goes, in a thread of its own.

    udev passes the kernel's word on when it has done what its rules say, so that the files are ours
    by then. What it says is not looked at: sysfs has all of it.

    Attributes:
        trouble: why nothing is heard, None while all is well.
    """

    def __init__(self, on_event: Callable[[], None]) -> None:
        self.trouble: str | None = None
        self._on_event = on_event
        self._closing = False
        self._thread = threading.Thread(target=self._hear, name="udev", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._closing = True
        if self._thread.is_alive():
            self._thread.join(3 * WAIT)

    def _hear(self) -> None:
        try:
            monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="udev")
            monitor.filter_by("usb")
            monitor.filter_by("block")
            monitor.start()
        except (OSError, ImportError) as error:
            self.trouble = f"udev is not heard, so devices are noticed late: {error}"
            log.warning("udev is not heard", extra={"error": str(error)})
            return
        self._on_event()
        while not self._closing:
            try:
                if monitor.poll(WAIT) is not None:
                    self._on_event()
            except OSError as error:
                # More came at once than the socket holds (ENOBUFS): all is looked at anyway.
                log.warning("some of what udev said was lost", extra={"error": str(error)})
                self._on_event()
