"""Channels: which there are, where each is on the wire, and how it is.

The file (``/etc/ife/channels.yml``) says which channels and which imposed videos an aircraft has.
``python -m apps.common.channels FILE...`` checks files. `ChannelsView` is what vlc_stream tells of
them, to the players among others (docs/protocols/streams.md); the crew's requests are here, too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from apps.common import yaml_files
from apps.common.commands import PLAIN, Accepted, Flag, MediaId, Selector, Strict

CHANNEL_GROUPS = IPv4Network("239.192.80.0/20")
"""Where the groups of channels are, by the plan of docs/protocols/streams.md."""

PORT = 5004

Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Z]{2})?$")]
"""``en``, ``pt-BR`` (RFC 5646)."""

Label = Annotated[str, StringConstraints(pattern=rf"^{PLAIN}+$", max_length=60)]
Names = Annotated[dict[Language, Label], Field(min_length=1, max_length=32)]


class ChannelsError(Exception):
    """A channels file is wrong; the message has a line for each mistake."""


def _group(group: IPv4Address) -> IPv4Address:
    if group not in CHANNEL_GROUPS:
        raise ValueError(f"{group} is not in {CHANNEL_GROUPS}")
    return group


def _media_file(text: str) -> str:
    path = Path(text)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("a path below the media folder, such as news/monday.ts")
    return text


def _strict_time(text: object) -> object:
    if isinstance(text, str) and len(text) != len("06:30"):
        raise ValueError("a time of day is written 06:30")
    return text


Group = Annotated[IPv4Address, AfterValidator(_group)]
Port = Annotated[int, Field(ge=1024, le=65535)]
MediaFile = Annotated[
    str, StringConstraints(pattern=rf"^{PLAIN}+$", max_length=255), AfterValidator(_media_file)
]
TimeOfDay = Annotated[time, BeforeValidator(_strict_time)]


class Schedule(Strict):
    """When a channel is on the air, each day, in UTC; over midnight where `until` is earlier."""

    start: Annotated[TimeOfDay, Field(alias="from")]
    until: TimeOfDay

    def has(self, moment: time) -> bool:
        """Whether the channel is on the air at that time of day."""
        if self.start <= self.until:
            return self.start <= moment < self.until
        return moment >= self.start or moment < self.until


class Rights(Strict):
    """The days, both included and in UTC, on which a channel may be shown."""

    start: Annotated[date | None, Field(alias="from")] = None
    until: date | None = None

    def has(self, day: date) -> bool:
        """Whether it may be shown on that day."""
        return (self.start is None or self.start <= day) and (
            self.until is None or day <= self.until
        )


class LiveSource(Strict):
    """A stream that is relayed: RTP or plain TS that `source` sends to `group` by `interface`."""

    group: IPv4Address
    port: Port
    source: IPv4Address
    interface: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,15}$")]


class Channel(Strict):
    """One channel. It has a playlist of files in the media folder, or a live source."""

    names: Names
    group: Group
    port: Port = PORT
    playlist: Annotated[tuple[MediaFile, ...], Field(max_length=500)] = ()
    live: LiveSource | None = None
    loop: bool = True
    schedule: Schedule | None = None
    rights: Rights | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.playlist) == (self.live is not None):
            raise ValueError("give either a playlist or a live source")
        return self

    def on_air(self, now: datetime) -> bool:
        """Whether schedule and rights have it on the air at that moment."""
        utc = now.astimezone(UTC)
        return (self.schedule is None or self.schedule.has(utc.time())) and (
            self.rights is None or self.rights.has(utc.date())
        )


class ImposedVideo(Strict):
    """A video that the crew impose: boarding, safety, arrival. A file for each language."""

    names: Names
    group: Group
    port: Port = PORT
    files: Annotated[dict[Language, MediaFile], Field(min_length=1, max_length=32)]
    loop: bool = False


class ChannelsFile(Strict):
    """A channels file: both kinds by their ids."""

    channels: Annotated[dict[MediaId, Channel], Field(max_length=200)] = Field(default_factory=dict)
    imposed: Annotated[dict[MediaId, ImposedVideo], Field(max_length=16)] = Field(
        default_factory=dict
    )


def load(path: Path) -> ChannelsFile:
    """The channels file.

    Raises:
        ChannelsError: it cannot be read, or is wrong; every mistake is named.
    """
    file, problems = yaml_files.read(path, ChannelsFile, _contradictions)
    if file is None or problems:
        raise ChannelsError("\n".join(problems))
    return file


def _contradictions(file: ChannelsFile, lines: yaml_files.Lines) -> Iterator[yaml_files.Problem]:
    users: dict[IPv4Address, str] = {}
    for section, entries in (("channels", file.channels), ("imposed", file.imposed)):
        for name, entry in entries.items():
            # By group alone: a receiver joins a group, and gets all its ports.
            if (other := users.setdefault(entry.group, name)) != name:
                yield lines[section, name, "group"], f"{entry.group} is also that of {other}"
    for name in file.channels.keys() & file.imposed.keys():
        yield lines["imposed", name], f"{name} is also a channel"


# -- vlc_stream's API -------------------------------------------------------------------------

ChannelState = Literal["playing", "paused", "stopped", "off-air", "starting", "silent"]
"""`stopped` and `paused`: by an engineer or the crew. `off-air`: by schedule or rights. `starting`:
told to play, no packet yet. `silent`: it should play, and nothing is on its group."""

ImposedState = Literal["idle", "playing", "paused"]


class View(BaseModel):
    """A frozen model that ignores fields it does not know: a newer server may send more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ChannelView(View):
    """A channel as it is. `position` and `duration` are seconds, of the file that plays.

    `trouble` says, for people, why it is silent, or which of its files are left out. `restarts`
    counts since the start of vlc_stream.
    """

    id: MediaId
    names: dict[Language, Label]
    group: IPv4Address
    port: int
    live: bool
    state: ChannelState
    file: str | None = None
    position: float | None = None
    duration: float | None = None
    restarts: int = 0
    trouble: str | None = None


