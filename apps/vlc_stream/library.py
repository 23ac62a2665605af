"""The files of all channels: which are fit to be played, looked at again when they change."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from itertools import zip_longest
from pathlib import Path

from apps.common.backoff import BackOff
from apps.vlc_stream import probe, ts
from apps.vlc_stream.orders import MediaItem
from apps.vlc_stream.probe import BrokenError

log = logging.getLogger(__name__)

TRY_AGAIN = 30.0
"""Seconds after which a file that is left out is looked at again.

That it could not be read or played may pass, though it stays the same: the disk hung, or memory ran
out.
"""

TRY_AGAIN_AT_MOST = 900.0
"""Seconds between two looks at a file that is broken each time: a look may take a minute."""

LOOK_EVERY = 2.0
"""Seconds between two looks at the files' size and time."""

_Key = tuple[bool, str]
"""Whether it is a clip, and its name: a file may be paced and played."""

_Identity = tuple[int, int, int] | None
"""Inode, size, time of change; None: it is not there."""


class Library:
    """Looks at files in a thread of its own.

    Args:
        folder: of the media.
        playlists: of each channel, files that libvlc is to play, below the folder.
        clips: files that are to be paced.
        on_change: called when something is fit that was not, or the other way round.
    """

    def __init__(
        self,
        folder: Path,
        playlists: Iterable[Iterable[str]],
        clips: Iterable[str],
        on_change: Callable[[], None],
    ) -> None:
        self._folder = folder
        # Imposed videos first: the crew may want them before the last channel is looked at.
        self._names = dict.fromkeys((True, name) for name in clips)
        # Then the first file of each channel, so that all of them are soon on the air.
        for names in zip_longest(*playlists):
            self._names |= dict.fromkeys((False, name) for name in names if name is not None)
        self._on_change = on_change
        self._seen: dict[_Key, _Identity] = {}
        self._good_items: dict[str, MediaItem] = {}
        self._good_clips: dict[str, ts.Clip] = {}
        self._broken: dict[_Key, str] = {}
        self._try_again: dict[_Key, float] = {}
        self._back_offs: dict[_Key, BackOff] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="library", daemon=True)
        self.looked_at = False
        """Whether each file was looked at once."""
        self.looked = time.monotonic()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._closing.set()
        self._thread.join(timeout=probe.TIMEOUT + 2)

    def has_looked_at(self, names: Iterable[str]) -> bool:
        """Whether it is known of each of the files if it can be played."""
        return all((False, name) in self._seen for name in names)

    def has_looked_at_clip(self, name: str) -> bool:
        """Whether it is known of a clip if it can be played."""
        return (True, name) in self._seen

    def items(self, names: Iterable[str]) -> tuple[MediaItem, ...]:
        """Those of the files that can be played, in their order."""
        return tuple(item for name in names if (item := self._good_items.get(name)) is not None)

    def clip(self, name: str) -> ts.Clip | None:
        """The clip, if it can be played."""
        return self._good_clips.get(name)

    def trouble(self, names: Iterable[str]) -> str | None:
        """What is wrong with some files, for people; the first few of them."""
        wrong = [
            f"{name}: {why}"
            for name in names
            if (why := self._broken.get((True, name)) or self._broken.get((False, name)))
        ]
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return "; ".join(wrong[:3]) + more if wrong else None

    def report_broken(self, item: MediaItem) -> None:
        """It could not be played, or was changed: not to be offered until it is looked at again.

        What is said of a file that another has replaced since is not heard. It is not looked at
        here: a disk that hangs would hold up all channels.
        """
        name = str(Path(item.path).relative_to(self._folder))
        if self._good_items.get(name) != item:
            return
        del self._good_items[name]
        self._broken[False, name] = "it could not be played"
        self._try_again[False, name] = time.monotonic() + TRY_AGAIN
        log.warning("a file could not be played", extra={"file": name})
        self._on_change()

    def _run(self) -> None:
        while True:
            for clip, name in self._names:
                if self._look(clip, name):
                    # At once: the next file may take a minute.
                    self._on_change()
            self.looked_at = True
            self.looked = time.monotonic()
            if self._closing.wait(LOOK_EVERY):
                return

    def _look(self, clip: bool, name: str) -> bool:
        """Look at a file, closely if it has changed; whether it has."""
        identity = self._identity(name)
        key = (clip, name)
        if time.monotonic() >= self._try_again.get(key, math.inf):
            del self._try_again[key]
        elif self._closing.is_set() or (key in self._seen and self._seen[key] == identity):
            return False
        self.looked = time.monotonic()
        try:
            if clip:
                self._good_clips[name] = probe.examine(self._folder / name)
            else:
                self._good_items[name] = probe.probe(self._folder / name)
        except BrokenError as error:
            self._leave_out(key, str(error))
            log.warning("a file is left out", extra={"file": name, "why": str(error)})
        except Exception:
            # Without this thread no file would be looked at any more.
            self._leave_out(key, "it cannot be looked at")
            log.exception("a file cannot be looked at", extra={"file": name})
        else:
            self._broken.pop(key, None)
            self._back_offs.pop(key, None)
        self._seen[key] = identity
        return True

    def _leave_out(self, key: _Key, why: str) -> None:
        clip, name = key
        self._good_clips.pop(name, None) if clip else self._good_items.pop(name, None)
        self._broken[key] = why
        back_off = self._back_offs.setdefault(key, BackOff(TRY_AGAIN, TRY_AGAIN_AT_MOST))
        self._try_again[key] = time.monotonic() + back_off.delay()

    def _identity(self, name: str) -> _Identity:
        try:
            stat = (self._folder / name).stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_size, stat.st_mtime_ns
