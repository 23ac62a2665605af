"""What the supervisor tells the processes that send, and what they report: lines of JSON.

Plain dataclasses, and text for addresses and paths: what is imported here is in the memory of each
of the processes, and they take orders from the supervisor alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Literal

from apps.vlc_stream.ts import Clip

DSCP = 34
"""Multimedia conferencing, AF41 (RFC 4594, 4.5): below the PA's, above all else in the cabin."""


@dataclass(frozen=True)
class Output:
    """How streams go out: by which interface, from which address, over how many routers."""

    interface: str
    source: IPv4Address
    ttl: int


@dataclass(frozen=True)
class MediaItem:
    """A file that was found good, as it was then. `duration` is in seconds."""

    path: str
    size: int
    modified_ns: int
    duration: float

    def is_unchanged(self) -> bool:
        """Whether it is still the file that was found good."""
        try:
            stat = Path(self.path).stat()
        except OSError:
            return False
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.modified_ns)


@dataclass(frozen=True, kw_only=True)
class _Start:
    """`run` is a number that comes back with what is reported of it."""

    id: str
    run: int
    group: str
    port: int


@dataclass(frozen=True, kw_only=True)
class StartFiles(_Start):
    """Play a playlist, from a file of it and a position in seconds; anew if it plays already."""

    items: tuple[MediaItem, ...]
    loop: bool
    index: int
    position: float
    do: Literal["start-files"] = "start-files"


@dataclass(frozen=True, kw_only=True)
class StartLive(_Start):
    """Relay what `source` sends to a group by an interface; anew if it is relayed already."""

    from_group: str
    from_port: int
    source: str
    interface: str
    do: Literal["start-live"] = "start-live"


@dataclass(frozen=True, kw_only=True)
class StartClip(_Start):
    """Pace a clip from a position, in seconds; anew if it plays already."""

    clip: Clip
    loop: bool
    position: float
    do: Literal["start-clip"] = "start-clip"


@dataclass(frozen=True, kw_only=True)
class Items:
    """From the next file on, the playlist is this."""

    id: str
    items: tuple[MediaItem, ...]
    do: Literal["items"] = "items"


@dataclass(frozen=True, kw_only=True)
class Control:
    """Pause, resume or stop."""

    id: str
    do: Literal["pause", "resume", "stop"]


@dataclass(frozen=True, kw_only=True)
class Seek:
    """Go to a place in the file that plays: 0 is its begin, 1 its end."""

    id: str
    fraction: float
    do: Literal["seek"] = "seek"


Order = StartFiles | StartLive | StartClip | Items | Control | Seek

_KINDS: dict[str, type[Order]] = {
    "start-files": StartFiles,
    "start-live": StartLive,
    "start-clip": StartClip,
    "items": Items,
    "pause": Control,
    "resume": Control,
    "stop": Control,
    "seek": Seek,
}


@dataclass(frozen=True, kw_only=True)
class Report:
    """How one channel is, each half second and when it changes.

    `run` is that of the order that started it: what is said of an earlier run may still be on its
    way. `ended`: it has played all it had. `broken` is a file that could not be played, or that has
    changed since it was found good.
    """

    id: str
    run: int
    state: Literal["playing", "paused", "ended"]
    index: int = 0
    position: float = 0.0
    broken: MediaItem | None = None
    trouble: str | None = None


def to_line(said: Order | Report) -> str:
    """An order or a report as a line, with its end."""
    return json.dumps(asdict(said)) + "\n"


def order_of(line: str) -> Order:
    """The order in a line of the supervisor's."""
    fields: dict[str, Any] = json.loads(line)
    if "items" in fields:
        fields["items"] = tuple(MediaItem(**item) for item in fields["items"])
    if "clip" in fields:
        fields["clip"] = Clip(**fields["clip"])
    return _KINDS[fields["do"]](**fields)
