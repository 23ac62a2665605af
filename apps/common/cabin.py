"""The cabin as seat control shows it: ``GET /api/v1/cabin`` and ``GET /api/v1/events``.

The events are server-sent events (the WHATWG HTML standard, section 9.2). Each has an id
``<stream>-<number>``; a client that comes back with `Last-Event-ID` gets what it missed, or a
`snapshot` where that is no longer known. The kinds:

=========== ==================================================================================
`snapshot`  a `CabinView`: the whole cabin; the first event of a new client
`seats`     ``{"12C": {...}}``: for each seat that changed, those fields of its `SeatView` that
            changed; `QUIET` fields change too often and are left out
`command`   a `CommandProgress`: a command was issued, or its delivery moved on
`degraded`  ``{"degraded": [{"part", "why"}]}``: parts went away or came back
`ping`      ``{}``: every 5 s; whoever hears nothing for 12 s has lost the stream
=========== ==================================================================================
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from apps.common.health import Degraded
from apps.common.protocol import LinkCounters, SeatState

Presence = Literal["waiting", "live", "lost"]
"""`waiting`: not heard of since seat control started, a few seconds ago."""

QUIET = frozenset({"position", "temperature", "link"})
"""Fields of a `SeatView` that events leave out; ``GET /api/v1/cabin`` has them."""

PING_EVERY = 5.0


class SeatView(BaseModel):
    """One seat. All but `presence` and `claimed_twice` is what it reported last, None before.

    `claimed_twice`: a second player tries to report as this seat.
    """

    presence: Presence = "waiting"
    claimed_twice: bool = False
    protocol: int | None = None
    state: SeatState | None = None
    media: str | None = None
    position: float | None = None
    volume: int | None = None
    brightness: int | None = None
    muted: bool | None = None
    locked: bool | None = None
    attendant_call: bool | None = None
    reading_light: bool | None = None
    temperature: float | None = None
    firmware: str | None = None
    faults: tuple[str, ...] = ()
    link: LinkCounters | None = None


class CommandProgress(BaseModel):
    """How far a command has come, in numbers; the whole is its `DeliveryReport`."""

    seq: int
    crew: str
    action: str
    final: bool
    targets: int
    applied: int
    missing: int
    refused: int
    expired: int
    superseded: int
    ms_to_last: float | None


class CabinView(BaseModel):
    """The whole cabin. `refused` counts what came in and was turned away, by kind."""

    registration: str
    layout: str
    epoch: int
    seq: int
    seats: dict[str, SeatView]
    refused: dict[str, int]
    degraded: list[Degraded]
