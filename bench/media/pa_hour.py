"""An hour of PA whose server's clock is off, while packets vanish: does the delay grow, how is it?

Ours: the player's own playout and concealment, in simulated time. GStreamer: its jitter buffer with
SpanDSP's concealment (spanplc), the only one that it has for L16, in real time. What is heard is
compared with what was said, at the place that it has come to: signal to noise, of a voice.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from apps.common.pa import PACKET_SECONDS, RATE, SAMPLES
from apps.pa_audio.tests.cabin import SERVER, Network
from apps.player.pa_playout import Playout
from bench.media.pa_paths import BUFFER_MS, PEER_GROUP, PEER_PORT, in_namespace, receive_by

PPM = 100
VOICE_SECONDS = 60
_FINER = 8
"""The voice is compared at eighths of a sample, and linearly in between: 70 dB at 3 kHz."""

_RTP = struct.Struct("!BBHII")
_STRETCH = 4 * SAMPLES
_SLIPS = [off + jump for jump in (0, -SAMPLES, SAMPLES) for off in range(-8, 9)]
"""Samples by which a stretch of 20 ms may be off the one before: what spanplc puts in is some
samples too long or too short, and now and then a packet."""

_CRASHED_AFTER = 0.5
"""Seconds without a sound; then gst-launch waits for a debugger."""


class Heard(NamedTuple):
    """Delay in ms, of the first and of the last tenth; signal to noise in dB; for so long."""

    first: float
    last: float
    snr: float
    seconds: float


def voice() -> NDArray[np.int16]:
    """A minute of espeak-ng."""
    text = "Ladies and gentlemen, please fasten your seat belts, we expect some turbulence ahead."
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "voice.wav"
        subprocess.run(["espeak-ng", "-w", str(wav), text], check=True, timeout=60)
        raw = subprocess.run(
            [
                *("ffmpeg", "-loglevel", "error", "-i", str(wav)),
                *("-ar", str(RATE), "-ac", "1", "-f", "s16le", "-"),
            ],
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
    return np.resize(np.frombuffer(raw, np.int16), VOICE_SECONDS * RATE)


def _lost(count: int, loss: float) -> NDArray[np.bool_]:
    """Which packets vanish: the same for all, and not the first."""
    lost = np.random.default_rng(7).random(count) < loss
    lost[:20] = False
    return lost


def _tenths(delays: list[float]) -> tuple[float, float]:
    """The median of the first and of the last tenth, in ms."""
    tenth = max(1, len(delays) // 10)
    return 1000 * float(np.median(delays[:tenth])), 1000 * float(np.median(delays[-tenth:]))


def _decibels(said: float, off: float) -> float:
    return 10 * math.log10(said / off)


def ours(said: NDArray[np.int16], loss: float, seconds: float) -> Heard:
    """The player's playout. Packets come 0.5 to 1.5 ms after they were sent."""
    packets = said.astype(">i2").reshape(-1, SAMPLES)
    spectrum = np.fft.rfft(said.astype(np.float64))
    fine = np.fft.irfft(spectrum, len(said) * _FINER) * _FINER
    fine = np.append(fine, fine[:1])
    count = int(seconds / PACKET_SECONDS)
    speed, began = 1 + PPM * 1e-6, 1000.0
    transit = 0.0005 + 0.001 * np.random.default_rng(8).random(count)
    arrivals = began + np.arange(count) * PACKET_SECONDS / speed + transit
    gone = _lost(count, loss)
    playout = Playout(BUFFER_MS / 1000)
    delays: list[float] = []
    power = noise = due = before = 0.0

    def place() -> float:
        return playout._position  # noqa: SLF001 - nobody else wants to know it

    for index, at in enumerate(map(float, arrivals)):
        while due and due < at:
            heard = playout.pull(SAMPLES, due)
            end = place()
            # The speed is the same within a call; the first call begins where it is due.
            begin = before or end - SAMPLES
            places = begin + np.arange(SAMPLES) * (end - begin) / SAMPLES
            eighths = places * _FINER % (len(fine) - 1)
            whole = eighths.astype(np.intp)
            expected = fine[whole] + (fine[whole + 1] - fine[whole]) * (eighths - whole)
            power += float(expected @ expected)
            noise += float((heard - expected) @ (heard - expected))
            delays.append(due - began - begin / RATE / speed)
            before = end
            due += PACKET_SECONDS
        if not gone[index]:
            samples = packets[index % len(packets)].tobytes()
            playout.put(index * SAMPLES & 0xFFFFFFFF, samples, at)
        due = due or playout.begins_at
    return Heard(*_tenths(delays), _decibels(power, noise), seconds)


