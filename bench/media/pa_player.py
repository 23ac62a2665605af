"""A seat in the middle of a film, and a PA: when the film goes on, and where.

The player's two children, as its agent starts them: the PA's, and the screen's with libvlc. The
film's pictures carry their number, as bars, and each that is shown is read back.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from apps.common.testing import wait_until
from apps.pa_audio.tests.cabin import EVERYWHERE, INTERFACE, Network
from apps.player.screen_messages import Play
from apps.player.testing import unix_pair
from bench.benchmark import Worst
from bench.media.pa_paths import hearing, serving
from bench.media.player_child import screen

WIDTH, HEIGHT, FPS, SECONDS = 320, 180, 25, 60
_BITS = 12
_BAR = 20


def film(path: Path) -> Path:
    """A minute in which each picture has its number in bars, white for a one.

    It is made unless it is there, whole or not at all.
    """
    if path.exists():
        return path
    aside = path.with_suffix(".new")
    bars = f"if(lt(X,{_BITS}),16+200*mod(floor(N/pow(2,X)),2),16)"
    drawn = (
        f"nullsrc=s={WIDTH // _BAR}x10:r={FPS}:d={SECONDS},geq=lum='{bars}':cb=128:cr=128,"
        f"scale={WIDTH}:{HEIGHT}:flags=neighbor"
    )
    subprocess.run(
        [
            *("ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i"),
            drawn,
            *("-f", "lavfi", "-i", f"sine=frequency=440:duration={SECONDS}"),
            *("-c:v", "libx264", "-preset", "ultrafast", "-g", str(FPS), "-pix_fmt", "yuv420p"),
            *("-c:a", "aac", "-f", "mp4", "-movflags", "+faststart", str(aside)),
        ],
        check=True,
        timeout=300,
    )
    return aside.rename(path)


class Pictures:
    """What is shown, out of a FIFO with YUV4MPEG2: when, on the monotonic clock, and its number."""

    def __init__(self, fifo: Path) -> None:
        os.mkfifo(fifo)
        self.seen: list[tuple[float, int]] = []
        # Open for writing too: libvlc opens it anew for each picture size.
        self._fd = os.open(fifo, os.O_RDWR)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        size = 0
        with os.fdopen(self._fd, "rb") as file:
            while line := file.readline():
                if line.startswith(b"YUV4MPEG2"):
                    words = {word[:1]: int(word[1:]) for word in line.split()[1:3]}
                    size = words[b"W"] * words[b"H"] * 3 // 2
                elif line == b"FRAME\n":
                    data = file.read(size)
                    if size == WIDTH * HEIGHT * 3 // 2:
                        self.seen.append((time.monotonic(), _number(data)))

    def moved(self, since: float) -> bool:
        """Whether there were three different pictures since then."""
        return len({number for at, number in self.seen if at > since}) > 2

    def stands(self) -> bool:
        """Whether the same picture was there all the last quarter of a second."""
        shown = [number for at, number in self.seen if at > time.monotonic() - 0.25]
        return len(shown) > 1 and len(set(shown)) == 1  # a paused one is shown again and again


def _number(picture: bytes) -> int:
    row = np.frombuffer(picture, np.uint8, WIDTH, HEIGHT // 2 * WIDTH)
    return sum(int(row[bit * _BAR + _BAR // 2] > 116) << bit for bit in range(_BITS))


@contextlib.contextmanager
def watching(network: Network, title: Path, folder: Path) -> Iterator[Pictures]:
    """A seat that plays a title, and hears the PA."""
    pictures = Pictures(folder / "pictures")
    sound = folder / "sound"
    os.mkfifo(sound)
    reports, told = unix_pair()
    pipe = os.open(sound, os.O_RDWR | os.O_NONBLOCK)
    try:
        with (
            reports,
            told,
            hearing(network, sound, told),
            screen(network.seats, INTERFACE, f"y4m:{folder / 'pictures'}", reports) as agent,
        ):
            agent.send(Play(url=title.as_uri(), live=False).model_dump_json().encode())
            wait_until(lambda: pictures.moved(0), "the film plays", 30)
            yield pictures
    finally:
        os.close(pipe)


def resumed(network: Network, title: Path, times: int) -> tuple[float, float, float]:
    """Ms from the keyline's opening to the film's going on, at p50 and p99; ms that it is off.

    The last packet that is not silence comes at most 5 ms after the keyline opens. The film is off
    by what was left out or shown twice, at worst.
    """
    taken, off = [], [0.0]
    with (
        tempfile.TemporaryDirectory(prefix="ife-pa-") as folder,
        serving(network) as keys,
        watching(network, title, Path(folder)) as pictures,
    ):
        for _ in range(times):
            keys.set(crew=EVERYWHERE)
            wait_until(pictures.stands, "the film is held")
            held = pictures.seen[-1][1]
            opened = keys.set()
            wait_until(lambda: pictures.moved(opened), "the film goes on")  # noqa: B023 - at once
            at, number = next(
                (at, number) for at, number in pictures.seen if at > opened and number != held
            )
            taken.append((at - opened) * 1000)
            off.append(abs(number - held - 1) * 1000 / FPS)
    return float(np.median(taken)), float(np.percentile(taken, 99)), Worst(max(off))
