"""Orders to the simulated cabin: understood, refused, answered."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from apps.common.commands import Mute
from bench.cabin import Cabin, CabinSettings, serve_orders
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
