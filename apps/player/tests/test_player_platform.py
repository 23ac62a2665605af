"""Linux's hardware files, in a folder that stands for /sys."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from apps.player.platform import LinuxPlatform, PlatformError


def make(path: Path, text: str = "0\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_hottest_zone_counts_and_a_dead_one_does_not(tmp_path: Path) -> None:
    make(tmp_path / "class/thermal/thermal_zone0/temp", "41500\n")
    make(tmp_path / "class/thermal/thermal_zone1/temp", "52000\n")
    make(tmp_path / "class/thermal/thermal_zone2/temp", "")
    assert LinuxPlatform(tmp_path).temperature() == 52.0


def test_a_player_without_hardware_says_so(tmp_path: Path) -> None:
    platform = LinuxPlatform(tmp_path)
    with pytest.raises(PlatformError, match="no temperature sensor"):
        platform.temperature()
    with pytest.raises(PlatformError, match="no backlight"):
        platform.set_screen(True, 50)
    with pytest.raises(PlatformError, match="no reading light"):
        platform.set_reading_light(True)


def test_the_screen_is_its_backlight(tmp_path: Path) -> None:
    folder = tmp_path / "class/backlight/panel"
    brightness = make(folder / "brightness")
    power = make(folder / "bl_power")
    make(folder / "max_brightness", "255\n")
    platform = LinuxPlatform(tmp_path)
    platform.set_screen(True, 40)
    assert (brightness.read_text(), power.read_text()) == ("102\n", "0\n")
    platform.set_screen(False, 40)
    assert power.read_text() == "4\n"


def test_the_reading_light_is_an_led(tmp_path: Path) -> None:
    folder = tmp_path / "class/leds/reading-light"
    brightness = make(folder / "brightness")
    make(folder / "max_brightness", "31\n")
    platform = LinuxPlatform(tmp_path)
    platform.set_reading_light(True)
    assert brightness.read_text() == "31\n"
    platform.set_reading_light(False)
    assert brightness.read_text() == "0\n"


def test_hardware_that_does_not_answer_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "class/leds/reading-light"
    (folder / "brightness").mkdir(parents=True)
    make(folder / "max_brightness", "what\n")
    platform = LinuxPlatform(tmp_path)
    with pytest.raises(PlatformError, match="max_brightness cannot be read"):
        platform.set_reading_light(True)
    with pytest.raises(PlatformError, match="brightness cannot be set"):
        platform.set_reading_light(False)


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `systemctl` of ours, first in the path; its text is to be written."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program = tmp_path / "systemctl"
    program.touch(mode=0o755)
    return program


def test_a_reboot_is_asked_of_the_service_manager(systemctl: Path, tmp_path: Path) -> None:
    systemctl.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    asyncio.run(LinuxPlatform().reboot())
    assert (tmp_path / "asked").read_text() == "--no-ask-password reboot\n"


def test_a_reboot_that_is_refused_is_told(systemctl: Path) -> None:
    systemctl.write_text("#!/bin/sh\necho Access denied >&2\nexit 1\n")
    with pytest.raises(PlatformError, match="Access denied"):
        asyncio.run(LinuxPlatform().reboot())


def test_a_machine_without_systemd_cannot_reboot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlatformError, match="no restart"):
        asyncio.run(LinuxPlatform().reboot())


def test_a_service_manager_that_hangs_is_given_up(
    systemctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl.write_text("#!/bin/sh\nexec sleep 30\n")
    monkeypatch.setattr("apps.player.platform.REBOOT_TIMEOUT", 0.1)
    with pytest.raises(PlatformError, match="does not answer"):
        asyncio.run(LinuxPlatform().reboot())
