"""A PA in a network namespace, and the cabin in another, on real sockets and processes."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import numpy as np
import numpy.typing as npt
from pyroute2 import NetNS, netns

from apps.common.multicast import Membership, receiving_socket
from apps.common.pa import (
    ALL_AREAS,
    END_PACKETS,
    KEYLINES_EVERY,
    PORT,
    RATE,
    Audio,
    Keylines,
    Line,
    PaError,
    Receiver,
    Signer,
    Verifier,
    group,
)
from apps.common.testing import end_group, kill_group, listens, wait_until
from apps.pa_audio.pram import INDEX

T = TypeVar("T")

ROOT = Path(__file__).parents[3]
SERVER = IPv4Address("198.18.4.1")
SEAT = IPv4Address("198.18.4.2")
INTERFACE = "cabin0"
HTTP_PORT = 8000
CREW = {"Ife-Crew": "anna"}
SEED = bytes(range(32))
AREAS = {"business": 1, "economy": 2}
NETWORKS = itertools.count()


class Network:
    """Two namespaces, `server` and `seats`, joined by a pair of veth devices."""

    def __init__(self) -> None:
        number = next(NETWORKS)
        self.server = f"ife-pa-{os.getpid()}-{number}s"
        self.seats = f"ife-pa-{os.getpid()}-{number}c"
        for name in (self.server, self.seats):
            netns.create(name)
        with NetNS(self.server) as route:
            route.link(
                "add",
                ifname=INTERFACE,
                kind="veth",
                peer={"ifname": INTERFACE, "net_ns_fd": self.seats},
            )
        for name, address in ((self.server, SERVER), (self.seats, SEAT)):
            with NetNS(name) as route:
                (index,) = route.link_lookup(ifname=INTERFACE)
                route.addr("add", index=index, address=f"{address}/24")
                route.link("set", index=index, state="up")
                (lo,) = route.link_lookup(ifname="lo")
                route.link("set", index=lo, state="up")
                route.route("add", dst="224.0.0.0/4", oif=index)
        self._threads = {
            name: ThreadPoolExecutor(1, initializer=netns.setns, initargs=(name,))
            for name in (self.server, self.seats)
        }

    def run(self, name: str, action: Callable[..., T], *arguments: Any) -> T:
        """Call `action` in a namespace."""
        return self._threads[name].submit(action, *arguments).result(timeout=30)

    def set_link(self, state: str) -> None:
        """Set the server's interface up or down."""
        self._set_link(self.server, state)

    def set_cable(self, state: str) -> None:
        """Plug the server's cable in, or out: set the other side up or down."""
        self._set_link(self.seats, state)

    @staticmethod
    def _set_link(name: str, state: str) -> None:
        with NetNS(name) as route:
            (index,) = route.link_lookup(ifname=INTERFACE)
            route.link("set", index=index, state=state)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name, thread in self._threads.items():
            thread.shutdown()
            netns.remove(name)


def tone(seconds: float, hertz: float = 440.0, level: float = 0.2) -> npt.NDArray[np.int16]:
    """A sine."""
    at = np.arange(round(seconds * RATE))
    return (np.sin(2 * np.pi * hertz * at / RATE) * level * 32767).astype(np.int16)


def write_wav(path: Path, samples: npt.NDArray[np.int16], rate: int = RATE) -> None:
    """A WAV file of one channel."""
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(rate)
        wav.writeframes(samples.astype("<i2").tobytes())


def library(folder: Path, seconds: float = 1.0) -> None:
    """Two messages of so many seconds, and music."""
    (folder / "pram").mkdir()
    messages = {}
    for name, kind, hertz in (("welcome", "restart", 500), ("safety", "sentence", 700)):
        write_wav(folder / "pram" / f"{name}.wav", tone(seconds, hertz))
        languages = {"en": {"title": name, "file": f"{name}.wav", "sentences": [0, seconds / 2]}}
        messages[name] = {"when_interrupted": kind, "languages": languages}
    (folder / "pram" / INDEX).write_text(json.dumps({"messages": messages}))
    (folder / "music").mkdir()
    write_wav(folder / "music/1.wav", tone(10.0, 300))


