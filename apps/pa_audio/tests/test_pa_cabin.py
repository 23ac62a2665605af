"""Datagrams out to the cabin, by an interface that goes and comes."""

from __future__ import annotations

from ipaddress import IPv4Address

from pyroute2 import IPRoute

from apps.common.testing import wait_until
from apps.pa_audio.cabin import Cabin
from apps.pa_audio.tests.cabin import Network

NAME, ADDRESS = "dummy0", IPv4Address("198.18.5.1")


def appear() -> None:
    """Make the interface, each time a new one."""
    with IPRoute() as route:
        route.link("add", ifname=NAME, kind="veth", peer="dummy1")
        (index,) = route.link_lookup(ifname=NAME)
        route.addr("add", index=index, address=f"{ADDRESS}/24")
        route.link("set", index=index, state="up")


def vanish() -> None:
    with IPRoute() as route:
        (index,) = route.link_lookup(ifname=NAME)
        route.link("del", index=index)


def test_an_interface_that_is_made_anew_is_used_again(network: Network) -> None:
    def come_and_go() -> None:
        cabin = Cabin(NAME, ADDRESS, (0, 1), ttl=1)
        cabin.send(0, b"a PA")
        assert "interface dummy0" in (cabin.trouble or "")

        def goes_out() -> bool:
            cabin.send(0, b"a PA")
            return cabin.trouble is None

        for _ in range(2):
            appear()
            wait_until(goes_out, "it goes out")
            vanish()
            wait_until(lambda: not goes_out(), "it does not go out")
        assert (cabin.groups, cabin.sent > 0, cabin.lost > 0) == ((0, 1), True, True)
        cabin.close()

    network.run(network.server, come_and_go)
