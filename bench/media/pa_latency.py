"""Measures the PA at the seats, beside its peers: how much later it is heard, and how well.

Server and seats are two network namespaces, joined. *Added*: 5 ms of samples go into a FIFO each
5 ms, now and then with an impulse; what comes out of the receiver's FIFO is looked at for it.
``python -m bench.media.pa_latency --runs 1 --seconds 4 --simulated 60 --lossy 8 --print`` tries it.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import select
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Self

import numpy as np

from apps.common.pa import PACKET_SECONDS, RATE, SAMPLES
from apps.pa_audio.tests.cabin import EVERYWHERE, Network
from apps.vlc_stream.tests import served
from bench.benchmark import Worst, in_turn, main
from bench.document import table
from bench.measure import status
from bench.media import pa_hour, pa_paths, pa_player, streaming
from bench.media.clips import make
from bench.media.pa_paths import BUFFER_MS, Start
from bench.media.pa_seats import SEATS, CabinOfEars

IMPULSE = b"\x41\x41"
"""The same in both byte orders; all else is silence."""

EACH = 0.75
"""Seconds between two impulses, more than any of them takes."""

WARM_UP = 2.0
"""Seconds of sound before the first that counts."""

CHANNELS = 20
LOSSES = (0.01, 0.05)

OURS, TUNED, VLC = "pa_audio and player", "GStreamer, tuned", "VLC, least caching"
PATHS: dict[str, Start] = {
    OURS: pa_paths.ours,
    TUNED: pa_paths.gstreamer("processing-deadline=0"),
    "GStreamer, default sink": pa_paths.gstreamer(),
    VLC: pa_paths.vlc,
}


# -- how much later it is heard -----------------------------------------------------------------


class Mouth:
    """5 ms into a FIFO each 5 ms; `spoken` are the times of those with an impulse."""

    def __init__(self, fifo: Path) -> None:
        self.spoken: list[float] = []
        self._fd = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        silence = bytes(2 * SAMPLES)
        loud = IMPULSE + silence[2:]
        due = time.monotonic()
        impulse_at = due + WARM_UP
        while not self._over.wait(max(0.0, due - time.monotonic())):
            speaks = due >= impulse_at
            with contextlib.suppress(BlockingIOError):
                now = time.monotonic()
                os.write(self._fd, loud if speaks else silence)
                if speaks:
                    self.spoken.append(now)
            if speaks:
                impulse_at = due + EACH
            due += PACKET_SECONDS
        os.close(self._fd)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def listen(fifo: int, seconds: float) -> list[float]:
    """When an impulse came out of a FIFO."""
    heard: list[float] = []
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if not select.select([fifo], [], [], left)[0]:
            continue
        data = os.read(fifo, 1 << 16)
        now = time.monotonic()
        # The filter of a resampler spreads an impulse; its top is what counts, at its place.
        samples = np.abs(np.frombuffer(data[: len(data) // 2 * 2], np.int16).astype(np.int32))
        top = int(samples.argmax()) if len(samples) else 0
        if samples.max(initial=0) > 0x2000 and (not heard or now - heard[-1] > EACH / 3):
            heard.append(now + top / RATE)
    return heard


def added(network: Network, start: Start, seconds: float) -> tuple[float, float]:
    """Milliseconds from impulse in to impulse out: the median, and the longest."""
    with tempfile.TemporaryDirectory(prefix="ife-pa-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        spoken, heard = folder / "spoken", folder / "heard"
        for fifo in (spoken, heard):
            os.mkfifo(fifo)
            fifo.chmod(0o666)
        out = os.open(heard, os.O_RDWR | os.O_NONBLOCK)
        try:
            with start(network, spoken, heard) as begin, Mouth(spoken) as mouth:
                begin()
                arrived = listen(out, WARM_UP + seconds)
        finally:
            os.close(out)
    delays = []
    for at in arrived:
        before = [said for said in mouth.spoken if said < at]
        if before:
            delays.append((at - before[-1]) * 1000)
    if len(delays) < 0.5 * seconds / EACH:
        raise RuntimeError(f"{len(delays)} of {len(mouth.spoken)} impulses were heard")
    return median(delays), Worst(max(delays))


# -- while the server has all the rest to do ------------------------------------------------------


@contextlib.contextmanager
def _ordinary() -> Iterator[None]:
    """What is started meanwhile runs at an ordinary priority."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


@contextlib.contextmanager
def load(seconds: float) -> Iterator[None]:
    """20 channels by vlc_stream, and a report a second from each seat to seat control.

    Raises:
        RuntimeError: not every report was answered.
    """
    clip = make(streaming.STORE / "long.ts", streaming.LONG)
    with contextlib.ExitStack() as stack:
        with _ordinary():
            streams = stack.enter_context(served.cabin())
            stack.enter_context(streaming.ours(streams, [clip], CHANNELS))
            server = stack.enter_context(status.serving("seat_control", SEATS))
            reports = multiprocessing.get_context("spawn").Process(
                target=status.paced, args=(server, SEATS, seconds), daemon=True
            )
            reports.start()
        stack.callback(reports.kill)
        yield
        reports.join(timeout=seconds + 30)
        if reports.exitcode != 0:
            raise RuntimeError("the seats' reports were not all answered, or not in time")


def under_load(network: Network, seconds: float) -> tuple[float, ...]:
    """Ours, then GStreamer: added ms (p50, longest), packets lost, seats that it did not reach."""
    figures: list[float] = []
    with load(2 * (seconds + WARM_UP) + 10):
        for name in (OURS, TUNED):
            with _ordinary():
                cabin = CabinOfEars(network, peer=name == TUNED)
            with cabin:
                figures += added(network, PATHS[name], seconds)
                seen = cabin.seen()
            figures += [Worst(seen.lost), Worst(SEATS - len(seen.on))]
    return tuple(figures)


