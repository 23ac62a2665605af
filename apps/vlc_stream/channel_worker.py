"""``python -m apps.vlc_stream.channel_worker``: a process that sends a group of channels.

A libvlc media player a channel; libvlc reads, cuts and paces. If it crashes, only the channels of
this process are gone. No file is opened that is not as it was when it was found good.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import vlc

from apps.common.backoff import BackOff
from apps.vlc_stream import child
from apps.vlc_stream.orders import (
    DSCP,
    Control,
    Items,
    MediaItem,
    Order,
    Output,
    Report,
    Seek,
    StartFiles,
)

log = logging.getLogger(__name__)

CACHING = 215
"""Milliseconds that libvlc reads ahead. With this the time stamps go on without a step where one
file follows another (docs/decisions/0013)."""

DRAIN = 2.0
"""Seconds after the end of the last file, in which the rest of it goes out."""

TOO_SHORT = 1.0
"""Seconds; a file that is played from its begin and is over sooner is taken for broken, unless that
is its length."""

OPTIONS = (
    *(
        "--quiet",
        "--no-audio",
        "--no-video-title-show",
        "--no-stats",
        "--no-metadata-network-access",
    ),
    *("--no-lua", "--ignore-config", "--no-xlib", "--no-sub-autodetect-file"),
    # Sockets, and the multiplexer's clock, go on from one file to the next.
    "--sout-keep",
    f"--file-caching={CACHING}",
    # A channel is on the wire sooner.
    "--sout-mux-caching=10",
)


class _Channel:
    """One channel. Called by the worker's one thread only."""

    def __init__(
        self,
        instance: vlc.Instance,
        order: StartFiles,
        output: Output,
        over: Callable[[_Channel], None],
        tell: Callable[[Report], None],
    ) -> None:
        self.id = order.id
        self._run = order.run
        self._instance = instance
        self._tell = tell
        self._sout = f":sout=#rtp{{mux=ts,dst={order.group},port={order.port},ttl={output.ttl}}}"
        self._items = order.items
        self._loop = order.loop
        self._index = order.index
        self._item: MediaItem | None = None
        self._began = self._shortest = 0.0
        self._paused = self._ended = False
        self._failures = 0
        self._cut_short: dict[MediaItem, str] = {}
        self._back_off = BackOff(0.5, 10.0)
        self._next_try: float | None = None
        self._drained: float | None = None
        self._player = instance.media_player_new()
        events = self._player.event_manager()
        for event in (
            vlc.EventType.MediaPlayerEndReached,
            vlc.EventType.MediaPlayerEncounteredError,
        ):
            # A callback must not call libvlc, it would wait for itself.
            events.event_attach(event, lambda _event: over(self))
        self.play(order.position)

    def play(self, position: float = 0.0) -> None:
        """Play the file that is next; those that have changed are left out."""
        self._next_try = None
        for step in range(len(self._items)):
            index = (self._index + step) % len(self._items)
            item = self._items[index]
            if item.is_unchanged():
                self._index = index
                self._open(item, position if step == 0 else 0.0)
                return
            self._tell(Report(id=self.id, run=self._run, state="playing", index=index, broken=item))
        self._next_try = time.monotonic() + self._back_off.delay()

    def _open(self, item: MediaItem, position: float) -> None:
        media = self._instance.media_new_path(item.path)
        media.add_option(self._sout)
        if position:
            media.add_option(f":start-time={position:.3f}")
        self._player.set_media(media)
        media.release()
        self._player.play()
        self._item, self._began = item, time.monotonic()
        # From elsewhere libvlc may go to the last key frame, and be at the end at once.
        self._shortest = 0.0 if position else min(TOO_SHORT, item.duration / 2)
        self._ended = False

    def over(self) -> None:
        """The file has ended, or cannot be played: go on with the next."""
        item, played = self._item, time.monotonic() - self._began
        if item is not None and played < self._shortest:
            self._failures += 1
            self._tell(replace(self.report(), broken=item))
        else:
            self._failures = 0
            self._back_off.reset()
            self._note_its_end(item)
        self._index += 1
        if self._index >= len(self._items):
            if not self._loop:
                self._drained = time.monotonic() + DRAIN
                return
            self._index = 0
        if self._failures >= len(self._items):
            # Rubbish played in a loop would take all of a core.
            self._next_try = time.monotonic() + self._back_off.delay()
        else:
            self.play()

    def _note_its_end(self, item: MediaItem | None) -> None:
        if item is None or self._shortest == 0.0:
            return
        self._cut_short.pop(item, None)
        at = self._position()
        if item.duration - at > child.TOO_EARLY:
            name = Path(item.path).name
            self._cut_short[item] = f"{name}: it ended at {at:.0f} of {item.duration:.0f} s"

    def _position(self) -> float:
        return float(max(0, self._player.get_time())) / 1000

    def look(self) -> None:
        """To be called now and then: it does what it was to do later."""
        now = time.monotonic()
        if self._drained is not None and now >= self._drained:
            self._ended, self._drained = True, None
        if self._next_try is not None and now >= self._next_try:
            self.play()

    def change_items(self, items: tuple[MediaItem, ...]) -> None:
        """Have another playlist from the next file on."""
        path = self._item.path if self._item else None
        places = [index for index, item in enumerate(items) if item.path == path]
        self._items, self._failures = items, 0
        self._cut_short = {item: why for item, why in self._cut_short.items() if item in items}
        self._index = places[0] if places else min(self._index, len(items) - 1)
        if self._next_try is not None:
            self.play()

    def pause(self, paused: bool) -> None:
        """Hold it, or go on."""
        self._paused = paused
        self._player.set_pause(paused)

    def seek(self, fraction: float) -> None:
        """Go to a place in the file that plays."""
        self._shortest = 0.0
        self._player.set_position(fraction)

    def report(self) -> Report:
        """How it is."""
        return Report(
            id=self.id,
            run=self._run,
            state="ended" if self._ended else "paused" if self._paused else "playing",
            index=min(self._index, len(self._items) - 1),
            position=self._position(),
            trouble="; ".join(list(self._cut_short.values())[:3]) or None,
        )

    def dispose(self) -> None:
        """End it, in a thread: that may take long, or for ever, and nobody is to wait."""

        def end(player: vlc.MediaPlayer) -> None:
            player.stop()
            player.release()

        threading.Thread(target=end, args=(self._player,), name="dispose", daemon=True).start()


