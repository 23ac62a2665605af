"""USB devices for tests and the bench: what they say of themselves, and a sysfs for them.

Only what the kernel does is played: it makes interfaces when a device is authorised, and a disk
when an interface is and its driver was asked for. The folders and files are those of Linux 6.12.
"""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

CONTROLLER = "0000:00:1d.0"
BUSES = {1: "2.00", 2: "3.00"}
"""The controller's, with the version of USB that they say."""

FRONT = f"pci-{CONTROLLER}-usbv2-0:1"
AFT = f"pci-{CONTROLLER}-usbv2-0:4.1"
PORTS = {FRONT: "front", AFT: "aft"}

BULK, INTERRUPT = 2, 3


def device(kind: tuple[int, int, int] = (0, 0, 0), configurations: int = 1) -> bytes:
    """The descriptor of a whole device."""
    numbers = (0x46F4, 0x0001, 0x0100)
    return struct.pack(
        "<BBHBBBBHHHBBBB", 18, 1, 0x0200, *kind, 64, *numbers, 1, 2, 3, configurations
    )


def configuration(*interfaces: bytes, count: int | None = None) -> bytes:
    """A configuration with these interfaces, of which `count` have a number of their own."""
    body = b"".join(interfaces)
    number = len(interfaces) if count is None else count
    return struct.pack("<BBHBBBBB", 9, 2, 9 + len(body), number, 1, 0, 0xC0, 0) + body


def interface(
    number: int,
    kind: tuple[int, int, int],
    transfers: tuple[int, ...] = (BULK, BULK),
    extra: bytes = b"",
    alternate: int = 0,
) -> bytes:
    """An interface with its endpoints."""
    begin = struct.pack("<BBBBBBBBB", 9, 4, number, alternate, len(transfers), *kind, 0)
    ends = (
        struct.pack("<BBBBHB", 7, 5, 0x80 * (at % 2) + at + 1, transfer, 512, 0)
        for at, transfer in enumerate(transfers)
    )
    return begin + extra + b"".join(ends)


STORAGE = interface(0, (8, 6, 0x50))
HID = bytes((9, 0x21, 0x11, 1, 0, 1, 0x22, 63, 0))
ASSOCIATION = bytes((8, 0x0B, 0, 2, 2, 2, 0, 0))
PIPE = bytes((4, 0x24, 1, 0))

DISK = device() + configuration(STORAGE)
UAS = device() + configuration(
    STORAGE,
    interface(0, (8, 6, 0x62), (BULK,) * 4, PIPE * 4, alternate=1),
    count=1,
)
HUB = device((9, 0, 1)) + configuration(interface(0, (9, 0, 0), (INTERRUPT,)))
KEYBOARD = device() + configuration(interface(0, (3, 1, 1), (INTERRUPT,), HID))
DISK_AND_KEYBOARD = device() + configuration(STORAGE, interface(1, (3, 1, 1), (INTERRUPT,), HID))

BAD = {
    "keyboard": KEYBOARD,
    "mouse": device() + configuration(interface(0, (3, 1, 2), (INTERRUPT,), HID)),
    "network": device((2, 0, 0))
    + configuration(interface(0, (2, 6, 0), (INTERRUPT,)), interface(1, (10, 0, 0))),
    "serial": device() + configuration(interface(0, (0xFF, 0xFF, 0xFF))),
    "mtp": device() + configuration(interface(0, (6, 1, 1), (BULK, BULK, INTERRUPT))),
    "audio": device() + configuration(interface(0, (1, 1, 0), ()), interface(1, (1, 2, 0), (1,))),
    "disk and keyboard": DISK_AND_KEYBOARD,
    "two disks": device() + configuration(STORAGE, interface(1, (8, 6, 0x50))),
    "keyboard in a second configuration": device(configurations=2)
    + configuration(STORAGE)
    + configuration(interface(0, (3, 1, 1), (INTERRUPT,), HID)),
    "disk in two configurations": device(configurations=2)
    + configuration(STORAGE)
    + configuration(STORAGE),
    "disk with five endpoints": device() + configuration(interface(0, (8, 6, 0x62), (BULK,) * 5)),
    "a keyboard's alternate setting": device()
    + configuration(STORAGE, interface(0, (3, 1, 1), (INTERRUPT,), alternate=1), count=1),
    "disk with an interrupt": device()
    + configuration(interface(0, (8, 6, 0x50), (BULK, BULK, INTERRUPT))),
    "disk with a keyboard's report": device()
    + configuration(interface(0, (8, 6, 0x50), extra=HID)),
    "associated interfaces": device() + configuration(ASSOCIATION + STORAGE, count=1),
    "floppy": device() + configuration(interface(0, (8, 4, 0))),
    "disk that is a hub": device((9, 0, 0)) + configuration(STORAGE),
    "hub": HUB,
    "nothing": b"",
    "zeros": bytes(64),
    "no configuration": device(configurations=0),
    "cut off": DISK[:-3],
    "endless": device() + configuration(STORAGE, b"\2\x30" * 3000, count=1),
    "more than announced": DISK + b"\0",
    "a length of zero": device() + configuration(STORAGE, b"\0\0", count=1),
}


