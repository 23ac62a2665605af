"""The PA's API (pa_audio): the messages it plays, and what it tells of itself and what it recorded.

Its wire to the seats and its state on the bus are in `apps.common.pa`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from apps.common.channels import Language, View
from apps.common.commands import AreaName, Flag, Strict
from apps.common.pa import PaState

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
"""Of a message or a chime: ``belts``."""

Areas = Annotated[tuple[AreaName, ...], Field(max_length=16)]


class PramRequest(Strict):
    """`POST /api/v1/pram`: a message to be played, in these languages one after the other.

    No languages: all that it has. No areas: all of them.
    """

    message: Name
    languages: Annotated[tuple[Language, ...], Field(max_length=16)] = ()
    areas: Areas = ()


class MusicRequest(Strict):
    """`POST /api/v1/music`: boarding music in some areas. In the others it stays as it is.

    No areas: all of them.
    """

    on: Flag
    areas: Areas = ()


class QueuedView(View):
    """A message that waits; the first is being played, or interrupted."""

    id: int
    message: str
    languages: tuple[str, ...]
    areas: tuple[str, ...]
    seconds: float


class MessageView(View):
    """A message that can be played: its titles by language."""

    titles: dict[str, str]


class PramView(View):
    """`GET /api/v1/pram`: the messages by their ids, and those that wait.

    `trouble`: why there are none.
    """

    messages: dict[str, MessageView]
    queue: tuple[QueuedView, ...]
    trouble: str | None


class SelfTestView(View):
    """What it measured last. `heard_ago`: seconds since anything valid in the most silent group.

    `delay_ms` is from PA time in the packet until here, the median and the longest of a second;
    `lost` and `packets` count since the start, `level` is in dB of full scale, all of audio.
    """

    passed: bool
    heard_ago: float | None
    delay_ms: float | None
    delay_max_ms: int | None
    packets: int
    lost: int
    level: float


class PaView(View):
    """`GET /api/v1/pa`: everything about the PA.

    `level` is in dB of full scale; `music` is where it plays; `sent` and `lost` count datagrams
    since the start.
    """

    state: PaState
    level: float
    music: tuple[str, ...]
    queue: tuple[QueuedView, ...]
    self_test: SelfTestView
    sent: int
    lost: int


class RecordingView(View):
    """A recorded announcement. `since` is PA time, ms; `seconds` is how long it is."""

    number: int
    since: int
    source: str
    areas: tuple[str, ...]
    seconds: float


class RecordingsView(View):
    """`GET /api/v1/announcements`: all that are kept, the newest first."""

    announcements: tuple[RecordingView, ...]
