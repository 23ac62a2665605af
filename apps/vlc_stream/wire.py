"""Transport streams in RTP, in and out of multicast groups."""

from __future__ import annotations

import os
import socket
from ipaddress import IPv4Address

from apps.common import rtp
from apps.common.multicast import Membership, receiving_socket, sending_socket
from apps.vlc_stream.orders import DSCP, Output

MAX_DATAGRAM = 2048

REJOIN_AFTER = 3.0
"""Seconds of silence after which a group is joined again: an interface that was made anew has no
memberships, and switches may forget them."""


class RtpSender:
    """Sends TS packets to a group. While the interface is away they are left out.

    Attributes:
        trouble: why nothing goes out; None while it does.
    """

    def __init__(self, output: Output, group: IPv4Address, port: int) -> None:
        self._output = output
        self._group = group
        self._port = port
        self._socket: socket.socket | None = None
        self._ssrc = int.from_bytes(os.urandom(4), "big")
        self._sequence = int.from_bytes(os.urandom(2), "big")
        self.trouble: str | None = None

    def send(self, data: bytes | bytearray, seconds: float) -> None:
        """Send TS packets; `seconds` is a clock that goes on evenly."""
        timestamp = int(seconds * 90_000) & 0xFFFFFFFF
        head = rtp.HEADER.pack(0x80, rtp.MP2T, self._sequence, timestamp, self._ssrc)
        self._sequence = self._sequence + 1 & 0xFFFF
        out = self._output
        try:
            if self._socket is None:
                self._socket = sending_socket(
                    out.interface, out.source, self._group, self._port, out.ttl, DSCP
                )
            self._socket.send(head + data)
        except OSError as error:
            self.trouble = f"interface {out.interface}: {error.strerror or error}"
            self.close()
        else:
            self.trouble = None

    def close(self) -> None:
        """Close the socket; the next packet opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def open_receiver(
    interface: str, group: IPv4Address, port: int, source: IPv4Address
) -> socket.socket:
    """A socket that hears what `source` sends to the group, by that interface, and nothing else.

    Raises:
        OSError: the interface is not there.
    """
    sock = receiving_socket(group, port)
    try:
        Membership(interface, group, source).renew(sock)
    except OSError:
        sock.close()
        raise
    return sock
