"""Listens whether a stream is on its group: what is on the wire is what the seats get."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from ipaddress import IPv4Address

from apps.common.multicast import Membership, receiving_socket
from apps.common.rtp import payload
from apps.vlc_stream.orders import Output
from apps.vlc_stream.wire import MAX_DATAGRAM, REJOIN_AFTER

SMALL_BUFFER = 4096
"""Bytes; the kernel doubles it. It holds some two packets and drops all others, so to listen to a
channel costs a look now and then instead of 400 packets a second."""


class Listener:
    """Hears one group. `heard` is when the last packet was found there, on the monotonic clock."""

    def __init__(self, output: Output, group: IPv4Address, port: int) -> None:
        self._group = group
        self._port = port
        self._membership = Membership(output.interface, group, output.source)
        self._socket: socket.socket | None = None
        self._joined: float | None = None
        self.heard: float | None = None

    def look(self) -> None:
        """See whether packets came since the last look; where none do, join the group again."""
        now = time.monotonic()
        if self._socket is not None:
            with suppress(OSError):
                for _ in range(100):
                    if payload(self._socket.recv(MAX_DATAGRAM)) is not None:
                        self.heard = now
        if self._joined is None or now - max(self.heard or 0.0, self._joined) > REJOIN_AFTER:
            self._joined = None
            with suppress(OSError):
                self._join()
                self._joined = now

    def _join(self) -> None:
        if self._socket is None:
            self._socket = receiving_socket(self._group, self._port)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        self._membership.renew(self._socket)

    def close(self) -> None:
        """Leave the group."""
        if self._socket is not None:
            self._socket.close()
