"""A seat: plain Debian 13 with the player's unit, an X server, and a sound card that is a loop."""

from __future__ import annotations

import base64
import os
import shutil
import ssl
import subprocess
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import xcffib

from apps.common.pa import RATE, SAMPLES, Signer, Source
from apps.common.protocol import FrameSigner
from apps.common.testing import wait_until
from apps.player.testing import PaServer, Server
from bench import plain
from bench.media.clips import Clip, make
from bench.site import GROUND, make_secrets
from image.vm.machine import Machine
from image.vm.vm import VM
from tests.vm.conftest import ROOT, UV, StartVm, beside, copy, fetch, requirements

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="Debian is installed as root"),
]

HERTZ, LOUD, VOLUME = 440, 12_000, 0.8
SEED = bytes(range(32))
PACKAGES = (
    *("alsa-utils", "iproute2", "libportaudio2", "python3", "xvfb"),
    *("libvlc5", "vlc-plugin-base", "vlc-plugin-video-output"),
)
CARD = "/sys/bus/platform/drivers/snd_aloop"
PKI = ROOT / "build/lab/EC-LAB"
SEAT = "12C"
SERVER = str(GROUND.host.ip)
SERVER_NAME = "10.20.0.1"
"""The address in the certificate of the lab's server."""

FILM = Clip("Film", seconds=120, kbits=700, size="320x180", rate=10)
WIDTH, HEIGHT = 320, 180
STILL = "/run/ife/player/still.sock"

# Where a player has an environment of its own, it has Debian's Python with a folder more.
PYTHON = """\
#!/bin/sh
PYTHONPATH=/opt/ife/lib exec /usr/bin/python3 "$@"
"""

SETTINGS = f"""\
IFE_REGISTRATION=EC-LAB
IFE_SEAT={SEAT}
IFE_PA_AREA=2
IFE_SERVER_URL={{server.url}}
IFE_SERVER_NAME={SERVER_NAME}
IFE_MEDIA_URL={{server.media_url}}
IFE_CA_FILE=/etc/ife/root.crt
IFE_SEAT_CERTIFICATE=/etc/ife/seat.crt
IFE_COMMAND_PUBLIC_KEYS_FILE=/etc/ife/keys.pub
IFE_PA_PUBLIC_KEYS_FILE=/etc/ife/keys.pub
IFE_MULTICAST_INTERFACE={{interface}}
IFE_MULTICAST_SOURCE={SERVER}
IFE_MULTICAST_GROUP=239.192.73.1
IFE_MULTICAST_PORT=5773
IFE_PA_SINK=alsa:hw:0,0
IFE_VIDEO_OUTPUT=window
IFE_AUDIO_OUTPUT=dummy
IFE_STILL_SOCKET={STILL}
DISPLAY=:0
"""

# Its screen is a file.
X_SERVER = f"""
mkdir /run/screen
systemd-run --quiet --unit=x Xvfb :0 -screen 0 {WIDTH}x{HEIGHT}x24 -fbdir /run/screen -ac \\
    -nolisten tcp -nocursor
until test -s /run/screen/Xvfb_screen0; do sleep 1; done
"""

# What is played into one end of the loop is captured at the other.
CAPTURE = "arecord --quiet --device=hw:0,1 --format=S16_LE --rate=48000 --channels=1 --duration=3"


def _tree(folder: Path) -> Path:
    """What the seat has beside Debian: an address by DHCP, and the player with its unit.

    There is no wheel of xcffib, which is Python alone.
    """
    tree = folder / "tree"
    library = tree / "opt/ife/lib"
    wanted = requirements("player", folder, "--no-emit-package=xcffib")
    build = (UV, "build", "--quiet", "--wheel", f"--out-dir={folder}")
    subprocess.run(build, cwd=ROOT, check=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    target = ("--python-version=3.13", "--python-platform=x86_64-manylinux_2_28")
    for what in (
        ("--require-hashes", "--only-binary=:all:", f"--requirements={wanted}"),
        ("--no-deps", wheel),
    ):
        command = (UV, "pip", "install", "--quiet", *target, f"--target={library}", *what)
        subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    shutil.copytree(Path(xcffib.__file__).parent, library / "xcffib")
    python = tree / "opt/ife/bin/python"
    python.parent.mkdir()
    python.write_text(PYTHON)
    python.chmod(0o755)
    units = tree / "etc/systemd/system"
    for name in ("ife.target", "ife-player.service", "ife-player.service.d", "ife-.service.d"):
        source = ROOT / "units" / name
        units.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, units / name) if source.is_dir() else shutil.copy(source, units)
    for name, where in (
        ("sysusers.d/ife.conf", "etc/sysusers.d"),
        ("udev/ife-player.rules", "etc/udev/rules.d"),
    ):
        (tree / where).mkdir(parents=True)
        shutil.copy(ROOT / "units" / name, tree / where)
    plain.ask_by_dhcp(tree)
    return tree


@pytest.fixture(scope="module")
def bare(new_vm_of_module: StartVm, image: Path, tmp_path_factory: pytest.TempPathFactory) -> VM:
    """It has the player, and its screen and card. The image's tools make Debian's kernel image."""
    make_secrets()
    folder = tmp_path_factory.mktemp("seat")
    disk = plain.install(folder, *PACKAGES, files=_tree(folder))
    vm = new_vm_of_module(Machine(disk, networks=(GROUND,), direct=True))
    vm.boot()
    vm.wait_for_ssh()
    # As an image of a player has it; it may not write to what it is.
    vm.run("python3 -m compileall -q -j 2 /opt/ife/lib", timeout=300)
    vm.run("modprobe snd-aloop && systemd-sysusers")
    vm.run(X_SERVER, timeout=120)
    return vm


