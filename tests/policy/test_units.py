"""Units are judged as they lie in units/, by systemd's own tools, without a machine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from apps.player.platform import READING_LIGHT
from tests.roles.helpers import render

ROOT = Path(__file__).parents[2]
UNITS = sorted(path.name for path in (ROOT / "units").iterdir() if path.is_file())
SERVICES = [name for name in UNITS if name.startswith("ife-") and name.endswith(".service")]
TEMPLATES = [name for name in SERVICES if name.endswith("@.service")]
"""Started by their sockets, once for each connection."""

PROGRAMS = ("gunicorn", "ife-status", "python")
ON_THE_GROUND = {"ife-hangar"}
"""Units of the Hangar, which has no others: its users are in a file of their own."""

ADDED_UP = {"RestrictAddressFamilies", "SupplementaryGroups"}
"""Keys of which systemd takes together what the unit and its drop-ins say."""

EXPOSURE = 20
"""Tenths: 2 of 10, where 10 is no protection at all."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the units installed, and with what they start and read."""
    root = tmp_path_factory.mktemp("root")
    shutil.copytree(ROOT / "units", root / "etc/systemd/system")
    for unit in ("network.target", "multi-user.target", "sockets.target", "sysinit.target"):
        source = Path("/usr/lib/systemd/system") / unit
        (root / "usr/lib/systemd/system").mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / "usr/lib/systemd/system" / unit)
    for program in ("bin/sh", "usr/bin/touch", *(f"opt/ife/bin/{name}" for name in PROGRAMS)):
        path = root / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    return root


