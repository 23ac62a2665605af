"""Multicast on real sockets: on the loopback interface, and on veth pairs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

import pytest

from apps.common.testing import wait_until_async
from apps.player.multicast import MulticastReceiver

Group = tuple[IPv4Address, int]

SOURCE = IPv4Address("127.0.0.1")


@contextlib.contextmanager
def sender(
    group: Group, interface: str = "lo", address: str = str(SOURCE)
) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        index = socket.if_nametoindex(interface)
        mreqn = struct.pack("=4s4si", bytes(4), bytes(4), index)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, mreqn)
        sock.bind((address, 0))
        sock.connect((str(group[0]), group[1]))
        yield sock


def memberships(group: Group) -> int:
    """How many sockets of this machine joined the group, as the kernel counts them."""
    number = struct.unpack("<I", group[0].packed)[0] if sys.byteorder == "little" else int(group[0])
    with open("/proc/net/igmp") as table:  # noqa: PTH123 - a table of the kernel's
        for line in table:
            fields = line.split()
            if fields and fields[0] == f"{number:08X}":
                return int(fields[1])
    return 0


def test_every_receiver_of_a_group_hears_it(group: Group) -> None:
    async def run() -> None:
        heard: list[tuple[int, bytes]] = []

        def listener(number: int) -> Callable[[bytes], None]:
            return lambda datagram: heard.append((number, datagram))

        receivers = [
            MulticastReceiver("lo", *group, SOURCE, listener(number)) for number in range(3)
        ]
        for receiver in receivers:
            receiver.rejoin()
            assert receiver.trouble is None
        with sender(group) as sock:
            sock.send(b"hello")
            await wait_until_async(lambda: len(heard) == 3, "all three hear it")
        assert sorted(heard) == [(number, b"hello") for number in range(3)]
        assert memberships(group) == 3
        for receiver in receivers:
            receiver.close()
        assert memberships(group) == 0

    asyncio.run(run())


def test_other_groups_and_unicast_to_the_port_are_not_heard(group: Group) -> None:
    other = (group[0] + 1, group[1])

    async def run() -> None:
        heard: list[bytes] = []
        neighbour: list[bytes] = []
        receiver = MulticastReceiver("lo", *group, SOURCE, lambda datagram: heard.append(datagram))
        beside = MulticastReceiver(
            "lo", *other, SOURCE, lambda datagram: neighbour.append(datagram)
        )
        receiver.rejoin()
        beside.rejoin()
        with sender(other) as sock:
            sock.send(b"not ours")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"unicast", ("127.0.0.1", group[1]))
        with sender(group) as sock:
            sock.send(b"ours")
        await wait_until_async(lambda: heard and neighbour, "both hear theirs")
        assert (heard, neighbour) == ([b"ours"], [b"not ours"])
        receiver.close()
        beside.close()

    asyncio.run(run())


def test_the_kernel_drops_what_another_sends_to_the_group(group: Group) -> None:
    async def run() -> None:
        heard: list[bytes] = []
        receiver = MulticastReceiver("lo", *group, SOURCE, lambda datagram: heard.append(datagram))
        for _ in range(2):
            receiver.rejoin()
            with sender(group, address="127.0.0.2") as sock:
                sock.send(b"from another")
            with sender(group) as sock:
                sock.send(b"from the server")
        await wait_until_async(lambda: len(heard) >= 2, "it hears the server")
        assert heard == [b"from the server"] * 2
        receiver.close()

    asyncio.run(run())


def test_an_oversize_datagram_is_seen_to_be_one(group: Group) -> None:
    async def run() -> None:
        heard: list[bytes] = []
        receiver = MulticastReceiver("lo", *group, SOURCE, lambda datagram: heard.append(datagram))
        receiver.rejoin()
        with sender(group) as sock:
            sock.send(b"x" * 5000)
            await wait_until_async(lambda: heard, "it comes")
        assert len(heard[0]) == 1401
        receiver.close()

    asyncio.run(run())


def test_rejoining_keeps_one_membership_and_goes_on_hearing(group: Group) -> None:
    async def run() -> None:
        heard: list[bytes] = []
        receiver = MulticastReceiver("lo", *group, SOURCE, lambda datagram: heard.append(datagram))
        for number in range(3):
            receiver.rejoin()
            assert (receiver.trouble, memberships(group)) == (None, 1)
            with sender(group) as sock:
                sock.send(b"%d" % number)
            await wait_until_async(lambda number=number: len(heard) > number, "it hears")  # type: ignore[misc]
        receiver.close()

    asyncio.run(run())


def test_an_interface_that_is_away_is_told(group: Group) -> None:
    async def run() -> None:
        receiver = MulticastReceiver("nosuch0", *group, SOURCE, lambda *_: None)
        receiver.rejoin()
        assert receiver.trouble == "interface nosuch0: no interface with this name"
        receiver.close()

    asyncio.run(run())


IN_A_NAMESPACE = """
import asyncio, subprocess
from ipaddress import IPv4Address
from apps.player.multicast import MulticastReceiver
from apps.common.testing import wait_until_async
from test_player_multicast import sender

