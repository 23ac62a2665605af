"""The real-time thread: keylines in, announcements out, each 5 ms. It waits for nothing else."""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError

from apps.common.log import Refusals
from apps.common.pa import (
    BEACON_EVERY,
    END_PACKETS,
    KEYLINES_LOST_AFTER,
    PACKET_SECONDS,
    PAUSE_EVERY,
    Keylines,
    PaAnnouncement,
    PaState,
    Signer,
    Source,
)
from apps.pa_audio.announcement import Announcement, Announcements
from apps.pa_audio.arbiter import NO_CALLS, NOWHERE, Arbiter, Groups, OnAir, read_calls
from apps.pa_audio.cabin import Cabin
from apps.pa_audio.feed import HELD_UP, SILENCE, Feed
from apps.pa_audio.inputs import Input
from apps.pa_audio.pram import Music
from apps.pa_audio.tap import OnTap, Tap
from apps.pa_audio.wav import decibels

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_KEYLINES = 4096
"""Bytes of a datagram with the keylines."""

MAX_AT_ONCE = 64
"""Datagrams with keylines that are read before anything is sent again."""

LONGEST_WAIT = 0.1

ORDER_TIMEOUT = 2.0
"""Seconds that an order waits for the thread."""

STUCK_AFTER = 1.0
"""Seconds without a round of the thread after which it is stuck."""

NAMES = {source: source.name.lower() for source in Source}


class StuckError(Exception):
    """The real-time thread does not answer."""


