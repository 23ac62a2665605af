"""The real rules, in a network namespace that is the server, with real packets of others."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyroute2 import NetNS

from bench.namespace import Namespace
from tests.roles.helpers import render

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="making namespaces takes root rights")

NETWORKS = {"cabin": "10.20.0", "crew": "10.22.0", "ground": "10.24.0", "avionics": "10.23.0"}
"""The first bytes of each: the server is .1, another host .2 and .3, a second device .4."""

PORTS = (
    {"network": "cabin", "protocol": "tcp", "port": 443},
    {"network": "cabin", "protocol": "udp", "port": 5006},
    {"network": "crew", "protocol": "tcp", "port": 443},
    {"network": "ground", "protocol": "tcp", "port": 22},
)
DROPPED = 0.3
"""Seconds without an answer after which a packet counts as dropped. Answers take under 1 ms."""


@dataclass(frozen=True)
class Aircraft:
    """The server's namespace, and one for each network's other host."""

    server: Namespace
    others: dict[str, Namespace]
    second: Namespace
    """Another device in the cabin."""

    def load(self, folder: Path, **variables: object) -> None:
        """Load the firewall's rules, anew."""
        rules = render(
            folder,
            "firewall",
            "nftables.conf.j2",
            network_interfaces=[{"name": name} for name in NETWORKS],
            _firewall_ports=PORTS,
            **variables,
        )
        self.server.run(subprocess.run, ["nft", "-f", rules])

    def reaches(self, network: str, address: str, port: int, source: str = "") -> bool:
        """Whether a TCP connection from that network's host comes about."""
        return self.others[network].run(_connects, address, port, source)


def _connects(address: str, port: int, source: str) -> bool:
    with socket.socket() as client:
        client.settimeout(DROPPED)
        client.bind((source, 0))
        try:
            client.connect((address, port))
        except TimeoutError:
            return False
        return True


def _listen(port: int) -> socket.socket:
    return socket.create_server(("", port), backlog=64)


def _join(server: Namespace, other: Namespace, network: str) -> None:
    prefix = NETWORKS[network]
    with NetNS(server.name) as here:
        here.link(
            "add",
            ifname=f"{network}0",
            kind="veth",
            peer={"ifname": "eth0", "net_ns_fd": other.name},
        )
    server.bring_up(f"{network}0", f"{prefix}.1/24")
    other.bring_up("eth0", f"{prefix}.2/24", f"{prefix}.3/24")
    with NetNS(other.name) as there:
        there.route("add", dst="0.0.0.0/0", gateway=f"{prefix}.1")


def _plug_in(device: Namespace, beside: Namespace, network: str) -> None:
    """Another device on the cable of one that is there, with a MAC address of its own."""
    with NetNS(beside.name) as there:
        (cable,) = there.link_lookup(ifname="eth0")
        there.link(
            "add",
            ifname="eth1",
            kind="macvlan",
            link=cable,
            macvlan_mode="bridge",
            net_ns_fd=device.name,
        )
    device.bring_up("eth1", f"{NETWORKS[network]}.4/24")


@pytest.fixture(scope="module")
def wired() -> Iterator[Aircraft]:
    """An aircraft that forwards and listens on every port that is asked for below."""
    with ExitStack() as stack:
        server = stack.enter_context(Namespace("server"))
        others = {name: stack.enter_context(Namespace(name)) for name in NETWORKS}
        for name, other in others.items():
            _join(server, other, name)
            stack.enter_context(other.run(_listen, 443))
        for port in (22, 443, 8000):
            stack.enter_context(server.run(_listen, port))
        second = stack.enter_context(Namespace("second"))
        _plug_in(second, others["cabin"], "cabin")
        server.run(Path("/proc/sys/net/ipv4/ip_forward").write_text, "1")
        yield Aircraft(server, others, second)


@pytest.fixture
def aircraft(wired: Aircraft, tmp_path: Path) -> Aircraft:
    """It has the firewall, as on an aircraft."""
    wired.load(tmp_path)
    return wired


@pytest.mark.parametrize("network", NETWORKS)
def test_open_is_what_roles_declare_and_nothing_else(aircraft: Aircraft, network: str) -> None:
    server = f"{NETWORKS[network]}.1"
    reached = {port for port in (22, 443, 8000) if aircraft.reaches(network, server, port)}
    assert reached == {
        port["port"] for port in PORTS if (port["network"], port["protocol"]) == (network, "tcp")
    }


