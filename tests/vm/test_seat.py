"""A seat's PA on a sound device: plain Debian 13 with the player, and a card that is a loop."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from apps.common.pa import RATE, SAMPLES, Signer
from apps.common.testing import wait_until
from bench import plain
from bench.site import GROUND
from image.vm.machine import Machine
from image.vm.vm import VM
from tests.vm.conftest import ROOT, UV, StartVm, fetch, requirements

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="Debian is installed as root"),
]

HERTZ, LOUD, VOLUME = 440, 8_000, 0.8
SEED = bytes(range(32))
PACKAGES = ("alsa-utils", "iproute2", "libportaudio2", "python3")
CARD = "/sys/bus/platform/drivers/snd_aloop"

# What is played into one end of the loop is captured at the other.
PA = """
cat >/run/pa.env <<END
PYTHONPATH=/opt/player
IFE_REGISTRATION=EC-LAB
IFE_MULTICAST_INTERFACE=$(ip -o -4 route get {server} | sed -E 's/.* dev ([^ ]+).*/\\1/')
IFE_MULTICAST_SOURCE={server}
IFE_PA_AREA=1
IFE_PA_PUBLIC_KEYS_FILE=/run/pa.keys
IFE_PA_SINK=alsa:hw:0,0
END
echo {key} >/run/pa.keys
systemd-run --quiet --unit=pa -p Restart=always -p RestartSec=1 -p EnvironmentFile=/run/pa.env \\
    --working-directory=/opt/player /usr/bin/python3 -m apps.player.pa --parent 1
"""

CAPTURE = "arecord --quiet --device=hw:0,1 --format=S16_LE --rate=48000 --channels=1 --duration=3"

# The crew speak a tone for a minute.
SPEAK = f"""
import math, random, socket, struct, sys, time
from apps.common.pa import PORT, SAMPLES, Audio, Signer, Source, group
signer = Signer({SEED!r})
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 0))
sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(sys.argv[1]))
ssrc, number = random.getrandbits(32), random.getrandbits(31) | 1
began = time.monotonic()
for count in range(60 * 200):
    turn = 2 * math.pi * {HERTZ} / {RATE}
    tone = [round({LOUD} * math.sin(turn * (count * SAMPLES + at))) for at in range(SAMPLES)]
    packet = signer.sign(
        Audio(
            area=0,
            source=Source.CREW,
            number=number,
            time=int(time.time() * 1000),
            ssrc=ssrc,
            sequence=count & 0xFFFF,
            timestamp=count * SAMPLES,
            samples=struct.pack(f">{{SAMPLES}}h", *tone),
            first=count == 0,
        )
    )
    time.sleep(max(0, began + count * 0.005 - time.monotonic()))
    sock.sendto(packet, (str(group(0)), PORT))
"""


def _tree(folder: Path) -> Path:
    """What the seat has beside Debian: an address by DHCP, and the player with what its PA needs.

    There is no wheel of what it needs for a window.
    """
    tree = folder / "tree"
    player = tree / "opt/player"
    wanted = requirements("player", folder, "--no-emit-package=xcffib")
    install = ("pip", "install", "--quiet", "--require-hashes", "--only-binary=:all:")
    target = ("--python-version=3.13", "--python-platform=x86_64-manylinux_2_28")
    subprocess.run(
        [UV, *install, *target, f"--target={player}", f"--requirements={wanted}"],
        cwd=ROOT,
        check=True,
        timeout=300,
    )
    for app in ("common", "player"):
        shutil.copytree(ROOT / "apps" / app, player / "apps" / app)
    plain.ask_by_dhcp(tree)
    return tree


@pytest.fixture(scope="module")
def seat(new_vm_of_module: StartVm, image: Path, tmp_path_factory: pytest.TempPathFactory) -> VM:
    """It hears the PA, whose keys it has. The image's tools make Debian's kernel image."""
    folder = tmp_path_factory.mktemp("seat")
    disk = plain.install(folder, *PACKAGES, files=_tree(folder))
    vm = new_vm_of_module(Machine(disk, networks=(GROUND,), direct=True))
    vm.boot()
    vm.wait_for_ssh()
    vm.run("modprobe snd-aloop")
    key = base64.urlsafe_b64encode(Signer(SEED).public_key).decode().rstrip("=")
    vm.run(PA.format(server=GROUND.host.ip, key=key))
    wait_until(lambda: _said(vm, "the PA's sound is open") == 1, "its sound is open", 120)
    return vm


def _said(seat: VM, text: str) -> int:
    """How often the PA child has said it."""
    return seat.run("journalctl --unit=pa --output=cat").stdout.count(text)


@contextmanager
def speaking(seat: VM) -> Iterator[None]:
    """The crew speak, on our side of the seat's network."""
    command = [*seat.entering, sys.executable, "-c", SPEAK, str(GROUND.host.ip)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            yield
            assert process.poll() is None
        finally:
            process.kill()


def captured(seat: VM, tmp_path: Path) -> npt.NDArray[np.int16]:
    """Three seconds of what comes out of the card."""
    seat.run(f"{CAPTURE} /run/heard.wav", timeout=120)
    fetch(seat, "/run/heard.wav", tmp_path / "heard.wav")
    with wave.open(str(tmp_path / "heard.wav")) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def assert_tone(samples: npt.NDArray[np.int16]) -> None:
    """By how often it goes through zero in each piece of 5 ms that is not silent.

    An emulated machine is late for some packets: their place is filled, and then silent.
    """
    pieces = samples[: len(samples) // SAMPLES * SAMPLES].reshape(-1, SAMPLES).astype(float)
    heard = pieces[np.abs(pieces).max(axis=1) > 1000]
    assert len(heard) > 100
    assert np.median(np.abs(heard).max(axis=1)) <= LOUD * VOLUME + 1
    crossings = (np.diff(np.signbit(heard), axis=1) != 0).sum(axis=1).mean()
    assert abs(crossings - 2 * HERTZ * SAMPLES / RATE) < 0.5


def test_the_card_plays_what_the_crew_say_and_silence_else(seat: VM, tmp_path: Path) -> None:
    assert np.abs(captured(seat, tmp_path)).max() == 0
    with speaking(seat):
        wait_until(lambda: _said(seat, "the PA has the seat") == 1, "it is heard", 60)
        assert_tone(captured(seat, tmp_path))
    wait_until(lambda: _said(seat, "the PA is over") == 1, "it is over", 60)
    assert np.abs(captured(seat, tmp_path)).max() == 0


def test_a_card_that_is_pulled_out_and_put_back_plays_again(seat: VM, tmp_path: Path) -> None:
    opened = _said(seat, "the PA's sound is open")
    with speaking(seat):
        # It returns when nobody has the card open any more.
        seat.run(f"echo snd_aloop.0 >{CARD}/unbind", timeout=60)
        seat.run(f"echo snd_aloop.0 >{CARD}/bind")
        wait_until(lambda: _said(seat, "the PA's sound is open") > opened, "it is open again", 60)
        assert_tone(captured(seat, tmp_path))
    assert seat.run("systemctl is-active pa").stdout == "active\n"
