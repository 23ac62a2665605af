"""What becomes of each USB device, from when it is plugged in until it is pulled out.

    seen ── policy ──▶ blocked, until it is pulled out
      │                   ▲
      ▼                   │ descriptors, interfaces or units are not as they were, or as is due
    device ─▶ interface ─▶ disk ─▶ read by a reader of its own

`Keeper.look` brings every device one step on, as far as the kernel has come; it is to be called
whenever the kernel says that something has changed, and now and then in case that was lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from apps.common.disks import MAX_BLOCKED, Blocked, Disk, Disks
from apps.common.log import Refusals
from apps.usb_lockdown import policy
from apps.usb_lockdown.descriptors import DescriptorsError, ids, parse
from apps.usb_lockdown.policy import Decision, Ports
from apps.usb_lockdown.sysfs import DIRECT_ACCESS, Sysfs, Unit, UsbDevice, UsbInterface

log = logging.getLogger(__name__)

MAX_STEPS = 8
"""Steps a look: more than from being plugged in to being read."""

SHOWN_AFTER = 30.0
"""Seconds after which a device without a disk is told to have none; it is read once it has."""

SHOWN_DESCRIPTORS = 512
SHOWN_INTERFACES = 16


class Reader(Protocol):
    """A process that reads one disk. `why` tells what is wrong, for people, once it is."""

    @property
    def state(self) -> str:
        """`reading`, `ready` or `unreadable`."""

    @property
    def why(self) -> str | None:
        """Of `unreadable`."""

    @property
    def socket(self) -> str:
        """Where the disk is read."""

    def close(self) -> None:
        """End it."""


StartReader = Callable[[str, Unit], Reader]
"""Has a disk read, by the name of its port. Raises OSError: its file cannot be opened yet."""


@dataclass
class _Tracked:
    """A device, as it was when it was plugged in.

    `refused`: why it is blocked, None while it is not. `inside`: it was let in, by us now or by
    an earlier process of ours. `since`: when it was seen first.
    """

    device: UsbDevice
    decision: Decision
    since: float
    refused: str | None = None
    unit: Unit | None = None
    reader: Reader | None = None
    inside: bool = False


DRIVERS = frozenset({"usb-storage", "uas", "hub"})
"""The kernel's, of disks and of hubs."""


class _NoError(Exception):
    """It is to be let in no longer; the message says why."""


