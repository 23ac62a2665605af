"""Decides what is to be done for one channel, so that it is on the wire. No I/O, no clock."""

from __future__ import annotations

from typing import Literal

from apps.common.backoff import BackOff

SILENT_AFTER = 1.0
"""Seconds without a packet on its group, after which a channel is started anew."""

PATIENCE = 4.0
"""Seconds that a channel has for its first packet. libvlc takes 1.3."""

Deed = Literal["start", "stop", "restart", "kill"]
"""`kill`: end the process that sends it, for to start the channel anew has not helped."""


class Keeper:
    """Asked now and then, it says what to do; whoever asks does it."""

    def __init__(self) -> None:
        self.running = False
        """Whether it was told to run."""
        self._started = 0.0
        self._in_vain = 0
        self._not_before = 0.0
        self._back_off = BackOff(0.25, 10.0)
        self.restarts = 0

    def forget(self) -> None:
        """The process that sent it is gone."""
        if self.running:
            self.running = False
            self.restarts += 1

    def resumed(self, now: float) -> None:
        """It was paused, by an order, and so was silent."""
        self._started = now

    def decide(self, now: float, wanted: bool, heard: float | None, able: bool) -> Deed | None:
        """What to do now.

        Args:
            now: on the monotonic clock.
            wanted: whether it is to be on the wire.
            heard: when a packet of it was heard last.
            able: whether it could be heard; if not, to start it anew would not help.
        """
        if not wanted:
            was, self.running = self.running, False
            return "stop" if was else None
        if not self.running:
            if now < self._not_before:
                return None
            self.running, self._started = True, now
            return "start"
        if not able:
            self._started = now
            return None
        if now - self._started <= PATIENCE:
            # What is heard of it may still be from before.
            return None
        if heard is None or now - heard > SILENT_AFTER:
            return self._again(now)
        self._in_vain = 0
        self._back_off.reset()
        return None

    def is_on(self, now: float, heard: float | None) -> bool:
        """Whether it runs, and is heard."""
        return (
            self.running
            and heard is not None
            and heard >= self._started
            and now - heard <= SILENT_AFTER
        )

    def is_starting(self, now: float) -> bool:
        """Whether it has been told to run, and has time left for its first packet."""
        return self.running and now - self._started <= PATIENCE

    def _again(self, now: float) -> Deed | None:
        if now < self._not_before:
            return None
        self._not_before = now + self._back_off.delay()
        self.restarts += 1
        self._in_vain += 1
        self._started = now
        if self._in_vain % 2 == 0:
            self.running = False
            return "kill"
        return "restart"
