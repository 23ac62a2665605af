"""The ways of a PA from a FIFO with samples to another: pa_audio and the player, and peers."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from apps.common.pa import SAMPLES, Signer
from apps.pa_audio.tests.cabin import EVERYWHERE, INTERFACE, SEED, SERVER, Keys, Network, Pa
from apps.player.testing import unix_pair
from bench.media.player_child import child

BUFFER_MS = 10
AREA = 2
PEER_GROUP, PEER_PORT = "239.192.99.1", 5006

_REGISTRY = Path(tempfile.gettempdir()) / "ife-bench-gstreamer"
"""Where GStreamer keeps what plugins there are, so that it starts at once."""

Begin = Callable[[], object]
Start = Callable[[Network, Path, Path], AbstractContextManager[Begin]]
"""Starts what takes samples from one FIFO and plays them into another. What it gives is called when
there are samples: that is when somebody who speaks presses the key."""


@contextlib.contextmanager
def in_namespace(
    namespace: str, *commands: list[str], stdin: Path | None = None
) -> Iterator[list[subprocess.Popen[bytes]]]:
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
                    env=os.environ | {"HOME": "/nonexistent", "GST_REGISTRY": str(_REGISTRY)},
                )
            )
            if fd >= 0:
                os.close(fd)
        yield processes
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
def hearing(network: Network, sound: Path, *tell: socket.socket) -> Iterator[None]:
    """The PA child of a seat, from when it hears: it plays into `sound`, and tells others."""
    keys = sound.with_name("keys")
    key = Signer(SEED).public_key
    keys.write_text(base64.urlsafe_b64encode(key).decode().rstrip("=") + "\n")
    ours_, theirs = unix_pair()
    with (
        ours_,
        theirs,
        child(
            network.seats,
            "pa",
            ["--tell", *(str(end.fileno()) for end in (theirs, *tell))],
            [theirs, *tell],
            multicast_interface=INTERFACE,
            multicast_source=str(SERVER),
            pa_area=str(AREA),
            pa_public_keys_file=str(keys),
            pa_buffer_ms=str(BUFFER_MS),
            pa_volume="100",
            pa_sink=f"file:{sound}",
        ),
    ):
        ours_.settimeout(20)
        ours_.recv(600)
        yield


@contextlib.contextmanager
def ours(network: Network, spoken: Path, heard: Path) -> Iterator[Begin]:
    """From the crew's handset to the seat: pa_audio and the player."""
    with serving(network, IFE_CREW_INPUT=f"fifo:{spoken}") as keys, hearing(network, heard):
        yield lambda: keys.set(crew=EVERYWHERE)


_L16 = "application/x-rtp,media=audio,clock-rate=48000,encoding-name=L16,channels=1,payload=96"


def receive_by(
    heard: Path, *further: str, lost: str = "false", sink: tuple[str, ...] = ()
) -> list[str]:
    """GStreamer's receiver; `further` elements follow the depayloader."""
    return [
        *("gst-launch-1.0", "-q", "udpsrc", f"address={PEER_GROUP}", f"port={PEER_PORT}"),
        *(f"multicast-iface={INTERFACE}", f"caps={_L16}", "!"),
        *("rtpjitterbuffer", f"latency={BUFFER_MS}", f"do-lost={lost}", "!", "rtpL16depay"),
        *(*further, "!", "filesink", f"location={heard}", "buffer-mode=unbuffered", "sync=true"),
        *("async=false", *sink),
    ]


def gstreamer(*sink: str) -> Start:
    """GStreamer to GStreamer, with these properties of the sink."""

    @contextlib.contextmanager
    def start(network: Network, spoken: Path, heard: Path) -> Iterator[Begin]:
        send = [
            *("gst-launch-1.0", "-q", "fdsrc", f"blocksize={2 * SAMPLES}", "do-timestamp=true"),
            *("!", "rawaudioparse", "num-channels=1", "sample-rate=48000", "!", "audioconvert"),
            *("!", "rtpL16pay", "min-ptime=5000000", "max-ptime=5000000", "!", "udpsink"),
            *(f"host={PEER_GROUP}", f"port={PEER_PORT}", "sync=false", "async=false"),
            f"multicast-iface={INTERFACE}",
        ]
        with (
            in_namespace(network.seats, receive_by(heard, sink=sink)),
            in_namespace(network.server, send, stdin=spoken),
        ):
            yield lambda: None

    return start


@contextlib.contextmanager
def vlc(network: Network, spoken: Path, heard: Path) -> Iterator[Begin]:
    """VLC to VLC, with as little caching as it takes.

    At 44.1 kHz: L16 at that rate has a payload type of its own (RFC 3551), and Debian's VLC reads
    no SDP. Its output to a file does not wait until a sample is due, as its outputs to sound
    devices do; so that wait, and the device's delay, are not in its figure.
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
    with in_namespace(network.seats, receive), in_namespace(network.server, send, stdin=spoken):
        yield lambda: None
