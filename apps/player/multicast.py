"""Frames in from the cabin's multicast group, through one named interface (ip(7))."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv4Address

from apps.common.protocol import MAX_DATAGRAM

log = logging.getLogger(__name__)

RECEIVE_BUFFER = 1024 * 1024
"""Bytes; the kernel gives less where net.core.rmem_max is lower."""

IP_MULTICAST_ALL = 49
MCAST_JOIN_SOURCE_GROUP = 46
MCAST_LEAVE_SOURCE_GROUP = 47
"""From linux/in.h; Python's socket module has no names for them."""

_GROUP_SOURCE = struct.Struct("@I4x128s128s" if struct.calcsize("P") == 8 else "@I128s128s")
"""struct group_source_req (RFC 3678): interface index, group, source, each address in a
sockaddr_storage, which is aligned as a pointer is."""


def _address(ip: IPv4Address) -> bytes:
    """The start of a struct sockaddr_in; zeros follow."""
    return struct.pack("=HH4s", socket.AF_INET, 0, ip.packed)


class MulticastReceiver:
    """Hands each datagram of a group to a callback, on the running event loop.

    Args:
        interface: its name. It may be away, or go away; `rejoin` finds it again.
        source: the only address whose datagrams are wanted; the kernel drops those of others
            (source-specific multicast, RFC 4607).
        on_datagram: called with the datagram, one byte longer than `MAX_DATAGRAM` at most.
    """

    def __init__(
        self,
        interface: str,
        group: IPv4Address,
        port: int,
        source: IPv4Address,
        on_datagram: Callable[[bytes], None],
    ) -> None:
        self._interface = interface
        self._group = group
        self._port = port
        self._source = source
        self._on_datagram = on_datagram
        self._socket: socket.socket | None = None
        self._membership: bytes | None = None
        self.trouble: str | None = "not joined yet"
        """A sentence while the group is not joined."""

    def rejoin(self) -> None:
        """Leave the group and join it again, so that switches on the way hear of it."""
        try:
            if self._socket is None:
                self._socket = self._open()
                asyncio.get_running_loop().add_reader(self._socket, self._readable, self._socket)
            self._leave(self._socket)
            # By index, not by an address that the interface may not have yet.
            index = socket.if_nametoindex(self._interface)
            membership = _GROUP_SOURCE.pack(index, _address(self._group), _address(self._source))
            self._socket.setsockopt(socket.IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, membership)
            self._membership = membership
        except OSError as error:
            if self.trouble is None:
                log.warning("multicast is not coming in", extra={"error": str(error)})
            self.trouble = f"interface {self._interface}: {error.strerror or error}"
        else:
            self.trouble = None

    def close(self) -> None:
        """Leave the group, hear no more."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
        self._socket = self._membership = None

    def _open(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            # Else the kernel also hands over what others on this machine joined elsewhere.
            sock.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
            # The group's own address: to the wildcard would come what others send to the port.
            sock.bind((str(self._group), self._port))
        except OSError:
            sock.close()
            raise
        return sock

    def _leave(self, sock: socket.socket) -> None:
        if self._membership is None:
            return
        # The interface may have gone, and the membership with it.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_IP, MCAST_LEAVE_SOURCE_GROUP, self._membership)
        self._membership = None

    def _readable(self, sock: socket.socket) -> None:
        # One at a time: the loop then comes round to everything else, even in a flood.
        try:
            datagram = sock.recv(MAX_DATAGRAM + 1)
        except OSError:
            # Nothing there after all, or an error that was only told (the interface went down).
            return
        self._on_datagram(datagram)
