"""What the agent and the screen child say to each other: JSON, each message a packet of its own.

Their socket (unix(7), `SOCK_SEQPACKET`) keeps messages apart and holds a bounded number of them: an
agent whose child hangs finds it full and need not wait.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, TypeAdapter

from apps.common.channels import Language
from apps.common.commands import Flag, Percent, Strict

MAX_MESSAGE = 4096

REPORT_EVERY = 0.2
"""Seconds between two `Running`; a child that is silent for `HUNG_AFTER` hangs."""
HUNG_AFTER = 2.0

HOLD_EVERY = 1.0
HOLD_FOR = 3.0
"""Seconds between two `Hold` while it lasts, and for how long one is good: an agent that hangs must
not keep the seat silent."""

Url = Annotated[str, StringConstraints(max_length=1000)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


# -- to the screen --------------------------------------------------------------------------


class Play(Strict):
    """Play a title or, `live`, a channel; a title from `position`, held there if `paused`.

    `again`: it played before, so if it cannot be opened, that is tried again and again.
    """

    do: Literal["play"] = "play"
    url: Url
    live: Flag
    position: Seconds = 0.0
    paused: Flag = False
    again: Flag = False


class Pause(Strict):
    """Hold the title."""

    do: Literal["pause"] = "pause"


class Resume(Strict):
    """Go on with it."""

    do: Literal["resume"] = "resume"


class Stop(Strict):
    """End it."""

    do: Literal["stop"] = "stop"


class Impose(Strict):
    """Show a channel in place of the title, which is put aside; None: go back to that."""

    do: Literal["impose"] = "impose"
    url: Url | None


class Expect(Strict):
    """Hear these channels, so that each is there at once when it is imposed."""

    do: Literal["expect"] = "expect"
    urls: tuple[Url, ...]


class Volume(Strict):
    """How loud entertainment is."""

    do: Literal["volume"] = "volume"
    volume: Percent


class Languages(Strict):
    """Which soundtrack and subtitles; None: the title's first, and none."""

    do: Literal["languages"] = "languages"
    audio: Language | None
    subtitles: Language | None


class Text(Strict):
    """Show a text over the picture; None takes it away."""

    do: Literal["text"] = "text"
    text: Annotated[str, StringConstraints(max_length=200)] | None


class Hold(Strict):
    """There is an announcement, by the command channel: for `HOLD_FOR` seconds, or no more."""

    do: Literal["hold"] = "hold"
    on: Flag


class Still(Strict):
    """Put a picture of the screen into the file."""

    do: Literal["still"] = "still"
    path: str


Order = Annotated[
    Play | Pause | Resume | Stop | Impose | Expect | Volume | Languages | Text | Hold | Still,
    Field(discriminator="do"),
]
ORDERS: TypeAdapter[Order] = TypeAdapter(Order)


# -- to the agent ---------------------------------------------------------------------------


class Running(Strict):
    """Regularly. `position` is seconds into the title, None where there is none.

    `shown` counts pictures (of a title without video, pieces of sound), and `moving` says that it
    ought to grow.
    """

    event: Literal["running"] = "running"
    position: float | None
    shown: int
    moving: Flag


class Ended(Strict):
    """The title played to its end."""

    event: Literal["ended"] = "ended"


class Failed(Strict):
    """It cannot be played."""

    event: Literal["failed"] = "failed"
    reason: str


class Hung(Strict):
    """The PA began and it did not fall silent in time, so it ends itself."""

    event: Literal["hung"] = "hung"


class StillMade(Strict):
    """An answer to `Still`; not `made`: there is no picture."""

    event: Literal["still"] = "still"
    made: Flag


News = Annotated[Running | Ended | Failed | Hung | StillMade, Field(discriminator="event")]
NEWS: TypeAdapter[News] = TypeAdapter(News)
