"""The player's own hardware: the interface, and Linux's way to it.

Linux: the screen is a backlight and the reading light an LED in /sys (kernel documentation,
ABI/stable/sysfs-class-backlight and ABI/testing/sysfs-class-led), temperatures are thermal
zones (driver-api/thermal/sysfs-api).
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Protocol

REBOOT_TIMEOUT = 10.0
READING_LIGHT = "reading-light"
"""The LED's name, as the player's device tree gives it."""


class PlatformError(Exception):
    """The hardware cannot do it; the message is what the crew read."""


class Platform(Protocol):
    """The hardware around the player. All but `reboot` return at once."""

    async def reboot(self) -> None:
        """Restart the machine. Returns when that is under way.

        Raises:
            PlatformError: it is not going to restart.
        """

    def temperature(self) -> float:
        """Of the hottest sensor, in degrees Celsius.

        Raises:
            PlatformError: no sensor answers.
        """

    def set_screen(self, on: bool, brightness: int) -> None:
        """Switch the screen; `brightness` in percent.

        Raises:
            PlatformError: the screen does not answer.
        """

    def set_reading_light(self, on: bool) -> None:
        """Switch the reading light.

        Raises:
            PlatformError: it does not answer.
        """


class LinuxPlatform:
    """A player that runs Debian.

    Args:
        sys: where sysfs is; tests give a folder of their own.
    """

    def __init__(self, sys: Path = Path("/sys")) -> None:
        self._class = sys / "class"

    async def reboot(self) -> None:
        """Ask the service manager; the right to comes from polkit (see the README)."""
        try:
            process = await asyncio.create_subprocess_exec(
                "systemctl",
                "--no-ask-password",
                "reboot",
                stdin=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise PlatformError(f"no restart: {error}") from error
        try:
            async with asyncio.timeout(REBOOT_TIMEOUT):
                _, said = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise PlatformError("no restart: systemctl does not answer") from None
        if process.returncode != 0:
            raise PlatformError(f"no restart: {said.decode(errors='replace').strip()}")

    def temperature(self) -> float:
        """Of the hottest thermal zone."""
        readings = []
        for zone in (self._class / "thermal").glob("thermal_zone*/temp"):
            # A zone may be switched off, and then cannot be read.
            with contextlib.suppress(OSError, ValueError):
                readings.append(int(zone.read_text()) / 1000)
        if not readings:
            raise PlatformError("no temperature sensor answers")
        return max(readings)

    def set_screen(self, on: bool, brightness: int) -> None:
        """Set every backlight there is."""
        backlights = sorted((self._class / "backlight").glob("*"))
        if not backlights:
            raise PlatformError("the screen has no backlight to set")
        for backlight in backlights:
            full = _read(backlight / "max_brightness")
            _write(backlight / "brightness", round(full * brightness / 100))
            # The power states of the framebuffer: 0 is on, 4 is off.
            _write(backlight / "bl_power", 0 if on else 4)

    def set_reading_light(self, on: bool) -> None:
        """Switch the LED."""
        light = self._class / "leds" / READING_LIGHT
        if not light.exists():
            raise PlatformError("the seat has no reading light")
        _write(light / "brightness", _read(light / "max_brightness") if on else 0)


def _read(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError) as error:
        raise PlatformError(f"{path.name} cannot be read: {error}") from error


def _write(path: Path, value: int) -> None:
    try:
        path.write_text(f"{value}\n")
    except OSError as error:
        raise PlatformError(f"{path.name} cannot be set: {error.strerror}") from error