@pytest.fixture(scope="module")
def server(bare: VM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Beside the seat, with the lab's certificates, and a film."""
    folder = tmp_path_factory.mktemp("titles")
    make(folder / "film-1", FILM)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(PKI / "server.crt", PKI / "server.key")
    tls.load_verify_locations(PKI / "root.crt")
    tls.verify_mode = ssl.CERT_REQUIRED
    with beside(bare) as thread:
        server = thread.submit(Server, tls, folder, FrameSigner(SEED), SERVER).result()
        yield server
        server.close()


@pytest.fixture(scope="module")
def seat(bare: VM, server: Server, tmp_path_factory: pytest.TempPathFactory) -> VM:
    """It is on, and has reported."""
    folder = tmp_path_factory.mktemp("settings")
    route = bare.run(f"ip -o -4 route get {SERVER}").stdout.split()
    interface = route[route.index("dev") + 1]
    (folder / "player.env").write_text(SETTINGS.format(server=server, interface=interface))
    key = base64.urlsafe_b64encode(Signer(SEED).public_key).decode().rstrip("=")
    (folder / "keys.pub").write_text(f"{key}\n")
    bare.run("mkdir -p -m 755 /etc/ife && mkdir -m 700 /etc/ife/keys")
    for source, target in (
        (folder / "player.env", "player.env"),
        (folder / "keys.pub", "keys.pub"),
        (PKI / "root.crt", "root.crt"),
        (PKI / f"seats/{SEAT}.crt", "seat.crt"),
        (PKI / f"seats/{SEAT}.key", "keys/seat.key"),
    ):
        copy(bare, source, f"/etc/ife/{target}")
    bare.run("chmod 644 /etc/ife/*.*")
    bare.run("systemctl start ife-player.service", timeout=300)
    wait_until(lambda: server.statuses, "it reports", 120)
    wait_until(lambda: _said(bare, "the PA's sound is open") == 1, "its sound is open", 120)
    return bare


def _said(seat: VM, text: str) -> int:
    """How often the player or its PA has said it."""
    return seat.run("journalctl --unit=ife-player --output=cat").stdout.count(text)


@contextmanager
def speaking(seat: VM) -> Iterator[None]:
    """The crew speak, on our side of the seat's network."""
    with beside(seat) as thread:
        pa = thread.submit(PaServer, Signer(SEED), GROUND.host.ip, interface=GROUND.name).result()
        thread.submit(pa.__enter__).result()
        try:
            pa.announce(Source.CREW, 1)
            yield
            pa.end()
        finally:
            pa.__exit__()


def captured(seat: VM, tmp_path: Path) -> npt.NDArray[np.int16]:
    """Three seconds of what comes out of the card."""
    seat.run(f"{CAPTURE} /run/heard.wav", timeout=120)
    fetch(seat, "/run/heard.wav", tmp_path / "heard.wav")
    with wave.open(str(tmp_path / "heard.wav")) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def screen(seat: VM, tmp_path: Path) -> npt.NDArray[np.uint8]:
    """What is on it: rows of blue, green, red and nothing, at the end of a file like xwd(1)'s."""
    fetch(seat, "/run/screen/Xvfb_screen0", tmp_path / "screen.xwd")
    data = np.fromfile(tmp_path / "screen.xwd", np.uint8)
    return data[-WIDTH * HEIGHT * 4 :].reshape(HEIGHT, WIDTH, 4)


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
    assert seat.run("systemctl is-active ife-player").stdout == "active\n"


def test_a_film_is_on_the_screen_and_a_pa_over_it(seat: VM, server: Server, tmp_path: Path) -> None:
    def looks() -> npt.NDArray[np.uint8]:
        return screen(seat, tmp_path)[..., :3]

    wait_until(lambda: not looks().any(), "the screen is dark", 60)
    server.command(name="play", media="film-1")
    wait_until(lambda: server.statuses[-1].state == "playing", "it plays", 120)
    wait_until(lambda: looks().std() > 40, "it is seen", 120)
    film = looks()
    wait_until(lambda: not np.array_equal(looks(), film), "it moves", 60)
    with speaking(seat):
        wait_until(lambda: server.statuses[-1].state == "announcement", "the seat has it", 60)
        wait_until(lambda: looks().std() < 40, "the announcement screen is shown", 60)
    wait_until(lambda: server.statuses[-1].state == "playing", "the film goes on", 60)
    wait_until(lambda: looks().std() > 40, "it is seen", 60)
    faults = {str(fault) for fault in server.statuses[-1].faults}
    # A virtual machine has no thermometer, and an emulated one may be late with pictures; the
    # server of the PA is gone when it has spoken.
    assert faults <= {"temperature", "media", "pa-multicast"}
    still = seat.run(
        f"""/opt/ife/bin/python -c '
import socket
with socket.socket(socket.AF_UNIX) as client:
    client.settimeout(30)
    client.connect("{STILL}")
    print(client.recv(8))
'"""
    ).stdout
    assert still.strip() == repr(b"\x89PNG\r\n\x1a\n")


def test_the_unit_gives_it_what_it_needs_and_no_more(seat: VM) -> None:
    (pid,) = seat.run("pgrep -f apps.player.pa").stdout.split()
    assert seat.run(f"chrt --pid {pid}").stdout.count("SCHED_FIFO") == 1
    assert seat.run("systemctl show -P NRestarts ife-player").stdout == "0\n"
    seat.run("systemd-analyze security --no-pager --threshold=20 ife-player.service")
    assert seat.run("systemd-analyze verify ife-player.service 2>&1", check=False).stdout == ""
