"""One channel as the supervisor has it: what it is to do, what it does, what is heard of it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from apps.common.channels import Channel, ChannelState, ChannelView
from apps.vlc_stream.keeper import Company, Keeper
from apps.vlc_stream.library import Library
from apps.vlc_stream.orders import (
    Control,
    Items,
    MediaItem,
    Output,
    Report,
    Seek,
    StartFiles,
    StartLive,
)
from apps.vlc_stream.process import SendingProcess
from apps.vlc_stream.watch import Listener

Wish = Literal["play", "pause", "stop"]


class ManagedChannel:
    """Called with the service's lock held."""

    def __init__(
        self,
        name: str,
        spec: Channel,
        process: SendingProcess,
        company: Company,
        library: Library,
        output: Output,
    ) -> None:
        self.id = name
        self.spec = spec
        self.process = process
        self._library = library
        self._listener = Listener(output, spec.group, spec.port)
        self._keeper = Keeper(company)
        self._wish: Wish = "play"
        self._is_over = False
        """It has come to its end: until its next time on the air, or until it is told to play."""
        self._items: tuple[MediaItem, ...] = ()
        self._run = 0
        self._index = 0
        self._position = 0.0
        self._trouble: str | None = None
        self._wire = True

    def process_is_new(self) -> None:
        """The process that sends it was started anew."""
        self._keeper.forget()

    def take(self, report: Report) -> None:
        """What its process says of it."""
        if report.run != self._run:
            return
        self._trouble = report.trouble
        if report.broken is not None:
            self._library.report_broken(report.broken)
        self._index, self._position = report.index, report.position
        if report.state == "ended":
            self._is_over = True
            self._index, self._position = 0, 0.0

    def control(self, wish: Wish) -> None:
        """Play, pause or stop it."""
        before, self._wish = self._wish, wish
        self._is_over = False
        if wish == "pause" and before == "play":
            self.process.tell(Control(do="pause", id=self.id))
        elif wish == "play" and before == "pause":
            self.process.tell(Control(do="resume", id=self.id))
            self._keeper.resumed(time.monotonic())
        elif wish == "stop":
            self._index, self._position = 0, 0.0

    def seek(self, fraction: float) -> None:
        """Go to a place in the file that plays."""
        self.process.tell(Seek(id=self.id, fraction=fraction))

    def refresh(self) -> None:
        """Its files may have changed."""
        if self.spec.live is not None:
            return
        if not self.spec.loop and not self._library.has_looked_at(self.spec.playlist):
            # It would be over where nothing more is known yet.
            return
        items = self._library.items(self.spec.playlist)
        if items and items != self._items:
            self.process.tell(Items(id=self.id, items=items))
        self._items = items

    def tend(self, wire: bool, may_start: bool) -> bool:
        """See to it that it is on the wire, if it is to be; whether it was started."""
        now = time.monotonic()
        self._wire = wire
        self._listener.look()
        if not self._is_on_air():
            self._is_over = False
        if not self.process.alive or self._wish == "pause":
            return False
        wanted = self._is_wanted() and self._has_source()
        # Begun without its interface it could go out by another, or blame its files.
        if wanted and not (may_start and wire) and not self._keeper.running:
            return False
        # A live source that is silent, an interface that is down, a process that loads: it is not
        # to blame.
        silent = self.spec.live is not None and self._trouble
        able = wire and self.process.speaks and not silent
        match self._keeper.decide(now, wanted, self._listener.heard, able, self.process.quiet):
            case "start" | "restart":
                self._start()
                return True
            case "skip":
                self._skip()
                return True
            case "stop":
                self.process.tell(Control(do="stop", id=self.id))
            case "kill":
                self.process.kill()
            case None:
                pass
        return False

    def view(self) -> ChannelView:
        """How it is."""
        playing = self.spec.live is None and self._keeper.running and bool(self._items)
        item = self._items[min(self._index, len(self._items) - 1)] if playing else None
        return ChannelView(
            id=self.id,
            names=self.spec.names,
            group=self.spec.group,
            port=self.spec.port,
            live=self.spec.live is not None,
            state=self._state(),
            file=Path(item.path).name if item else None,
            position=round(self._position, 1) if item else None,
            duration=round(item.duration, 1) if item else None,
            restarts=self._keeper.restarts,
            trouble=self._why(),
        )

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()

    def _start(self) -> None:
        self._run += 1
        group, port, live = str(self.spec.group), self.spec.port, self.spec.live
        if live is not None:
            self.process.tell(
                StartLive(
                    id=self.id,
                    run=self._run,
                    group=group,
                    port=port,
                    from_group=str(live.group),
                    from_port=live.port,
                    source=str(live.source),
                    interface=live.interface,
                )
            )
            return
        self.process.tell(
            StartFiles(
                id=self.id,
                run=self._run,
                group=group,
                port=port,
                items=self._items,
                loop=self.spec.loop,
                index=min(self._index, len(self._items) - 1),
                position=self._position,
            )
        )

    def _skip(self) -> None:
        """Take the file that plays for broken, and play the next."""
        if self.spec.live is None:
            place = min(self._index, len(self._items) - 1)
            self._library.report_broken(self._items[place])
            # What comes next has its place now.
            is_last = place >= len(self._items)
            self._index, self._position = 0 if is_last else place, 0.0
            if is_last and not self.spec.loop:
                self._is_over = True
                return
        if self._has_source():
            self._start()

    def _is_wanted(self) -> bool:
        return self._wish != "stop" and not self._is_over and self._is_on_air()

    def _is_on_air(self) -> bool:
        return self.spec.on_air(datetime.now(tz=UTC))

    def _has_source(self) -> bool:
        return self.spec.live is not None or bool(self._items)

    def _state(self) -> ChannelState:
        now, heard = time.monotonic(), self._listener.heard
        if self._wish == "stop" or self._is_over:
            return "stopped"
        if not self._is_wanted():
            return "off-air"
        if self._wish == "pause":
            return "paused"
        if self._keeper.is_on(now, heard):
            return "playing"
        return "starting" if self._wire and self._keeper.is_starting(now) else "silent"

    def _why(self) -> str | None:
        if not self._wire:
            return "the interface is down"
        trouble = self._trouble or self._library.trouble(self.spec.playlist)
        if trouble is None and self._state() == "silent":
            return "nothing is on its group, so it is started anew"
        return trouble