class Pa:
    """pa_audio as its unit runs it, in the server's namespace.

    Args:
        folder: its state, sockets and files; short, for the sake of Unix sockets.
        more: settings that differ.
    """

    def __init__(self, folder: Path, network: Network, more: Mapping[str, str] | None = None):
        self.folder = folder
        self.network = network
        (folder / "state").mkdir(exist_ok=True)
        (folder / "pa.key").write_bytes(SEED)
        for name in ("pilot", "crew"):
            if not (folder / name).exists():
                os.mkfifo(folder / name)
        self.environment = {
            "IFE_REGISTRATION": "EC-LAB",
            "IFE_LAYOUT": str(ROOT / "inventory/layouts/a330-300.yml"),
            "IFE_PA_KEY": str(folder / "pa.key"),
            "IFE_BOOT_ID": "a" * 32,
            "IFE_STATE_DIRECTORY": str(folder / "state"),
            "IFE_REDIS_URL": f"unix://{folder}/redis.sock",
            "IFE_MULTICAST_INTERFACE": INTERFACE,
            "IFE_MULTICAST_SOURCE": str(SERVER),
            "IFE_RUNTIME_DIRECTORY": str(folder),
            "IFE_PILOT_INPUT": f"fifo:{folder}/pilot",
            "IFE_CREW_INPUT": f"fifo:{folder}/crew",
            "IFE_PRAM_DIRECTORY": str(folder / "pram"),
            "IFE_MUSIC_DIRECTORY": str(folder / "music"),
            **(more or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(folder / "pa.sock")),
            base_url="http://pa",
            headers=CREW,
            timeout=10,
        )

    def start(self) -> None:
        """Start it, in a process group of its own."""
        command = [
            *("ip", "netns", "exec", self.network.server),
            *(sys.executable, "-m", "gunicorn", "--worker-class", "gthread"),
            *("--workers", "1", "--threads", "10", "--graceful-timeout", "2"),
            *("--no-control-socket", "--bind", f"unix:{self.folder / 'pa.sock'}"),
            *("--bind", f"127.0.0.1:{HTTP_PORT}"),  # of its namespace
            "apps.pa_audio.app:create_app()",
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env={"PATH": os.environ["PATH"], **self.environment},
                cwd=ROOT,
                start_new_session=True,
                stderr=log,
            )

    def wait(self) -> None:
        """Until it answers."""
        wait_until(self.is_well, "the PA is well", 30)

    def is_well(self) -> bool:
        """Whether it answers that it is ready."""
        try:
            return listens(self.folder / "pa.sock") and self.http.get("/healthz").is_success
        except (httpx.NetworkError, httpx.RemoteProtocolError):
            return False  # its worker was killed a moment ago

    def worker(self) -> int:
        """The process that does the work."""
        assert self.process is not None
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        (child,) = path.read_text().split()
        return int(child)

    def kill(self) -> None:
        """End all of it by SIGKILL."""
        assert self.process is not None
        kill_group(self.process)

    def degraded(self) -> dict[str, str]:
        """What it does without, and why."""
        parts = self.http.get("/healthz").json()["degraded"]
        return {part["part"]: part["why"] for part in parts}

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def __enter__(self) -> Self:
        try:
            self.start()
            self.wait()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        self.http.close()
        if self.process is not None:
            end_group(self.process)


class Keys:
    """The hardware app: says every 100 ms, and at each change, how the keylines are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = Keylines()
        self._changed = threading.Condition()
        self._closing = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def set(self, **lines: Any) -> float:
        """Have these lines closed, and all others open; when, by the monotonic clock."""
        with self._changed:
            self._lines = Keylines(**lines)
            at = time.monotonic()
            self._send()
        return at

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """During the block it is away."""
        path, self._path = self._path, self._path.with_name("nobody.sock")
        yield
        self._path = path

    def _send(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendto(self._lines.model_dump_json().encode(), str(self._path))

    def _run(self) -> None:
        with self._changed:
            while not self._closing:
                self._send()
                self._changed.wait(KEYLINES_EVERY)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout=5)
        self._socket.close()


EVERYWHERE = Line(all=True)


class Seat:
    """Hears what a seat of an area hears; keeps what is valid, with when it came."""

    def __init__(self, network: Network, area: int) -> None:
        self.heard: list[tuple[float, Any]] = []
        self.refused: list[str] = []
        self._receiver = Receiver(Verifier([Signer(SEED).public_key]), area)
        self._sockets = [
            network.run(network.seats, self.join, number) for number in (ALL_AREAS, area)
        ]
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @staticmethod
    def join(area: int) -> socket.socket:
        """A seat's socket for an area's group, or for that for all."""
        sock = receiving_socket(group(area), PORT)
        Membership(INTERFACE, group(area), SERVER).renew(sock)
        return sock

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([*self._sockets, self._stopped], [], [])
            if self._stopped in ready:
                return
            for sock in ready:
                datagram = sock.recv(2000)
                now = time.monotonic()
                try:
                    self.heard.append((now, self._receiver.accept(datagram, now)))
                except PaError as error:
                    self.refused.append(error.reason)

    def audio(self, since: float = 0.0) -> list[tuple[float, Audio]]:
        """The packets that came after `since`."""
        return [(at, it) for at, it in list(self.heard) if isinstance(it, Audio) and at > since]

    def speech(self, since: float = 0.0) -> list[Audio]:
        """Those of them that are not the end of an announcement."""
        return [it for _, it in self.audio(since) if not it.ended]

    def speaking(self, window: float = 0.1) -> set[str]:
        """The sources that were heard just now."""
        return {it.source.name.lower() for it in self.speech(time.monotonic() - window)}

    def is_over(self) -> bool:
        """Whether the last announcement has ended, and all that says so has come."""
        return all(it.ended for _, it in self.audio()[-END_PACKETS:])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.send(b"x")
        self._thread.join(timeout=5)
        for sock in (*self._sockets, self._stop, self._stopped):
            sock.close()


class Speaker:
    """Somebody who speaks into a pipe: a tone, 5 ms each 5 ms, until the end."""

    def __init__(self, path: Path, samples: npt.NDArray[np.int16]) -> None:
        self._path = path
        self._pcm = samples.astype("<i2").tobytes()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        pipe = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)
        at, due = 0, time.monotonic()
        while not self._closing.wait(max(0.0, due - time.monotonic())):
            due += 0.005
            with contextlib.suppress(BlockingIOError):
                os.write(pipe, self._pcm[at : at + 480])
            at = (at + 480) % (len(self._pcm) // 480 * 480)
        os.close(pipe)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(timeout=5)


@contextlib.contextmanager
def process_in(namespace: str, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A program in a namespace; it is ended at the end."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", namespace, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