def gstreamer(network: Network, said: NDArray[np.int16], loss: float, seconds: float) -> Heard:
    """GStreamer, tuned as for the delay; `seconds` of the result is less where it crashed."""
    packets = said.astype(">i2").reshape(-1, SAMPLES)
    count = int(seconds / PACKET_SECONDS)
    gone = _lost(count, loss)
    conceal = ("!", "audioconvert", "!", "spanplc")
    with tempfile.TemporaryDirectory(prefix="ife-pa-") as name, contextlib.ExitStack() as stack:
        heard = Path(name) / "heard"
        Path(name).chmod(0o755)
        os.mkfifo(heard)
        heard.chmod(0o666)
        out = os.open(heard, os.O_RDWR | os.O_NONBLOCK)
        stack.callback(os.close, out)
        command = receive_by(heard, *conceal, lost="true", sink=("processing-deadline=0",))
        stack.enter_context(in_namespace(network.seats, command))
        sock = network.run(network.server, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        stack.enter_context(sock)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, SERVER.packed)
        time.sleep(2)
        sent: list[float] = []
        pieces: list[tuple[float, bytes]] = []
        due = time.monotonic()
        for index in range(count):
            _read_until(out, due, pieces)
            if pieces and pieces[-1][0] < due - _CRASHED_AFTER:
                break
            sent.append(time.monotonic())
            if not gone[index]:
                head = _RTP.pack(0x80, 96, index & 0xFFFF, index * SAMPLES & 0xFFFFFFFF, 7)
                sock.sendto(head + packets[index % len(packets)].tobytes(), (PEER_GROUP, PEER_PORT))
            due += PACKET_SECONDS / (1 + PPM * 1e-6)
        _read_until(out, due + 0.2, pieces)
    return _compared(said, sent, pieces)


def _read_until(fifo: int, end: float, pieces: list[tuple[float, bytes]]) -> None:
    while (left := end - time.monotonic()) > 0:
        if select.select([fifo], [], [], left)[0]:
            pieces.append((time.monotonic(), os.read(fifo, 1 << 16)))


def _compared(
    said: NDArray[np.int16], sent: list[float], pieces: list[tuple[float, bytes]]
) -> Heard:
    """What came out, beside what was said; each stretch where it fits best."""
    heard = np.frombuffer(b"".join(piece for _, piece in pieces), np.int16).astype(np.float64)
    ends = np.cumsum([len(piece) // 2 for _, piece in pieces])
    loop = np.concatenate((said, said[:_STRETCH])).astype(np.float64)
    delays, slip = [], 0
    power = noise = 0.0
    for begin in range(_STRETCH, len(heard) - 2 * _STRETCH, _STRETCH):
        piece = heard[begin : begin + _STRETCH]
        best = (math.inf, slip, 0.0)
        for off in (slip + by for by in _SLIPS):
            start = (begin + off) % len(said)
            expected = loop[start : start + _STRETCH]
            error = float((piece - expected) @ (piece - expected))
            if error < best[0]:
                best = (error, off, float(expected @ expected))
        noise += best[0]
        power += best[2]
        if best[2] > _STRETCH * 100**2:  # not in a pause, where everything fits
            slip = best[1]
        when = pieces[int(np.searchsorted(ends, begin, "right"))][0]
        delays.append(when - sent[min((begin + slip) // SAMPLES, len(sent) - 1)])
    return Heard(*_tenths(delays), _decibels(power, noise), len(heard) / RATE)


def silenced(said: NDArray[np.int16], loss: float) -> float:
    """Signal to noise where what is lost is left silent."""
    blocks = said.astype(np.float64).reshape(-1, SAMPLES)
    gone = blocks[_lost(len(blocks), loss)]
    return _decibels(float((blocks**2).sum()), float((gone**2).sum()))
