"""What an aircraft and the Hangar say to each other at the gate: docs/protocols/gate.md.

An aircraft is known by its client certificate; `AIRCRAFT_HEADER` has its registration. Both
sides pass over fields that they do not know, so that either may be the newer one. Times are Unix
time in milliseconds, by the clock of whoever tells them.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from apps.common.commands import PLAIN, Flag
from apps.common.settings import Registration
from apps.common.usage import Count, Millis

HEARTBEATS_PATH = "/api/v1/heartbeats"
"""`POST` a `Heartbeat`, get a `HeartbeatAnswer`."""

BATCHES_PATH = "/api/v1/batches"
"""`PUT <this>/<number>` with a batch (`apps.common.usage`), get a `BatchTaken`."""

LOGS_PATH = "/api/v1/logs"
"""`PUT <this>/<id of a send_logs request>` with what was asked for, compressed (`LOGS_TYPE`)."""

LOGS_TYPE = "application/zstd"

HEARTBEAT_EVERY = 30.0
"""Seconds between two heartbeats while there is a link."""

OFFLINE_AFTER = 90.0
"""Seconds without a heartbeat after which an aircraft is offline."""

MAX_HEARTBEAT = 32 * 1024
MAX_ANSWER = 32 * 1024
"""Bytes of a body, either way; a batch's are in `apps.common.usage`."""

MAX_LOGS = 8 * 1024 * 1024
"""Bytes of logs, compressed."""

MAX_REQUESTS = 8
"""Requests of one heartbeat's answer; the rest comes with the next."""

MAX_BITE = 32
"""Faults that a heartbeat tells; how many there are is told beside them."""

AIRCRAFT_HEADER = "Ife-Aircraft"
OPERATOR_HEADER = "Ife-Operator"
"""Set by the Hangar's nginx, from the client certificate, and by nobody else."""

Line = Annotated[str, StringConstraints(pattern=f"^{PLAIN}*$", max_length=200)]
"""A short text for people."""
Version = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+:~_-]{0,63}$")]
ContentKind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{0,31}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Wire(BaseModel):
    """A frozen model that ignores fields it does not know: a newer peer may send more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


# -- heartbeats -----------------------------------------------------------------------------


class Position(_Wire):
    """Where the aircraft was at the time `at`: degrees, north and east positive (WGS 84)."""

    latitude: Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
    longitude: Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
    at: Millis


class Loading(_Wire):
    """A content set that is on its way: bytes that are there, of those that it takes."""

    version: Count
    bytes_done: Count
    bytes_total: Count


class Content(_Wire):
    """The content set that plays, and what is on its way.

    `version` is that of the set (of the snapshot), 0 for none yet; `kinds` the versions of the
    kinds of content in it; `missing`: files of it that are not on board, so what they are of does
    not play. `fresh_until`: when its metadata expires.
    """

    version: Count = 0
    missing: Count = 0
    kinds: Annotated[dict[ContentKind, Count], Field(max_length=32)] = {}
    fresh_until: Millis | None = None
    loading: Loading | None = None


class Space(_Wire):
    """Bytes of the disk that content lies on."""

    free: Count
    total: Count


class Spool(_Wire):
    """Usage that waits for the Hangar, and what a full spool had to drop since ever."""

    records: Count = 0
    batches: Count = 0
    bytes: Count = 0
    dropped: Count = 0


class Fault(_Wire):
    """One fault of BITE: which part, what is wrong, since when."""

    part: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")]
    why: Line
    since: Millis | None = None


class Bite(_Wire):
    """The built-in test's summary: how many faults there are, and the first of them."""

    count: Count = 0
    faults: Annotated[tuple[Fault, ...], Field(max_length=MAX_BITE)] = ()


class Outcome(_Wire):
    """What the aircraft made of a request. Told in each heartbeat until an answer has come."""

    id: UUID
    state: Literal["accepted", "done", "refused"]
    why: Line = ""


class Heartbeat(_Wire):
    """`POST /api/v1/heartbeats`, each 30 s while there is a link.

    `at` is the aircraft's clock, which may be wrong. `versions`: of the image and of what it
    carries, by name (``image``, ``ife``). `boot_id` tells one boot from the next.
    """

    registration: Registration
    at: Millis
    boot_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    versions: Annotated[dict[ContentKind, Version], Field(max_length=16)] = {}
    position: Position | None = None
    content: Content = Content()
    space: Space
    spool: Spool = Spool()
    bite: Bite = Bite()
    outcomes: Annotated[tuple[Outcome, ...], Field(max_length=2 * MAX_REQUESTS)] = ()


RequestKind = Literal["sync_now", "send_logs", "open_tunnel"]


class Request(_Wire):
    """Something the ground asks an aircraft for. It decides itself, and says so by an `Outcome`.

    It comes with each answer until its outcome is *done* or *refused*, so the aircraft goes by its
    `id`. Of a kind that it does not know it makes nothing but a refusal.
    """

    id: UUID
    kind: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{0,31}$")]
    asked_at: Millis


class HeartbeatAnswer(_Wire):
    """The answer to a heartbeat. `at` is the Hangar's clock."""

    at: Millis
    requests: Annotated[tuple[Request, ...], Field(max_length=MAX_REQUESTS)] = ()


# -- usage ----------------------------------------------------------------------------------


class BatchTaken(_Wire):
    """The Hangar has a batch, on its disk: the aircraft may drop it.

    `sha256` is of the whole batch as it came. `again`: it had been taken before.
    """

    registration: Registration
    spool: UUID
    number: Count
    sha256: Sha256
    records: Count
    again: Flag = False
