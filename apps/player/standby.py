"""Imposed videos are heard before they are imposed, so that none begins without its first picture.

libvlc takes a tenth of a second to open a channel; by then the first key frame has gone by, and the
next one is a second away. So this process hears all imposed videos all the time. What one began
with is kept for as long as a seat may hear of it later, and libvlc reads it, and what follows, from
a FIFO.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import urlsplit

from apps.common import rtp
from apps.player.multicast import MulticastReceiver

BEGIN_FOR = 2.5
"""Seconds of a video's begin that are kept: a seat that lost the command by multicast has it with
the answer to its next report. It stays as late as it begins, and ends with the others."""

MAX_WAITING = 4 * 1024 * 1024
"""Bytes of one video that wait: its begin at 10 Mbit/s, or what libvlc does not take."""

FIFO_SIZE = 1024 * 1024
"""Bytes; what Linux allows without privileges (pipe(7))."""

OVER_AFTER, NEXT_COUNT = 0.2, 4
"""Seconds without a datagram of a stream, and datagrams in a row of another, after which the video
has begun anew. Its sender sends one each 0.1 s, also in a pause, and no two streams at once; so
whoever else sends in its name now and then has no video begin anew."""

RENEW_IDLE, RENEW_SHOWN = 30.0, 3.0
"""Seconds of silence after which a group is joined again, as a switch may forget; one that is shown
is never silent, as its clock goes on in a pause."""


class Standby:
    """All videos that may be imposed, each by the URL that libvlc would find it by.

    Args:
        folder: for the FIFOs.
        on_begin: called with the URL of a video that is read and began anew. What was opened is
            released; it is to be opened once more.
    """

    def __init__(self, interface: str, folder: Path, on_begin: Callable[[str], None]) -> None:
        self._interface = interface
        self._folder = folder
        self._on_begin = on_begin
        self._numbers = itertools.count()
        self._expected: frozenset[str] = frozenset()
        self._videos: dict[str, _Video] = {}

    def expect(self, urls: Iterable[str]) -> None:
        """Hear these, and no others but what is read."""
        self._expected = frozenset(urls)
        for url in self._expected:
            self._hear(url)
        for url in self._videos.keys() - self._expected:
            if not self._videos[url].is_read:
                self._videos.pop(url).close()

    def open(self, url: str, now: float) -> str:
        """Where libvlc reads the video; to be given back by `release`.

        Raises:
            OSError: there is no room for a FIFO.
        """
        path = self._folder / f"imposed-{next(self._numbers)}"
        self._hear(url).open(path, now)
        # Not file://, which libvlc would read ahead of the video's clock.
        return f"stream://{path}"

    def release(self, url: str) -> None:
        """It is read no more."""
        self._videos[url].release()
        if url not in self._expected:
            self._videos.pop(url).close()

    def renew(self, now: float) -> None:
        """Join anew where nothing comes. To be called regularly."""
        for video in self._videos.values():
            video.renew(now)

    def _hear(self, url: str) -> _Video:
        if url not in self._videos:
            self._videos[url] = _Video(url, self._interface, partial(self._on_begin, url))
        return self._videos[url]


@dataclass
class _Next:
    """A stream that may be the video begun anew, and what came of it."""

    stream: int
    began: float
    sequence: int = 0
    in_a_row: int = 0
    packets: bytearray = field(default_factory=bytearray)


class _Video:
    """One video on its group. While it has a FIFO, that gets all that comes."""

    def __init__(self, url: str, interface: str, on_begin: Callable[[], None]) -> None:
        parts = urlsplit(url)
        self._on_begin = on_begin
        self._receiver = MulticastReceiver(
            interface,
            IPv4Address(parts.hostname or ""),
            parts.port or 0,
            IPv4Address(parts.username or ""),
            self._datagram,
        )
        self._stream: int | None = None
        """Whose datagrams these are: each time that the video is started, another's."""
        self._stream_heard = -math.inf
        self._next: _Next | None = None
        self._began = self._heard = time.monotonic()
        self._waiting = bytearray()
        """What it began with; with a FIFO, what is still to go there."""
        self._path: Path | None = None
        self._fifo = -1
        self._written = False
        self._receiver.rejoin()

    @property
    def is_read(self) -> bool:
        """Whether it has a FIFO."""
        return self._path is not None

    def open(self, path: Path, now: float) -> None:
        """Put what it began with into a FIFO, and all that comes from now on."""
        os.mkfifo(path)
        # For reading too: so it opens before libvlc is there, and never comes to an end.
        self._fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._path, self._written = path, False
        # Where pipes are kept small, it does with less.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._fifo, fcntl.F_SETPIPE_SZ, FIFO_SIZE)
        if now - self._began > BEGIN_FOR:
            self._waiting.clear()
        self._write()

    def release(self) -> None:
        """Nobody reads it any more."""
        if self._path is not None:
            os.close(self._fifo)
            self._path.unlink()
            self._path, self._written = None, False
            self._waiting.clear()

    def renew(self, now: float) -> None:
        """Join anew where nothing comes."""
        in_haste = self.is_read or self._receiver.trouble is not None
        if now - self._heard > (RENEW_SHOWN if in_haste else RENEW_IDLE):
            self._heard = now
            self._receiver.rejoin()

    def close(self) -> None:
        """Leave the group."""
        self.release()
        self._receiver.close()

    def _datagram(self, datagram: bytes) -> None:
        packets = rtp.payload(datagram)
        # Without RTP around them nothing says which stream they are of.
        if packets is None or packets == datagram:
            return
        self._heard = now = time.monotonic()
        if (stream := rtp.source(datagram)) != self._stream:
            self._of_another(stream, rtp.sequence(datagram), packets, now)
            return
        self._stream_heard, self._next = now, None
        if not self.is_read and now - self._began > BEGIN_FOR:
            self._waiting.clear()
        elif len(self._waiting) < MAX_WAITING:
            self._waiting += packets
        self._write()

    def _of_another(self, stream: int, sequence: int, packets: bytes, now: float) -> None:
        if self._next is None or self._next.stream != stream:
            self._next = _Next(stream, now)
        following = self._next
        is_next = sequence == following.sequence + 1 & 0xFFFF
        following.in_a_row = following.in_a_row + 1 if is_next else 1
        following.sequence = sequence
        if len(following.packets) < MAX_WAITING:
            following.packets += packets
        if following.in_a_row < NEXT_COUNT or now - self._stream_heard < OVER_AFTER:
            return
        begins_anew = self._written
        if begins_anew:
            # libvlc's clock goes by what came before: it is to begin anew.
            self.release()
        self._stream, self._stream_heard, self._began = stream, now, following.began
        self._waiting, self._next = following.packets, None
        if begins_anew:
            self._on_begin()
        else:
            self._write()

    def _write(self) -> None:
        if self.is_read and self._waiting:
            with contextlib.suppress(BlockingIOError):
                del self._waiting[: os.write(self._fifo, self._waiting)]
                self._written = True
