"""A title with several soundtracks and subtitles, and the screen child that plays it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path

import numpy as np
import pytest

from apps.common.testing import wait_until_async
from apps.player.channel_list import ChannelList
from apps.player.screen_backend import ScreenBackend
from apps.player.tests.test_player_whole import FilmSound

RATE = 48_000
TONES = {"eng": 500, "deu": 1000}
"""Hz."""

SUBTITLE = "1\n00:00:00,000 --> 00:00:59,000\n################\n"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where a dark film is that has a tone for each language, and German subtitles."""
    folder = tmp_path_factory.mktemp("media")
    (folder / "subtitles.srt").write_text(SUBTITLE)
    tones = [
        word
        for hertz in TONES.values()
        for word in ("-f", "lavfi", "-i", f"sine=frequency={hertz}:duration=60:sample_rate={RATE}")
    ]
    subprocess.run(
        [
            *("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "color=black:d=60:s=320x180:r=25"),
            *tones,
            *("-i", str(folder / "subtitles.srt"), "-map", "0", "-map", "1", "-map", "2"),
            *("-map", "3", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"),
            *("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu"),
            *("-metadata:s:s:0", "language=deu", "-f", "matroska", str(folder / "film")),
        ],
        check=True,
        timeout=60,
    )
    return f"file://{folder}"


@pytest.fixture
def film(tmp_path: Path) -> FilmSound:
    return FilmSound(tmp_path)


Test = Callable[[ScreenBackend], Coroutine[None, None, None]]


@pytest.fixture
def run(
    media: str, film: FilmSound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Test], None]:
    """Runs a test with a screen that plays the film."""
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(film.configuration))
    for name, value in {
        "REGISTRATION": "EC-LAB",
        "MULTICAST_INTERFACE": "lo",
        "VIDEO_OUTPUT": "dummy",
        "AUDIO_OUTPUT": f"alsa:{film.DEVICE}",
    }.items():
        monkeypatch.setenv(f"IFE_{name}", value)

    def run_it(test: Test) -> None:
        async def main() -> None:
            screen = ScreenBackend(media, ChannelList(tmp_path), None)
            screen.start(lambda _: None)
            try:
                screen.set_volume(100)
                screen.play("film", 0.0)
                await test(screen)
            finally:
                await screen.close()

        asyncio.run(main())

    return run_it


def tone_of(film: FilmSound) -> str | None:
    """In which language it is heard now."""
    left = film.last[::2]
    # A device that takes all at once is given silence in between.
    left = left[left != 0]
    if len(left) < RATE // 100:
        return None
    hertz = np.count_nonzero(np.diff(np.signbit(left))) * RATE / 2 / len(left)
    return min(TONES, key=lambda language: abs(TONES[language] - hertz))


def is_bright(still: bytes) -> bool:
    """Whether there is anything bright in a picture."""
    command = ["ffmpeg", "-v", "error", "-f", "png_pipe", "-i", "-", "-f", "rawvideo"]
    done = subprocess.run(
        [*command, "-pix_fmt", "gray", "-"],
        input=still,
        capture_output=True,
        check=True,
        timeout=20,
    )
    return max(done.stdout) > 128


async def sees_subtitles(screen: ScreenBackend, wanted: bool) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(20):
        while True:
            if (still := await screen.still()) and is_bright(still) == wanted:
                return
            await asyncio.sleep(0.1)


def test_the_title_s_first_soundtrack_is_heard_and_no_subtitles_are_seen(
    run: Callable[[Test], None], film: FilmSound
) -> None:
    async def test(screen: ScreenBackend) -> None:
        await wait_until_async(lambda: tone_of(film) == "eng", "it is heard in English", 30)
        await sees_subtitles(screen, False)

    run(test)


def test_the_seat_s_languages_are_heard_and_seen(
    run: Callable[[Test], None], film: FilmSound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IFE_AUDIO_LANGUAGE", "de")
    monkeypatch.setenv("IFE_SUBTITLE_LANGUAGE", "de")

    async def test(screen: ScreenBackend) -> None:
        await wait_until_async(lambda: tone_of(film) == "deu", "it is heard in German", 30)
        await sees_subtitles(screen, True)

    run(test)


def test_languages_that_are_chosen_take_the_place_of_the_others(
    run: Callable[[Test], None], film: FilmSound
) -> None:
    async def test(screen: ScreenBackend) -> None:
        await wait_until_async(lambda: tone_of(film) == "eng", "it is heard in English", 30)
        screen.choose_languages("de", "de")
        await wait_until_async(lambda: tone_of(film) == "deu", "it is heard in German", 30)
        await sees_subtitles(screen, True)
        screen.choose_languages("en", None)
        await wait_until_async(lambda: tone_of(film) == "eng", "it is heard in English", 30)
        await sees_subtitles(screen, False)

    run(test)
