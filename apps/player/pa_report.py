"""What the PA child tells the agent and the screen: a JSON datagram at each change, and regularly.

That they come regularly makes up for those that are lost while a reader hangs, and shows that the
child is alive.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from apps.common.commands import Flag, Strict

MAX_REPORT = 512

WHILE_ON, WHILE_OFF = 0.1, 0.5
"""Seconds between two reports while the PA has the seat, and while it has not."""

BELIEVED_FOR = 3.0
"""Seconds after which a report without a successor is worth nothing. A child that was killed in the
middle of a PA is back before that, on a slow processor too."""

PaFault = Literal["pa-multicast", "pa-sound"]


class PaReport(Strict):
    """`on`: the PA has the seat. `source` is None, and `number` 0, for a pause without audio.

    `relied_on`: where not `on`, there is no PA; else nobody here can tell.
    """

    on: Flag
    source: str | None = None
    number: Annotated[int, Field(ge=0, lt=2**32, strict=True)] = 0
    area: Annotated[int, Field(ge=0, le=255, strict=True)] = 0
    relied_on: Flag
    faults: Annotated[tuple[PaFault, ...], Field(max_length=2)] = ()
