"""The whole agent: real multicast, a real HTTPS server that wants certificates, a real disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import pytest
from aiohttp import web

from apps.common.commands import AnyAction, Mute, Play, ReadingLight, Reset, SetVolume
from apps.common.protocol import Beacon, Command, FrameSigner, Held, Status
from apps.common.settings import SettingsError
from apps.common.testing import wait_until_async
from apps.player.agent import MAX_ANSWER, Player
from apps.player.keys import read_keys
from apps.player.media import NullBackend
from apps.player.platform import PlatformError
from apps.player.settings import PlayerSettings
from apps.player.store import HeldStore

MakeSettings = Callable[..., PlayerSettings]
EPOCH = 1000


class Platform:
    """Hardware that nobody has at hand."""

    def __init__(self) -> None:
        self.reboots: list[Held] = []
        self.screen = (False, 0)
        self.sensor_broken = False
        self.store: HeldStore | None = None

    async def reboot(self) -> None:
        assert self.store is not None
        self.reboots.append(self.store.load())

    def temperature(self) -> float:
        if self.sensor_broken:
            raise PlatformError("no temperature sensor answers")
        return 41.5

    def set_screen(self, on: bool, brightness: int) -> None:
        self.screen = (on, brightness)

    def set_reading_light(self, on: bool) -> None:
        raise PlatformError("the seat has no reading light")


class SeatControl:
    """The server's end of the status, as simple as can be: it says what it is told to."""

    def __init__(self, signer: FrameSigner) -> None:
        self.signer = signer
        self.seen: list[tuple[str, dict[str, object]]] = []
        self.answers: list[web.Response] = []
        self.frames: list[Command] = []
        self.connections: set[object] = set()
        self.url = ""

    @property
    def statuses(self) -> list[Status]:
        return [Status.model_validate(body) for _, body in self.seen]

    def confirmed(self, seq: int) -> set[str]:
        return {
            seat
            for (seat, _), status in zip(self.seen, self.statuses, strict=True)
            if status.held.seq >= seq
        }

    async def status(self, request: web.Request) -> web.Response:
        certificate = dict(part[0] for part in request.get_extra_info("peercert")["subject"])
        assert certificate["commonName"] == request.match_info["seat"]
        assert request.content_type == "application/json"
        self.connections.add(request.transport)
        self.seen.append((request.match_info["seat"], await request.json()))
        if self.answers:
            return self.answers.pop(0)
        status = self.statuses[-1]
        missed = [frame for frame in self.frames if frame.seq > status.held.seq or status.fresh]
        if not missed and not status.fresh:
            return web.Response(status=204, headers=self.headers())
        return web.json_response(
            {
                "frames": [self.signer.sign(frame).decode() for frame in missed],
                "upto": max((frame.seq for frame in self.frames), default=0),
                "in_force": status.fresh,
            },
            headers=self.headers(),
        )

    def headers(self) -> dict[str, str]:
        return {"Ife-Epoch": str(EPOCH), "Ife-Time": str(now_ms()), "Ife-Protocol": "2"}

    @contextlib.asynccontextmanager
    async def serve(self, tls: ssl.SSLContext, port: int = 0) -> AsyncIterator[int]:
        app = web.Application()
        app.router.add_post("/api/v1/seats/{seat}/status", self.status)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls)
        await site.start()
        try:
            port = runner.addresses[0][1]
            self.url = f"https://127.0.0.1:{port}"
            yield port
        finally:
            await runner.cleanup()


def now_ms() -> int:
    return int(time.monotonic() * 1000)


def frame(seq: int, action: AnyAction, exp: int | None = None) -> Command:
    return Command(v=1, epoch=EPOCH, seq=seq, iat=now_ms(), exp=exp, to="all", action=action)


