"""To test a player with: a server, a PA as pa_audio puts it on the wire, and an X server."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Self

import numpy as np

from apps.common.multicast import EXPEDITED, sending_socket
from apps.common.pa import (
    ALL_AREAS,
    END_PACKETS,
    PACKET_SECONDS,
    PORT,
    RATE,
    SAMPLES,
    Audio,
    Beacon,
    Signer,
    Source,
    group,
)
from apps.common.protocol import Command, FrameSigner, Status

GROUPS = (ALL_AREAS, 2)
"""Those that seats of tests listen to."""

EPOCH = 1000

TONE = (12_000 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(">i2").tobytes()
"""A second of 440 Hz, which joins on to itself."""


class Server:
    """Seat control's status and channels over mutual TLS, and titles over HTTP.

    Args:
        tls: of the former.
        folder: with the titles.
        signer: of commands.
        address: of this machine.
    """

    def __init__(
        self, tls: ssl.SSLContext, folder: Path, signer: FrameSigner, address: str = "127.0.0.1"
    ) -> None:
        self.statuses: list[Status] = []
        self.signer = signer
        self.commands: list[Command] = []
        self.channels: dict[str, Any] = {"source": address, "channels": [], "imposed": []}
        self.is_quick, self.was_asked = threading.Event(), threading.Event()
        self.is_quick.set()
        """With titles."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def answer(self, status: int, body: bytes, **headers: str) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = Status.model_validate_json(body)
                server.statuses.append(status)
                missed = [one for one in server.commands if one.seq > status.held.seq]
                frames = [server.signer.sign(one).decode() for one in missed]
                answer = {"frames": frames, "upto": len(server.commands), "in_force": status.fresh}
                self.answer(
                    200,
                    json.dumps(answer).encode(),
                    Ife_Epoch=str(EPOCH),
                    Ife_Time=str(int(time.monotonic() * 1000)),
                    Ife_Protocol="3",
                )

            def do_GET(self) -> None:
                if self.path == "/api/v1/channels":
                    self.answer(200, json.dumps(server.channels).encode())
                    return
                server.was_asked.set()
                server.is_quick.wait(20)
                path = folder / Path(self.path).name
                if not path.exists():
                    self.answer(404, b"")
                    return
                data = path.read_bytes()
                first, _, last = self.headers.get("Range", "bytes=0-")[6:].partition("-")
                begin, end = int(first), int(last) + 1 if last else len(data)
                self.answer(
                    206 if "Range" in self.headers else 200,
                    data[begin:end],
                    Accept_Ranges="bytes",
                    Content_Range=f"bytes {begin}-{end - 1}/{len(data)}",
                )

        self._servers = [ThreadingHTTPServer((address, 0), Handler) for _ in range(2)]
        self._servers[0].socket = tls.wrap_socket(
            self._servers[0].socket, server_side=True, do_handshake_on_connect=False
        )
        for one in self._servers:
            one.daemon_threads = True
            threading.Thread(target=one.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"https://{address}:{self._servers[0].server_address[1]}"
        self.media_url = f"http://{address}:{self._servers[1].server_address[1]}/media"

    def close(self) -> None:
        """Go away."""
        for one in self._servers:
            one.shutdown()
            one.server_close()

    def command(self, **action: object) -> None:
        """For all seats; it goes with the next answer."""
        command = {"v": 1, "epoch": EPOCH, "seq": len(self.commands) + 1, "iat": 0, "to": "all"}
        self.commands.append(Command.model_validate(command | {"action": action}))


class PaServer:
    """The PA of one server, to one area or all; a context manager.

    It sends a beacon a second to all of `GROUPS`, and packets of `TONE` each 5 ms while an
    announcement is open.
    """

    def __init__(
        self, signer: Signer, source: IPv4Address, area: int = ALL_AREAS, interface: str = "lo"
    ) -> None:
        self.area = area
        self.sent = 0
        self._signer = signer
        self._sockets = {
            one: sending_socket(interface, source, group(one), PORT, 1, EXPEDITED)
            for one in {area, *GROUPS}
        }
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._announcement: tuple[Source, int] | None = None
        self._ssrc = random.getrandbits(32)
        self._sequence = random.getrandbits(16)
        self._index = 0
        self.ent_pause = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def announce(self, source: Source, number: int) -> float:
        """Open an announcement; the time of the first packet."""
        with self._lock:
            self._announcement, self._index = (source, number), 0
            self._ssrc = random.getrandbits(32)
            return self._packet()

    def end(self) -> float:
        """Close it, as the protocol says; the time of the last packet that was not silence."""
        with self._lock:
            at = time.monotonic()
            for _ in range(END_PACKETS):
                self._packet(ended=True)
            self._announcement = None
            return at

    def break_off(self) -> float:
        """Fall silent, as a server that was killed."""
        with self._lock:
            self._announcement = None
            self._over.set()
            return time.monotonic()

    def datagram(
        self, source: Source, number: int, samples: bytes, *, ended: bool = False
    ) -> bytes:
        """The next packet of an announcement."""
        audio = Audio(
            area=self.area,
            source=source,
            number=number,
            time=time.time_ns() // 1_000_000,
            ssrc=self._ssrc,
            sequence=(self._sequence + self._index) & 0xFFFF,
            timestamp=self._index * SAMPLES & 0xFFFFFFFF,
            samples=samples,
            first=self._index == 0,
            ended=ended,
            ent_pause=self.ent_pause,
        )
        self._index += 1
        return self._signer.sign(audio)

    def send(self, datagram: bytes) -> None:
        """Put it on the wire."""
        self._send(self.area, datagram)

    def _send(self, area: int, datagram: bytes) -> None:
        try:
            self._sockets[area].send(datagram)
        except OSError:
            # The interface is down, which is what some tests want.
            return
        self.sent += 1

    def _packet(self, *, ended: bool = False) -> float:
        source, number = self._announcement or (Source.CREW, 1)
        at = self._index % (RATE // SAMPLES) * 2 * SAMPLES
        samples = bytes(2 * SAMPLES) if ended else TONE[at : at + 2 * SAMPLES]
        datagram = self.datagram(source, number, samples, ended=ended)
        now = time.monotonic()
        self.send(datagram)
        return now

    def _beacon(self, area: int, *, ent_pause: bool = False) -> None:
        now_ms = time.time_ns() // 1_000_000
        beacon = Beacon(area, None, 0, now_ms, self._ssrc, "pa_audio@EC-LAB", ent_pause)
        self._send(area, self._signer.sign(beacon))

    def _run(self) -> None:
        due = time.monotonic()
        beacon_at = others_at = due
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due += PACKET_SECONDS
            with self._lock:
                if self._announcement is not None:
                    self._packet()
                elif beacon_at <= due:
                    self._beacon(self.area, ent_pause=self.ent_pause)
                    beacon_at = due + (0.02 if self.ent_pause else 1.0)
                if others_at <= due:
                    for other in self._sockets.keys() - {self.area}:
                        self._beacon(other)
                    others_at = due + 1.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for sock in self._sockets.values():
            sock.close()


def own_address() -> IPv4Address:
    """An address of the loopback interface that no other test sends a PA from.

    The groups are the same for all, but receivers take only what their own server sends.
    """
    return IPv4Address("127.0.0.0") + random.randrange(2**16, 2**24 - 2)  # noqa: S311 - no secret


def unix_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends for datagrams, as the agent gives its children."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.settimeout(5)
    return ours, theirs


@contextmanager
def x_server(width: int, height: int) -> Iterator[str]:
    """An X server (Xvfb) without window manager, whose screen has that size; its `DISPLAY`."""
    read, write = os.pipe()
    screen = ["-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp"]
    server = subprocess.Popen(["Xvfb", "-displayfd", str(write), *screen], pass_fds=[write])
    os.close(write)
    try:
        with os.fdopen(read) as number:
            yield f":{number.readline().strip()}"
    finally:
        server.terminate()
        server.wait(10)
