"""The ground link: is the aircraft at a gate, with a way to the Hangar?

What the kernel says of the ground's interface (carrier, address, route) comes by netlink, weight on
wheels by the bus. `Gate` judges, without I/O; `LinkWatch` looks whenever the kernel says that
something has changed, and at no other time.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_LINK

from apps.common.backoff import BackOff

log = logging.getLogger(__name__)

SETTLE = 1.0
"""Seconds for which all has to be well until the gate is open: wheels bounce, plugs chatter."""

_GROUPS = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE
_IFF_UP = 0x1
"""From linux/if.h."""


@dataclass(frozen=True, slots=True)
class Link:
    """What the kernel says of the ground's interface. `route`: the way to the Hangar is by it."""

    carrier: bool = False
    address: IPv4Address | None = None
    route: bool = False


@dataclass(frozen=True, slots=True)
class GateState:
    """Whether the gate is open, and by which address of ours; else why not, for people."""

    open: bool
    why: str = ""
    address: IPv4Address | None = None


class Gate:
    """Judges whether the gate is open: once all has been well for `SETTLE` s. It closes at once.

    Times are seconds of a clock that never goes back.

    Args:
        needs_wow: without weight on wheels it stays closed, also if nobody tells of it. An
            aircraft that has no such discrete goes by the link alone.
    """

    def __init__(self, *, needs_wow: bool) -> None:
        self._needs_wow = needs_wow
        self._well_since: float | None = None

    def judge(self, link: Link, wow: bool | None, now: float) -> GateState:
        """How it is now."""
        why = self._why_not(link, wow)
        if why:
            self._well_since = None
            return GateState(open=False, why=why)
        if self._well_since is None:
            self._well_since = now
        if now < self._well_since + SETTLE:
            return GateState(open=False, why="the link has just come up")
        # One that is open and gets another address stays open: who is connected has to see it.
        return GateState(open=True, address=link.address)

    def _why_not(self, link: Link, wow: bool | None) -> str:
        if self._needs_wow and wow is None:
            return "nobody tells whether there is weight on the wheels"
        if self._needs_wow and not wow:
            return "in flight"
        if not link.carrier:
            return _NO_LINK
        if link.address is None:
            return "the ground has not given an address"
        if not link.route:
            return "there is no way to the Hangar"
        return ""


_NO_LINK = "there is no link to the ground"


class LinkWatch:
    """Tells how the ground's interface is, at the start and whenever it has changed.

    Args:
        interface: its name; it may come and go.
        hangar: where the way has to lead.
        on_change: called with each `Link` that differs from the one before, in a thread.
    """

    def __init__(
        self, interface: str, hangar: IPv4Address, on_change: Callable[[Link], None]
    ) -> None:
        self._interface = interface
        self._hangar = hangar
        self._on_change = on_change
        self._last: Link | None = None
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="ground-link", daemon=True)
        self.trouble: str | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._wake.close()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        back_off = BackOff(0.5, 30)
        with self._woken:
            while True:
                try:
                    # Listens before it looks, so that nothing falls between the two.
                    with _events() as events, IPRoute(groups=0) as route:
                        self._look(route)
                        self.trouble = None
                        back_off.reset()
                        while self._wait(events):
                            self._look(route)
                        return
                except (OSError, NetlinkError) as error:
                    self.trouble = str(error)
                    log.warning("netlink fails", extra={"error": str(error)})
                    if select.select([self._woken], [], [], back_off.delay())[0]:
                        return

    def _wait(self, events: socket.socket) -> bool:
        """Wait until something has changed; False: it is to end."""
        if self._woken in select.select([events, self._woken], [], [])[0]:
            return False
        # What has changed is seen by looking; if there was too much to keep (ENOBUFS) as well.
        with contextlib.suppress(OSError):
            while events.recv(65536):
                pass
        return True

    def _look(self, route: IPRoute) -> None:
        link = look(route, self._interface, self._hangar)
        if link != self._last:
            self._last = link
            self._on_change(link)


def _events() -> socket.socket:
    """A socket that becomes readable when links, addresses or routes change (rtnetlink(7))."""
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    events.setblocking(False)
    try:
        events.bind((0, _GROUPS))
    except OSError:
        events.close()
        raise
    return events


def look(route: IPRoute, interface: str, hangar: IPv4Address) -> Link:
    """How an interface is now; one that is not there has no carrier.

    Raises:
        OSError, NetlinkError: the kernel does not tell.
    """
    index = next(iter(route.link_lookup(ifname=interface)), None)
    if index is None:
        return Link()
    try:
        (link,) = route.get_links(index)
        if not (link["flags"] & _IFF_UP and link.get_attr("IFLA_CARRIER")):
            return Link()
        addresses = [
            IPv4Address(message.get_attr("IFA_LOCAL"))
            for message in route.get_addr(family=socket.AF_INET, index=index)
        ]
        return Link(
            carrier=True,
            address=min(addresses, default=None),
            route=_leads_to(route, index, hangar),
        )
    except NetlinkError as error:
        if error.code == _ENODEV:
            return Link()
        raise


_ENODEV = 19
_NO_WAY = frozenset({101, 113, 13, 22})
"""ENETUNREACH, EHOSTUNREACH, EACCES and EINVAL: what routes of the types unreachable, prohibit and
blackhole answer (ip-route(8)), and what there is without any."""


def _leads_to(route: IPRoute, index: int, hangar: IPv4Address) -> bool:
    try:
        answers = route.route("get", dst=str(hangar))
        return any(answer.get_attr("RTA_OIF") == index for answer in answers)
    except NetlinkError as error:
        if error.code in _NO_WAY:
            return False
        raise


def received(route: IPRoute, interface: str) -> int:
    """Bytes that came in by an interface since it is there; 0 for one that is not."""
    for index in route.link_lookup(ifname=interface):
        for link in route.get_links(index):
            return int(link.get_attr("IFLA_STATS64")["rx_bytes"])
    return 0
