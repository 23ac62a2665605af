"""Frames go out when they should, through the interface that was named."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from apps.common.protocol import REPEAT_AFTER, REPEAT_WHILE_MISSING
from apps.seat_control.multicast import MulticastSender

GROUP = IPv4Address("239.192.73.99")
SOURCE = IPv4Address("127.0.0.1")


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((str(GROUP), 0))
    membership = struct.pack("=4s4si", GROUP.packed, bytes(4), socket.if_nametoindex("lo"))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    sock.settimeout(2)
    yield sock
    sock.close()


def sender(interface: str, port: int) -> MulticastSender:
    return MulticastSender(interface, SOURCE, GROUP, port, 1, lambda: b"beacon")


def test_a_frame_goes_at_once_and_again_after_20_and_80_ms(receiver: socket.socket) -> None:
    multicast = sender("lo", receiver.getsockname()[1])
    multicast.start()
    assert receiver.recv(100) == b"beacon"
    began = time.monotonic()
    multicast.send(b"frame", lambda: False)
    heard: list[float] = []
    while len(heard) < 3:
        assert receiver.recv(100) == b"frame"
        heard.append(time.monotonic() - began)
    # Never early; how late they are is the machine's affair.
    assert heard[1] >= 0.020
    assert heard[2] >= 0.080
    assert receiver.recv(100) == b"beacon"
    multicast.close()


def test_an_interface_that_is_away_is_told_and_comes_back(receiver: socket.socket) -> None:
    multicast = sender("nosuch0", receiver.getsockname()[1])
    multicast.start()
    multicast.send(b"frame", lambda: False)
    assert "nosuch0" in (multicast.trouble or "")
    multicast._interface = "lo"
    multicast.send(b"frame", lambda: False)
    assert multicast.trouble is None
    assert receiver.recv(100) == b"frame"
    multicast.close()


def test_a_frame_that_is_missing_goes_out_until_it_is_not(receiver: socket.socket) -> None:
    multicast = sender("lo", receiver.getsockname()[1])
    multicast.start()
    wanted = iter([True, True, False, False, False])
    multicast.send(b"frame", lambda: next(wanted))
    heard = 0
    deadline = time.monotonic() + REPEAT_WHILE_MISSING[-1] + 0.3
    while time.monotonic() < deadline:
        heard += receiver.recv(100) == b"frame"  # or a beacon, each second
    assert heard == 1 + len(REPEAT_AFTER) + 2
    assert list(wanted) == []  # asked for each
    multicast.close()


def test_beacons_go_out_however_many_repeats_are_late(receiver: socket.socket) -> None:
    def slowly() -> bool:
        time.sleep(0.05)
        return True

    multicast = sender("lo", receiver.getsockname()[1])
    multicast.start()
    assert receiver.recv(100) == b"beacon"
    for _ in range(40):
        multicast.send(b"frame", slowly)  # 200 of them are asked for: 10 s
    beacons = 0
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        beacons += receiver.recv(100) == b"beacon"
    assert beacons >= 3
    multicast.close()
