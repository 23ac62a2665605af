"""What a USB device says of itself: USB 3.2 specification, chapter 9.6.

The kernel shows it as the file ``descriptors`` in sysfs: the device's descriptor, then each
configuration's with all that belongs to it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAX_BYTES = 4096
"""A disk needs some 100; what is longer is not looked at."""

_DEVICE = struct.Struct("<BBHBBBBHHHBBBB")
_CONFIGURATION = struct.Struct("<BBHBBBBB")
_INTERFACE = struct.Struct("<BBBBBBBBB")
_ENDPOINT = struct.Struct("<BBBBHB")

_DEVICE_TYPE = 1
_CONFIGURATION_TYPE = 2
_INTERFACE_TYPE = 4
_ENDPOINT_TYPE = 5


class DescriptorsError(Exception):
    """They are not as the specification wants them; the message says what is wrong."""


@dataclass(frozen=True)
class Interface:
    """One alternate setting of an interface.

    Attributes:
        number: of the interface; alternate settings share it.
        kind: class, subclass and protocol.
        transfers: of each endpoint how it transfers: 0 control, 1 isochronous, 2 bulk, 3 interrupt.
    """

    number: int
    kind: tuple[int, int, int]
    transfers: tuple[int, ...] = ()

    def __str__(self) -> str:
        return "{:02x}/{:02x}/{:02x}".format(*self.kind)


@dataclass(frozen=True)
class Descriptors:
    """A device, as it describes itself.

    Attributes:
        vendor: and `product`: their numbers.
        kind: class, subclass and protocol of the whole device; zeros where the interfaces tell.
        configurations: of each its interfaces' alternate settings.
        other: the types of all other descriptors.
    """

    vendor: int
    product: int
    kind: tuple[int, int, int]
    configurations: tuple[tuple[Interface, ...], ...]
    other: frozenset[int]

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """Those of all configurations."""
        return tuple(found for configuration in self.configurations for found in configuration)


def ids(raw: bytes) -> str:
    """Vendor and product, ``046d:c31c``, of whatever the device said; zeros for what is missing."""
    vendor, product = struct.unpack_from("<HH", raw[8:12].ljust(4, b"\0"))
    return f"{vendor:04x}:{product:04x}"


def parse(raw: bytes) -> Descriptors:
    """Understand all of it, or nothing.

    Raises:
        DescriptorsError: a length, count or type is wrong, or there is too much of it.
    """
    if len(raw) > MAX_BYTES:
        raise DescriptorsError(f"there are more than {MAX_BYTES} bytes of it")
    if len(raw) < _DEVICE.size or raw[0] != _DEVICE.size or raw[1] != _DEVICE_TYPE:
        raise DescriptorsError("it does not begin with a device's descriptor")
    device = _DEVICE.unpack_from(raw)
    configurations: list[tuple[Interface, ...]] = []
    other: set[int] = set()
    rest = raw[_DEVICE.size :]
    while rest:
        length = _configuration_length(rest)
        interfaces, strange = _parse_configuration(rest[:length])
        configurations.append(interfaces)
        other |= strange
        rest = rest[length:]
    if len(configurations) != device[-1]:
        raise DescriptorsError(f"it has {len(configurations)} configurations, not {device[-1]}")
    return Descriptors(
        vendor=device[7],
        product=device[8],
        kind=(device[3], device[4], device[5]),
        configurations=tuple(configurations),
        other=frozenset(other),
    )


def _configuration_length(raw: bytes) -> int:
    if len(raw) < _CONFIGURATION.size or raw[0] != _CONFIGURATION.size:
        raise DescriptorsError("a configuration is cut off")
    _, kind, total, *_ = _CONFIGURATION.unpack_from(raw)
    if kind != _CONFIGURATION_TYPE or not _CONFIGURATION.size <= total <= len(raw):
        raise DescriptorsError("a configuration has a wrong type or length")
    return int(total)


def _parse_configuration(raw: bytes) -> tuple[tuple[Interface, ...], set[int]]:
    announced = raw[4]
    interfaces: list[Interface] = []
    endpoints: list[int] = []
    other: set[int] = set()
    at = _CONFIGURATION.size
    while at < len(raw):
        length = raw[at]
        if length < 2 or at + length > len(raw):
            raise DescriptorsError("a descriptor has a wrong length")
        part, kind = raw[at : at + length], raw[at + 1]
        at += length
        if kind == _INTERFACE_TYPE:
            if length < _INTERFACE.size:
                raise DescriptorsError("an interface is cut off")
            _, _, number, _, count, *classes, _ = _INTERFACE.unpack_from(part)
            interfaces.append(Interface(number, (classes[0], classes[1], classes[2])))
            endpoints.append(count)
        elif kind == _ENDPOINT_TYPE:
            if length < _ENDPOINT.size or not interfaces:
                raise DescriptorsError("an endpoint is cut off, or of no interface")
            last = interfaces[-1]
            transfers = (*last.transfers, part[3] & 3)
            interfaces[-1] = Interface(last.number, last.kind, transfers)
        else:
            other.add(kind)
    if any(
        len(found.transfers) != count for found, count in zip(interfaces, endpoints, strict=True)
    ):
        raise DescriptorsError("an interface has not the endpoints that it announces")
    if len({found.number for found in interfaces}) != announced:
        raise DescriptorsError("there are not the interfaces that are announced")
    return tuple(interfaces), other