class Kernel:
    """A sysfs with one controller, and the kernel behind it.

    The controller has two buses, as an xHCI has: 1 is for USB 2, 2 for USB 3.

    Args:
        root: an empty folder.
        denies: whether its buses let nothing in by themselves.

    Attributes:
        driver: that takes an interface which is let in.
    """

    driver = "usb-storage"

    def __init__(self, root: Path, denies: bool = True) -> None:
        self.root = root
        self.dev = root / "dev"
        self._number = 1
        self._controller = root / f"devices/pci0000:00/{CONTROLLER}"
        self._list = root / "bus/usb/devices"
        self._list.mkdir(parents=True)
        self.dev.mkdir()
        (root / "bus/usb/drivers_probe").write_text("")
        self._denies = denies
        for bus, version in BUSES.items():
            folder = self._controller / f"usb{bus}"
            folder.mkdir(parents=True)
            (folder / "version").write_text(f" {version}\n")
            for name in ("authorized_default", "interface_authorized_default"):
                (folder / name).write_text("0" if denies else "1")
            (self._list / f"usb{bus}").symlink_to(folder)
            (folder / f"{bus}-0:1.0").mkdir()
            (self._list / f"{bus}-0:1.0").symlink_to(folder / f"{bus}-0:1.0")
        self._media: dict[str, Path | None] = {}
        self._units: dict[str, tuple[str, ...]] = {}
        self._shown: dict[str, tuple[tuple[int, int, int], ...]] = {}

    def plug(
        self,
        name: str,
        descriptors: bytes,
        *,
        medium: Path | None = None,
        units: tuple[str, ...] = ("0",),
        shows: tuple[tuple[int, int, int], ...] = ((8, 6, 0x50),),
        label: str = "Stick",
    ) -> None:
        """Plug something in: ``1-2``.

        Args:
            name: the kernel's.
            descriptors: what it says of itself.
            medium: the file that its disk is.
            units: the SCSI types of its units.
            shows: the interfaces that are there once it is authorised.
            label: its product.
        """
        self._number += 1
        folder = self._controller.joinpath(f"usb{name.partition('-')[0]}", *_way(name))
        folder.mkdir(parents=True)
        (folder / "descriptors").write_bytes(descriptors)
        (folder / "devnum").write_text(f"{self._number}\n")
        (folder / "product").write_text(f"{label}\n")
        (folder / "authorized").write_text("0\n" if self._denies else "1\n")
        self._media[name], self._units[name], self._shown[name] = medium, units, shows
        # With all that is in it at once, as the kernel does it.
        (self._list / name).symlink_to(folder)

    def pull(self, name: str) -> None:
        """Pull it out."""
        folder = self._list / name
        for link in self._list.glob(f"{name}:*"):
            link.unlink()
        shutil.rmtree(folder.resolve())
        folder.unlink()

    def is_in(self, name: str) -> bool:
        """Whether it is authorised."""
        return (self._list / name / "authorized").read_text().strip() == "1"

    def is_driven(self, name: str) -> bool:
        """Whether its interface has a driver."""
        return (self._list / f"{name}:1.0/driver").exists()

    def changes(self, name: str, descriptors: bytes) -> None:
        """It says something else of itself from now on."""
        (self._list / name / "descriptors").write_bytes(descriptors)

    def settle(self) -> None:
        """Do what the kernel does on what was written to it."""
        for name in self._media:
            if not (self._list / name).exists() or not self.is_in(name):
                continue
            for number, kind in enumerate(self._shown[name]):
                self._make_interface(name, number, kind)
            interface = self._list / f"{name}:1.0"
            asked_for = (self.root / "bus/usb/drivers_probe").read_text() == interface.name
            if asked_for and (interface / "authorized").read_text().strip() == "1":
                drivers = self.root / "bus/usb/drivers"
                (drivers / self.driver).mkdir(parents=True, exist_ok=True)
                if not self.is_driven(name):
                    (interface / "driver").symlink_to(drivers / self.driver)
            if self.is_driven(name):
                self._make_units(name)

    def _make_interface(self, name: str, number: int, kind: tuple[int, int, int]) -> None:
        interface = f"{name}:1.{number}"
        if (self._list / interface).exists():
            return
        folder = (self._list / name).resolve() / interface
        folder.mkdir()
        for part, value in zip(("Class", "SubClass", "Protocol"), kind, strict=True):
            (folder / f"bInterface{part}").write_text(f"{value:02x}\n")
        (folder / "authorized").write_text("0\n")
        (self._list / interface).symlink_to(folder)

    def _make_units(self, name: str) -> None:
        for number, kind in enumerate(self._units[name]):
            unit = (self._list / f"{name}:1.0").resolve() / f"host0/target0:0:0/0:0:0:{number}"
            if unit.exists():
                continue
            new = self.root / "new"
            new.mkdir()
            (new / "type").write_text(f"{kind}\n")
            if kind == "0":
                self._make_disk(new, f"sd{chr(ord('a') + self._number)}{'ab'[number]}", name)
            unit.parent.mkdir(parents=True, exist_ok=True)
            new.rename(unit)

    def _make_disk(self, unit: Path, disk: str, name: str) -> None:
        medium = self._media[name]
        block = unit / "block" / disk
        block.mkdir(parents=True)
        size = 0 if medium is None else medium.stat().st_size // 512
        (block / "size").write_text(f"{size}\n")
        # A plain file has no number; where it is a device, that of the device.
        (block / "dev").write_text("0:0\n")
        if medium is not None:
            (self.dev / disk).symlink_to(medium)


def _way(name: str) -> list[str]:
    """The folders below the root hub: 1-4.1 is in 1-4."""
    parts = name.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]
