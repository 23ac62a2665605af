"""The seat's PA: ``python -m apps.player.pa``, a child of the agent.

It needs nothing but the PA's multicast: no server, no agent, no command. What it hears it plays,
and it tells the screen and the agent at once, by datagrams (`apps.player.pa_report`).
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import selectors
import socket
import sys
import threading
import time
from dataclasses import dataclass, field

from apps.common import log as logs
from apps.common.lifeline import die_with
from apps.common.log import Refusals
from apps.common.multicast import Membership, receiving_socket
from apps.common.pa import (
    ALL_AREAS,
    PORT,
    SILENT_AFTER,
    PaError,
    Receiver,
    Verifier,
    group,
)
from apps.common.settings import SettingsError
from apps.player.keys import read_keys
from apps.player.pa_concealment import Samples
from apps.player.pa_hearing import Ear, Override
from apps.player.pa_report import WHILE_OFF, WHILE_ON, PaFault, PaReport
from apps.player.settings import PaSettings
from apps.player.sinks import Speaker, sink_of
from apps.player.timing import SilenceTimer

log = logging.getLogger(__name__)

MAX_DATAGRAM = 1500

AT_ONCE = 32
"""Datagrams taken from a socket before the others, and the time, have their turn."""

PRIORITY = 20
"""Of SCHED_FIFO: above all that a seat does, below the kernel's own threads."""

SWITCH_INTERVAL = 0.0005
"""Seconds after which the thread that plays gets Python's lock from one that is in a flood."""

ENDS_AFTER = 10.0
"""Seconds that the sound device may hang."""

INTERFACE_RETRY = 1.0
"""Seconds between two tries to join while the interface is away."""


@dataclass
class _Group:
    """One of the two that a seat listens to."""

    area: int
    socket: socket.socket
    membership: Membership
    silence: SilenceTimer
    trouble: str | None = field(default="not joined yet")


class PaChild:
    """Hears, plays and tells.

    Args:
        tell: connected datagram sockets, one for each listener.

    Raises:
        SettingsError: the keys cannot be used.
        OSError: the groups' sockets cannot be opened.
    """

    def __init__(self, settings: PaSettings, tell: list[socket.socket]) -> None:
        self._interface = settings.multicast_interface
        self._receiver = Receiver(
            Verifier(read_keys(settings.pa_public_keys_file)), settings.pa_area
        )
        groups = sorted({ALL_AREAS, settings.pa_area})
        self._ear = Ear(groups, settings.pa_buffer_ms / 1000)
        self._lock = threading.Lock()
        """For the ear: the thread that plays looks into it."""
        self._speaker = Speaker(
            sink_of(settings.pa_sink), self._pull, self._begins_at, settings.pa_volume / 100
        )
        self._refusals = Refusals(log)
        self._tell = tell
        self._told: Override | None = None
        now = time.monotonic()
        # Before that it cannot know that there is no PA, which the one before it may have heard.
        self._tell_at = now + SILENT_AFTER
        self._groups = [
            _Group(
                area,
                receiving_socket(group(area), PORT),
                Membership(self._interface, group(area), settings.multicast_source),
                SilenceTimer(random.random, now),
            )
            for area in groups
        ]

    def run(self) -> None:
        """Until the process ends."""
        selector = selectors.DefaultSelector()
        now = time.monotonic()
        for one in self._groups:
            selector.register(one.socket, selectors.EVENT_READ, one)
            self._join(one, now)
        self._speaker.start()
        while True:
            until = min(
                self._ear.next_at, self._tell_at, *(one.silence.due for one in self._groups)
            )
            for key, _ in selector.select(max(0.0, until - time.monotonic())):
                self._read(key.data)
            self._tick(time.monotonic())

    def _read(self, one: _Group) -> None:
        for _ in range(AT_ONCE):
            try:
                datagram = one.socket.recv(MAX_DATAGRAM)
            except OSError:
                # Nothing more, or an error that was only told (the interface went down).
                return
            now = time.monotonic()
            try:
                message = self._receiver.accept(datagram, now)
            except PaError as error:
                if error.reason != "duplicate":
                    self._refusals.add(error.reason, f"area {one.area}", "not our PA")
                continue
            with self._lock:
                self._ear.hear(message, now)
                override = self._ear.override
            one.silence.heard(now)
            if override != self._told:
                self._changed(override, now)

    def _tick(self, now: float) -> None:
        if self._speaker.hangs_for() > ENDS_AFTER:
            # A thread cannot be got out of a driver; the agent starts us anew.
            log.error("the sound device hangs")
            os._exit(1)
        if not self._speaker.is_alive:
            log.error("what plays the PA has ended")
            os._exit(1)
        for one in self._groups:
            if one.silence.due <= now:
                self._join(one, now)
        with self._lock:
            self._ear.tick(now)
            override = self._ear.override
        if override != self._told or self._tell_at <= now:
            self._changed(override, now)

    def _changed(self, override: Override | None, now: float) -> None:
        if override is not None:
            self._speaker.wake()
        turned = (override is None) != (self._told is None)
        self._told = override
        self._tell_at = now + (WHILE_OFF if override is None else WHILE_ON)
        source = None if override is None else override.source
        report = PaReport(
            on=override is not None,
            source=None if source is None else source.name.lower(),
            number=0 if override is None else override.number,
            area=0 if override is None else override.area,
            relied_on=self._ear.relied_on(now),
            faults=self._faults(now),
        )
        text = report.model_dump_json().encode()
        for listener in self._tell:
            try:
                listener.send(text, socket.MSG_DONTWAIT)
            except OSError:
                # It hangs, or is being started anew; the next report comes soon.
                continue
        if turned:
            # Last, as a log may be slow.
            log.info("the PA %s", "is over" if override is None else "has the seat")

    def _faults(self, now: float) -> tuple[PaFault, ...]:
        faults: list[PaFault] = []
        if any(one.trouble for one in self._groups) or not self._ear.is_heard(now):
            faults.append("pa-multicast")
        if self._speaker.trouble:
            faults.append("pa-sound")
        return tuple(faults)

    def _join(self, one: _Group, now: float) -> None:
        one.silence.rejoined(now)
        try:
            one.membership.renew(one.socket)
        except OSError as error:
            if one.trouble is None:
                log.warning("the PA's group cannot be joined", extra={"error": str(error)})
            one.trouble = f"interface {self._interface}: {error.strerror or error}"
            one.silence.due = now + INTERFACE_RETRY
        else:
            one.trouble = None

    # In the thread that plays.

    def _pull(self, count: int, at: float) -> Samples | None:
        with self._lock:
            return self._ear.pull(count, at)

    def _begins_at(self) -> float | None:
        with self._lock:
            return self._ear.begins_at


def _be_quick() -> None:
    """Take real-time priority where the unit allows it (LimitRTPRIO=)."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError as error:
        log.warning("no real-time priority", extra={"error": str(error)})


def main() -> None:
    """Read the settings, then run."""
    parser = argparse.ArgumentParser(prog="python -m apps.player.pa", description=__doc__)
    parser.add_argument("--parent", type=int, required=True, help="process that started this one")
    parser.add_argument("--tell", type=int, nargs="*", default=[], help="sockets, by descriptor")
    options = parser.parse_args()
    die_with(options.parent)
    try:
        settings = PaSettings.load()
        logs.setup(settings.log_level)
        child = PaChild(settings, [socket.socket(fileno=number) for number in options.tell])
    except (SettingsError, OSError) as error:
        sys.exit(f"player: pa: {error}")
    _be_quick()
    child.run()


if __name__ == "__main__":
    main()
