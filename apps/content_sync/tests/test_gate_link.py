"""The ground link: when the gate is open, and what the kernel says of a real interface."""

from __future__ import annotations

import os
import queue
from ipaddress import IPv4Address

import pytest
from pyroute2 import IPRoute, NetNS

from apps.common.testing import wait_until
from apps.content_sync.link import SETTLE, Gate, Link, LinkWatch, received
from bench.namespace import Namespace

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="making namespaces takes root rights")

HERE, HANGAR, BEYOND = (IPv4Address(text) for text in ("10.24.0.2", "10.24.0.1", "192.0.2.1"))
UP = Link(carrier=True, address=HERE, route=True)


def test_the_gate_opens_after_a_moment_and_closes_at_once() -> None:
    gate = Gate(needs_wow=True)
    assert gate.judge(UP, True, 10.0).why == "the link has just come up"
    assert gate.judge(UP, True, 10.0 + SETTLE).open
    assert gate.judge(UP, False, 20.0).why == "in flight"
    assert not gate.judge(UP, True, 20.1).open
    # A bounce while it settles begins it anew.
    gate.judge(UP, False, 20.1 + SETTLE / 2)
    assert not gate.judge(UP, True, 20.1 + SETTLE).open
    assert gate.judge(UP, True, 20.1 + 2 * SETTLE).open


@pytest.mark.parametrize(
    ("link", "wow", "why"),
    [
        (UP, None, "nobody tells whether there is weight on the wheels"),
        (UP, False, "in flight"),
        (Link(), True, "there is no link to the ground"),
        (Link(carrier=True), True, "the ground has not given an address"),
        (Link(carrier=True, address=HERE), True, "there is no way to the Hangar"),
    ],
)
def test_it_says_why_it_is_closed(link: Link, wow: bool | None, why: str) -> None:
    gate = Gate(needs_wow=True)
    for now in (0.0, 100.0):
        assert gate.judge(link, wow, now).why == why


def test_an_aircraft_without_the_discrete_goes_by_the_link() -> None:
    gate = Gate(needs_wow=False)
    gate.judge(UP, None, 0.0)
    state = gate.judge(UP, None, SETTLE)
    assert (state.open, state.address) == (True, HERE)


def test_another_address_leaves_it_open_and_is_told() -> None:
    gate = Gate(needs_wow=False)
    gate.judge(UP, None, 0.0)
    first = gate.judge(UP, None, SETTLE)
    other = gate.judge(Link(carrier=True, address=HANGAR, route=True), None, SETTLE + 0.1)
    assert other.open
    assert other != first


@as_root
def test_the_kernel_tells_of_carrier_address_and_route() -> None:
    told: queue.Queue[Link] = queue.Queue()
    with Namespace("link-a") as aircraft, Namespace("link-g") as ground:
        watch = LinkWatch("ground0", BEYOND, told.put)
        aircraft.run(watch.start)
        assert told.get(timeout=5) == Link()
        with NetNS(aircraft.name) as route:
            peer = {"ifname": "eth0", "net_ns_fd": ground.name}
            route.link("add", ifname="ground0", kind="veth", peer=peer)
            (index,) = route.link_lookup(ifname="ground0")
            route.link("set", index=index, state="up")
            ground.bring_up("eth0", f"{HANGAR}/24")
            assert told.get(timeout=5) == Link(carrier=True)
            route.addr("add", index=index, address=f"{HERE}/24")
            assert told.get(timeout=5) == Link(carrier=True, address=HERE)
            route.route("add", dst="default", gateway=str(HANGAR))
            assert told.get(timeout=5) == UP
            ground.set_down("eth0")
            gone = told.get(timeout=5)
            assert not gone.carrier
            ground.bring_up("eth0")
            wait_until(lambda: not told.empty() and told.get().carrier, "it is back")
            route.link("del", index=index)
            wait_until(lambda: not told.empty() and told.get() == Link(), "it is gone")
        assert aircraft.run(_received) == 0
        watch.close()
    assert watch.trouble is None


def _received() -> int:
    with IPRoute(groups=0) as route:
        return received(route, "ground0")