def multicast(settings: PlayerSettings, datagram: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        index = socket.if_nametoindex(settings.multicast_interface)
        mreqn = struct.pack("=4s4si", bytes(4), bytes(4), index)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, mreqn)
        sock.bind((str(settings.multicast_source), 0))
        sock.sendto(datagram, (str(settings.multicast_group), settings.multicast_port))


@contextlib.asynccontextmanager
async def running(player: Player) -> AsyncIterator[Player]:
    await player.start()
    try:
        yield player
    finally:
        await player.stop()
        assert player._tasks == set()


@pytest.fixture
def run(
    server_tls: ssl.SSLContext, signer: FrameSigner, make_settings: MakeSettings
) -> Callable[..., None]:
    """Runs a test with a server and a player that has had its first answer.

    The test is a coroutine of (server, settings, platform, player); keywords go to `Player`.
    """

    def run_it(test: Callable[..., Coroutine[None, None, None]], **keywords: object) -> None:
        async def main() -> None:
            server = SeatControl(signer)
            async with server.serve(server_tls):
                settings = make_settings(server_url=server.url)
                platform = Platform()
                platform.store = HeldStore(settings.state_directory)
                media = NullBackend(time.monotonic, missing={"film-99"})
                async with running(Player(settings, media, platform, **keywords)) as player:  # type: ignore[arg-type]
                    # Not only sent: a frame that overtakes the answer is of an unknown epoch.
                    await wait_until_async(lambda: player.server_trouble is None, "an answer")
                    await test(server, settings, platform, player)

        asyncio.run(main())

    return run_it


def test_it_reports_each_second_over_one_connection(run: Callable[..., None]) -> None:
    async def test(server: SeatControl, settings: PlayerSettings, *_: object) -> None:
        first = server.statuses[0]
        assert first.fresh
        assert first.boot_id == settings.boot_id
        assert first.temperature == 41.5
        began = time.monotonic()
        await wait_until_async(lambda: len(server.seen) >= 3, "two more reports")
        assert time.monotonic() - began > 0.9
        assert not server.statuses[-1].fresh
        assert server.statuses[-1].held == Held(epoch=EPOCH, seq=0)
        assert len(server.connections) == 1

    run(test)


def test_a_command_by_multicast_is_applied_and_confirmed(
    run: Callable[..., None], signer: FrameSigner
) -> None:
    applied: list[tuple[str, int, int, str]] = []

    def note(seat: str, epoch: int, seq: int, action: AnyAction, at: float) -> None:
        assert time.monotonic() - at < 1
        applied.append((seat, epoch, seq, action.name))

    async def test(server: SeatControl, settings: PlayerSettings, *_: object) -> None:
        server.frames = [frame(1, SetVolume(volume=30))]
        datagram = signer.sign(server.frames[0])
        for _copy in range(3):
            multicast(settings, datagram)
        await wait_until_async(lambda: applied, "it is applied")
        await wait_until_async(lambda: server.statuses[-1].held.seq == 1, "it is confirmed")
        await wait_until_async(lambda: server.statuses[-1].link.duplicates == 2, "counted")
        status = server.statuses[-1]
        assert (status.volume, status.link.frames, status.link.refused) == (30, 1, 0)
        assert applied == [("12C", EPOCH, 1, "set_volume")]

    run(test, on_applied=note)


def test_what_multicast_lost_comes_with_the_answer(
    run: Callable[..., None], signer: FrameSigner
) -> None:
    async def test(server: SeatControl, settings: PlayerSettings, *_: object) -> None:
        await wait_until_async(lambda: len(server.seen) >= 2, "nothing is missing")
        server.frames = [
            frame(1, Play(media="film-12")),
            frame(2, Play(media="film-99")),
            frame(3, SetVolume(volume=30)),
        ]
        multicast(settings, signer.sign(Beacon(epoch=EPOCH, seq=3, iat=now_ms())))
        await wait_until_async(lambda: server.statuses[-1].held.seq == 3, "all are there")
        status = server.statuses[-1]
        assert (status.state, status.media, status.volume) == ("playing", "film-12", 30)
        assert [(refusal.seq, refusal.reason) for refusal in status.refused] == [
            (2, "no title film-99")
        ]
        assert status.link.gaps == 1
        await wait_until_async(lambda: not server.statuses[-1].refused, "it was told once")

    run(test)


