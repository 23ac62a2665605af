"""Orders to the simulated cabin: understood, refused, answered."""

from __future__ import annotations

import asyncio
import base64
import socket
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from apps.common.commands import Mute
from apps.common.pa import Signer, Source
from apps.common.testing import wait_until_async
from apps.player.media import NullBackend
from apps.player.pa_report import PaReport
from apps.player.testing import PaServer, own_address
from bench.cabin import AreaPa, Cabin, CabinSettings, SimulatedPa, serve_orders
from bench.instance import BenchError
from bench.orders import Applied, Order, give


def cabin(tmp_path: Path) -> Cabin:
    """One that was not switched on: its seats are dark."""
    return Cabin(
        CabinSettings(
            seats=["1A", "1C"],
            registration="EC-LAB",
            server_url="https://127.0.0.1:1",
            ca_file=tmp_path / "none",
            certificates=tmp_path,
            command_public_keys_file=tmp_path / "none",
            state=tmp_path,
            socket=tmp_path / "orders.sock",
            multicast_interface="lo",
            multicast_source=IPv4Address("127.0.0.1"),
            multicast_group=IPv4Address("239.192.73.1"),
            multicast_port=5999,
            pa_areas={"1A": 1, "1C": 2},
            pa_public_keys_file=tmp_path / "none",
        )
    )


async def ordered(path: Path, cabin: Cabin, work: Callable[[], Any]) -> Any:
    """What `work`, in a thread, gets from a cabin that takes orders at `path`."""
    async with await serve_orders(path, cabin.obey):
        return await asyncio.to_thread(work)


def test_what_was_applied_is_told(tmp_path: Path) -> None:
    dark = cabin(tmp_path)
    for seq in (1, 2):
        dark.note("1A", 7, seq, Mute(muted=True), 12.5)
    path = tmp_path / "s"
    told = asyncio.run(ordered(path, dark, lambda: give(path, Order(order="applied"))))
    assert [Applied.model_validate(entry).seq for entry in told] == [1, 2]
    told = asyncio.run(ordered(path, dark, lambda: give(path, Order(order="applied", seq=2))))
    assert told == [{"seat": "1A", "epoch": 7, "seq": 2, "action": "mute", "at": 12.5}]


@pytest.mark.parametrize(
    ("order", "told"),
    [
        (Order(order="cut", seat="9A"), "no seat 9A"),
        (Order(order="cut"), "no seat None"),
        (Order(order="call", seat="1A"), "1A is restarting"),
        (Order(order="protocol", seat="1A"), "which protocol"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(tmp_path: Path, order: Order, told: str) -> None:
    path = tmp_path / "s"
    with pytest.raises(BenchError, match=told):
        asyncio.run(ordered(path, cabin(tmp_path), lambda: give(path, order)))


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b"[]\n", b'{"order":"explode"}\n', b"\xff\n"])
def test_rubbish_is_answered_with_an_error_and_the_next_order_with_its_answer(
    tmp_path: Path, line: bytes
) -> None:
    path = tmp_path / "s"

    def talk() -> list[bytes]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(path))
            sock.sendall(line + b'{"order":"applied"}\n')
            with sock.makefile("rb") as lines:
                return [lines.readline(), lines.readline()]

    answers = asyncio.run(ordered(path, cabin(tmp_path), talk))
    assert isinstance(answers, list)
    assert answers[0].startswith(b'{"error"')
    assert answers[1] == b'{"done": []}\n'


def test_without_a_cabin_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="is the bench up"):
        give(tmp_path / "nobody", Order(order="applied"))


def test_the_seats_of_an_area_hear_its_pa_and_that_for_all(tmp_path: Path) -> None:
    key, source = Signer(bytes(32)), own_address()
    keys = tmp_path / "pa.pub"
    keys.write_text(base64.urlsafe_b64encode(key.public_key).decode().rstrip("="))
    settings = cabin(tmp_path)._settings.model_copy(
        update={"pa_public_keys_file": keys, "multicast_source": source}
    )
    media = {area: NullBackend(time.monotonic) for area in (1, 2)}
    heard: dict[int, list[int]] = {1: [], 2: []}

    def numbers(area: int) -> Callable[[PaReport], None]:
        return lambda report: heard[area].append(report.number)

    async def run() -> None:
        seats = {area: SimulatedPa(AreaPa(settings, area), media[area]) for area in (1, 2)}
        for area, seat in seats.items():
            media[area].play("film-1", 10.0)
            seat.start(numbers(area))
        with PaServer(key, source) as everywhere, PaServer(key, source, 2) as second:
            second.announce(Source.CREW, 7)
            await wait_until_async(lambda: 7 in heard[2], "the second area hears its PA")
            held = media[2].position()
            second.end()
            everywhere.announce(Source.PILOT, 8)
            await wait_until_async(lambda: 8 in heard[1] and 8 in heard[2], "both hear that")
            assert media[2].position() == pytest.approx(held, abs=0.2)
            seats[1].cut = True
            everywhere.end()
            await wait_until_async(lambda: heard[2][-1] == 0, "it is over")
        assert 7 not in heard[1]
        assert heard[1][-1] == 8, "its cable is pulled"
        for seat in seats.values():
            await seat.close()

    asyncio.run(run())
