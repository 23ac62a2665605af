"""How much a status update costs: seat control, Twisted web, plain Flask, Starlette.

Each server runs on one core, the client on another. Rate and latency by wrk over keep-alive
connections, as fast as they go; processor time an update by a paced client, once a second a seat.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import uvloop

from apps.seat_control import testing
from bench.benchmark import in_turn
from bench.measure.peers import seat_names

ROOT = Path(__file__).parents[2]
SERVER_CORE, CLIENT_CORE = "0", "1"
SEATS, MANY_SEATS = 312, 2_000

_GUNICORN = ["gunicorn", "--keep-alive", "75", "--backlog", "4096", "--log-level", "warning"]
COMMANDS = {
    "seat_control": [
        *_GUNICORN,
        *("--worker-class", "apps.seat_control.worker.Worker"),
        "bench.measure.peers:seat_control",
    ],
    "Starlette, uvicorn": [
        *("uvicorn", "--factory", "--loop", "uvloop", "--http", "httptools", "--no-access-log"),
        *("--log-level", "warning", "--timeout-keep-alive", "75", "--backlog", "4096"),
        "bench.measure.peers:starlette",
    ],
    "Twisted web": ["python", "-m", "bench.measure.peers", "twisted"],
    "Flask, gunicorn gthread": [
        *_GUNICORN,
        *("--worker-class", "gthread", "--threads", "8", "--worker-connections", "4096"),
        "bench.measure.peers:flask()",
    ],
}


@dataclass(frozen=True)
class Server:
    """A running server: its port, and the process group that it is."""

    port: int
    group: int
    command_key: bytes

    def cpu_seconds(self) -> float:
        """Processor time that all its processes have used."""
        ticks = 0
        for stat in self._stats():
            ticks += int(stat[11]) + int(stat[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> float:
        """Resident memory of its largest process (a gunicorn master is not what grows)."""
        pages = max(int(stat[21]) for stat in self._stats())
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def _stats(self) -> Iterator[list[str]]:
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                if int(fields[2]) == self.group:
                    yield fields


@contextlib.contextmanager
def serving(name: str, seats: int, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """The server of that name, on `SERVER_CORE`, with a fresh journal, and with more `settings`."""
    with tempfile.TemporaryDirectory(prefix="ife-measure-", dir="/var/tmp") as folder:
        variables = {
            **testing.variables(Path(folder)),
            "PYTHONPATH": str(ROOT),
            "BENCH_SEATS": str(seats),
            "IFE_LOG_LEVEL": "error",
            "IFE_LAYOUT": str(ROOT / "inventory/layouts/a330-300.yml"),
            **(settings or {}),
        }
        port = testing.free_port()
        program, *arguments = COMMANDS[name]
        where = {
            "gunicorn": ["--bind", f"127.0.0.1:{port}"],
            "uvicorn": ["--port", str(port)],
            "python": [str(port)],
        }[program]
        if program == "python":
            command = [sys.executable, *arguments, *where]
        else:
            command = [str(Path(sys.executable).with_name(program)), *where, *arguments]
        pinned = ["taskset", "--cpu-list", SERVER_CORE, *command]
        with testing.server(pinned, port, variables) as process:
            yield Server(port, process.pid, Path(variables["IFE_COMMAND_KEY"]).read_bytes())


def request_for(seat: str, epoch: int, number: int) -> bytes:
    """The whole HTTP request of a seat that holds all there is."""
    body = json.dumps(
        {
            "protocol": 2,
            "boot_id": "0f" * 16,
            "held": {"epoch": epoch, "seq": 0},
            "fresh": False,
            "state": "playing",
            "media": "film-12",
            "position": round(number * 1.0, 1),
            "volume": 50,
            "brightness": 80,
            "temperature": 41.5,
            "firmware": "1.0.0",
            "faults": [],
            "link": {
                "frames": number,
                "duplicates": 2 * number,
                "refused": 0,
                "gaps": 0,
                "http_failures": 0,
                "multicast_age": 0.4,
            },
            "muted": False,
            "locked": False,
            "attendant_call": False,
            "reading_light": False,
            "refused": [],
        },
        separators=(",", ":"),
    ).encode()
    return (
        f"POST /api/v1/seats/{seat}/status HTTP/1.1\r\nHost: cabin\r\nIfe-Seat: {seat}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def find_epoch(port: int) -> int:
    """The epoch of a server, as a seat learns it: from the answer to its first status."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(request_for("1A", 0, 0))
        answer = connection.recv(65536).decode()
    match = re.search(r"(?i)^ife-epoch: (\d+)", answer, re.MULTILINE)
    if match is None:
        raise RuntimeError(f"no epoch in the answer: {answer[:200]}")
    return int(match[1])


