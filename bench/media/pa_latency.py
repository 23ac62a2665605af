"""Measures the PA at the seats, beside its peers: how much later it is heard, and how well.

Server and seats are two network namespaces, joined. *Added*: 5 ms of samples go into a FIFO each
5 ms, now and then with an impulse; what comes out of the receiver's FIFO is looked at for it. *In
the cabin*: 312 seats in one process, each with its own sockets and all that a seat checks and
decides, but that the signature of equal bytes is checked once: real seats have a processor each.
*An hour*: simulated, with our playout's code and a clock of its own.
``python -m bench.media.pa_latency --runs 1 --seconds 5 --simulated 60 --print`` tries it.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import os
import random
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

import numpy as np

from apps.common.multicast import Membership, receiving_socket
from apps.common.pa import (
    ALL_AREAS,
    PACKET_SECONDS,
    PORT,
    RATE,
    SAMPLES,
    Beacon,
    PaError,
    Received,
    Receiver,
    Signer,
    Verifier,
    group,
)
from apps.pa_audio.tests.cabin import (
    EVERYWHERE,
    INTERFACE,
    SEED,
    SERVER,
    Keys,
    Network,
    Pa,
)
from apps.player.pa_concealment import Concealment
from apps.player.pa_hearing import Ear
from apps.player.pa_playout import Playout
from apps.player.testing import unix_pair
from bench.document import machine, table, write

BUFFER_MS = 10
SEATS = 312
AREA = 2
PEER_GROUP, PEER_PORT = "239.192.99.1", 5006
IMPULSE = b"\x41\x41"
"""The same in both byte orders; all else is silence."""

REGISTRY = Path(tempfile.gettempdir()) / "ife-bench-gstreamer"
"""Where GStreamer keeps what plugins there are, so that it starts at once."""

EACH = 0.75
"""Seconds between two impulses, more than any of them takes."""

WARM_UP = 2.0
"""Seconds of sound before the first that counts."""

Begin = Callable[[], object]
Start = Callable[[Network, Path, Path], AbstractContextManager[Begin]]
"""Starts what takes samples from one FIFO and plays them into another. What it gives is called when
there are samples: that is when somebody who speaks presses the key."""


# -- the paths --------------------------------------------------------------------------------


@contextlib.contextmanager
def _in(namespace: str, *commands: list[str], stdin: Path | None = None) -> Iterator[None]:
    """Programs in a namespace, as nobody: VLC refuses root. The first has `stdin`."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            fd = os.open(stdin, os.O_RDWR) if stdin and not processes else subprocess.DEVNULL
            processes.append(
                subprocess.Popen(
                    [
                        *("ip", "netns", "exec", namespace),
                        *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command),
                    ],
                    stdin=fd,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=os.environ | {"HOME": "/nonexistent", "GST_REGISTRY": str(REGISTRY)},
                )
            )
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def serving(network: Network, **more: str) -> Iterator[Keys]:
    """pa_audio, whole, with these settings; its keylines."""
    with (
        tempfile.TemporaryDirectory(prefix="pa") as folder,
        Pa(Path(folder), network, more),
        Keys(Path(folder) / "keylines.sock") as keys,
    ):
        yield keys


@contextlib.contextmanager
def player(network: Network, sound: Path) -> Iterator[socket.socket]:
    """The PA child of one seat, and where it reports."""
    keys = sound.with_name("keys")
    key = Signer(SEED).public_key
    keys.write_text(base64.urlsafe_b64encode(key).decode().rstrip("=") + "\n")
    ours, theirs = unix_pair()
    values = {
        "REGISTRATION": "EC-LAB",
        "MULTICAST_INTERFACE": INTERFACE,
        "MULTICAST_SOURCE": SERVER,
        "PA_AREA": AREA,
        "PA_PUBLIC_KEYS_FILE": keys,
        "PA_BUFFER_MS": BUFFER_MS,
        "PA_VOLUME": 100,
        "PA_SINK": f"file:{sound}",
    }
    command = ["-m", "apps.player.pa", "--parent", str(os.getpid()), "--tell"]
    process = subprocess.Popen(
        [
            *("ip", "netns", "exec", network.seats, sys.executable),
            *(*command, str(theirs.fileno())),
        ],
        pass_fds=[theirs.fileno()],
        env=os.environ | {f"IFE_{name}": str(value) for name, value in values.items()},
        stderr=subprocess.DEVNULL,
    )
    try:
        ours.settimeout(20)
        ours.recv(600)
        yield ours
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def ours(network: Network, spoken: Path, heard: Path) -> Iterator[Begin]:
    """From the crew's handset to the seat: pa_audio and the player."""
    with (
        serving(network, IFE_CREW_INPUT=f"fifo:{spoken}") as keys,
        player(network, heard),
    ):
        yield lambda: keys.set(crew=EVERYWHERE)


