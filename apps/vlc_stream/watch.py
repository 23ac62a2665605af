"""Listens whether a stream is on its group: what is on the wire is what the seats get."""

from __future__ import annotations

import socket
import time
from ipaddress import IPv4Address

from apps.common.rtp import payload
from apps.vlc_stream.orders import Output
from apps.vlc_stream.wire import MAX_DATAGRAM, open_receiver

SMALL_BUFFER = 4096
"""Bytes; the kernel doubles it. It holds some two packets and drops all others, so to listen to a
channel costs a look now and then instead of 400 packets a second."""


class Listener:
    """Hears one group. `heard` is when the last packet was found there, on the monotonic clock."""

    def __init__(self, output: Output, group: IPv4Address, port: int) -> None:
        self._output = output
        self._group = group
        self._port = port
        self._socket: socket.socket | None = None
        self.heard: float | None = None

    def look(self) -> None:
        """See whether packets came since the last look."""
        out = self._output
        try:
            if self._socket is None:
                self._socket = open_receiver(out.interface, self._group, self._port, out.source)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            for _ in range(100):
                if payload(self._socket.recv(MAX_DATAGRAM)) is not None:
                    self.heard = time.monotonic()
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def close(self) -> None:
        """Leave the group; the next look joins it again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