class Keeper:
    """All devices. Not for several threads at once.

    Args:
        usb: where they are.
        ports: where crew disks may be.
        start_reader: has a disk read.
        refused: called with each device that is not let in.
    """

    def __init__(
        self,
        usb: Sysfs,
        ports: Ports,
        start_reader: StartReader,
        refused: Callable[[Blocked], None] = lambda _: None,
    ) -> None:
        self._usb = usb
        self._ports = ports
        self._start_reader = start_reader
        self._refused = refused
        self._tracked: dict[tuple[str, int], _Tracked] = {}
        self._blocked: dict[tuple[str, int], Blocked] = {}
        self._blocked_ever = 0
        self._now = 0.0
        self._refusals = Refusals(log)
        self.trouble: str | None = None
        """What the last look could not do, for people."""

    def look(self, now: float) -> None:
        """Bring every device as far on as it gets; `now` in seconds of any clock that goes on."""
        self.trouble = None
        self._now = now
        for _ in range(MAX_STEPS):
            if not self._step():
                return

    def close(self) -> None:
        """End all readers. Disks stay let in, for the process that comes next."""
        for tracked in self._tracked.values():
            _stop_reader(tracked)

    def state(self) -> Disks:
        """All that is to be told."""
        found = [disk for tracked in self._tracked.values() if (disk := _disk(tracked, self._now))]
        # A port with two has one that was not let in for that.
        found.sort(key=lambda disk: disk.state != "refused")
        disks = {disk.port: disk for disk in found}
        return Disks(
            ports=tuple(dict.fromkeys(self._ports.values())),
            disks=tuple(disks.values()),
            blocked=tuple(self._blocked.values()),
            blocked_ever=self._blocked_ever,
        )

    def _step(self) -> bool:
        """Whether anything was done."""
        devices = {(device.name, device.number): device for device in self._usb.devices()}
        for key in [key for key in self._tracked if key not in devices]:
            self._gone(key)
        done = False
        for key, device in devices.items():
            tracked = self._tracked.get(key)
            if tracked is None:
                tracked = self._tracked[key] = self._judge(device)
            try:
                done |= self._bring_on(tracked, device)
            except _NoError as error:
                self._refuse(key, tracked, str(error))
                done = True
            except FileNotFoundError:
                continue  # it was pulled out meanwhile, which the next look sees
            except OSError as error:
                # Until udev has given us the file; its rule tells which (units/udev).
                self.trouble = f"{device.name} at {device.path}: {error.strerror}"
        return done

    def _judge(self, device: UsbDevice) -> _Tracked:
        decision = policy.decide(device.path, device.descriptors, self._ports)
        # What the kernel lets in by itself (on a workstation) is not ours to shut out.
        inside = device.authorized and device.denies
        tracked = _Tracked(device, decision, self._now, inside=inside)
        if decision.let_in is None:
            self._refuse((device.name, device.number), tracked, decision.why)
        elif decision.port is not None and any(
            other.decision.port == decision.port and other.refused is None
            for other in self._tracked.values()
        ):
            why = "there is another disk in this port"
            self._refuse((device.name, device.number), tracked, why)
        return tracked

    def _bring_on(self, tracked: _Tracked, device: UsbDevice) -> bool:
        """Do what is next for a device; False when there is nothing, or the kernel is to go first.

        Raises:
            _NoError: it is not what it was let in for.
            OSError: a file of sysfs, or of the disk, cannot be had.
        """
        if tracked.refused is not None:
            return False
        if device.descriptors != tracked.device.descriptors:
            raise _NoError("it has changed what it says of itself")
        if not device.denies:
            return False  # udev has not come to the bus yet, or this is a workstation's
        if not device.authorized:
            if tracked.inside:
                raise _NoError("it was shut out by somebody else")
            self._usb.authorize(device.name, True)
            tracked.inside = True
            log.info("let in", extra={"path": device.path, "device": device.label})
            return True
        interface = self._interface(tracked, device)
        if interface is None:
            return False
        if not interface.authorized:
            self._usb.authorize(interface.name, True)
            return True
        if interface.driver is None:
            self._usb.find_driver(interface.name)
            return False
        if interface.driver not in DRIVERS:
            # Many go by the maker's number alone, whatever the interface says that it is.
            raise _NoError(f"the driver {interface.driver} has taken it")
        return tracked.decision.let_in == "disk" and self._bring_disk_on(tracked, interface)

    def _interface(self, tracked: _Tracked, device: UsbDevice) -> UsbInterface | None:
        """The one interface of a device, once the kernel has it, if it is as it was announced."""
        interfaces = self._usb.interfaces(device.name)
        if len(interfaces) > 1:
            raise _NoError("it has more interfaces than it said")
        if not interfaces:
            return None
        announced = {found.kind for found in parse(tracked.device.descriptors).interfaces}
        if interfaces[0].kind not in announced:
            raise _NoError("it has another interface than it said")
        return interfaces[0]

    def _bring_disk_on(self, tracked: _Tracked, interface: UsbInterface) -> bool:
        units = self._usb.units(interface.name)
        if len(units) > 1:
            raise _NoError("it is several disks in one")
        if not units:
            return False
        unit = units[0]
        if unit.kind != DIRECT_ACCESS:
            raise _NoError(f"it is no disk, says its SCSI type {unit.kind}")
        if tracked.unit is not None and unit != tracked.unit:
            # Another card was put into its slot, say.
            raise _NoError(
                "it is not the disk any more that it was: pull it out and plug it in again"
            )
        if unit.disk is None or unit.bytes == 0 or tracked.reader is not None:
            return False
        port = tracked.decision.port
        if port is None:
            return False
        tracked.reader = self._start_reader(port, unit)
        tracked.unit = unit
        return True

    def _refuse(self, key: tuple[str, int], tracked: _Tracked, why: str) -> None:
        device = tracked.device
        tracked.refused = why
        _stop_reader(tracked)
        self._shut_out(tracked)
        blocked = _blocked(device, tracked.decision, why)
        self._blocked_ever += 1
        self._blocked[key] = blocked
        while len(self._blocked) > MAX_BLOCKED:
            del self._blocked[next(iter(self._blocked))]
        self._refusals.add(
            why,
            f"{device.path} {device.descriptors.hex()}",
            f"{device.label} ({blocked.ids}) at {device.path}: {why}; its interfaces are "
            f"{', '.join(blocked.interfaces) or 'unknown'}, its descriptors {blocked.descriptors}",
        )
        self._refused(blocked)

    def _shut_out(self, tracked: _Tracked) -> None:
        if not tracked.inside:
            return
        tracked.inside = False
        try:
            self._usb.authorize(tracked.device.name, False)
        except FileNotFoundError:
            log.debug("it is gone already", extra={"path": tracked.device.path})
        except OSError as error:
            log.warning("not shut out", extra={"path": tracked.device.path, "error": str(error)})

    def _gone(self, key: tuple[str, int]) -> None:
        tracked = self._tracked.pop(key)
        _stop_reader(tracked)
        if key in self._blocked:
            self._blocked[key] = self._blocked[key].model_copy(update={"present": False})
        log.info("pulled out", extra={"path": tracked.device.path, "device": tracked.device.label})


def _stop_reader(tracked: _Tracked) -> None:
    if tracked.reader is not None:
        tracked.reader.close()
        tracked.reader = None


def _disk(tracked: _Tracked, now: float) -> Disk | None:
    """What is told of a device in a port for crew disks."""
    port, device = tracked.decision.port, tracked.device
    if port is None:
        return None
    # By the kernel's numbers, which outlive this process.
    insertion = f"{device.name} {device.number}"
    told = partial(Disk, port=port, name=device.label, insertion=insertion)
    if tracked.refused is not None:
        return told(state="refused", why=tracked.refused)
    reader, size = tracked.reader, None if tracked.unit is None else tracked.unit.bytes
    if reader is None and now - tracked.since > SHOWN_AFTER:
        why = "no disk has shown up in it: is there a card in its slot?"
        return told(state="unreadable", why=why)
    if reader is None:
        return told(state="reading")
    if reader.state == "ready":
        return told(state="ready", socket=reader.socket, bytes=size)
    if reader.state == "unreadable":
        return told(state="unreadable", why=reader.why, bytes=size)
    return told(state="reading", bytes=size)


def _blocked(device: UsbDevice, decision: Decision, why: str) -> Blocked:
    try:
        interfaces = tuple(str(found) for found in parse(device.descriptors).interfaces)
    except DescriptorsError:
        interfaces = ()
    return Blocked(
        path=device.path,
        port=decision.port,
        name=device.label,
        ids=ids(device.descriptors),
        interfaces=interfaces[:SHOWN_INTERFACES],
        why=why,
        descriptors=device.descriptors[:SHOWN_DESCRIPTORS].hex(),
    )
