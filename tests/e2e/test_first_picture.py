"""An imposed video, from the real pacer to a real screen: it begins with its first picture."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from apps.common.channels import ChannelsView, ChannelView, ImposedView
from apps.common.testing import wait_until_async
from apps.player.channel_list import ChannelList
from apps.player.media import MediaEvent, Stalled
from apps.player.screen import SETTLE
from apps.player.screen_backend import ScreenBackend
from apps.vlc_stream import ts
from apps.vlc_stream.orders import Control, Output, StartClip
from apps.vlc_stream.pacer import Pacer

LOOPBACK = IPv4Address("127.0.0.1")
GROUP, CHANNEL, PORT = IPv4Address("239.192.94.9"), IPv4Address("239.192.94.10"), 5004

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ts.Clip:
    """Four seconds of red, then blue; the next key frame is blue."""
    path = tmp_path_factory.mktemp("clip") / "safety.ts"
    picture = "s=320x180:r=25"
    subprocess.run(
        [
            *("ffmpeg", "-v", "error", "-f", "lavfi", "-i", f"color=red:d=4:{picture}"),
            *("-f", "lavfi", "-i", f"color=blue:d=6:{picture}"),
            *("-filter_complex", "[0][1]concat", "-pix_fmt", "yuv420p", "-c:v", "libx264"),
            *("-preset", "ultrafast", "-g", "100", "-sc_threshold", "0", "-f", "mpegts"),
            *("-muxrate", "1000k", "-pcr_period", "20", str(path)),
        ],
        check=True,
        timeout=60,
    )
    return ts.examine(path)


@pytest.fixture
def pacer() -> Iterator[Pacer]:
    pacer = Pacer(Output("lo", LOOPBACK, 1), lambda _: None)
    yield pacer
    pacer.handle(Control(id="safety", do="stop"))


@pytest.fixture
def channels(tmp_path: Path) -> ChannelList:
    safety = ImposedView(
        id="safety", names={"en": "S"}, group=GROUP, port=PORT, languages=("en",), state="idle"
    )
    one = ChannelView(
        id="one", names={"en": "One"}, group=CHANNEL, port=PORT, live=False, state="playing"
    )
    view = ChannelsView(source=LOOPBACK, channels=(one,), imposed=(safety,))
    (tmp_path / "channels.json").write_text(view.model_dump_json())
    return ChannelList(tmp_path)


Test = Callable[[ScreenBackend], Coroutine[None, None, None]]


@pytest.fixture
def events() -> list[MediaEvent]:
    """What the screen of `run` tells."""
    return []


@pytest.fixture
def run(
    channels: ChannelList, events: list[MediaEvent], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Test], None]:
    """Runs a test with a screen that is ready."""
    for name, value in {
        "REGISTRATION": "EC-LAB",
        "MULTICAST_INTERFACE": "lo",
        "VIDEO_OUTPUT": "dummy",
        "AUDIO_OUTPUT": "dummy",
    }.items():
        monkeypatch.setenv(f"IFE_{name}", value)

    def run_it(test: Test) -> None:
        async def main() -> None:
            screen = ScreenBackend("http://127.0.0.1", channels, None)
            screen.start(events.append)
            try:
                await wait_until_async(lambda: screen._reported, "it reports", 60)
                await asyncio.sleep(SETTLE)
                await test(screen)
            finally:
                await screen.close()

        asyncio.run(main())

    return run_it


def start(pacer: Pacer, clip: ts.Clip, number: int = 1, group: IPv4Address = GROUP) -> None:
    pacer.handle(
        StartClip(
            id="safety",
            run=number,
            group=str(group),
            port=PORT,
            clip=clip,
            position=0.0,
            loop=group == CHANNEL,
        )
    )


async def next_picture(screen: ScreenBackend) -> str:
    """The colour of what is seen, as soon as there is a picture."""
    async with asyncio.timeout(10):
        while True:
            if still := await screen.still():
                return _colour(still)


def _colour(still: bytes) -> str:
    command = ["ffmpeg", "-v", "error", "-f", "png_pipe", "-i", "-", "-vf", "scale=1:1"]
    done = subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        input=still,
        capture_output=True,
        check=True,
        timeout=20,
    )
    red, _, blue = done.stdout
    return "red" if red > 200 > blue else "blue" if blue > 200 > red else "neither"


async def until_it_sees(screen: ScreenBackend, colour: str) -> None:
    async with asyncio.timeout(20):
        while True:
            if await next_picture(screen) == colour:
                return


@pytest.mark.parametrize("late", [0.02, 1.2], ids=["at-once", "by-the-next-answer"])
def test_a_seat_sees_its_first_picture(
    run: Callable[[Test], None], pacer: Pacer, clip: ts.Clip, late: float
) -> None:
    """Also where the command comes only with seat control's answer, after its key frame."""

    async def test(screen: ScreenBackend) -> None:
        start(pacer, clip)
        await asyncio.sleep(late)
        screen.impose("safety")
        assert await next_picture(screen) == "red"

    run(test)


def test_one_that_is_started_again_is_seen_from_its_begin(
    run: Callable[[Test], None], pacer: Pacer, clip: ts.Clip
) -> None:
    """As when the crew choose another language."""

    async def test(screen: ScreenBackend) -> None:
        start(pacer, clip)
        screen.impose("safety")
        await until_it_sees(screen, "blue")
        start(pacer, clip, 2)
        await until_it_sees(screen, "red")

    run(test)


def test_a_picture_that_stands_still_is_told_and_the_screen_is_started_anew(
    run: Callable[[Test], None], pacer: Pacer, clip: ts.Clip, events: list[MediaEvent]
) -> None:
    """A channel that breaks off, and comes again."""

    async def test(screen: ScreenBackend) -> None:
        start(pacer, clip, group=CHANNEL)
        screen.play("one", 0.0)
        await until_it_sees(screen, "red")
        # With four seconds between key frames it may take long to begin with.
        await wait_until_async(lambda: events[-1:] in ([], [Stalled(None)]), "it moves", 30)
        events.clear()
        first = screen.pid
        pacer.handle(Control(id="safety", do="stop"))
        await wait_until_async(lambda: events == [Stalled("the picture stands still")], "told", 15)
        await wait_until_async(lambda: screen.pid not in {None, first}, "it is started anew", 15)
        start(pacer, clip, 2, group=CHANNEL)
        await wait_until_async(lambda: events[-1] == Stalled(None), "all is well", 40)
        await until_it_sees(screen, "blue")

    run(test)