_L16 = "application/x-rtp,media=audio,clock-rate=48000,encoding-name=L16,channels=1,payload=96"


def _gstreamer(*sink: str) -> Start:
    @contextlib.contextmanager
    def start(network: Network, spoken: Path, heard: Path) -> Iterator[Begin]:
        send = [
            *(
                "gst-launch-1.0",
                "-q",
                "fdsrc",
                f"blocksize={2 * SAMPLES}",
                "do-timestamp=true",
                "!",
            ),
            *("rawaudioparse", "num-channels=1", "sample-rate=48000", "!", "audioconvert", "!"),
            *("rtpL16pay", "min-ptime=5000000", "max-ptime=5000000", "!"),
            *("udpsink", f"host={PEER_GROUP}", f"port={PEER_PORT}", "sync=false"),
            *("async=false", f"multicast-iface={INTERFACE}"),
        ]
        receive = [
            *("gst-launch-1.0", "-q", "udpsrc", f"address={PEER_GROUP}", f"port={PEER_PORT}"),
            *(f"multicast-iface={INTERFACE}", f"caps={_L16}", "!"),
            *("rtpjitterbuffer", f"latency={BUFFER_MS}", "!", "rtpL16depay", "!"),
            *("filesink", f"location={heard}", "buffer-mode=unbuffered", "sync=true", *sink),
        ]
        with _in(network.seats, receive), _in(network.server, send, stdin=spoken):
            yield lambda: None

    return start


@contextlib.contextmanager
def vlc(network: Network, spoken: Path, heard: Path) -> Iterator[Begin]:
    """VLC to VLC, with as little caching as it takes; at 44.1 kHz.

    L16 at that rate has a payload type of its own (RFC 3551), and Debian's VLC reads no SDP.
    """
    rtp = f"rtp{{dst={PEER_GROUP},port={PEER_PORT},caching=0}}"
    quiet = ["cvlc", "--quiet", "--no-video", f"--miface={INTERFACE}"]
    send = [
        *quiet,
        *("--demux=rawaud", "--rawaud-channels=1", "--rawaud-samplerate=48000"),
        *("--rawaud-fourcc=s16l", "--file-caching=0", "--sout-mux-caching=0"),
        f"--sout=#transcode{{acodec=s16b,channels=1,samplerate=44100}}:{rtp}",
        "fd://0",
    ]
    receive = [
        *quiet,
        *("--network-caching=0", "--clock-jitter=0", "--aout=afile", "--no-audiofile-wav"),
        *(f"--audiofile-file={heard}", f"rtp://{SERVER}@{PEER_GROUP}:{PEER_PORT}"),
    ]
    with _in(network.seats, receive), _in(network.server, send, stdin=spoken):
        yield lambda: None


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
    return statistics.median(delays), max(delays)


# -- all the seats ------------------------------------------------------------------------------


class SharedVerifier(Verifier):
    """Checks the signature of equal bytes once, for seats that share a processor here."""

    def __init__(self, keys: list[bytes]) -> None:
        super().__init__(keys)
        self._last: tuple[bytes, bool] | None = None

    def is_signed(self, received: Received) -> bool:
        """Whether the signature is right."""
        if self._last is None or self._last[0] != received.signed:
            self._last = (received.signed, super().is_signed(received))
        return self._last[1]


