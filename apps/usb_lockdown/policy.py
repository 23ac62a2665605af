"""What is let in by USB. Logic alone: where a device is and what it says in, yes or no out.

A device is let in for what it is at that place, never for who it says it is: names, serial numbers
and vendors can be copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from apps.common.disks import PortName
from apps.usb_lockdown.descriptors import Descriptors, DescriptorsError, parse

STORAGE = (0x08, 0x06)
"""Class mass storage, subclass SCSI."""

PROTOCOLS = (0x50, 0x62)
"""Bulk-only transport, and USB attached SCSI."""

HUB = (0x09, 0x00)
BULK = 2
INTERRUPT = 3

BESIDE_STORAGE = frozenset({0x24, 0x30})
"""Types of descriptors that a disk may have besides: a pipe's use, a SuperSpeed endpoint."""

BESIDE_HUB = frozenset({0x30})

_NAMES = {
    0x01: "audio",
    0x02: "a modem or serial line",
    0x03: "a keyboard, mouse or the like",
    0x06: "a camera or telephone",
    0x07: "a printer",
    0x08: "a disk of another kind",
    0x09: "a hub",
    0x0A: "a modem or serial line",
    0x0B: "a smart card reader",
    0x0E: "a camera",
    0xE0: "a radio or network device",
    0xFF: "a device of its maker's own kind",
}

Ports = Mapping[str, PortName]
"""The name of each place where crew disks may be: by its path, ``pci-0000:00:14.0-usbv2-0:2``."""


@dataclass(frozen=True)
class Decision:
    """`let_in` as what, or None: then `why`, for people. `port`: the place's name, if any."""

    let_in: Literal["disk", "hub"] | None
    why: str = ""
    port: PortName | None = None


def decide(path: str, raw: bytes, ports: Ports) -> Decision:
    """Whether the device at `path` that says `raw` of itself is let in."""
    port = ports.get(path)
    on_the_way = any(place.startswith(f"{path}.") for place in ports)
    if port is None and not on_the_way:
        return Decision(None, "it is in a port that is not for crew disks")
    try:
        descriptors = parse(raw)
        if port is None:
            _check_hub(descriptors)
        else:
            _check_disk(descriptors)
    except DescriptorsError as error:
        return Decision(None, f"its descriptors are wrong: {error}", port)
    except _NoError as error:
        return Decision(None, str(error), port)
    return Decision("hub" if port is None else "disk", port=port)


MOST_KINDS = 3
"""How many kinds of a device's interfaces are told."""


class _NoError(Exception):
    """It is none; the message says why."""


def _check_disk(descriptors: Descriptors) -> None:
    if descriptors.kind[0] != 0:
        raise _NoError(f"it is {_kind(descriptors.kind[0])}, not a disk")
    _check_is_plain(descriptors)
    for interface in descriptors.interfaces:
        if interface.kind[:2] != STORAGE or interface.kind[2] not in PROTOCOLS:
            raise _NoError(f"it is {_kind(interface.kind[0])}, not a disk ({interface})")
        if set(interface.transfers) != {BULK} or len(interface.transfers) > 4:
            raise _NoError("it has endpoints that a disk has not")
    if strange := descriptors.other - BESIDE_STORAGE:
        raise _NoError(f"it has descriptors that a disk has not (type {min(strange):#04x})")


def _check_hub(descriptors: Descriptors) -> None:
    """Ports for crew disks are behind it, says the configuration: it is built in."""
    if descriptors.kind[:2] != HUB:
        raise _NoError("it is where a hub is to be that is built in, and is none")
    _check_is_plain(descriptors)
    for interface in descriptors.interfaces:
        if interface.kind[:2] != HUB or interface.transfers != (INTERRUPT,):
            raise _NoError("it is more than a hub")
    if descriptors.other - BESIDE_HUB:
        raise _NoError("it has descriptors that a hub has not")


def _check_is_plain(descriptors: Descriptors) -> None:
    numbers = [{found.number for found in part} for part in descriptors.configurations]
    if len(numbers) != 1:
        raise _NoError(
            f"it has {len(numbers)} configurations, and may change from one to the other"
        )
    if len(numbers[0]) > 1:
        kinds = dict.fromkeys(_kind(found.kind[0]) for found in descriptors.interfaces)
        # A device says how many there are, so not all of them are told.
        told = ", ".join(list(kinds)[:MOST_KINDS])
        more = ", and more" if len(kinds) > MOST_KINDS else ""
        raise _NoError(f"it is several devices in one: {told}{more}")
    if numbers[0] != {0}:
        raise _NoError("it has no interface 0")


def _kind(number: int) -> str:
    return _NAMES.get(number, f"of class {number:#04x}")