def test_bad_datagrams_are_counted_and_logged_once_each(
    run: Callable[..., None], signer: FrameSigner, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(server: SeatControl, settings: PlayerSettings, *_: object) -> None:
        good = signer.sign(frame(1, Mute(muted=True)))
        old = frame(9, Mute(muted=True)).model_copy(update={"epoch": EPOCH - 1})
        again = frame(1, Mute(muted=False))
        stranger = FrameSigner(bytes(32)).sign(frame(1, Mute(muted=True)))
        for _copy in range(2):
            for bad in (b"rubbish", b"x" * 2000, stranger, good[:-4] + b"AAAA", signer.sign(old)):
                multicast(settings, bad)
        multicast(settings, signer.sign(frame(1, SetVolume(volume=5), exp=1)))
        multicast(settings, signer.sign(again))
        await wait_until_async(lambda: server.statuses[-1].link.refused == 12, "all are counted")
        await wait_until_async(lambda: server.statuses[-1].held.seq == 1, "the expired is held")
        status = next(status for status in server.statuses if status.held.seq == 1)
        assert (status.muted, status.volume) == (False, 50)
        assert [refusal.reason for refusal in status.refused] == ["expired"]
        kinds = [
            record.kind
            for record in caplog.records
            if record.levelname == "WARNING" and hasattr(record, "kind")
        ]
        assert sorted(kinds) == [
            "expired",
            "forged",
            "other-epoch",
            "oversize",
            "replayed",
            "unsigned",
        ]

    run(test)


def test_a_reset_is_on_the_disk_and_told_before_the_machine_restarts(
    run: Callable[..., None], signer: FrameSigner
) -> None:
    async def test(
        server: SeatControl, settings: PlayerSettings, platform: Platform, _: Player
    ) -> None:
        multicast(settings, signer.sign(frame(1, Reset())))
        await wait_until_async(lambda: platform.reboots, "it restarts")
        assert platform.reboots == [Held(epoch=EPOCH, seq=1)]
        assert server.statuses[-1].held == Held(epoch=EPOCH, seq=1)
        assert server.statuses[-1].state == "booting"

    run(test)


def test_what_is_held_survives_a_restart(
    run: Callable[..., None], signer: FrameSigner, make_settings: MakeSettings
) -> None:
    async def test(server: SeatControl, settings: PlayerSettings, *_: object) -> None:
        multicast(settings, signer.sign(frame(1, SetVolume(volume=7))))
        await wait_until_async(lambda: server.statuses[-1].held.seq == 1, "it is applied")

    run(test)
    store = HeldStore(make_settings().state_directory)
    assert store.load() == Held(epoch=EPOCH, seq=1)

    async def again(server: SeatControl, *_: object) -> None:
        assert server.statuses[0].held == Held(epoch=EPOCH, seq=1)
        assert server.statuses[0].fresh

    run(again)


def test_a_stop_waits_for_the_write_that_is_under_way(
    run: Callable[..., None],
    signer: FrameSigner,
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else an older number could overwrite the newest."""
    save = HeldStore.save
    writing: list[int] = []

    def slow_save(store: HeldStore, held: Held) -> None:
        writing.append(held.seq)
        time.sleep(0.5 if held.seq == 1 else 0)
        save(store, held)

    monkeypatch.setattr(HeldStore, "save", slow_save)

    async def test(server: SeatControl, settings: PlayerSettings, *_: object) -> None:
        multicast(settings, signer.sign(frame(1, SetVolume(volume=1))))
        await wait_until_async(lambda: writing, "it is being saved")
        multicast(settings, signer.sign(frame(2, SetVolume(volume=2))))
        await wait_until_async(lambda: server.statuses[-1].held.seq == 2, "the next is applied")

    run(test)
    assert HeldStore(make_settings().state_directory).load().seq == 2


def test_hardware_that_fails_is_told(run: Callable[..., None], signer: FrameSigner) -> None:
    async def test(
        server: SeatControl, settings: PlayerSettings, platform: Platform, _: Player
    ) -> None:
        assert platform.screen == (True, 80)
        platform.sensor_broken = True
        multicast(settings, signer.sign(frame(1, ReadingLight(on=True))))
        await wait_until_async(lambda: server.statuses[-1].refused, "it is refused")
        status = server.statuses[-1]
        assert status.refused[0].reason == "the seat has no reading light"
        assert not status.reading_light
        assert status.faults == ("temperature",)

    run(test)


def test_the_call_button_shows_at_once(run: Callable[..., None]) -> None:
    async def test(server: SeatControl, _: object, __: object, player: Player) -> None:
        count = len(server.seen)
        player.call_attendant()
        await wait_until_async(lambda: len(server.seen) > count, "it reports")
        assert server.statuses[-1].attendant_call

    run(test)


def test_an_older_player_sends_what_its_version_has(run: Callable[..., None]) -> None:
    async def test(server: SeatControl, *_: object) -> None:
        body = server.seen[0][1]
        assert body["protocol"] == 1
        assert not {"muted", "locked", "attendant_call", "reading_light", "refused"} & body.keys()

    run(test, protocol=1)


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (lambda _: web.Response(status=204), "Ife-Epoch"),
        (lambda headers: web.Response(status=200, text="{", headers=headers), "Invalid JSON"),
        (lambda _: web.Response(status=503), "503"),
        (lambda _: web.Response(status=302, headers={"Location": "/"}), "302"),
        (lambda _: web.Response(status=409, text="seat claimed twice"), "seat claimed twice"),
        (
            lambda headers: web.Response(status=200, body=b" " * (MAX_ANSWER + 1), headers=headers),
            "too long",
        ),
    ],
)
def test_a_bad_answer_is_counted_and_the_next_report_comes(
    run: Callable[..., None],
    answer: Callable[[dict[str, str]], web.Response],
    trouble: str,
) -> None:
    async def test(server: SeatControl, _: object, __: object, player: Player) -> None:
        server.answers = [answer(server.headers())]
        await wait_until_async(lambda: not server.answers, "the bad answer is out")
        await wait_until_async(lambda: trouble in (player.server_trouble or ""), "it is told")
        await wait_until_async(lambda: server.statuses[-1].link.http_failures == 1, "it is counted")
        await wait_until_async(lambda: player.server_trouble is None, "it goes on")

    run(test)


def test_a_server_that_went_away_is_found_again(
    server_tls: ssl.SSLContext, signer: FrameSigner, make_settings: MakeSettings
) -> None:
    async def main() -> None:
        server = SeatControl(signer)
        async with server.serve(server_tls) as port:
            settings = make_settings(server_url=server.url)
            player = Player(settings, NullBackend(time.monotonic), Platform())
            await player.start()
            await wait_until_async(lambda: player.server_trouble is None, "an answer")
        try:
            await wait_until_async(lambda: player.server_trouble, "the server is missed")
            # By multicast the seat is still told.
            multicast(settings, signer.sign(frame(1, SetVolume(volume=9))))
            count = len(server.seen)
            async with server.serve(server_tls, port):
                await wait_until_async(lambda: len(server.seen) > count, "it reports again")
                assert server.statuses[-1].volume == 9
                assert server.statuses[-1].link.http_failures > 0
        finally:
            await player.stop()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("expected", "trouble"),
    [
        # The certificate is good for 127.0.0.1 on EC-LAB.
        ({"server_name": "seat-control.example"}, "CERTIFICATE_VERIFY_FAILED"),
        ({"registration": "EC-OTH"}, "for the aircraft EC-LAB, not EC-OTH"),
    ],
)
def test_a_server_with_a_strange_certificate_is_told_nothing(
    signer: FrameSigner,
    make_settings: MakeSettings,
    server_tls: ssl.SSLContext,
    expected: dict[str, str],
    trouble: str,
) -> None:
    async def main() -> None:
        server = SeatControl(signer)
        async with server.serve(server_tls):
            settings = make_settings(server_url=server.url, **expected)
            player = Player(settings, NullBackend(time.monotonic), Platform())
            async with running(player):
                await wait_until_async(
                    lambda: trouble in (player.server_trouble or ""), "it is turned down"
                )
                assert server.seen == []

    asyncio.run(main())


def test_a_missing_interface_is_a_fault_and_http_still_serves(
    server_tls: ssl.SSLContext, signer: FrameSigner, make_settings: MakeSettings
) -> None:
    async def main() -> None:
        server = SeatControl(signer)
        async with server.serve(server_tls):
            server.frames = [frame(1, SetVolume(volume=4))]
            settings = make_settings(server_url=server.url, multicast_interface="nosuch0")
            player = Player(settings, NullBackend(time.monotonic), Platform())
            async with running(player):
                assert "nosuch0" in (player.multicast_trouble or "")
                await wait_until_async(
                    lambda: server.seen and server.statuses[-1].volume == 4, "it is applied"
                )
                assert server.statuses[-1].faults == ("multicast",)
                assert server.statuses[-1].link.multicast_age is None

    asyncio.run(main())


def test_many_players_live_in_one_process(
    server_tls: ssl.SSLContext, signer: FrameSigner, make_settings: MakeSettings
) -> None:
    names = [f"{row}{letter}" for row in range(1, 6) for letter in "ABCD"]
    applied: dict[str, float] = {}

    def note(seat: str, epoch: int, seq: int, action: AnyAction, at: float) -> None:
        applied[seat] = at

    async def main() -> None:
        server = SeatControl(signer)
        async with server.serve(server_tls), contextlib.AsyncExitStack() as stack:
            for name in names:
                settings = make_settings(name, server_url=server.url)
                player = Player(settings, NullBackend(time.monotonic), Platform(), on_applied=note)
                await stack.enter_async_context(running(player))
            await wait_until_async(
                lambda: {seat for seat, _ in server.seen} == set(names), "all report"
            )
            server.frames = [frame(1, SetVolume(volume=4))]
            multicast(settings, signer.sign(server.frames[0]))
            await wait_until_async(lambda: set(applied) == set(names), "all apply")
            await wait_until_async(lambda: server.confirmed(1) == set(names), "all confirm")

    asyncio.run(main())


def test_keys_are_read_one_a_line(tmp_path: Path, signer: FrameSigner) -> None:
    path = tmp_path / "keys"
    path.write_text(
        "# this year's\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n\n" + "A" * 43 + "="
    )
    assert read_keys(path) == [bytes(range(32)), bytes(32)]


@pytest.mark.parametrize("text", ["", "# none\n", "AAAA\n", "A" * 42 + "!\n", "é\n", "\xff"])
def test_a_wrong_key_file_says_what_is_wrong(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match="key"):
        read_keys(path)


def test_a_missing_certificate_says_which_files_to_look_at(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings(seat_key=tmp_path / "nosuch.key")
    with pytest.raises(SettingsError, match=r"seat 12C .*nosuch\.key"):
        Player(settings, NullBackend(time.monotonic), Platform())


def test_the_body_of_a_status_fits(run: Callable[..., None]) -> None:
    async def test(server: SeatControl, *_: object) -> None:
        assert len(json.dumps(server.seen[0][1])) < 1500

    run(test)