class CabinOfEars:
    """312 seats: each with its sockets, its checks and its ear.

    `on` and `off` are when each was taken over and given back; `packets` how many each had.
    """

    def __init__(self, network: Network) -> None:
        verifier = SharedVerifier([Signer(SEED).public_key])
        self.on: dict[int, float] = {}
        self.off: dict[int, float] = {}
        self.packets = [0] * SEATS
        self._receivers = [Receiver(verifier, AREA) for _ in range(SEATS)]
        self._ears = [Ear(BUFFER_MS / 1000) for _ in range(SEATS)]
        self._poll = select.epoll()
        self._sockets: dict[int, tuple[int, socket.socket]] = {}
        for seat in range(SEATS):
            for area in (ALL_AREAS, AREA):
                sock = network.run(network.seats, self._join, area)
                self._sockets[sock.fileno()] = (seat, sock)
                self._poll.register(sock, select.EPOLLIN)
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    @staticmethod
    def _join(area: int) -> socket.socket:
        sock = receiving_socket(group(area), PORT)
        Membership(INTERFACE, group(area), SERVER).renew(sock)
        return sock

    def _run(self) -> None:
        while not self._over:
            for fd, _ in self._poll.poll(0.05):
                seat, sock = self._sockets[fd]
                self._hear(seat, sock.recv(1500))

    def _hear(self, seat: int, datagram: bytes) -> None:
        now = time.monotonic()
        try:
            message = self._receivers[seat].accept(datagram, now)
        except PaError:
            return
        ear = self._ears[seat]
        ear.hear(message, now)
        if isinstance(message, Beacon):
            return
        self.packets[seat] += 1
        # Between its first packet and its end nothing changes.
        if seat not in self.on and ear.override is not None:
            self.on[seat] = now
        elif message.ended and seat not in self.off and ear.override is None:
            self.off[seat] = now

    def forget(self) -> None:
        """Before the next announcement."""
        self.on, self.off, self.packets = {}, {}, [0] * SEATS

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._thread.join()
        self._poll.close()
        for _seat, sock in self._sockets.values():
            sock.close()


def keylines(network: Network, clicks: int) -> tuple[float, float, float, float]:
    """A keyline closes and opens: ms to the last seat's override, at p50 and p99, and back.

    Raises:
        RuntimeError: a seat was not taken over, or missed a packet.
    """
    taken, given = [], []
    with serving(network) as keys, CabinOfEars(network) as cabin:
        time.sleep(1)
        for _ in range(clicks):
            cabin.forget()
            closed = keys.set(crew=EVERYWHERE)
            time.sleep(0.5 + random.random() * 0.1)  # noqa: S311 - no secret
            opened = keys.set()
            time.sleep(0.6)
            if len(cabin.off) < SEATS or len(set(cabin.packets)) > 1:
                raise RuntimeError(
                    f"{len(cabin.on)} seats heard it, {len(cabin.off)} were given back, "
                    f"{min(cabin.packets)} to {max(cabin.packets)} packets"
                )
            taken.append((max(cabin.on.values()) - closed) * 1000)
            given.append((max(cabin.off.values()) - opened) * 1000)
    return (*_spread(taken), *_spread(given))


def _spread(values: list[float]) -> tuple[float, float]:
    return statistics.median(values), float(np.percentile(values, 99))


# -- an hour ------------------------------------------------------------------------------------


def voice(seconds: float) -> np.ndarray:
    """espeak-ng, over and over."""
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
    samples = np.frombuffer(raw, np.int16)
    count = int(seconds * RATE) // SAMPLES * SAMPLES
    return np.resize(samples, count)


def hour(seconds: float, ppm: float, loss: float) -> tuple[float, float]:
    """The playout's delay in ms, in the first and in the last tenth of that time."""
    packets = voice(60).astype(">i2").reshape(-1, SAMPLES)
    playout = Playout(BUFFER_MS / 1000)
    rng = np.random.default_rng(7)
    count = int(seconds / PACKET_SECONDS)
    speed, began = 1 + ppm * 1e-6, 1000.0
    arrivals = began + np.arange(count) * PACKET_SECONDS / speed
    arrivals += 0.0005 + 0.001 * rng.random(count)
    lost = rng.random(count) < loss
    lost[0] = False
    delays, due = [], 0.0
    for index, at in enumerate(map(float, arrivals)):
        while due and due < at:
            playout.pull(SAMPLES, due)
            delays.append((due - began) * speed - (playout._position - SAMPLES) / RATE)  # noqa: SLF001 - nobody else wants to know it
            due += PACKET_SECONDS
        if not lost[index]:
            samples = packets[index % len(packets)].tobytes()
            playout.put(index * SAMPLES & 0xFFFFFFFF, samples, at)
        due = due or playout.begins_at
    tenth = len(delays) // 10
    return statistics.mean(delays[:tenth]) * 1000, statistics.mean(delays[-tenth:]) * 1000


