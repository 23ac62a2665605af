"""Crew disks, as usb_lockdown tells of them on the bus, and what is not let in by USB."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from apps.common.channels import View

TOPIC = "usb_lockdown/disks"

SENT_EVERY = 2.0
GOOD_FOR = 10.0
"""Seconds between two sendings of the topic, and after which it is believed no more."""

MAX_BLOCKED = 32
"""So many are told; what is blocked beyond that is only counted."""

PortName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
"""What the aircraft's configuration calls a port for crew disks: `front`."""

Words = Annotated[str, StringConstraints(max_length=200)]


class Disk(View):
    """A disk in a port for crew disks.

    Attributes:
        port: where it is.
        name: what it calls itself. It can call itself anything, so this is for people only.
        state: `reading`: its file system is being looked for; `ready`: it can be read at `socket`;
            `refused`: it was not let in; `unreadable`: it was, but there is nothing to read.
        why: for people, of the last two.
        socket: where `metadata/` and `objects/` are had by HTTP GET, with Range; of `ready` alone.
        bytes: the size of the whole disk, once that is known.
        insertion: another one whenever something is plugged in, so two disks of one model that were
            changed while nobody listened are told apart.
    """

    port: PortName
    name: Words
    state: Literal["reading", "ready", "refused", "unreadable"]
    why: Words | None = None
    socket: str | None = None
    bytes: Annotated[int, Field(ge=0)] | None = None
    insertion: Annotated[str, StringConstraints(max_length=64)] = ""


class Blocked(View):
    """A device that is not let in.

    Attributes:
        path: the place in the machine, as udev's ID_PATH_WITH_USB_REVISION:
            ``pci-0000:00:14.0-usbv2-0:3``.
        port: its name, if it is one for crew disks.
        name: what the device calls itself.
        ids: vendor and product, ``046d:c31c``.
        interfaces: class, subclass and protocol of each, ``03/01/01``; 16 at most.
        why: for people.
        present: whether it is still plugged in.
        descriptors: what it said of itself, as hexadecimal digits; its first 512 bytes.
    """

    path: Annotated[str, StringConstraints(max_length=200)]
    port: PortName | None = None
    name: Words
    ids: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")]
    interfaces: Annotated[tuple[str, ...], Field(max_length=16)]
    why: Words
    descriptors: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2}){0,512}$")]
    present: bool = True


class Disks(View):
    """The value of `TOPIC`.

    Attributes:
        ports: all ports for crew disks, whether there is anything in them or not.
        disks: one a port at most.
        blocked: the newest last.
        blocked_ever: how many were, since usb_lockdown was started.
    """

    ports: tuple[PortName, ...] = ()
    disks: tuple[Disk, ...] = ()
    blocked: Annotated[tuple[Blocked, ...], Field(max_length=MAX_BLOCKED)] = ()
    blocked_ever: int = 0
