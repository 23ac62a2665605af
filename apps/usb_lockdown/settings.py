"""usb_lockdown's settings, from ``/etc/ife/usb_lockdown.env`` and its unit."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import TypeAdapter, ValidationError, field_validator

from apps.common import outbox
from apps.common.disks import PortName
from apps.common.settings import Settings

_PATH = re.compile(
    r"(pci-[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]|platform-[\w.-]+)-usbv[123]-0:\d+(\.\d+)*"
)
_NAME: TypeAdapter[str] = TypeAdapter(PortName)


class UsbLockdownSettings(Settings):
    """See `apps.common.settings.Settings` for those that every app has.

    Attributes:
        crew_disk_ports: the ports for crew disks, ``front=pci-0000:00:14.0-usbv2-0:2``, with spaces
            between; a connector that is on two buses has one name for both. Empty: none.
        runtime_directory: for the sockets at which disks are read.
        reader_socket: where a reader is had for a disk.
        usage_database_url: where records for the ground go.
        sysfs: where the kernel shows its devices, and `devices` where it has their files.
    """

    crew_disk_ports: str = ""
    runtime_directory: Path
    reader_socket: Path = Path("/run/ife/usb_lockdown-reader.sock")
    usage_database_url: str = outbox.DATABASE_URL
    sysfs: Path = Path("/sys")
    devices: Path = Path("/dev")

    @field_validator("crew_disk_ports")
    @classmethod
    def _are_ports(cls, text: str) -> str:
        _parse(text)
        return text

    @property
    def ports(self) -> dict[str, PortName]:
        """The name of each place, by its path."""
        return _parse(self.crew_disk_ports)


def _parse(text: str) -> dict[str, PortName]:
    ports: dict[str, PortName] = {}
    for entry in text.split():
        name, _, path = entry.partition("=")
        try:
            _NAME.validate_python(name)
        except ValidationError as error:
            raise ValueError(f"{name!r} is no name for a port") from error
        if not _PATH.fullmatch(path):
            raise ValueError(f"{path!r} is no path of a port, as pci-0000:00:14.0-usbv2-0:2 is")
        if path in ports:
            raise ValueError(f"{path} is there twice")
        ports[path] = name
    return ports