class Engine:
    """Make it, `start` it, `close` it. What others read of it is replaced as a whole.

    Args:
        areas: their numbers by their names, in the layout's order.
        inputs: of the live sources.
        keylines: the bound socket; it does not block.
        pa_time: gives PA time, ms.
        cname: of the beacons.
        random: gives a number of as many bits.
    """

    def __init__(
        self,
        areas: Mapping[str, int],
        signer: Signer,
        cabin: Cabin,
        inputs: Mapping[Source, Input],
        music: Music,
        keylines: socket.socket,
        pa_time: Callable[[], int],
        cname: str,
        random: Callable[[int], int],
    ) -> None:
        self._areas = areas
        self._signer = signer
        self._cabin = cabin
        self._inputs = inputs
        self._feeds = {source: Feed(entry.waits) for source, entry in inputs.items()}
        self._music = music
        self._keylines = keylines
        self._pa_time = pa_time
        self._arbiter = Arbiter(len(areas))
        self._announcements = Announcements(frozenset(cabin.groups), cname, random)
        self._open: dict[Source, Announcement] = {}
        self._ending: list[Announcement] = []
        self._calls = NO_CALLS
        self._keylines_at = float("-inf")
        self._paused: Groups = NOWHERE
        began = time.monotonic()
        # Not all at once: what signs them is the thread that is to be in time.
        self._beacon_due = {
            area: began + BEACON_EVERY * index / len(cabin.groups)
            for index, area in enumerate(cabin.groups)
        }
        self._orders: deque[tuple[Callable[[Arbiter], Any], Future[Any]]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._taps: tuple[Tap, ...] = ()
        self._changing_taps = threading.Lock()
        self._closing = False
        self._round = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="pa", daemon=True)
        self.changed = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Becomes readable when `state` was replaced."""
        self.state = PaState(state="idle")
        self.level = decibels(np.zeros(1, np.int16))
        """Of the announcement that wins, dB of full scale; of the last one when there is none."""
        self.refusals = Refusals(log)

    # -- for other threads ------------------------------------------------------------------

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def close(self) -> None:
        """Stop sending."""
        self._closing = True
        os.eventfd_write(self._wake, 1)
        self._thread.join(timeout=5)

    def do(self, order: Callable[[Arbiter], T]) -> T:
        """Have the thread ask or change the arbiter.

        Raises:
            StuckError: it does not come to it.
            Exception: what `order` raises.
        """
        done: Future[T] = Future()
        self._orders.append((order, done))
        os.eventfd_write(self._wake, 1)
        try:
            return done.result(ORDER_TIMEOUT)
        except TimeoutError as error:
            done.cancel()
            raise StuckError("the real-time thread is stuck") from error

    def add_tap(self, tap: Tap) -> None:
        """Have all that is sent go there, too."""
        with self._changing_taps:
            self._taps = (*self._taps, tap)

    def remove_tap(self, tap: Tap) -> None:
        """No longer."""
        with self._changing_taps:
            self._taps = tuple(other for other in self._taps if other is not tap)

    def misses(self, source: Source) -> bool:
        """Whether a live source is to be heard, and nothing comes of it."""
        return self._feeds[source].is_missed(time.monotonic())

    def stuck(self) -> str | None:
        """None while the thread goes round."""
        if time.monotonic() - self._round > STUCK_AFTER:
            return "the real-time thread is stuck"
        return None

    def keylines_trouble(self) -> str | None:
        """None while the keylines come in."""
        if time.monotonic() - self._keylines_at > KEYLINES_LOST_AFTER:
            return "nobody says how the keylines are, they count as released"
        return None

    # -- the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing:
            try:
                self._wait()
                self._read_keylines()
                self._obey()
                now = time.monotonic()
                self._arbitrate(now)
                self._send(now)
                self._end(now)
                self._send_beacons(now)
                # One that fails does not count: if none succeeds, a new start may help.
                self._round = time.monotonic()
            except Exception:
                # Without this thread there is no PA.
                log.exception("a round of the PA failed")
                time.sleep(PACKET_SECONDS)

    def _wait(self) -> None:
        """Until samples or keylines come, or something is due."""
        now = time.monotonic()
        readable: dict[int, Source] = {}
        for source, entry in self._inputs.items():
            number = entry.fileno()
            if number is not None and not self._feeds[source].is_full(now):
                readable[number] = source
        due = [announcement.due for announcement in self._ending]
        for source, announcement in self._open.items():
            feed = self._feeds.get(source)
            due.append(announcement.due if feed is None else feed.look_again())
        wait = min(now + LONGEST_WAIT, *due, *self._beacon_due.values()) - now
        numbers = [*readable, self._keylines.fileno(), self._wake]
        ready, _, _ = select.select(numbers, [], [], max(0.0, wait))
        for number in ready:
            if number == self._wake:
                os.eventfd_read(self._wake)
            elif number in readable:
                source = readable[number]
                self._feeds[source].put(self._inputs[source].read(), time.monotonic())

    def _read_keylines(self) -> None:
        newest: bytes | None = None
        for _ in range(MAX_AT_ONCE):
            try:
                newest = self._keylines.recv(MAX_KEYLINES + 1)
            except BlockingIOError:
                break
            try:
                self._calls = read_calls(Keylines.model_validate_json(newest), self._areas)
            except ValidationError as error:
                self.refusals.add("keylines", "", str(error))
            else:
                self._keylines_at = time.monotonic()
        if time.monotonic() - self._keylines_at > KEYLINES_LOST_AFTER:
            # But for a decompression, which is over when somebody says so.
            self._calls = replace(NO_CALLS, decompression=self._calls.decompression)

    def _obey(self) -> None:
        while self._orders:
            order, done = self._orders.popleft()
            if not done.set_running_or_notify_cancel():
                continue
            try:
                done.set_result(order(self._arbiter))
            except Exception as error:  # noqa: BLE001 - it is for whoever gave the order
                done.set_exception(error)

    def _arbitrate(self, now: float) -> None:
        heard = {on_air.source: on_air for on_air in self._arbiter.decide(self._calls)}
        if not self._music.is_there:
            heard.pop(Source.MUSIC, None)
        changed = False
        for source, announcement in list(self._open.items()):
            on_air = heard.get(source)
            if on_air is None or on_air.item is not announcement.item:
                self._close(self._open.pop(source), now)
                changed = True
            elif on_air != announcement.on_air:
                ending = self._announcements.move(announcement, on_air)
                if ending is not None:
                    self._ending.append(ending)
                changed = True
        for source, on_air in heard.items():
            if source not in self._open:
                self._open[source] = self._begin(on_air, now)
                changed = True
        paused = self._calls.ent_pause
        for area in paused ^ self._paused:
            self._beacon_due[area] = now
            changed = True
        self._paused = paused
        if changed or self.state.decompression != self._calls.decompression:
            self._tell()

    def _begin(self, on_air: OnAir, now: float) -> Announcement:
        if (feed := self._feeds.get(on_air.source)) is not None:
            feed.open(now)
        return self._announcements.open(on_air, self._pa_time(), now)

    def _close(self, announcement: Announcement, now: float) -> None:
        if (feed := self._feeds.get(announcement.source)) is not None:
            feed.close()
        announcement.left, announcement.due = END_PACKETS, now
        self._ending.append(announcement)
        self._put_on_tap(announcement, b"", ended=True)

    def _send(self, now: float) -> None:
        for source, announcement in list(self._open.items()):
            if (feed := self._feeds.get(source)) is not None:
                while (pcm := feed.take(now)) is not None:
                    self._emit(announcement, np.frombuffer(pcm, "<i2").astype(">i2").tobytes())
                continue
            if now - announcement.due > HELD_UP:
                announcement.due = now
            while announcement.due <= now and announcement is self._open.get(source):
                self._emit_recorded(announcement, now)

    def _emit_recorded(self, announcement: Announcement, now: float) -> None:
        if announcement.source is Source.MUSIC:
            samples: bytes | None = self._music.next_packet()
        else:
            samples = self._arbiter.next_packet()
        if samples is None:
            self._arbitrate(now)  # it is over, who is next?
            return
        self._emit(announcement, samples)
        announcement.due += PACKET_SECONDS

    def _emit(self, announcement: Announcement, samples: bytes) -> None:
        self._transmit(announcement, samples)
        self._put_on_tap(announcement, samples)

    def _transmit(self, announcement: Announcement, samples: bytes) -> None:
        for audio in self._announcements.packets(
            announcement, samples, self._pa_time(), self._paused
        ):
            self._cabin.send(audio.area, self._signer.sign(audio))

    def _end(self, now: float) -> None:
        for announcement in list(self._ending):
            if announcement.left is not None and announcement.due <= now:
                self._transmit(announcement, SILENCE)
                announcement.left -= 1
                announcement.due = now + PACKET_SECONDS
                if announcement.left == 0:
                    self._ending.remove(announcement)

    def _send_beacons(self, now: float) -> None:
        for area, due in self._beacon_due.items():
            if due > now:
                continue
            there = [entry for entry in self._open.values() if area in entry.groups]
            highest = max(there, key=lambda entry: entry.source, default=None)
            beacon = self._announcements.beacon(area, highest, self._pa_time(), self._paused)
            self._cabin.send(area, self._signer.sign(beacon))
            every = PAUSE_EVERY if area in self._paused else BEACON_EVERY
            self._beacon_due[area] = max(due + every, now)

    def _put_on_tap(self, announcement: Announcement, samples: bytes, ended: bool = False) -> None:
        wins = not any(other > announcement.source for other in self._open)
        if wins and samples:
            self.level = decibels(np.frombuffer(samples, ">i2"))
        packet = OnTap(
            announcement.number,
            announcement.since,
            announcement.source,
            announcement.on_air.areas,
            samples,
            wins,
            ended,
        )
        for tap in self._taps:
            tap.put(packet)

    def _tell(self) -> None:
        """Replace `state`."""
        entries = sorted(self._open.values(), key=lambda entry: -entry.source)
        announcements = tuple(
            PaAnnouncement(
                source=NAMES[entry.source],
                areas=self._names(entry.on_air.areas),
                number=entry.number,
                since=entry.since,
            )
            for entry in entries
        )
        heard = frozenset[int]().union(*(entry.on_air.areas for entry in entries))
        self.state = PaState(
            state="announcement" if entries else "idle",
            source=announcements[0].source if entries else "",
            areas=self._names(heard),
            number=announcements[0].number if entries else 0,
            since=announcements[0].since if entries else 0,
            announcements=announcements,
            ent_pause=self._names(self._arbiter.areas_of(self._paused)),
            decompression=self._calls.decompression,
        )
        os.eventfd_write(self.changed, 1)

    def _names(self, areas: Groups) -> tuple[str, ...]:
        return tuple(name for name, number in self._areas.items() if number in areas)
