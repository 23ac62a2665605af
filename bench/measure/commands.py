"""How long from the crew's click until every seat has the command.

Senders run on one core; on the other one process is all 312 seats, each with a socket of its own,
and makes the click. Seat control: an HTTP request, journalled, signed, multicast, and checked by
every seat. Its peers carry as many bytes: mosquitto (QoS 1), and HTTP to each seat; they check
nothing, but for the one that says so. The transport alone: multicast without journal, signature
and check.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple, Protocol

import httpx
from paho.mqtt import client as mqtt_client
from paho.mqtt.enums import CallbackAPIVersion

from apps.common.commands import SetVolume
from apps.common.protocol import Command, FrameSigner, FrameVerifier
from bench.benchmark import in_turn
from bench.measure import mqtt
from bench.measure.peers import GROUP, seat_names
from bench.measure.status import CLIENT_CORE, ROOT, SEATS, SERVER_CORE, serving

WARM_UP = 5
CLICKS = 40
PAUSE = 0.15
"""Seconds between clicks: by then the repeats are over."""

LIMIT = 10.0
"""Seconds that a click may take to reach every seat."""

TOPIC = b"cabin/command"
PAYLOAD = os.urandom(300)
"""As long as a frame."""


class Times(NamedTuple):
    """Milliseconds from the click, over all seats of all clicks; `last` is each click's last."""

    p50: float
    p99: float
    last: float


class Seats(Protocol):
    """312 seats and a crew member, in this process."""

    def click(self) -> None:
        """Send the command; returns at once."""

    def ready(self, key: selectors.SelectorKey) -> int | None:
        """Something arrived on a socket; the seat that has the command now, if it does."""


def time_clicks(selector: selectors.BaseSelector, seats: Seats, clicks: int) -> Times:
    """Click, wait until every seat has it, and again."""
    delays: list[float] = []
    lasts: list[float] = []
    for number in range(WARM_UP + clicks):
        drain(selector, seats, PAUSE)
        reached = one_click(selector, seats, LIMIT)
        if len(reached) < SEATS:
            raise RuntimeError(f"{len(reached)} of {SEATS} seats reached in {LIMIT:g} s")
        if number >= WARM_UP:
            delays += reached
            lasts.append(max(reached))
    cuts = quantiles(delays, n=100)
    return Times(cuts[49], cuts[98], median(lasts))


def one_click(selector: selectors.BaseSelector, seats: Seats, limit: float) -> list[float]:
    """Click; milliseconds until each seat that had the command within `limit` seconds."""
    reached: dict[int, float] = {}
    began = time.perf_counter()
    seats.click()
    while len(reached) < SEATS and time.perf_counter() - began < limit:
        for key, _events in selector.select(0.5):
            seat = seats.ready(key)
            if seat is not None:
                reached.setdefault(seat, (time.perf_counter() - began) * 1000)
    return list(reached.values())


def drain(selector: selectors.BaseSelector, seats: Seats, seconds: float) -> None:
    """Take what arrives late."""
    end = time.perf_counter() + seconds
    while (left := end - time.perf_counter()) > 0:
        for key, _events in selector.select(left):
            seats.ready(key)


