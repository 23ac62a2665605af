"""Sound in by a card, pictures in by a file, and both received in the cabin by ffmpeg."""

from __future__ import annotations

import subprocess
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from apps.common.channels import ChannelView
from apps.common.testing import wait_until
from bench.media.clips import Clip, make
from bench.site import CABIN
from image.vm.vm import VM
from tests.vm.conftest import copy, python

RATE, HERTZ, LOUD = 48_000, 440, 8_000
SERVER = "10.20.0.1"
PA_GROUP, CHANNEL_GROUP = "239.192.74.0", "239.192.80.1"
CHANNELS = f"""\
channels:
  news: {{names: {{en: News}}, group: {CHANNEL_GROUP}, playlist: [news.ts]}}
"""
CARD, DRIVER = "snd_aloop.1", "/sys/bus/platform/drivers/snd_aloop"
"""The handset's: the second of the two."""

PICTURES = 50
CLIP = Clip("News", seconds=10, kbits=800, size="320x180")

DESCRIPTION = f"""\
v=0
o=- 0 0 IN IP4 {SERVER}
s=PA
c=IN IP4 {PA_GROUP}/1
t=0 0
a=source-filter: incl IN IP4 {PA_GROUP} {SERVER}
m=audio 5004 RTP/AVP 96
a=rtpmap:96 L16/{RATE}/1
"""

# What is played into one end of the loop is captured at the other. The keylines lapse after a
# second, and a pipe that breaks ends it all.
SPEAK = """
aplay --quiet --device=hw:CARD=handset,DEV=1 /run/said.wav & player=$!
trap 'kill $player' EXIT
/opt/ife/bin/python -c '
import json, socket, time
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as keylines:
    while True:
        keylines.sendto(b"{\\"crew\\": {\\"all\\": true}}", "/run/ife/pa_audio/keylines.sock")
        print("on", flush=True)
        time.sleep(0.1)
'
"""

ASK = """
from pathlib import Path
from apps.common.calls import Client
from apps.common.channels import ChannelsView
client = Client(Path("/run/ife/vlc_stream.sock"), timeout=60)
print(client.ask(ChannelsView, "GET", "/api/v1/channels", None).channels[0].model_dump_json())
"""

PICTURE = r"""
import socket
with socket.socket(socket.AF_UNIX) as client:
    client.settimeout(60)
    client.connect("/run/ife/vlc_stream.sock")
    client.sendall(b"GET /api/v1/channels/news/picture HTTP/1.0\r\nIfe-Crew: anna\r\n\r\n")
    head, _, body = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")
print(head.split()[1].decode(), body[:3].hex())
"""

STARVED = 10.0
"""Seconds, twice those after which vlc_stream starts a channel anew that it does not hear."""

RECEIVE_TIMEOUT = 120

# Sound and pictures in real time are much for an emulated machine.
pytestmark = pytest.mark.long


def ffmpeg(vm: VM, *arguments: str) -> bytes:
    """What it makes of a stream, on our side of the cabin's bridge."""
    done = subprocess.run(
        [*vm.entering, "ffmpeg", "-nostdin", "-v", "error", *arguments],
        stdout=subprocess.PIPE,
        timeout=RECEIVE_TIMEOUT,
        check=True,
    )
    return done.stdout


@pytest.fixture
def cards(aircraft: VM) -> Iterator[None]:
    """The two cards that the inventory names, each with two ends that are joined."""
    aircraft.run("modprobe snd-aloop enable=1,1 id=pilot,handset")
    # It may have been started just now, by the test before.
    aircraft.run("until test -S /run/ife/pa_audio/keylines.sock; do sleep 1; done", timeout=120)
    yield
    # arecord has them open.
    aircraft.run("systemctl stop ife-pa_audio.service && modprobe -r snd-aloop")
    aircraft.run("systemctl start ife-pa_audio.service")


def status(vm: VM, app: str) -> str:
    """What an app says of itself to systemd."""
    return vm.run(f"systemctl show --property=StatusText --value ife-{app}.service").stdout


