"""Datagrams out to the cabin's groups, each by a socket of its own. Nothing here waits."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterable
from ipaddress import IPv4Address

from apps.common.multicast import EXPEDITED, sending_socket
from apps.common.pa import PORT, group

log = logging.getLogger(__name__)

RETRY_EVERY = 0.050
"""Seconds between two tries to open a socket."""


class Cabin:
    """Sends to groups through one interface. While that is away, `trouble` says so."""

    def __init__(
        self, interface: str, source: IPv4Address, groups: Iterable[int], ttl: int
    ) -> None:
        self._interface = interface
        self._source = source
        self._ttl = ttl
        self._sockets: dict[int, socket.socket | None] = dict.fromkeys(groups)
        self._next_try = dict.fromkeys(self._sockets, 0.0)
        self.trouble: str | None = None
        self.sent = self.lost = 0

    @property
    def groups(self) -> tuple[int, ...]:
        """All that there are."""
        return tuple(self._sockets)

    def send(self, area: int, datagram: bytes) -> None:
        """Send to a group, if that is possible now. Never raises."""
        try:
            sock = self._sockets[area] or self._open(area)
            if sock is None:
                self.lost += 1
                return
            sock.send(datagram)
        except OSError as error:
            self.lost += 1
            self._failed(area, error)
        else:
            self.sent += 1
            if self.trouble is not None:
                log.info("the PA goes out again", extra={"interface": self._interface})
                self.trouble = None

    def close(self) -> None:
        """Close the sockets."""
        for area in self._sockets:
            self._drop(area)

    def _open(self, area: int) -> socket.socket | None:
        now = time.monotonic()
        if now < self._next_try[area]:
            return None
        self._next_try[area] = now + RETRY_EVERY
        sock = sending_socket(
            self._interface, self._source, group(area), PORT, self._ttl, EXPEDITED
        )
        self._sockets[area] = sock
        return sock

    def _failed(self, area: int, error: OSError) -> None:
        if self.trouble is None:
            log.warning(
                "the PA is not going out",
                extra={"interface": self._interface, "error": str(error)},
            )
        self.trouble = f"interface {self._interface}: {error.strerror or error}"
        self._drop(area)

    def _drop(self, area: int) -> None:
        sock, self._sockets[area] = self._sockets[area], None
        if sock is not None:
            sock.close()
