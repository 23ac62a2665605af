"""vlc_stream as its unit runs it, in a network namespace, and a seat's ears in another."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, NetNS

from apps.common.channels import ChannelsView, ChannelView, ImposedView
from apps.common.multicast import Membership, receiving_socket
from apps.common.rtp import payload
from apps.common.testing import kill_group, listens, wait_until
from apps.vlc_stream import ts
from apps.vlc_stream.wire import MAX_DATAGRAM
from bench.namespace import Namespace

ROOT = Path(__file__).parents[3]
SERVER, SEAT = IPv4Address("10.20.0.1"), IPv4Address("10.20.0.2")
CREW = {"Ife-Crew": "anna"}


@dataclass(frozen=True)
class Cabin:
    """Two namespaces, joined: the server's interface is ``cabin0``, the seat's ``eth0``."""

    server: Namespace
    seat: Namespace
    ears: list[Ear] = field(default_factory=list)

    def set_link(self, up: bool) -> None:
        """Plug the server's end in, or pull it."""
        with NetNS(self.server.name) as route:
            (index,) = route.link_lookup(ifname="cabin0")
            route.link("set", index=index, state="up" if up else "down")

    def plug(self) -> None:
        """Make the interfaces, each time new ones."""
        with NetNS(self.server.name) as route:
            route.link(
                "add",
                ifname="cabin0",
                kind="veth",
                peer={"ifname": "eth0", "net_ns_fd": self.seat.name},
            )
        self.server.bring_up("cabin0", f"{SERVER}/24")
        self.seat.bring_up("eth0", f"{SEAT}/24")

    def unplug(self) -> None:
        """Have the interfaces vanish; no ear hears anything any more."""
        with NetNS(self.server.name) as route:
            (index,) = route.link_lookup(ifname="cabin0")
            route.link("del", index=index)

    def ear(self, group: str, port: int = 5004, source: IPv4Address = SERVER) -> Ear:
        """What a seat hears of a group."""
        ear = self.seat.run(Ear, IPv4Address(group), port, "eth0", source)
        self.ears.append(ear)
        return ear


@contextmanager
def cabin() -> Iterator[Cabin]:
    """A network of its own."""
    with Namespace("stream") as server, Namespace("stream-seat") as seat:
        for namespace in (server, seat):
            namespace.run(_bring_lo_up)
        made = Cabin(server, seat)
        made.plug()
        yield made
        for ear in made.ears:
            ear.socket.close()


def _bring_lo_up() -> None:
    with IPRoute() as route:
        route.link("set", index=1, state="up")


@dataclass(frozen=True)
class Heard:
    """A datagram's TS packets, and when they came."""

    at: float
    data: bytes

    def packets(self) -> Iterator[bytes]:
        """The TS packets."""
        for at in range(0, len(self.data), ts.PACKET):
            yield self.data[at : at + ts.PACKET]


class Ear:
    """A seat's socket. Made in the seat's namespace, used from anywhere."""

    def __init__(self, group: IPv4Address, port: int, interface: str, source: IPv4Address) -> None:
        self.socket = receiving_socket(group, port)
        Membership(interface, group, source).renew(self.socket)

    def listen(self, seconds: float) -> list[Heard]:
        """All that comes within some seconds."""
        heard: list[Heard] = []
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            heard += self._next(left)
        return heard

    def first(self, timeout: float) -> Heard:
        """The next that comes; what came before is dropped."""
        self.drop()
        return self.next(timeout)

    def next(self, timeout: float) -> Heard:
        """The next that came, or comes."""
        heard = self._next(timeout)
        assert heard, f"nothing came for {timeout} s"
        return heard[0]

    def dscp(self) -> int:
        """The class (RFC 2474) of the next packet that comes."""
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        self.drop()
        assert select.select([self.socket], [], [], 10)[0], "nothing came for 10 s"
        ((_, _, tos),) = self.socket.recvmsg(MAX_DATAGRAM, socket.CMSG_SPACE(1))[1]
        return tos[0] >> 2

    def drop(self) -> None:
        """Forget what has come."""
        with suppress(BlockingIOError):
            while True:
                self.socket.recv(MAX_DATAGRAM)

    def is_silent(self, seconds: float = 0.3) -> bool:
        """Whether nothing comes."""
        self.drop()
        return not self._next(seconds)

    def _next(self, timeout: float) -> list[Heard]:
        if not select.select([self.socket], [], [], timeout)[0]:
            return []
        data = payload(self.socket.recv(MAX_DATAGRAM))
        assert data is not None, "what came is no transport stream"
        return [Heard(time.monotonic(), data)]


