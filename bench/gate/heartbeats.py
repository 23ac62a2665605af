"""Measures what it costs the Hangar to hold a fleet: a heartbeat an aircraft each 30 s."""

from __future__ import annotations

import asyncio
import base64
import ssl
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from apps.common import gate, usage
from apps.common.gate import (
    Bite,
    Content,
    Fault,
    Heartbeat,
    HeartbeatAnswer,
    Position,
    Space,
    Spool,
)
from apps.common.testing import wait_until
from bench.gate.hangar import Hangar, Keys, cpu_seconds
from bench.gate.usage import TABLES, databases
from tests.roles.helpers import AIRLINE, SESAME, load_module

AIRCRAFT = 1_000
SECONDS = 60.0


@dataclass(frozen=True)
class Measured:
    """What it takes.

    Per cent of a core, of the Hangar; milliseconds until an answer, the median and the 99th of 100;
    heartbeats that failed.
    """

    cpu: float
    p50: float
    p99: float
    failed: int


def certificates(authority: Path, folder: Path, count: int) -> list[str]:
    """Certificates of so many aircraft in `folder`, as the role pki makes them; their names."""
    module = load_module("pki_certificates")
    issuer = module.load_issuer(authority / "airline.crt", authority / "airline.key", SESAME)
    names = [f"EC-{number:04}" for number in range(count)]
    for name in names:
        request = module.Request(
            name, AIRLINE, module.PURPOSES["client"], (), days=10, renew_days=1
        )
        (folder / name).mkdir()
        module.issue(folder / name, "gate", request, issuer)
        (folder / name / "usage.pub").write_text(base64.urlsafe_b64encode(bytes(32)).decode()[:43])
    return names


def measure(keys: Keys, aircraft: dict[str, Path], keep: bool) -> Measured:
    """So many aircraft, each with its certificate, spread evenly over the 30 s.

    Args:
        keys: of the Hangar.
        aircraft: the folders of their certificates.
        keep: each keeps its connection, as ours do; else each heartbeat shakes hands anew.
    """
    with databases() as (_, at_hangar), tempfile.TemporaryDirectory(prefix="ife-") as top:
        fleet = at_hangar.create("ife-hangar")
        fleet_keys = Keys(keys.airline, keys.hangar, aircraft)
        url = at_hangar.url(fleet, "ife-hangar")
        with Hangar(Path(top), fleet_keys, url, Path(top)) as hangar:
            wait_until(lambda: at_hangar.run(fleet, TABLES) == "4", "the tables are there", 30)
            pids = (hangar.app_pid, hangar.nginx_pid, at_hangar.pid)
            return asyncio.run(_drive(hangar, keys, aircraft, keep, pids))


async def _drive(
    hangar: Hangar, keys: Keys, aircraft: dict[str, Path], keep: bool, pids: tuple[int, ...]
) -> Measured:
    begun = time.monotonic()
    warm = begun + gate.HEARTBEAT_EVERY + 2
    end = warm + SECONDS
    times: list[float] = []
    failed: list[str] = []

    async def fly(number: int, name: str, folder: Path) -> None:
        trust = ssl.create_default_context(cafile=keys.hangar / "root.crt")
        trust.load_cert_chain(folder / "gate.crt", folder / "gate.key")
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        due = begun + gate.HEARTBEAT_EVERY * number / len(aircraft)
        while due < end:
            await asyncio.sleep(max(0, due - time.monotonic()))
            due += gate.HEARTBEAT_EVERY
            began = time.monotonic()
            try:
                if streams is None:
                    streams = await asyncio.open_connection(
                        "localhost", hangar.port, ssl=trust, server_hostname="localhost"
                    )
                await _beat(*streams, name, number, keep)
            except (OSError, ValueError, asyncio.IncompleteReadError) as error:
                failed.append(str(error))
                streams = None
                continue
            if not keep:
                streams[1].close()
                streams = None
            if began >= warm:
                times.append((time.monotonic() - began) * 1000)

    flights = [
        asyncio.create_task(fly(number, *each)) for number, each in enumerate(aircraft.items())
    ]
    await asyncio.sleep(max(0, warm - time.monotonic()))
    before, at = cpu_seconds(pids), time.monotonic()
    await asyncio.sleep(end - time.monotonic())
    cpu = (cpu_seconds(pids) - before) / (time.monotonic() - at) * 100
    await asyncio.gather(*flights)
    times.sort()
    return Measured(cpu, times[len(times) // 2], times[len(times) * 99 // 100], len(failed))


async def _beat(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str, number: int, keep: bool
) -> None:
    body = _heartbeat(name, number).model_dump_json().encode()
    connection = "keep-alive" if keep else "close"
    writer.write(
        f"POST {gate.HEARTBEATS_PATH} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {len(body)}\r\nConnection: {connection}\r\n\r\n".encode()
        + body
    )
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if not head.startswith("http/1.1 200 "):
            raise ValueError(head.partition("\r\n")[0])
        length = int(head.partition("content-length:")[2].split("\r\n")[0])
        HeartbeatAnswer.model_validate_json(await reader.readexactly(length))


def _heartbeat(name: str, number: int) -> Heartbeat:
    """One with all that an aircraft may tell."""
    return Heartbeat(
        registration=name,
        at=usage.now(),
        boot_id="a" * 32,
        versions={"image": "2026.11.2", "ife": "0.1.0"},
        position=Position(latitude=41.297, longitude=2.078, at=usage.now()),
        content=Content(version=6, kinds={"films": 3, "news": 11, "shop": 2, "maps": 1}),
        space=Space(free=10**9, total=4 * 10**9),
        spool=Spool(records=number, batches=2, bytes=40_000),
        bite=Bite(count=1, faults=(Fault(part="seat 12C", why="it is silent"),)),
    )
