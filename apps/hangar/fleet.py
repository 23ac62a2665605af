"""The fleet as it is shown: what each aircraft has and lacks. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from apps.common.gate import OFFLINE_AFTER, Content, Heartbeat, Position
from apps.hangar.aircraft import Aircraft
from apps.hangar.published import Published

Presence = Literal["online", "offline", "never heard"]


class AircraftView(BaseModel):
    """One aircraft, in the fleet's list.

    `since`: since when it is online or offline. `missing`: in words, what it lacks of what is
    published; empty when it has all. `faults`: how many its built-in test found. `usage_waiting`:
    records it has for us. `last_flight`: from when to when, and records by kind.
    """

    registration: str
    type: str
    presence: Presence
    since: datetime | None = None
    heard_at: datetime | None = None
    position: Position | None = None
    versions: dict[str, str] = {}
    content: int = 0
    missing: list[str] = []
    faults: int = 0
    usage_waiting: int = 0
    usage_dropped: int = 0
    flight_from: datetime | None = None
    flight_to: datetime | None = None
    last_flight: dict[str, int] = {}


class FleetView(BaseModel):
    """`GET /api/v1/fleet`: all aircraft, and the content set that is published."""

    at: datetime
    published: int
    aircraft: list[AircraftView]


def heartbeat_of(row: Any) -> Heartbeat | None:
    """What an aircraft said last; None where a former version of this app kept it otherwise."""
    try:
        return Heartbeat.model_validate(row.heartbeat)
    except ValidationError:
        return None


def view(
    aircraft: Aircraft,
    row: Any,
    last_flight: Mapping[str, int],
    published: Published,
    now: datetime,
) -> AircraftView:
    """An aircraft as it is shown.

    Args:
        aircraft: of the fleet file.
        row: its row of `Heard`; None for none.
        last_flight: records by kind.
        published: what it could have.
        now: by the clock that the row is of.
    """
    if row is None:
        return AircraftView(
            registration=aircraft.registration, type=aircraft.type, presence="never heard"
        )
    is_online = (now - row.heard_at).total_seconds() < OFFLINE_AFTER
    said = heartbeat_of(row)
    shown = AircraftView(
        registration=aircraft.registration,
        type=aircraft.type,
        presence="online" if is_online else "offline",
        since=row.online_since if is_online else row.heard_at,
        heard_at=row.heard_at,
        flight_from=row.flight_from,
        flight_to=row.flight_to,
        last_flight=dict(last_flight),
    )
    if said is not None:
        shown.position = said.position
        shown.versions = said.versions
        shown.content = said.content.version
        shown.missing = missing(said.content, published)
        shown.faults = said.bite.count
        shown.usage_waiting = said.spool.records
        shown.usage_dropped = said.spool.dropped
    return shown


def missing(content: Content, published: Published) -> list[str]:
    """What an aircraft lacks of what is published, in words."""
    behind = [
        f"{kind} {content.kinds.get(kind, 0)} of {version}"
        for kind, version in published.kinds.items()
        if content.kinds.get(kind, 0) < version
    ]
    if not behind and content.version < published.version:
        behind = [f"set {content.version} of {published.version}"]
    if content.missing:
        files = "file" if content.missing == 1 else "files"
        behind.append(f"{content.missing} {files} of set {content.version}")
    if content.loading is not None and content.loading.bytes_total:
        done = min(100, 100 * content.loading.bytes_done // content.loading.bytes_total)
        behind.append(f"loading set {content.loading.version}: {done} %")
    return behind
