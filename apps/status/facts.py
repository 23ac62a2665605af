"""What `ife-status` knows and says: the shape of its JSON. Sizes are in bytes, times in seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Versions(_Frozen):
    """`image` and `image_version` are None on a machine that does not run the image."""

    image: str | None
    image_version: str | None
    software: str
    kernel: str
    slot: Literal["A", "B"] | None
    """Which of the disk's two systems runs, where that can be seen."""


class Trust(_Frozen):
    """What this server trusts, and what it is to be trusted by."""

    secure_boot: bool | None
    """Whether its firmware starts only what is signed; None where it is not UEFI's."""
    host_key: str | None
    """The fingerprint of its SSH key, as `ssh` shows it; None where it has none yet."""


class Unit(_Frozen):
    """A systemd unit, in systemd's own words."""

    name: str
    load: str
    """`loaded`, or why it is not: `not-found`, `bad-setting`, `masked`..."""
    state: str
    substate: str
    condition_met: bool
    """False when it was not started because a `Condition...=` of it does not hold."""
    seconds: float | None = None
    """For how long it has been in this state."""
    restarts: int | None = None
    """How often systemd started it again by itself since somebody started it."""
    memory: int | None = None
    says: str = ""
    """The status line that it gives systemd."""


class Network(_Frozen):
    """A network of the aircraft with its interface; `name` is None for any other interface.

    `present`, `up` (switched on) and `carrier` (something is at the other end) each imply the
    one before. `wanted` is the address it is configured to have (``10.20.0.1/22``) or ``dhcp``.
    """

    name: str | None
    interface: str
    wanted: str | None = None
    present: bool = False
    up: bool = False
    carrier: bool = False
    mac: str | None = None
    addresses: tuple[str, ...] = ()


class Clock(_Frozen):
    """`source` and `behind` (of true time; negative: ahead of it) are for root to see only."""

    synchronised: bool
    source: str | None = None
    behind: float | None = None


class Disk(_Frozen):
    """What is under ``/var``: the state partition, on an aircraft."""

    size: int
    free: int
    read_only: bool
    errors: int | None
    """That the file system has counted, ever; None where it does not count."""
    state_is_lost: bool
    """The state partition could not be mounted: `/var` is in memory, and the machine as new."""
    encrypted: bool


class Certificate(_Frozen):
    """One that the server shows others."""

    name: str
    """As its file: ``server`` to seats and crew, ``gate`` to the Hangar."""
    ends: datetime


class Seats(_Frozen):
    """The cabin as seat control sees it."""

    layout: str
    total: int
    live: int
    waiting: int
    """Not heard of in the few seconds since seat control started."""
    silent: tuple[str, ...]


class Unknown(_Frozen):
    """A part that could not be looked at."""

    part: str
    why: str


class Facts(_Frozen):
    """What was found. A part that is None is in `unknown`, or makes no sense yet."""

    provisioned: bool
    registration: str | None = None
    versions: Versions | None = None
    trust: Trust | None = None
    units: tuple[Unit, ...] | None = None
    networks: tuple[Network, ...] | None = None
    clock: Clock | None = None
    disk: Disk | None = None
    certificates: tuple[Certificate, ...] | None = None
    """Those that whoever asks may look at, which root may."""
    seats: Seats | None = None
    unknown: tuple[Unknown, ...] = ()


class Finding(_Frozen):
    """A sentence on `what` is, and one on what to `do` about it. A `note` is nothing wrong."""

    level: Literal["wrong", "note"]
    what: str
    do: str


class Report(_Frozen):
    """All of it. `shape` grows when a field goes away or changes its meaning, not for a new one."""

    shape: Literal[1] = 1
    at: datetime
    well: bool
    findings: tuple[Finding, ...]
    facts: Facts