def test_without_the_firewall_all_of_it_is_open(wired: Aircraft) -> None:
    """What the other tests find closed is closed by the firewall."""
    wired.server.run(subprocess.run, ["nft", "flush", "ruleset"])
    assert wired.reaches("cabin", f"{NETWORKS['cabin']}.1", 8000)
    assert wired.reaches("cabin", f"{NETWORKS['crew']}.1", 443)
    assert wired.reaches("cabin", f"{NETWORKS['crew']}.2", 443)


def test_an_address_is_reached_from_its_own_network_only(aircraft: Aircraft) -> None:
    """A seat does not get the crew's page, which has the port that is open to seats."""
    assert not aircraft.reaches("cabin", f"{NETWORKS['crew']}.1", 443)


def test_a_stream_is_let_in_whole_and_none_to_another_port(aircraft: Aircraft) -> None:
    """A pilot or a crew member who comes by multicast sends up to 1,000 packets a second."""
    prefix = NETWORKS["cabin"]
    with (
        aircraft.server.run(_hears, f"{prefix}.1", 5006) as stream,
        aircraft.server.run(_hears, f"{prefix}.1", 5007) as other,
    ):
        aircraft.others["cabin"].run(_stream, f"{prefix}.2", 5006, 2000)
        aircraft.others["cabin"].run(_stream, f"{prefix}.2", 5007, 10)
        assert _drain(stream) == 2000
        assert _drain(other) == 0


STREAM = "239.1.1.1"
SO_RCVBUFFORCE = 33
"""From asm-generic/socket.h: the machine's bound may be too low for all that is sent."""


def _hears(interface: str, port: int) -> socket.socket:
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
    sock.bind((STREAM, port))
    member = socket.inet_aton(STREAM) + socket.inet_aton(interface)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    return sock


def _stream(source: str, port: int, count: int) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(source))
        for _ in range(count):
            sender.sendto(bytes(20), (STREAM, port))
            time.sleep(0.0005)


def _drain(sock: socket.socket) -> int:
    sock.settimeout(DROPPED)
    count = 0
    with suppress(TimeoutError):
        while sock.recv(100):
            count += 1
    return count


def test_nothing_goes_from_one_network_to_another(aircraft: Aircraft) -> None:
    assert not aircraft.reaches("cabin", f"{NETWORKS['crew']}.2", 443)


def test_the_server_reaches_the_cabin_and_not_the_avionics(aircraft: Aircraft) -> None:
    assert aircraft.server.run(_connects, f"{NETWORKS['cabin']}.2", 443, "")
    with pytest.raises(PermissionError):
        aircraft.server.run(_send, f"{NETWORKS['avionics']}.2")


def _send(address: str) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(b"", (address, 443))


def test_the_avionics_hear_nothing_not_even_an_answer_to_who_has_an_address(
    aircraft: Aircraft,
) -> None:
    avionics, address = aircraft.others["avionics"], f"{NETWORKS['avionics']}.1"
    avionics.run(subprocess.run, ["ip", "neigh", "flush", "dev", "eth0"])
    sent = _sent(aircraft.server, "avionics0")
    assert not aircraft.reaches("avionics", address, 443)
    with pytest.raises(PermissionError):
        aircraft.server.run(_send, f"{NETWORKS['avionics']}.2")
    assert _sent(aircraft.server, "avionics0") == sent


def _sent(namespace: Namespace, interface: str) -> int:
    """How many packets have left by an interface."""
    with NetNS(namespace.name) as route:
        (link,) = route.get_links(*route.link_lookup(ifname=interface))
        return int(link.get_attr("IFLA_STATS64")["tx_packets"])


def test_who_opens_connections_too_fast_disturbs_nobody_else(
    wired: Aircraft, tmp_path: Path
) -> None:
    """Not even whoever has the address that it gives as its own."""
    wired.load(tmp_path, firewall_connections_rate=1, firewall_connections_burst=5)
    prefix = NETWORKS["cabin"]
    came_in = [
        wired.reaches("cabin", f"{prefix}.1", 443, f"{prefix}.{2 + number % 2}")
        for number in range(12)
    ]
    assert came_in[:5] == [True] * 5
    assert not all(came_in)
    wired.others["cabin"].bring_up("eth0", f"{prefix}.4/24")
    # On a slow machine there may be one more again by now, but never another five.
    assert not all(wired.reaches("cabin", f"{prefix}.1", 443, f"{prefix}.4") for _ in range(5))
    # The server would send its answer to whoever last spoke from that address.
    wired.others["cabin"].run(
        subprocess.run, ["ip", "address", "delete", f"{prefix}.4/24", "dev", "eth0"], check=True
    )
    wired.server.run(subprocess.run, ["ip", "neighbour", "flush", "dev", "cabin0"], check=True)
    assert wired.second.run(_connects, f"{prefix}.1", 443, f"{prefix}.4")