# -- all the seats ------------------------------------------------------------------------------


def keylines(network: Network, clicks: int) -> tuple[float, ...]:
    """A keyline closes and opens: ms to the last seat's override, at p50 and p99, and back.

    Raises:
        RuntimeError: a seat was not taken over, or missed a packet.
    """
    taken, given = [], []
    with pa_paths.serving(network) as keys, CabinOfEars(network) as cabin:
        time.sleep(1)
        for _ in range(clicks):
            closed = keys.set(crew=EVERYWHERE)
            time.sleep(0.5 + random.random() * 0.1)  # noqa: S311 - no secret
            opened = keys.set()
            time.sleep(0.6)
            seen = cabin.seen()
            if len(seen.on) < SEATS or len(seen.off) < SEATS or seen.lost:
                raise RuntimeError(
                    f"{len(seen.on)} seats heard it, {len(seen.off)} were given back, "
                    f"{seen.lost} packets were lost"
                )
            taken.append((max(seen.on.values()) - closed) * 1000)
            given.append((max(seen.off.values()) - opened) * 1000)
    return (*_spread(taken), *_spread(given))


def _spread(values: list[float]) -> tuple[float, float]:
    return median(values), float(np.percentile(values, 99))


# -- all of it ----------------------------------------------------------------------------------


def _added(network: Network, runs: int, seconds: float) -> str:
    found = in_turn(
        runs, {name: partial(added, network, start, seconds) for name, start in PATHS.items()}
    )
    rows = [[f"{BUFFER_MS} ms buffer, impulse in to impulse out", "p50 ms", "longest ms"]]
    rows += [[name, *(f"{value:,.1f}" for value in values)] for name, values in found.items()]
    mine = found[OURS][0]
    return (
        f"### Added delay\n\n{table(*rows)}\n{mine / found[TUNED][0]:.2f}x {TUNED}; "
        f"1/{found[VLC][0] / mine:.0f} of {VLC}.\n"
    )


def _under_load(network: Network, runs: int, seconds: float) -> str:
    found = in_turn(runs, {"under load": partial(under_load, network, seconds)})["under load"]
    rows = [
        [
            f"{CHANNELS} channels, {SEATS} seats",
            *("p50 ms", "longest ms", "packets lost", "seats not reached"),
        ]
    ]
    for name, figures in ((OURS, found[:4]), (TUNED, found[4:])):
        rows.append([name, *(f"{value:.1f}" for value in figures[:2])])
        rows[-1] += [f"{value:.0f}" for value in figures[2:]]
    return f"### Under load\n\n{table(*rows)}"


def _cabin(network: Network, runs: int, seconds: float) -> str:
    times = max(3, int(seconds))
    title = pa_player.film(streaming.STORE / "numbered.mp4")
    found = in_turn(
        runs,
        {
            "keylines": partial(keylines, network, times),
            "the film": partial(pa_player.resumed, network, title, times),
        },
    )
    on, on99, off, off99 = found["keylines"]
    again, again99, wrong = found["the film"]
    rows = [[f"{SEATS} seats, keyline to the last of them", "p50 ms", "p99 ms"]]
    rows += [["silent and on PA", f"{on:.1f}", f"{on99:.1f}"]]
    rows += [["given back", f"{off:.1f}", f"{off99:.1f}"]]
    rows += [["a film goes on, at one seat", f"{again:.1f}", f"{again99:.1f}"]]
    return (
        f"### In the cabin\n\n{table(*rows)}\nNo seat missed an override or a packet; the command "
        f"channel was not there. The film was off by {wrong:.0f} ms.\n"
    )


def _hour(network: Network, runs: int, simulated: float, lossy: float) -> str:
    said = pa_hour.voice()
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        # In simulated time, which nothing can disturb: each once, and all at once.
        waiting = [pool.submit(pa_hour.ours, said, loss, simulated) for loss in LOSSES]
        mine = [one.result() for one in waiting]
    peer = in_turn(
        runs,
        {str(loss): partial(pa_hour.gstreamer, network, said, loss, lossy) for loss in LOSSES},
    )
    head = [f"a clock off by {pa_hour.PPM} ppm", "delay at begin ms", "at end ms", "SNR dB", "s"]
    rows = [head]
    for loss, heard in zip(LOSSES, mine, strict=True):
        share = f"{loss:.0%} lost"
        figures = (*heard[:3], heard.seconds)
        rows.append([f"{share}: player", *(f"{value:,.1f}" for value in figures)])
        rows.append([f"{share}: GStreamer, spanplc", *(f"{v:,.1f}" for v in peer[str(loss)])])
        rows.append([f"{share}: silence", "", "", f"{pa_hour.silenced(said, loss):.1f}", ""])
    return (
        f"### {simulated / 60:.0f} minutes of PA\n\n{table(*rows)}\nThe player in simulated time; "
        f"GStreamer for {lossy:.0f} s, or until it crashed.\n"
    )


def results(options: argparse.Namespace) -> str:
    """All of it, as Markdown."""
    # Who speaks is never late: a source that starves once is late from then on.
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    runs, seconds = options.runs, options.seconds
    streaming.STORE.mkdir(mode=0o755, exist_ok=True)
    with Network() as network:
        return "\n".join(
            [
                _added(network, runs, seconds),
                _under_load(network, runs, seconds),
                _cabin(network, runs, seconds),
                _hour(network, runs, options.simulated, options.lossy),
            ]
        )


if __name__ == "__main__":
    main(
        "pa",
        results,
        __doc__,
        ("gst-launch-1.0", "vlc", "ffmpeg", "espeak-ng"),
        seconds=8.0,
        simulated=3600.0,
        lossy=15.0,
    )