class Served:
    """A vlc_stream that runs."""

    def __init__(self, cabin: Cabin, folder: Path, environment: dict[str, str]) -> None:
        self.cabin = cabin
        self.folder = folder
        self._socket = folder / "api.sock"
        self._environment = environment
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._socket.unlink(missing_ok=True)
        return subprocess.Popen(
            [
                *("ip", "netns", "exec", self.cabin.server.name, sys.executable, "-m", "gunicorn"),
                *("--no-control-socket", "--worker-class", "gthread", "--workers", "1"),
                *("--threads", "8", "--graceful-timeout", "5", "--bind", f"unix:{self._socket}"),
                "apps.vlc_stream.app:create_app()",
            ],
            env={"PATH": os.environ["PATH"], **self._environment},
            cwd=ROOT,
            start_new_session=True,
        )

    def wait_until_ready(self) -> None:
        """Wait until it answers that it is ready."""
        wait_until(self._is_ready, "vlc_stream is ready", 30)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, "vlc_stream has ended"
        return listens(self._socket) and self.ask("GET", "/healthz")[0] == 200

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request by a crew member: the status, and the body, parsed where it is JSON."""
        connection = http.client.HTTPConnection("localhost", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(20)
        connection.sock.connect(str(self._socket))
        content = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, content, CREW)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        is_json = "json" in (answer.headers["Content-Type"] or "")
        return answer.status, json.loads(data) if is_json else data

    def view(self) -> ChannelsView:
        """All that it tells of its channels."""
        return ChannelsView.model_validate(self.ask("GET", "/api/v1/channels")[1])

    def channel(self, name: str) -> ChannelView:
        """One channel."""
        return next(channel for channel in self.view().channels if channel.id == name)

    def video(self, name: str) -> ImposedView:
        """One imposed video."""
        return next(video for video in self.view().imposed if video.id == name)

    def wait_for(self, name: str, state: str, timeout: float = 15.0) -> None:
        """Wait until a channel has a state."""
        wait_until(lambda: self.channel(name).state == state, f"{name} is {state}", timeout)

    def control(self, name: str, action: str, **more: Any) -> int:
        """Control a channel; the status."""
        path = f"/api/v1/channels/{name}/control"
        return self.ask("POST", path, {"action": action, **more})[0]

    def control_video(self, name: str, action: str) -> int:
        """Control an imposed video; the status."""
        return self.ask("POST", f"/api/v1/imposed/{name}/control", {"action": action})[0]

    def children(self, module: str) -> list[int]:
        """The processes of one kind that it has started."""
        return [pid for pid, name in running(self.cabin.server.name) if name == module]

    def supervisor(self) -> int:
        """The process that watches: gunicorn's worker."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return int(listed.split()[0])

    def kill(self) -> None:
        """End gunicorn and its worker by SIGKILL, but not what the worker has started."""
        for pid in (self.process.pid, self.supervisor()):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def restart(self) -> None:
        """Start it again."""
        self.process = self._start()

    def close(self) -> None:
        """End it as systemd does; nothing may be left of it."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        kill_group(self.process)
        wait_until(lambda: not running(self.cabin.server.name), "nothing is left of it", 5)


def running(namespace: str) -> list[tuple[int, str]]:
    """The processes in a namespace that a vlc_stream has started: number and module."""
    done = subprocess.run(
        ["ip", "netns", "pids", namespace], capture_output=True, text=True, check=True, timeout=10
    )
    found = []
    for pid in map(int, done.stdout.split()):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            found += [(pid, w) for w in words if w.startswith("apps.vlc_stream.") and ":" not in w]
    return found


@contextmanager
def serving(cabin: Cabin, folder: Path, channels: str, **more: str) -> Iterator[Served]:
    """A vlc_stream with this channels file and the media in ``folder/media``."""
    (folder / "channels.yml").write_text(channels)
    (folder / "state").mkdir(exist_ok=True)
    environment = {
        "IFE_REGISTRATION": "EC-LAB",
        "IFE_BOOT_ID": "a" * 32,
        "IFE_STATE_DIRECTORY": str(folder / "state"),
        "IFE_CHANNELS_FILE": str(folder / "channels.yml"),
        "IFE_MEDIA_DIRECTORY": str(folder / "media"),
        "IFE_MULTICAST_INTERFACE": "cabin0",
        "IFE_MULTICAST_SOURCE": str(SERVER),
        "IFE_REDIS_URL": f"unix://{folder}/redis.sock",
        "IFE_SEAT_CONTROL_SOCKET": str(folder / "seat_control.sock"),
        **more,
    }
    served = Served(cabin, folder, environment)
    try:
        served.wait_until_ready()
        yield served
    finally:
        served.close()
