"""Frames in from the cabin's multicast group, through one named interface (ip(7))."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from ipaddress import IPv4Address

from apps.common.multicast import Membership, receiving_socket
from apps.common.protocol import MAX_DATAGRAM

log = logging.getLogger(__name__)


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
        self._on_datagram = on_datagram
        self._socket: socket.socket | None = None
        self._membership = Membership(interface, group, source)
        self.trouble: str | None = "not joined yet"
        """A sentence while the group is not joined."""

    def rejoin(self) -> None:
        """Leave the group and join it again, so that switches on the way hear of it."""
        try:
            if self._socket is None:
                self._socket = receiving_socket(self._group, self._port)
                asyncio.get_running_loop().add_reader(self._socket, self._readable, self._socket)
            self._membership.renew(self._socket)
        except OSError as error:
            trouble = f"interface {self._interface}: {error.strerror or error}"
            if trouble != self.trouble:
                log.warning(
                    "multicast is not coming in",
                    extra={"group": str(self._group), "trouble": trouble},
                )
            self.trouble = trouble
        else:
            self.trouble = None

    def close(self) -> None:
        """Leave the group, hear no more."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
        self._socket = None

    def _readable(self, sock: socket.socket) -> None:
        # One at a time: the loop then comes round to everything else, even in a flood.
        try:
            datagram = sock.recv(MAX_DATAGRAM + 1)
        except OSError:
            # Nothing there after all, or an error that was only told (the interface went down).
            return
        self._on_datagram(datagram)
