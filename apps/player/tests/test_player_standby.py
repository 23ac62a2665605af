"""What an imposed video began with is there for whoever reads it later."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from apps.common import rtp
from apps.common.testing import wait_until_async
from apps.player import standby
from apps.player.standby import Standby
from apps.player.tests.test_player_multicast import Group, memberships, sender

SOURCE = "127.0.0.1"


BEGIN = range(standby.NEXT_COUNT)
"""Datagrams that a video begins with."""


def packets(*numbers: int) -> bytes:
    """TS packets that say which datagram they are of."""
    return b"".join(
        (b"G" + number.to_bytes(4, "big") + bytes(rtp.PACKET - 5)) * 7 for number in numbers
    )


class Seat:
    """A screen that waits for one video."""

    def __init__(self, group: Group, folder: Path) -> None:
        self.url = f"rtp://{SOURCE}@{group[0]}:{group[1]}"
        self.begun: list[str] = []
        self.standby = Standby("lo", folder, self.begun.append)
        self.standby.expect([self.url])
        self._reader = -1

    def open(self) -> None:
        if self._reader != -1:
            os.close(self._reader)
        mrl = self.standby.open(self.url, time.monotonic())
        self._reader = os.open(mrl.removeprefix("stream://"), os.O_RDONLY | os.O_NONBLOCK)

    def read(self) -> bytes:
        try:
            return os.read(self._reader, standby.FIFO_SIZE)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        if self._reader != -1:
            os.close(self._reader)
            self.standby.release(self.url)
        self.standby.expect([])

    async def reads(self) -> bytes:
        """What comes, as soon as something does."""
        heard = b""

        def comes() -> bytes:
            nonlocal heard
            heard += self.read()
            return heard

        await wait_until_async(comes, "something is read")
        return heard

    async def hears(self, count: int) -> None:
        """Until so many datagrams are there, whoever wants them."""
        (video,) = self.standby._videos.values()
        await wait_until_async(lambda: len(video._waiting) == count * 7 * rtp.PACKET, "it is heard")


Test = Callable[[Seat, Callable[[int, int], None]], Coroutine[None, None, None]]


@pytest.fixture
def run(group: Group, tmp_path: Path) -> Callable[[Test], None]:
    """Runs a test of (seat, send), where send takes a stream's number and a datagram's."""

    def run_it(test: Test) -> None:
        async def main() -> None:
            seat = Seat(group, tmp_path)
            with sender(group) as sock:

                def send(stream: int, number: int) -> None:
                    head = rtp.HEADER.pack(0x80, rtp.MP2T, number & 0xFFFF, 0, stream)
                    sock.send(head + packets(number))

                try:
                    await test(seat, send)
                finally:
                    seat.close()
                    assert memberships(group) == 0

        asyncio.run(main())
        assert list(tmp_path.iterdir()) == []

    return run_it


def test_its_begin_and_what_follows(run: Callable[[Test], None]) -> None:
    async def test(seat: Seat, send: Callable[[int, int], None]) -> None:
        for number in BEGIN:
            send(1, number)
        await seat.hears(4)
        seat.open()
        assert seat.read() == packets(*BEGIN)
        send(1, 4)
        assert await seat.reads() == packets(4)
        seat.standby.release(seat.url)

    run(test)


def test_nothing_of_what_began_long_ago(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(seat: Seat, send: Callable[[int, int], None]) -> None:
        for number in BEGIN:
            send(1, number)
        await seat.hears(4)
        monkeypatch.setattr(standby, "BEGIN_FOR", 0.0)
        seat.open()
        assert seat.read() == b""

    run(test)


def test_it_keeps_no_more_than_it_may(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(seat: Seat, send: Callable[[int, int], None]) -> None:
        monkeypatch.setattr(standby, "MAX_WAITING", 2 * 7 * rtp.PACKET)
        for number in range(4):
            send(1, number)
        await seat.hears(2)
        await asyncio.sleep(0.1)
        seat.open()
        assert seat.read() == packets(0, 1)

    run(test)


def test_one_that_begins_anew_is_opened_anew_if_something_was_read(
    run: Callable[[Test], None],
) -> None:
    async def test(seat: Seat, send: Callable[[int, int], None]) -> None:
        seat.open()
        for number in BEGIN:
            send(1, number)
        assert await seat.reads() == packets(*BEGIN)
        assert seat.begun == []
        # It takes a moment until the one before is known to be over.
        numbers = range(65_530, 65_600)
        for number in numbers:
            send(2, number)
            await asyncio.sleep(0.01)
            if seat.begun:
                break
        assert seat.begun == [seat.url]
        seat.open()
        heard = seat.read()
        assert heard
        assert packets(*numbers).startswith(heard)

    run(test)


def test_what_comes_beside_a_video_has_it_not_begin_anew(run: Callable[[Test], None]) -> None:
    """Whoever else can send in the server's name, and knows not when it sends."""

    async def test(seat: Seat, send: Callable[[int, int], None]) -> None:
        for number in range(30):
            send(1, number)
            if number in BEGIN:
                continue
            send(100 + number, 0)
            for other in range(8):
                send(2, 8 * number + other)
            await asyncio.sleep(0.02)
        await seat.hears(30)
        seat.open()
        assert seat.read() == packets(*range(30))
        send(2, 240)
        send(1, 30)
        assert await seat.reads() == packets(30)
        assert seat.begun == []

    run(test)


def test_one_datagram_now_and_then_is_no_video(run: Callable[[Test], None]) -> None:
    async def test(seat: Seat, send: Callable[[int, int], None]) -> None:
        for stream in range(100, 110):
            send(stream, 0)
        for number in BEGIN:
            send(1, number)
        await seat.hears(4)
        await asyncio.sleep(standby.OVER_AFTER)
        for stream in range(100, 110):
            send(stream, 0)
        send(1, 4)
        await seat.hears(5)
        seat.open()
        assert seat.read() == packets(*BEGIN, 4)

    run(test)


def test_what_is_no_stream_is_not_read(run: Callable[[Test], None], group: Group) -> None:
    async def test(seat: Seat, send: Callable[[int, int], None]) -> None:
        with sender(group) as sock, sender(group, address="127.0.0.9") as stranger:
            sock.send(b"rubbish")
            sock.send(bytes(12))
            head = rtp.HEADER.pack(0x80, rtp.MP2T, 0, 0, 1)
            stranger.send(head + packets(9))
        for number in BEGIN:
            send(1, number)
        await seat.hears(4)
        seat.open()
        assert seat.read() == packets(*BEGIN)

    run(test)


def test_a_group_is_left_when_it_is_expected_no_more(group: Group, tmp_path: Path) -> None:
    async def main() -> None:
        seat = Seat(group, tmp_path)
        assert memberships(group) == 1
        seat.open()
        seat.standby.expect([])
        assert memberships(group) == 1  # it is read
        seat.close()
        assert memberships(group) == 0

    asyncio.run(main())


def test_an_interface_that_comes_later(
    group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr("socket.if_nametoindex", lambda _: 999_999)
            seat = Seat(group, tmp_path)
        assert memberships(group) == 0
        seat.standby.renew(time.monotonic() + standby.RENEW_SHOWN + 1)
        assert memberships(group) == 1
        seat.close()

    asyncio.run(main())