def _systemd_analyze(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", f"--root={root}", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_has_nothing_to_say_of_a_unit(root: Path, unit: str) -> None:
    """A key that systemd does not know would silently protect nothing."""
    done = _systemd_analyze(root, "verify", "--man=no", "--recursive-errors=no", unit)
    own = [line for line in done.stderr.splitlines() if unit in line]
    assert (done.returncode, own) == (0, [])


@pytest.mark.parametrize("unit", SERVICES)
def test_a_service_is_hardened(root: Path, unit: str) -> None:
    done = _systemd_analyze(root, "security", "--offline=yes", f"--threshold={EXPOSURE}", unit)
    assert done.returncode == 0, done.stdout + done.stderr


def test_with_the_devices_of_screens_it_still_is(root: Path) -> None:
    """What the role adds where there are any."""
    unit = "ife-vlc_stream.service"
    folder = root / "etc/systemd/system" / f"{unit}.d"
    screens = render(folder, "vlc_stream", "screens.conf.j2", vlc_stream_screens=[{"name": "f1"}])
    done = _systemd_analyze(root, "security", "--offline=yes", f"--threshold={EXPOSURE}", unit)
    screens.unlink()
    assert done.returncode == 0, done.stdout + done.stderr
    without = _systemd_analyze(root, "security", "--offline=yes", unit)
    assert done.stdout != without.stdout, "it is not read"


@pytest.mark.parametrize("unit", SERVICES)
def test_a_service_adds_only_what_differs(unit: str) -> None:
    """Hardening is written once, in ife-.service.d."""
    shared = set((ROOT / "units/ife-.service.d/hardening.conf").read_text().splitlines())
    own = (ROOT / "units" / unit).read_text().splitlines()
    repeated = [line for line in own if "=" in line and line in shared]
    assert repeated == []


@pytest.mark.parametrize("unit", SERVICES)
def test_what_a_service_sets_is_in_force(unit: str) -> None:
    """Systemd reads drop-ins after the unit, in the order of their names: hardening.conf wins."""
    hardening = _keys(ROOT / "units/ife-.service.d/hardening.conf") - ADDED_UP
    assert _keys(ROOT / "units" / unit) & hardening == set()
    for path in (ROOT / "units" / f"{unit}.d").glob("*.conf"):
        assert path.name > "hardening.conf", path


def _keys(path: Path) -> set[str]:
    return set(re.findall(r"^([A-Z]\w+)=", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("unit", SERVICES)
def test_a_service_belongs_to_the_target_and_runs_as_itself(unit: str) -> None:
    text = (ROOT / "units" / unit).read_text()
    name = unit.removesuffix(".service").removesuffix("@")
    assert f"\nUser={name}\n" in text
    if unit in TEMPLATES:
        assert "\nAccept=yes\n" in (ROOT / "units" / f"{name}.socket").read_text()
    else:
        assert "\nWantedBy=ife.target\n" in text
    settings = f"\nEnvironmentFile=/etc/ife/{name.removeprefix('ife-')}.env\n"
    has_none = name == "ife-status" or unit in TEMPLATES
    assert (settings in text) != has_none, "neither status nor a template has settings"
    users = ROOT / "units/sysusers.d" / f"{name if name in ON_THE_GROUND else 'ife'}.conf"
    assert f"\nu     {name}" in users.read_text()


@pytest.mark.parametrize("unit", SERVICES)
def test_a_service_has_a_bound_on_its_memory(unit: str) -> None:
    """One that leaks is started anew, before it takes the machine with it."""
    assert "\nMemoryMax=" in (ROOT / "units" / unit).read_text()


@pytest.mark.parametrize("unit", SERVICES)
def test_a_service_that_goes_on_is_watched(unit: str) -> None:
    """One that hangs is started anew; ssh ends by itself once the ground has fallen silent.

    What is started for one connection ends with that, or by itself.
    """
    text = (ROOT / "units" / unit).read_text()
    ends = unit == "ife-tunnel.service" or unit in TEMPLATES
    goes_on = "\nType=oneshot\n" not in text and not ends
    assert ("\nWatchdogSec=" in text) == goes_on
    assert (unit == "ife-tunnel.service") == ("ServerAliveInterval=" in text)


def test_the_player_may_write_to_its_own_devices_only() -> None:
    text = (ROOT / "units/ife-player.service").read_text()
    paths = [
        path
        for line in text.splitlines()
        if line.startswith("ReadWritePaths=")
        for path in line.removeprefix("ReadWritePaths=").split()
    ]
    assert f"-/sys/class/leds/{READING_LIGHT}" in paths
    for path in paths:
        assert re.fullmatch(r"-/sys/class/(backlight|leds)/[a-z_-]+", path), path
    assert f'KERNEL=="{READING_LIGHT}"' in (ROOT / "units/udev/ife-player.rules").read_text()


def test_devices_that_come_later_are_open_to_who_may_use_them() -> None:
    """A kind is looked up when the unit starts (systemd.resource-control(5), DeviceAllow=)."""
    loaded = {"ttyS": None, "alsa": "snd", "drm": "drm", "sd": "sd_mod"}
    loaded |= {"ttyUSB": "usbserial", "ttyACM": "cdc_acm"}
    file = ROOT / "image/mkosi/mkosi.extra/usr/lib/modules-load.d/ife.conf"
    modules = {line for line in file.read_text().splitlines() if not line.startswith("#")}
    files = [*(ROOT / "units").rglob("*.service"), *(ROOT / "roles").glob("*/templates/*.conf.j2")]
    text = "".join(path.read_text() for path in files)
    kinds = set(re.findall(r"^DeviceAllow=(?:char|block)-(\S+) r", text, re.MULTILINE))
    assert {loaded[kind] for kind in kinds} - {None} == modules


def test_usb_lockdown_is_given_disks_and_hubs_alone() -> None:
    """Its user may write to /sys where udev gives it a file, and udev gives it no keyboard's."""
    text = (ROOT / "units/udev/55-ife-usb_lockdown.rules").read_text()
    (given,) = re.findall(r'ENV{ID_USB_INTERFACES}=="([^"]+)"', text)
    kinds = {kind for device in given.split("|") for kind in device.strip(":").split(":")}
    assert kinds == {"080650", "080662", "090000", "090001", "090002"}
    assert 'ATTR{bInterfaceClass}=="08|09"' in text
    assert text.count("chown ife-usb_lockdown") == 3


def test_a_reader_of_disks_has_nothing() -> None:
    text = (ROOT / "units/ife-usb_lockdown-reader@.service").read_text()
    text += (ROOT / "units/ife-usb_lockdown-reader@.service.d/once.conf").read_text()
    lines = text.splitlines()
    assert "PrivateNetwork=yes" in lines
    assert "RestrictAddressFamilies=none" in lines
    assert "SupplementaryGroups=" in lines
    assert not [line for line in lines if line.startswith(("DeviceAllow", "ReadWrite", "State"))]
