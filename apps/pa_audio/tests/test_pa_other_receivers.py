"""Programs that know nothing of ours hear the PA, by its description, and speak to it."""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pytest

from apps.common.multicast import Membership, receiving_socket
from apps.common.testing import wait_until
from apps.pa_audio.session import SAP_GROUP, SAP_PORT
from apps.pa_audio.tests.cabin import (
    EVERYWHERE,
    INTERFACE,
    SEAT,
    SERVER,
    Keys,
    Network,
    Pa,
    Seat,
    Speaker,
    process_in,
    tone,
    write_wav,
)

SAID = tone(1.0, 440)

# VLC itself refuses to run as root; its library is the same. It wants ffmpeg's demuxer for this.
VLC = """
import sys, time, vlc
player = vlc.Instance(
    "--quiet", "--demux=avformat", "--aout=afile", "--audiofile-file=-", "--no-audiofile-wav"
).media_player_new(sys.argv[1])
player.play()
time.sleep(60)
"""


def announced(network: Network) -> bytes:
    """The first description of the group for all that is announced."""

    def listen() -> socket.socket:
        sock = receiving_socket(SAP_GROUP, SAP_PORT)
        Membership(INTERFACE, SAP_GROUP, SERVER).renew(sock)
        return sock

    with network.run(network.seats, listen) as sock:
        while select.select([sock], [], [], 20)[0]:
            packet = sock.recv(2000)
            head, _, sdp = packet.partition(b"application/sdp\0")
            assert head[:2] == b"\x20\x00"
            if b"PA all areas" in sdp:
                return sdp
    raise AssertionError("nothing is announced")


@pytest.fixture
def sdp(short: Path, network: Network) -> Iterator[Path]:
    """The description in a file, while the crew speaks a tone for ever."""
    with (
        Pa(short, network),
        Keys(short / "keylines.sock") as keys,
        Speaker(short / "crew", SAID),
    ):
        path = short / "pa.sdp"
        path.write_bytes(announced(network))
        keys.set(crew=EVERYWHERE)
        yield path


def samples_from(pipe: IO[str], seconds: float) -> npt.NDArray[np.int16]:
    data = b""
    while len(data) < seconds * 96_000 and select.select([pipe], [], [], 20)[0]:
        piece = os.read(pipe.fileno(), 65_536)
        if not piece:
            break
        data += piece
    return np.frombuffer(data[: len(data) & ~1], "<i2")


def assert_is_what_was_said(samples: npt.NDArray[np.int16]) -> None:
    """Sample by sample, from wherever the receiver came in; the tone has a period of a second.

    The speaker is a thread of the test: where it was late, the PA had silence.
    """
    loud = samples.reshape(-1)[np.abs(samples).argmax() :]
    doubled = np.tile(SAID, 2)
    best = 0
    for start in range(0, len(loud) - 4800, 2400):
        piece = loud[start : start + 4800]
        places = np.flatnonzero(doubled[: len(SAID)] == piece[0])
        best = max(best, *(int((doubled[at : at + 4800] == piece).sum()) for at in places), 0)
    assert best == 4800


def test_ffmpeg_hears_it_sample_by_sample(sdp: Path, network: Network) -> None:
    with process_in(
        network.seats,
        *("ffmpeg", "-loglevel", "error", "-protocol_whitelist", "file,udp,rtp"),
        *("-i", str(sdp), "-t", "2", "-f", "s16le", "-"),
    ) as ffmpeg:
        assert ffmpeg.stdout is not None
        samples = samples_from(ffmpeg.stdout, 1.5)
    assert len(samples) > 60_000
    assert_is_what_was_said(samples)


def test_gstreamer_hears_it_sample_by_sample(sdp: Path, network: Network) -> None:
    with process_in(
        network.seats,
        *("gst-launch-1.0", "-q", "filesrc", f"location={sdp}", "!", "sdpdemux", "latency=20"),
        *("!", "rtpL16depay", "!", "audioconvert", "!", "audio/x-raw,format=S16LE"),
        *("!", "fdsink", "fd=1"),
    ) as gstreamer:
        assert gstreamer.stdout is not None
        samples = samples_from(gstreamer.stdout, 1.5)
    assert len(samples) > 60_000
    assert_is_what_was_said(samples)


def test_vlc_hears_it_sample_by_sample(sdp: Path, network: Network) -> None:
    with process_in(network.seats, sys.executable, "-c", VLC, str(sdp)) as vlc:
        assert vlc.stdout is not None
        samples = samples_from(vlc.stdout, 1.5)
    assert len(samples) > 60_000
    assert_is_what_was_said(samples)


def test_a_pilot_who_comes_by_multicast_is_heard(short: Path, network: Network) -> None:
    """It is sent by ffmpeg, L16 as of other audio equipment; a seat hears it as a PA."""
    write_wav(short / "pilot.wav", tone(20.0, 440))
    pilot = {"IFE_PILOT_INPUT": f"rtp:{SEAT}@239.192.75.9:6000%{INTERFACE}"}
    with (
        Pa(short, network, pilot) as pa,
        Keys(short / "keylines.sock") as keys,
        Seat(network, 1) as seat,
        process_in(
            network.seats,
            *("ffmpeg", "-loglevel", "error", "-re", "-i", str(short / "pilot.wav")),
            *("-c:a", "pcm_s16be", "-f", "rtp", f"rtp://239.192.75.9:6000?ttl=1&localaddr={SEAT}"),
        ),
    ):
        at = keys.set(pilot=EVERYWHERE)

        def is_heard() -> bool:
            packets = seat.speech(at)[-40:]
            if len(packets) < 40:
                return False
            samples = np.frombuffer(b"".join(it.samples for it in packets), ">i2")
            strongest = np.argmax(np.abs(np.fft.rfft(samples))) * 48_000 / len(samples)
            return bool(abs(strongest - 440) < 6)

        wait_until(is_heard, "the pilot is heard")
        assert "pilot input" not in pa.degraded()