class ImposedView(View):
    """An imposed video as it is. `remaining` is seconds; None for one that loops.

    `seats`: where it is on; None where it is idle, or on the overhead screens only.
    """

    id: MediaId
    names: dict[Language, Label]
    group: IPv4Address
    port: int
    languages: tuple[Language, ...]
    state: ImposedState
    language: Language | None = None
    position: float | None = None
    remaining: float | None = None
    seats: Selector | None = None
    screens: bool = False
    trouble: str | None = None


class ChannelsView(View):
    """`GET /api/v1/channels`.

    All streams come from `source`, so that receivers join for it alone (source-specific multicast,
    RFC 4607).
    """

    source: IPv4Address
    channels: tuple[ChannelView, ...]
    imposed: tuple[ImposedView, ...]


class ChannelControl(Strict):
    """`POST /api/v1/channels/<id>/control`. To seek wants `percent`, of the file that plays."""

    action: Literal["play", "pause", "stop", "seek"]
    percent: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _has_place(self) -> Self:
        if (self.percent is not None) != (self.action == "seek"):
            raise ValueError("percent goes with seek, and with nothing else")
        return self


class ImposeRequest(Strict):
    """`POST /api/v1/imposed`: show an imposed video at some seats, and on the overhead screens."""

    channel: MediaId
    language: Language
    selector: Selector | None = None
    screens: Flag = False

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.selector is None and not self.screens:
            raise ValueError("select seats, or the screens, or both")
        return self


class ImposeAnswer(View):
    """The video runs. `command` is how the seats were told; None: not, or not yet."""

    video: ImposedView
    command: Accepted | None


class ImposedControl(Strict):
    """`POST /api/v1/imposed/<id>/control`."""

    action: Literal["pause", "resume", "stop"]


def main(arguments: list[str]) -> int:
    """Check channels files; the exit code is 1 when one is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m apps.common.channels", description="Check channels files."
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path)
    wrong = False
    for path in parser.parse_args(arguments).files:
        try:
            file = load(path)
        except ChannelsError as error:
            wrong = True
            print(error, file=sys.stderr)
        else:
            print(f"{path}: {len(file.channels)} channels, {len(file.imposed)} imposed videos")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