class MulticastSeats:
    """Seats that hear the group; with `verifier` each checks what it hears."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        port: int,
        send: Callable[[], None],
        verifier: FrameVerifier | None,
    ) -> None:
        self.heard_beacon = False
        self._send = send
        self._verifier = verifier
        self._names = seat_names(SEATS)
        self._seen: list[bytes] = [b""] * SEATS
        for seat in range(SEATS):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((str(GROUP), port))
            membership = struct.pack("=4s4si", GROUP.packed, bytes(4), socket.if_nametoindex("lo"))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ, seat)

    def click(self) -> None:
        """Send the command."""
        self._send()

    def ready(self, key: selectors.SelectorKey) -> int | None:
        """One datagram; what was heard before is dropped unchecked, as a player does."""
        if not isinstance(key.data, int):
            key.fileobj.recv(65536)  # type: ignore[union-attr]  # the answer to the click
            return None
        seat = key.data
        datagram = key.fileobj.recv(2048)  # type: ignore[union-attr]  # a socket
        if datagram == b"beacon":
            self.heard_beacon = True
            return None
        if datagram == self._seen[seat]:
            return None
        if self._verifier is not None:
            frame = self._verifier.verify(datagram)
            if not isinstance(frame, Command) or not frame.is_for(self._names[seat]):
                return None
        self._seen[seat] = datagram
        return seat


def mqtt_connection(address: tuple[str, int], name: str) -> socket.socket:
    """A connection to the broker."""
    sock = socket.create_connection(address, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(mqtt.connect(name))
    sock.recv(16)
    return sock


def mqtt_subscription(address: tuple[str, int], name: str) -> socket.socket:
    """A connection that has subscribed."""
    sock = mqtt_connection(address, name)
    sock.sendall(mqtt.subscribe(TOPIC))
    sock.recv(16)
    sock.setblocking(False)
    return sock


class MqttSeats:
    """Subscribers, and one more connection that publishes."""

    def __init__(
        self, selector: selectors.BaseSelector, seats: list[socket.socket], crew: socket.socket
    ) -> None:
        self.number = 0
        self._readers = [mqtt.Reader() for _ in seats]
        for seat, sock in enumerate(seats):
            selector.register(sock, selectors.EVENT_READ, seat)
        self._crew = crew
        selector.register(crew, selectors.EVENT_READ, None)

    def click(self) -> None:
        """Publish the command."""
        self.number = self.number % 65535 + 1
        self._crew.sendall(mqtt.publish(TOPIC, self.number, self.payload()))

    def payload(self) -> bytes:
        """What the command carries."""
        return PAYLOAD

    def check(self, payload: bytes) -> None:
        """What a seat does with it: nothing."""

    def ready(self, key: selectors.SelectorKey) -> int | None:
        """Some packets; each PUBLISH is acknowledged."""
        sock = key.fileobj
        assert isinstance(sock, socket.socket)  # noqa: S101 - for the type checker
        data = sock.recv(65536)
        if key.data is None:
            return None
        reached = None
        for kind, body in self._readers[key.data].feed(data):
            if kind & 0xF0 == mqtt.PUBLISH:
                number, payload = mqtt.publish_number(body)
                sock.sendall(mqtt.puback(number))
                self.check(payload)
                reached = int(key.data)
        return reached


class CheckingMqttSeats(MqttSeats):
    """The same, with signed frames, which each seat checks as ours do."""

    def __init__(
        self, selector: selectors.BaseSelector, seats: list[socket.socket], crew: socket.socket
    ) -> None:
        super().__init__(selector, seats, crew)
        self._signer = FrameSigner(os.urandom(32))
        self._verifier = FrameVerifier([self._signer.public_key])

    def payload(self) -> bytes:
        """A signed command."""
        return self._signer.sign(
            Command(v=1, epoch=1, seq=self.number, iat=1, to="all", action=SetVolume(volume=30))
        )

    def check(self, payload: bytes) -> None:
        """Whether it is one."""
        self._verifier.verify(payload)


class PahoSeats:
    """Subscribers through Paho, driven by our selector as its documentation shows."""

    def __init__(self, selector: selectors.BaseSelector, port: int) -> None:
        self._reached = False
        self._clients = [self._client(port, f"seat-{seat}") for seat in range(SEATS)]
        self._crew = self._client(port, "crew", subscribes=False)
        for seat, client in enumerate([*self._clients, self._crew]):
            if (sock := client.socket()) is not None:
                selector.register(sock.fileno(), selectors.EVENT_READ, seat)

    def _client(self, port: int, name: str, subscribes: bool = True) -> mqtt_client.Client:
        client = mqtt_client.Client(CallbackAPIVersion.VERSION2, client_id=name)
        ready: list[bool] = []
        client.on_connect = lambda *_: ready.append(True)
        client.on_subscribe = lambda *_: ready.append(True)
        client.on_message = self._on_message
        client.connect("127.0.0.1", port, keepalive=600)
        _loop_until(client, lambda: len(ready) == 1)
        if subscribes:
            client.subscribe(TOPIC.decode(), qos=1)
            _loop_until(client, lambda: len(ready) == 2)
        return client

    def _on_message(self, *_: object) -> None:
        self._reached = True

    def click(self) -> None:
        """Publish the command."""
        self._crew.publish(TOPIC.decode(), PAYLOAD, qos=1)

    def ready(self, key: selectors.SelectorKey) -> int | None:
        """Whatever one client has received."""
        client = self._crew if key.data == SEATS else self._clients[key.data]
        self._reached = False
        client.loop_read()
        return int(key.data) if self._reached else None


def _loop_until(client: mqtt_client.Client, is_done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not is_done():
        error = client.loop(0.5)
        if error or time.monotonic() > deadline:
            raise RuntimeError(f"the broker did not answer: {mqtt_client.error_string(error)}")


class HttpSeats:
    """A small HTTP server a seat; the click goes to a process that posts to each."""

    _ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"

    def __init__(self, selector: selectors.BaseSelector, first_port: int, port: int) -> None:
        self._selector = selector
        for seat in range(SEATS):
            sock = socket.create_server(("127.0.0.1", first_port + seat))
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ, ("listen", seat))
        self._port = port
        self._crew: socket.socket | None = None

    def click(self) -> None:
        """Post the command."""
        if self._crew is None:
            self._crew = socket.create_connection(("127.0.0.1", self._port), 10)
            self._selector.register(self._crew, selectors.EVENT_READ, None)
        head = f"POST /click HTTP/1.1\r\nHost: cabin\r\nContent-Length: {len(PAYLOAD)}\r\n\r\n"
        self._crew.sendall(head.encode() + PAYLOAD)

    def ready(self, key: selectors.SelectorKey) -> int | None:
        """A connection, a request, or the answer to the click."""
        sock = key.fileobj
        assert isinstance(sock, socket.socket)  # noqa: S101 - for the type checker
        if key.data is None:
            sock.recv(65536)
            return None
        kind, seat = key.data
        if kind == "listen":
            connection, _address = sock.accept()
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ, ("request", seat))
            return None
        data = sock.recv(65536)
        if not data:
            self._selector.unregister(sock)
            sock.close()
        if not data.endswith(PAYLOAD):
            return None  # the head came alone; the body follows
        sock.sendall(self._ANSWER)
        return int(seat)


@contextlib.contextmanager
def _sender(*command: str) -> Iterator[None]:
    process = subprocess.Popen(
        ["taskset", "--cpu-list", SERVER_CORE, *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that nobody has right now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, address: str = "127.0.0.1") -> None:
    """Until something listens there."""
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((address, port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def wait_until_ready(port: int) -> None:
    """Until seat control answers, which is after gunicorn listens."""
    httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=20).raise_for_status()


@contextlib.contextmanager
def own_selector() -> Iterator[selectors.BaseSelector]:
    """A selector that closes what was registered with it."""
    with selectors.DefaultSelector() as selector:
        yield selector
        for key in list(selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()


def seat_control() -> Times:
    """Click to checked: HTTP in, journal, signature, multicast, 312 checks."""
    group_port = free_port(socket.SOCK_DGRAM)
    multicast = {"IFE_MULTICAST_GROUP": str(GROUP), "IFE_MULTICAST_PORT": str(group_port)}
    with serving("seat_control", SEATS, multicast) as server, own_selector() as selector:
        verifier = FrameVerifier([FrameSigner(server.command_key).public_key])
        crew = socket.create_connection(("127.0.0.1", server.port), 10)
        selector.register(crew, selectors.EVENT_READ, None)
        body = json.dumps(
            {"selector": {"all": True}, "action": {"name": "set_volume", "volume": 30}}
        ).encode()
        request = (
            "POST /api/v1/commands HTTP/1.1\r\nHost: cabin\r\nIfe-Crew: anna\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        seats = MulticastSeats(selector, group_port, lambda: crew.sendall(request), verifier)
        wait_until_ready(server.port)
        return time_clicks(selector, seats, CLICKS)


def transport() -> Times:
    """The multicast alone."""
    port, group_port = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
    command = (sys.executable, "-m", "bench.measure.peers", "multicast", str(port), str(group_port))
    with _sender(*command), own_selector() as selector:
        trigger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        selector.register(trigger, selectors.EVENT_READ, None)
        count = iter(range(sys.maxsize))

        def send() -> None:
            trigger.sendto(next(count).to_bytes(4, "big") + PAYLOAD, ("127.0.0.1", port))

        seats = MulticastSeats(selector, group_port, send, None)
        while not seats.heard_beacon:
            drain(selector, seats, PAUSE)
        return time_clicks(selector, seats, CLICKS)


def mosquitto(kind: type[MqttSeats] = MqttSeats) -> Times:
    """mosquitto, QoS 1, with a client that does the least there is to do."""
    with broker("127.0.0.1") as port, own_selector() as selector:
        address = ("127.0.0.1", port)
        seats = [mqtt_subscription(address, f"seat-{seat}") for seat in range(SEATS)]
        crew = mqtt_connection(address, "crew")
        return time_clicks(selector, kind(selector, seats, crew), CLICKS)


def mosquitto_paho() -> Times:
    """mosquitto, QoS 1, with the client that most would take: Eclipse Paho, one loop for all."""
    with broker("127.0.0.1") as port, own_selector() as selector:
        return time_clicks(selector, PahoSeats(selector, port), CLICKS)


@contextlib.contextmanager
def broker(*addresses: str) -> Iterator[int]:
    """A mosquitto of our own, on `SERVER_CORE`; yields its port."""
    port = free_port()
    listeners = "".join(f"listener {port} {address}\n" for address in addresses)
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(f"{listeners}allow_anonymous true\nset_tcp_nodelay true\nlog_dest none\n")
        file.flush()
        Path(file.name).chmod(0o644)
        with _sender("mosquitto", "-c", file.name):
            wait_for_port(port, addresses[0])
            yield port


def http_unicast() -> Times:
    """HTTP to each seat in turn, all at once."""
    port, first = free_port(), 21_000
    command = (sys.executable, "-m", "bench.measure.peers", "unicast", str(port), str(first))
    with _sender(*command, str(SEATS)), own_selector() as selector:
        seats = HttpSeats(selector, first, port)
        wait_for_port(port)
        return time_clicks(selector, seats, CLICKS)


MEASURED: dict[str, Callable[[], Times]] = {
    "seat_control": seat_control,
    "seat_control's transport alone": transport,
    "mosquitto, QoS 1, Paho clients": mosquitto_paho,
    "mosquitto, QoS 1, least client": mosquitto,
    "mosquitto, QoS 1, least client, signed and checked": partial(mosquitto, CheckingMqttSeats),
    "HTTP to each seat": http_unicast,
}


def measure(runs: int) -> dict[str, Times]:
    """All of them, `runs` times in turn; the medians."""
    os.sched_setaffinity(0, {int(CLIENT_CORE)})
    found = in_turn(runs, {name: partial(_once, one) for name, one in MEASURED.items()})
    return {name: Times(*values) for name, values in found.items()}


def _once(measured: Callable[[], Times]) -> Times:
    # Else some clicks would be held up by collections of this process's garbage, and Paho's
    # clients of the run before would still have their sockets.
    gc.collect()
    gc.freeze()
    return measured()
