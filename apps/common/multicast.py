"""Multicast through one named interface, never where the routing table says (ip(7))."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
from ipaddress import IPv4Address

RECEIVE_BUFFER = 1024 * 1024
"""Bytes; the kernel gives less where net.core.rmem_max is lower."""

EXPEDITED = 46
"""The DSCP of what must not wait: expedited forwarding (RFC 3246)."""

IP_MULTICAST_ALL = 49
MCAST_JOIN_SOURCE_GROUP = 46
"""From linux/in.h; Python's socket module has no names for them."""

_MREQN = struct.Struct("=4s4si")
"""struct ip_mreqn (ip(7)): group, address, interface index, which it goes by if there is one."""

_GROUP_SOURCE = struct.Struct("@I4x128s128s" if struct.calcsize("P") == 8 else "@I128s128s")
"""struct group_source_req (RFC 3678): interface index, group, source, each address in a
sockaddr_storage, which is aligned as a pointer is."""


_SIOCGIFFLAGS = 0x8913
_UP_AND_RUNNING = 0x41
"""netdevice(7): IFF_UP and IFF_RUNNING."""


def is_up(interface: str) -> bool:
    """Whether the interface is there, up, and its cable is plugged in."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack("256s", interface.encode()))
        flags: int = struct.unpack_from("=h", answer, 16)[0]
        return flags & _UP_AND_RUNNING == _UP_AND_RUNNING
    return False


def sending_socket(
    interface: str, source: IPv4Address, group: IPv4Address, port: int, ttl: int, dscp: int = 0
) -> socket.socket:
    """A socket that sends to a group, without blocking, from the address that `interface` has.

    Raises:
        OSError: the interface, or its address, is away.
    """
    # By index, not by an address that the interface may not have yet.
    mreqn = _MREQN.pack(bytes(4), bytes(4), socket.if_nametoindex(interface))
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, mreqn)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)
        # Bound to the device too, so that no routing table has a say.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sock.bind((str(source), 0))
        sock.connect((str(group), port))
    except OSError:
        sock.close()
        raise
    return sock


def receiving_socket(group: IPv4Address, port: int) -> socket.socket:
    """A socket that receives what comes to a group, without blocking, once it is joined.

    Raises:
        OSError: the kernel refuses.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        # Else the kernel also hands over what others on this machine joined elsewhere.
        sock.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
        # The group's own address: to the wildcard would come what others send to the port.
        sock.bind((str(group), port))
    except OSError:
        sock.close()
        raise
    return sock


class Membership:
    """A socket's membership of a group on one interface, for what one source sends (RFC 4607)."""

    def __init__(self, interface: str, group: IPv4Address, source: IPv4Address) -> None:
        self._interface = interface
        self._group = group
        self._source = source
        self._joined: bytes | None = None
        """The struct ip_mreqn to leave by."""

    def renew(self, sock: socket.socket) -> None:
        """Leave the group and join it again, so that switches on the way hear of it.

        Raises:
            OSError: the interface is away.
        """
        if self._joined is not None:
            # Also of an interface that has gone, for which leaving the source's is refused: a
            # socket is in 20 groups at most, those on such interfaces among them.
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, self._joined)
            self._joined = None
        # By index, not by an address that the interface may not have yet.
        index = socket.if_nametoindex(self._interface)
        joined = _GROUP_SOURCE.pack(index, _address(self._group), _address(self._source))
        sock.setsockopt(socket.IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, joined)
        self._joined = _MREQN.pack(self._group.packed, bytes(4), index)


def _address(ip: IPv4Address) -> bytes:
    """The start of a struct sockaddr_in; zeros follow."""
    return struct.pack("=HH4s", socket.AF_INET, 0, ip.packed)
