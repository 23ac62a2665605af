"""The whole bench while packets vanish: how long until every seat has applied a command.

312 players, each with its certificate, in a network namespace; nftables drops that share of all
packets, both ways, but for multicast, of which each seat loses that share for itself, as behind
links of their own. mosquitto's subscribers sit in the same namespace, behind the same rule. Clicks
are made on the server, where nothing is lost. Only mosquitto is bound to a processor of its own.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from dataclasses import dataclass
from statistics import median

from pyroute2 import netns

from apps.common.protocol import CREW_HEADER
from bench import network
from bench.instance import Instance, default_directory
from bench.measure import commands
from bench.measure.status import SEATS
from bench.orders import Order, give
from bench.up import drop, local_client, running

INSTANCE = 60
SHARES = (0, 10, 30)
CLICKS = 5
LIMIT = 60.0


@dataclass(frozen=True)
class Reached:
    """Milliseconds from the click; `p99` over all seats of all clicks, `last` the worst click's.

    `seats` is how many seats had the command within `LIMIT` at least.
    """

    p99: float
    last: float
    seats: int


def _summed(clicks: list[list[float]]) -> Reached:
    delays = sorted(delay for click in clicks for delay in click)
    return Reached(
        p99=delays[int(len(delays) * 0.99)],
        last=max(delays),
        seats=min(len(click) for click in clicks),
    )


def _seat_control(instance: Instance) -> Reached:
    clicks = []
    with local_client(instance.paths, "seat_control") as crew:
        for number in range(CLICKS):
            body = {
                "selector": {"all": True},
                "action": {"name": "set_volume", "volume": 20 + number},
            }
            began = time.monotonic()
            answer = crew.post("/api/v1/commands", json=body, headers={CREW_HEADER: "anna"})
            seq = answer.raise_for_status().json()["seq"]
            applied: list[dict[str, float]] = []
            while len(applied) < SEATS and time.monotonic() - began < LIMIT:
                time.sleep(0.2)
                applied = give(instance.paths.cabin_socket, Order(order="applied", seq=seq))
            clicks.append([(entry["at"] - began) * 1000 for entry in applied])
            time.sleep(1)
    return _summed(clicks)


def _mosquitto(instance: Instance, percent: int) -> Reached:
    with (
        commands.broker("127.0.0.1", str(instance.server.ip)) as port,
        commands.own_selector() as selector,
    ):
        netns.pushns(instance.name)
        try:
            address = (str(instance.server.ip), port)
            sockets = [commands.mqtt_subscription(address, f"seat-{seat}") for seat in range(SEATS)]
        finally:
            netns.popns()
        crew = commands.mqtt_connection(("127.0.0.1", port), "crew")
        seats = commands.MqttSeats(selector, sockets, crew)
        network.drop(instance, percent)
        clicks = []
        for _ in range(CLICKS):
            clicks.append(commands.one_click(selector, seats, LIMIT))
            commands.drain(selector, seats, 1)
        network.drop(instance, 0)
    return _summed(clicks)


def measure(runs: int) -> dict[tuple[str, int], Reached]:
    """Both, at each share of `SHARES`, `runs` times in turn; the medians."""
    rows: dict[tuple[str, int], list[Reached]] = {}
    instance = Instance(
        number=INSTANCE,
        directory=default_directory(INSTANCE, os.geteuid()),
        port=free_ports(),
        layout="a330-300",
        seats=SEATS,
        loopback=False,
    )
    with running(instance, lambda text: print(f"  bench: {text}", file=sys.stderr)):
        for run in range(runs):
            for percent in SHARES:
                drop(instance, percent)
                time.sleep(3)  # until the statuses go their way again
                rows.setdefault(("seat_control", percent), []).append(_seat_control(instance))
                drop(instance, 0)
                rows.setdefault(("mosquitto, QoS 1", percent), []).append(
                    _mosquitto(instance, percent)
                )
                print(f"  run {run + 1} of {runs}, {percent} % dropped", file=sys.stderr)
    return {
        key: Reached(
            p99=median(r.p99 for r in several),
            last=median(r.last for r in several),
            seats=min(r.seats for r in several),
        )
        for key, several in rows.items()
    }


def free_ports() -> int:
    """A port for the crew's page whose neighbour, the seats', is free as well."""
    while True:
        port = commands.free_port()
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port + 1)):
            return port
