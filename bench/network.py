"""The cabin's network: a namespace of its own, joined to the server by a pair of veth devices.

    server, this machine's namespace          the cabin's namespace
    ife-bench-0  198.18.0.1/22  ==== veth ====  cabin  198.18.0.2/22
                                                  |  nftables drops packets, both ways

Needs root. What it makes is gone when the namespace is: the kernel takes the pair with it.
"""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

from pyroute2 import IPRoute, NetNS, netns
from pyroute2.netlink.exceptions import NetlinkError

from bench.instance import BenchError, Instance

CABIN_INTERFACE = "cabin"
TIMEOUT = 10


def exists(instance: Instance) -> bool:
    """Whether the namespace, or the server's end of the link, is there."""
    return (Path("/run/netns") / instance.name).exists() or (
        Path("/sys/class/net") / instance.name
    ).exists()


def create(instance: Instance) -> None:
    """Make the namespace and the link, both ends up.

    Raises:
        BenchError: the kernel refuses.
    """
    try:
        netns.create(instance.name)
        with IPRoute() as server:
            server.link(
                "add",
                ifname=instance.name,
                kind="veth",
                peer={"ifname": CABIN_INTERFACE, "net_ns_fd": instance.name},
            )
            _bring_up(server, instance.name, str(instance.server))
        with NetNS(instance.name) as cabin:
            _bring_up(cabin, "lo", None)
            _bring_up(cabin, CABIN_INTERFACE, str(instance.cabin))
    except (NetlinkError, OSError) as error:
        remove(instance)
        raise BenchError(
            f"the cabin's network cannot be made: {error}. In a container it needs the right to "
            "(--privileged); without it use the loopback interface: make demo LOOPBACK=1"
        ) from error


def remove(instance: Instance) -> None:
    """Take it all away, as far as it is there."""
    with IPRoute() as server, contextlib.suppress(NetlinkError):
        for index in server.link_lookup(ifname=instance.name):
            server.link("del", index=index)
    with contextlib.suppress(OSError):
        netns.remove(instance.name)


def set_link(instance: Instance, up: bool) -> None:
    """Plug the server's end in, or pull it."""
    with IPRoute() as server:
        for index in server.link_lookup(ifname=instance.name):
            server.link("set", index=index, state="up" if up else "down")


def drop(instance: Instance, percent: int) -> None:
    """Drop this share of all packets, at random, each way. 0: none.

    But for multicast: one packet is for every seat here, and on an aircraft each seat's link
    drops its own, so the simulated seats do that (`bench.cabin`).

    Raises:
        BenchError: nftables refuses.
    """
    rules = "table inet cabin\nflush table inet cabin\n"
    if percent:
        rules += f"""
table inet cabin {{
    chain in {{
        type filter hook input priority 0
        ip daddr 224.0.0.0/4 accept
        iifname {CABIN_INTERFACE} numgen random mod 100 < {percent} drop
    }}
    chain out {{
        type filter hook output priority 0
        oifname {CABIN_INTERFACE} numgen random mod 100 < {percent} drop
    }}
}}
"""
    else:
        rules += "delete table inet cabin\n"
    done = subprocess.run(
        ["ip", "netns", "exec", instance.name, "nft", "-f", "-"],
        input=rules,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    if done.returncode != 0:
        raise BenchError(f"nftables refuses: {done.stderr.strip()}")


def _bring_up(route: IPRoute, interface: str, address: str | None) -> None:
    (index,) = route.link_lookup(ifname=interface)
    if address:
        route.addr("add", index=index, address=address)
    route.link("set", index=index, state="up")
