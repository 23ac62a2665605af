"""USB devices as the kernel shows them in sysfs, and the three files by which they are let in.

Sources: the kernel's Documentation/usb/authorization.rst and ABI/testing/sysfs-bus-usb. A device
that is not authorised has no interfaces there. Where its bus has ``interface_authorized_default``
0, an interface has no driver until it is authorised itself and looked at again (``drivers_probe``).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from apps.usb_lockdown.descriptors import MAX_BYTES

_DEVICE = re.compile(r"\d+-\d+(\.\d+)*")
_DISK = re.compile(r"sd[a-z]{1,4}")
_PCI = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")

DIRECT_ACCESS = "0"
"""SCSI's type of a disk."""


@dataclass(frozen=True)
class UsbDevice:
    """A device that is plugged in, not a root hub.

    Attributes:
        name: the kernel's, ``1-2``; whatever is plugged in there next has the same.
        number: another one each time that something is plugged in, or comes back after a reset as
            something else.
        path: its place, as udev's ID_PATH_WITH_USB_REVISION: ``pci-0000:00:14.0-usbv2-0:2``. A
            controller has two buses, one for USB 2 and one for USB 3, whose ports both begin at 1.
        label: what it calls itself, in printable characters.
        descriptors: see `apps.usb_lockdown.descriptors`; cut off one byte after the longest.
        authorized: whether it is let in.
        denies: whether its bus lets in nothing by itself, neither devices nor interfaces.
    """

    name: str
    number: int
    path: str
    label: str
    descriptors: bytes
    authorized: bool
    denies: bool


@dataclass(frozen=True)
class UsbInterface:
    """An interface of a device that is let in: ``1-2:1.0``, its class, subclass and protocol.

    `driver` is the kernel's that has it, None while it has none.
    """

    name: str
    kind: tuple[int, int, int]
    authorized: bool
    driver: str | None


@dataclass(frozen=True)
class Unit:
    """A unit of a disk: what SCSI calls a logical unit.

    Attributes:
        kind: SCSI's type of it.
        disk: ``sda``; None while it has none.
        bytes: its size, 0 without a medium.
        device: its numbers, ``8:0``.
    """

    kind: str
    disk: str | None = None
    bytes: int = 0
    device: str = ""


class Sysfs:
    """The driver for all of it. What is no longer there when it is looked at is left out."""

    def __init__(self, root: Path) -> None:
        self._bus = root / "bus/usb"

    def devices(self) -> list[UsbDevice]:
        """All that is plugged in, by name."""
        found = (self._device(name) for name in self._names() if _DEVICE.fullmatch(name))
        return [device for device in found if device is not None]

    def open_buses(self) -> list[str]:
        """The buses that let in by themselves what is plugged in."""
        buses = [name for name in self._names() if name.startswith("usb")]
        return [bus for bus in buses if not self._denies(bus)]

    def interfaces(self, device: str) -> list[UsbInterface]:
        """The interfaces of a device."""
        folder = self._bus / "devices" / device
        found: list[UsbInterface] = []
        for path in sorted(folder.glob(f"{device}:*")):
            try:
                kind = [
                    int(_read(path / f"bInterface{part}"), 16)
                    for part in ("Class", "SubClass", "Protocol")
                ]
                authorized = _read(path / "authorized") == "1"
            except (OSError, ValueError):
                continue
            driver = path / "driver"
            name = driver.resolve().name if driver.exists() else None
            found.append(UsbInterface(path.name, (kind[0], kind[1], kind[2]), authorized, name))
        return found

    def units(self, interface: str) -> list[Unit]:
        """The units of the disk at an interface; they come one by one."""
        found: list[Unit] = []
        for unit in sorted((self._bus / "devices" / interface).glob("host*/target*/*:*:*:*")):
            try:
                kind = _read(unit / "type")
                disk = next((unit / "block").glob("*"), None)
                if disk is None or not _DISK.fullmatch(disk.name):
                    found.append(Unit(kind))
                else:
                    size = int(_read(disk / "size")) * 512
                    found.append(Unit(kind, disk.name, size, _read(disk / "dev")))
            except (OSError, ValueError):
                continue
        return found

    def authorize(self, name: str, let_in: bool) -> None:
        """Let a device or an interface in, or take that back.

        Raises:
            OSError: the kernel, or the file's mode, does not let us, or the device is gone.
        """
        self._write(self._bus / "devices" / name / "authorized", "1" if let_in else "0")

    def find_driver(self, interface: str) -> None:
        """Have the kernel look for the driver of an interface; raises as `authorize`."""
        self._write(self._bus / "drivers_probe", interface)

    def _names(self) -> list[str]:
        try:
            return sorted(path.name for path in (self._bus / "devices").iterdir())
        except FileNotFoundError:  # there is no controller
            return []

    def _device(self, name: str) -> UsbDevice | None:
        link = self._bus / "devices" / name
        try:
            with (link / "descriptors").open("rb", buffering=0) as file:
                descriptors = _read_up_to(file.fileno(), MAX_BYTES + 1)
            folder = link.resolve(strict=True)
            bus = next(parent for parent in folder.parents if parent.name.startswith("usb"))
            controller = bus.parent.name
            kind = "pci" if _PCI.fullmatch(controller) else "platform"
            # Of the bus, whatever the device says of itself: "2.00", "3.10".
            revision = int(_read(bus / "version").partition(".")[0])
            return UsbDevice(
                name=name,
                number=int(_read(folder / "devnum")),
                path=f"{kind}-{controller}-usbv{revision}-0:{name.partition('-')[2]}",
                label=_label(folder),
                descriptors=descriptors,
                authorized=_read(folder / "authorized") == "1",
                denies=self._denies(bus.name),
            )
        except (OSError, ValueError, StopIteration):
            return None

    def _denies(self, bus: str) -> bool:
        folder = self._bus / "devices" / bus
        try:
            return all(
                _read(folder / name) == "0"
                for name in ("authorized_default", "interface_authorized_default")
            )
        except OSError:
            return False

    def _write(self, path: Path, text: str) -> None:
        # Not created where it is missing: the device is gone then.
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)


def _read(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return _read_up_to(file.fileno(), 4096).decode(errors="replace").strip()


def _read_up_to(file: int, count: int) -> bytes:
    parts: list[bytes] = []
    while count > 0 and (part := os.read(file, count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _label(folder: Path) -> str:
    words: list[str] = []
    for name in ("manufacturer", "product"):
        try:
            words.append(_read(folder / name))
        except OSError:  # it says nothing
            continue
    text = " ".join(" ".join(words).split())
    return "".join(c if c.isprintable() else "?" for c in text)[:100] or "a device without a name"