class ChannelWorker:
    """The channels of this process."""

    def __init__(self, output: Output, tell: Callable[[Report], None]) -> None:
        self._output = output
        self._tell = tell
        # What VLC calls so is the whole byte, in which the class has the upper six bits.
        marked = f"--dscp={DSCP << 2}"
        self._instance = vlc.Instance([*OPTIONS, f"--miface={output.interface}", marked])
        if self._instance is None:
            sys.exit("vlc_stream: libvlc does not start: are its plugins installed?")
        self._channels: dict[str, _Channel] = {}
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._do_work, name="channels", daemon=True).start()

    def handle(self, order: Order) -> None:
        """Carry out an order soon."""
        self._work.put(lambda: self._handle(order))

    def reports(self) -> list[Report]:
        """How each channel is; asked for in the thread that they belong to, and awaited."""
        found: queue.SimpleQueue[list[Report]] = queue.SimpleQueue()
        self._work.put(lambda: found.put(self._look()))
        return found.get()

    def _do_work(self) -> None:
        while True:
            work = self._work.get()
            try:
                work()
            except Exception:
                log.exception("a channel is not as it should be")

    def _handle(self, order: Order) -> None:
        channel = self._channels.get(order.id)
        match order:
            case StartFiles():
                if channel is not None:
                    channel.dispose()
                self._channels[order.id] = _Channel(
                    self._instance, order, self._output, self._over, self._tell
                )
            case Control(do="stop") if channel is not None:
                del self._channels[order.id]
                channel.dispose()
            case Control() if channel is not None:
                channel.pause(order.do == "pause")
            case Seek() if channel is not None:
                channel.seek(order.fraction)
            case Items() if channel is not None:
                channel.change_items(order.items)
            case _:
                pass

    def _over(self, channel: _Channel) -> None:
        """Called by a thread of libvlc's."""

        def go_on() -> None:
            if self._channels.get(channel.id) is channel:
                channel.over()

        self._work.put(go_on)

    def _look(self) -> list[Report]:
        for channel in self._channels.values():
            channel.look()
        return [channel.report() for channel in self._channels.values()]


if __name__ == "__main__":
    child.run(ChannelWorker)