def rate(server: Server, seats: int, seconds: float) -> tuple[float, float]:
    """Updates per second, and the 99th percentile of their latency in ms, by wrk."""
    epoch = find_epoch(server.port)
    names = ",".join(f'"{name}"' for name in seat_names(seats))
    body = request_for("SEAT", epoch, 1).partition(b"\r\n\r\n")[2].decode()
    script = f"""
local seats, n, requests = {{{names}}}, 0, {{}}
function init()
  for i, seat in ipairs(seats) do
    requests[i] = wrk.format("POST", "/api/v1/seats/" .. seat .. "/status",
      {{["Ife-Seat"] = seat, ["Content-Type"] = "application/json"}}, [[{body}]])
  end
end
function request() n = n % #requests + 1; return requests[n] end
"""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        output = subprocess.run(
            [
                *("taskset", "--cpu-list", CLIENT_CORE, "wrk", "--latency", "--threads", "1"),
                *("--connections", str(seats), "--duration", f"{seconds:g}s", "--timeout", "10s"),
                *("--script", file.name, f"http://127.0.0.1:{server.port}"),
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=seconds + 30,
        ).stdout
    if "Non-2xx" in output:  # a time-out is a latency, and counts as one
        raise RuntimeError(f"not every update was taken:\n{output}")
    per_second = float(_find(r"Requests/sec:\s+([\d.]+)", output))
    return per_second, _milliseconds(_find(r"(?m)^ +99% +(\S+) *$", output))


def _find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"wrk printed no {pattern}:\n{text}")
    return match[1]


def _milliseconds(text: str) -> float:
    for unit, factor in (("us", 0.001), ("ms", 1.0), ("s", 1000.0)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise RuntimeError(f"wrk printed a time as {text}")


class _Seat(asyncio.Protocol):
    """One connection that reports once a second and counts the good answers."""

    def __init__(self, seat: str, epoch: int) -> None:
        self._seat, self._epoch = seat, epoch
        self._transport: asyncio.Transport
        self.answers = 0
        self.number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.answers += data.count(b"HTTP/1.1 204")

    def report(self) -> None:
        self.number += 1
        self._transport.write(request_for(self._seat, self._epoch, self.number))


async def _paced(server: Server, seats: int, seconds: float) -> float:
    loop = asyncio.get_running_loop()
    epoch = find_epoch(server.port)
    clients = []
    for name in seat_names(seats):
        _, client = await loop.create_connection(
            partial(_Seat, name, epoch), "127.0.0.1", server.port
        )
        clients.append(client)
    began = loop.time() + 0.1
    warm_up = 2

    async def one(index: int, client: _Seat) -> None:
        for second in range(warm_up + round(seconds)):
            await asyncio.sleep(began + second + index / seats - loop.time())
            client.report()

    reports = asyncio.gather(*(one(index, client) for index, client in enumerate(clients)))
    await asyncio.sleep(began + warm_up - loop.time())
    cpu, answers = server.cpu_seconds(), sum(client.answers for client in clients)
    await asyncio.sleep(seconds)
    cpu, answers = (
        server.cpu_seconds() - cpu,
        sum(client.answers for client in clients) - answers,
    )
    await reports
    if answers < 0.95 * seats * seconds:  # more, where answers to the warm-up came late
        raise RuntimeError(f"{answers} answers to {seats * seconds:g} updates")
    return cpu / answers * 1e6


def paced(server: Server, seats: int, seconds: float) -> float:
    """Microseconds of processor time an update, once a second a seat."""
    os.sched_setaffinity(0, {int(CLIENT_CORE)})
    return uvloop.run(_paced(server, seats, seconds))


class Figures(NamedTuple):
    """Medians of the runs of one server."""

    rate: float
    p99: float
    cpu: float
    cpu_many: float
    memory: float
    memory_many: float


def measure(runs: int, seconds: float) -> dict[str, Figures]:
    """All servers, `runs` times in turn; the medians."""
    found = in_turn(runs, {name: partial(_once, name, seconds) for name in COMMANDS})
    return {name: Figures(*values) for name, values in found.items()}


def _once(name: str, seconds: float) -> Figures:
    with serving(name, SEATS) as server:
        per_second, p99 = rate(server, SEATS, seconds)
    with serving(name, SEATS) as server:
        cpu, memory = paced(server, SEATS, seconds), server.memory_mib()
    with serving(name, MANY_SEATS) as server:
        cpu_many, memory_many = paced(server, MANY_SEATS, seconds), server.memory_mib()
    return Figures(per_second, p99, cpu, cpu_many, memory, memory_many)