@contextmanager
def speaking(vm: VM, tmp_path: Path) -> Iterator[None]:
    """A tone in the handset, whose keyline is on."""
    at = np.arange(120 * RATE)
    said = (np.sin(2 * np.pi * HERTZ * at / RATE) * LOUD).astype("<i2")
    with wave.open(str(tmp_path / "said.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(said.tobytes())
    copy(vm, tmp_path / "said.wav", "/run/said.wav")
    with subprocess.Popen(
        ["ssh", "-F", str(vm.files.ssh_config), "vm", SPEAK], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"on\n"
            wait_until(lambda: "crew input" not in status(vm, "pa_audio"), "the card is open", 180)
            yield
        finally:
            process.kill()


def test_a_handset_is_heard_in_the_cabin(aircraft: VM, cards: None, tmp_path: Path) -> None:
    description = tmp_path / "pa.sdp"
    description.write_text(DESCRIPTION)
    with speaking(aircraft, tmp_path):
        heard = ffmpeg(
            aircraft,
            *("-protocol_whitelist", "file,udp,rtp", "-localaddr", str(CABIN.host.ip)),
            *("-i", str(description), "-t", "3", "-f", "s16le", "-"),
        )
    samples = np.frombuffer(heard, "<i2")
    assert len(samples) == 3 * RATE
    # An emulated machine is late for most packets, and there is silence in their place. So each
    # packet by itself, by how often the tone goes through zero in it.
    packets = samples.reshape(-1, RATE // 200).astype(float)
    heard_in = packets[np.abs(packets).max(axis=1) > 1000]
    assert len(heard_in) > 100
    assert np.abs(samples).max() <= LOUD
    crossings = (np.diff(np.signbit(heard_in), axis=1) != 0).sum(axis=1).mean()
    assert abs(crossings - 2 * HERTZ / 200) < 0.5


def test_a_handset_s_card_that_is_pulled_out_is_told_and_taken_again(
    aircraft: VM, cards: None, tmp_path: Path
) -> None:
    """In the middle of an announcement."""
    with speaking(aircraft, tmp_path):
        # It returns when nobody has the card open any more.
        aircraft.run(f"echo {CARD} >{DRIVER}/unbind", timeout=60)
        wait_until(lambda: "crew input" in status(aircraft, "pa_audio"), "it is told", 60)
        aircraft.run(f"echo {CARD} >{DRIVER}/bind")
        wait_until(lambda: "crew input" not in status(aircraft, "pa_audio"), "it is open", 180)
    assert aircraft.run("systemctl show -P NRestarts ife-pa_audio").stdout == "0\n"


def test_a_channel_is_seen_in_the_cabin(aircraft: VM, tmp_path: Path) -> None:
    clip = make(tmp_path / "news.ts", CLIP)
    before = aircraft.run("cat /etc/ife/channels.yml").stdout
    (tmp_path / "channels.yml").write_text(CHANNELS)
    aircraft.run("install -d -m 755 /var/lib/ife/media")
    copy(aircraft, clip, "/var/lib/ife/media/news.ts")
    copy(aircraft, tmp_path / "channels.yml", "/etc/ife/channels.yml")
    try:
        aircraft.run("systemctl restart ife-vlc_stream.service", timeout=120)
        wait_until(lambda: "ready\n" in status(aircraft, "vlc_stream"), "it is ready", 180)
        frames = ffmpeg(
            aircraft,
            *("-i", f"rtp://{CHANNEL_GROUP}:5004?sources={SERVER}&localaddr={CABIN.host.ip}"),
            *("-map", "0:v", "-frames:v", str(PICTURES), "-f", "framehash", "-"),
        )
        # It hears its own packets, else it would start the channel anew again and again.
        time.sleep(STARVED)
        channel = ChannelView.model_validate_json(python(aircraft, ASK))
        assert (channel.state, channel.restarts) == ("playing", 0), channel
        # What the crew's page shows of it.
        wait_until(lambda: python(aircraft, PICTURE) == "200 ffd8ff\n", "there is one", 120)
    finally:
        (tmp_path / "channels.yml").write_text(before)
        copy(aircraft, tmp_path / "channels.yml", "/etc/ife/channels.yml")
        aircraft.run("rm -r /var/lib/ife/media && systemctl restart ife-vlc_stream.service")
    seen = [line.split(",") for line in frames.decode().splitlines() if not line.startswith("#")]
    # Some of them ffmpeg counts, but does not show.
    assert len(seen) > PICTURES / 2
    assert len({line[-1] for line in seen}) == len(seen), "no picture comes twice"
    wait_until(
        lambda: (
            aircraft.run("systemctl is-active ife-vlc_stream", check=False).stdout == "active\n"
        ),
        "it is as it was",
        60,
    )