GROUP = (IPv4Address("239.192.73.1"), 5773)

def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, timeout=10)

def pair(name, peer, net):
    ip("link", "add", name, "type", "veth", "peer", "name", peer)
    for number, end in enumerate((name, peer), start=1):
        ip("address", "add", f"10.9.{net}.{number}/24", "dev", end)
        ip("link", "set", end, "up")
        open(f"/proc/sys/net/ipv4/conf/{end}/accept_local", "w").write("1")

def send(text, interface):
    with sender(GROUP, interface, "") as sock:
        sock.send(text)

async def run():
    heard = []
    server = IPv4Address("10.9.1.2")
    receiver = MulticastReceiver("cabin", *GROUP, server, lambda datagram: heard.append(datagram))
    receiver.rejoin()
    assert receiver.trouble, "the interface is not there yet"

    pair("cabin", "server", 1)
    pair("wifi", "phone", 2)
    receiver.rejoin()
    assert receiver.trouble is None, receiver.trouble
    # Someone else on this machine joins the same group elsewhere.
    beside = MulticastReceiver("wifi", *GROUP, IPv4Address("10.9.2.2"), lambda datagram: None)
    beside.rejoin()
    send(b"from a phone", "phone")
    send(b"from the server", "server")
    await wait_until_async(lambda: heard, "it hears the cabin")
    assert heard == [b"from the server"], heard

    # The interface goes and comes back as another, more often than a socket may be in groups.
    for number in range(25):
        ip("link", "delete", "cabin")
        if number % 2:
            receiver.rejoin()
            assert receiver.trouble, "the interface is gone"
        pair("cabin", "server", 1)
        receiver.rejoin()
        assert receiver.trouble is None, receiver.trouble
        send(b"again", "server")
        await wait_until_async(lambda: len(heard) == number + 2, "it hears again")
        assert heard[-1] == b"again", heard

asyncio.run(run())
print("all is well")
"""


def _in_a_namespace(command: list[str]) -> subprocess.CompletedProcess[str]:
    here = os.path.dirname(__file__)  # noqa: PTH120 - for PYTHONPATH
    return subprocess.run(
        ["unshare", "--net", "--map-root-user", *command],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([here, *sys.path])},
    )


@pytest.mark.skipif(
    shutil.which("unshare") is None or _in_a_namespace(["true"]).returncode != 0,
    reason="this machine makes no network namespaces for us",
)
def test_only_the_named_interface_is_heard_also_when_it_comes_and_goes() -> None:
    done = _in_a_namespace([sys.executable, "-c", IN_A_NAMESPACE])
    assert (done.stdout, done.returncode) == ("all is well\n", 0), done.stderr