def concealed(loss: float) -> tuple[float, float, float]:
    """Signal to noise of a voice, dB: ours, silence for what is lost, the packet before again."""
    said = voice(60).astype(np.float32)
    blocks = said.reshape(-1, SAMPLES)
    lost = np.random.default_rng(7).random(len(blocks)) < loss
    lost[0] = False
    concealment = Concealment()
    ours_ = [concealment.next(None if gone else b) for gone, b in zip(lost, blocks, strict=True)]
    silent = np.where(lost[:, None], 0, blocks)
    again = blocks.copy()
    for index in np.flatnonzero(lost):
        again[index] = again[index - 1]

    def snr(heard: np.ndarray) -> float:
        return float(10 * np.log10((said**2).sum() / ((said - heard.ravel()) ** 2).sum()))

    return snr(np.stack(ours_)), snr(silent), snr(again)


# -- all of it ----------------------------------------------------------------------------------


def results(network: Network, runs: int, seconds: float, simulated: float) -> str:
    """As Markdown."""
    paths: dict[str, Start] = {
        "pa_audio and player": ours,
        "GStreamer, tuned": _gstreamer("processing-deadline=0", "async=false"),
        "GStreamer, default sink": _gstreamer(),
        "VLC, least caching": vlc,
    }
    found: dict[str, list[tuple[float, float]]] = {}
    cabin = []
    for run in range(runs):
        for name, start in paths.items():
            found.setdefault(name, []).append(added(network, start, seconds))
            print(f"  run {run + 1} of {runs}, {name}: {found[name][-1]}", file=sys.stderr)
        cabin.append(keylines(network, max(3, int(seconds))))
        print(f"  run {run + 1} of {runs}, keylines: {cabin[-1]}", file=sys.stderr)
    medians = {
        name: tuple(statistics.median(column) for column in zip(*values, strict=True))
        for name, values in found.items()
    }
    rows = [[f"{BUFFER_MS} ms buffer, impulse in to impulse out", "p50 ms", "longest ms"]]
    rows += [[name, *(f"{value:,.1f}" for value in values)] for name, values in medians.items()]
    mine = medians["pa_audio and player"][0]
    text = (
        f"### Added delay\n\n{table(*rows)}{mine / medians['GStreamer, tuned'][0]:.2f}x GStreamer "
        f"tuned, 1/{medians['VLC, least caching'][0] / mine:.0f} of VLC.\n\n"
    )
    on, on99, off, off99 = (statistics.median(column) for column in zip(*cabin, strict=True))
    rows = [["312 seats, keyline to the last of them", "p50 ms", "p99 ms"]]
    rows += [["silent and on PA", f"{on:.1f}", f"{on99:.1f}"]]
    rows += [["given back", f"{off:.1f}", f"{off99:.1f}"]]
    text += (
        f"### In the cabin\n\n{table(*rows)}No seat missed an override or a packet; the command "
        "channel was not there.\n\n"
    )
    rows = [["a clock off by 100 ppm", "delay first ms", "last ms", "SNR dB", "silence", "again"]]
    for loss in (0.01, 0.05):
        first, last = hour(simulated, 100, loss)
        rows.append([f"{loss:.0%} lost", f"{first:.2f}", f"{last:.2f}"])
        rows[-1] += [f"{value:.1f}" for value in concealed(loss)]
    return (
        f"{text}### {simulated / 60:.0f} minutes of PA\n\n{table(*rows)}The delay is that in the "
        "first and in the last tenth; SNR that of a voice, where what is lost is concealed, left "
        "silent (as GStreamer's jitter buffer leaves it), or the packet before played again.\n"
    )


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.media.pa_latency", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="of each, in turn; 5 unless given")
    parser.add_argument("--seconds", type=float, default=20, help="of each; 20 unless given")
    parser.add_argument("--simulated", type=float, default=3600, help="seconds; an hour")
    parser.add_argument("--print", action="store_true", help="and do not write them down")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench.media.pa_latency: a network of its own takes root rights")
    wanted = ("gst-launch-1.0", "vlc", "ffmpeg", "espeak-ng")
    missing = [name for name in wanted if shutil.which(name) is None]
    if missing:
        sys.exit(f"bench.media.pa_latency: not installed: {', '.join(missing)}")
    # Who speaks is never late: a source that starves once is late from then on.
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    with Network() as network:
        text = results(network, options.runs, options.seconds, options.simulated)
    text = f"{machine()} Medians of {options.runs} runs.\n\n{text}"
    if options.print:
        print(text)
    else:
        write("pa", text)


if __name__ == "__main__":
    main()
