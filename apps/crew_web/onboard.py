"""What the Content view shows, from what content_sync and usb_lockdown tell. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from apps.common.content import ContentState, DiskView, Progress
from apps.common.disks import Blocked, Disks


@dataclass(frozen=True)
class Port:
    """A port for crew disks.

    Attributes:
        name: the configuration's.
        disk: what is in it; None: nothing.
        progress: of its import, while that is under way.
        place: in the queue, 1 is next; None: it does not wait.
        is_readable: whether usb_lockdown can have it read.
    """

    name: str
    disk: DiskView | None = None
    progress: Progress | None = None
    place: int | None = None
    is_readable: bool = False

    @property
    def may_be_imported(self) -> bool:
        """Whether the crew may have it imported, or tried once more."""
        if self.disk is None or not self.is_readable:
            return False
        return self.disk.state in {"failed", "refused"} or (
            self.disk.state == "waits" and self.disk.safe_to_remove
        )


def ports(state: ContentState, disks: Disks | None) -> list[Port]:
    """Every port, those without a disk among them; `disks` None: usb_lockdown is silent."""
    found = {disk.port: disk for disk in state.disks}
    queue = [disk.port for disk in state.disks if disk.state == "queued"]
    readable = {disk.port for disk in disks.disks if disk.state == "ready"} if disks else set()
    names: Iterable[str] = dict.fromkeys((*(disks.ports if disks else ()), *found))
    return [
        Port(
            name=name,
            disk=found.get(name),
            progress=state.progress
            if state.progress and state.progress.source == f"disk {name}"
            else None,
            place=queue.index(name) + 1 if name in queue else None,
            is_readable=name in readable,
        )
        for name in names
    ]


def kept_out(disks: Disks | None) -> list[Blocked]:
    """The devices that are plugged in and not let in, the newest first."""
    return [device for device in reversed(disks.blocked) if device.present] if disks else []


def headline(state: ContentState, disks: Disks | None) -> str:
    """What matters most of it, in a word that `texts.content_now` knows."""
    states = {disk.state for disk in state.disks}
    if "importing" in states:
        return "importing"
    for word in ("refused", "failed", "queued"):
        if word in states:
            return word
    if kept_out(disks):
        return "kept-out"
    if state.gate and state.gate.open and state.gate.title:
        return "gate"
    if any(disk.state == "waits" for disk in state.disks):
        return "waits"
    if "done" in states:
        return "done"
    return state.freshness.state


def percent(done: int, total: int) -> int:
    """How much of it is done; 100 only when all is."""
    if total <= 0:
        return 100
    return min(100, 100 * done // total)
