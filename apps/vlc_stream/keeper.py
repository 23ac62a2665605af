"""Decides what is to be done for one channel, so that it is on the wire. No I/O, no clock."""

from __future__ import annotations

from typing import Literal

from apps.common.backoff import BackOff

SILENT_AFTER = 1.0
"""Seconds without a packet on its group, after which a channel is started anew."""

PATIENCE = 4.0
"""Seconds that a channel has for its first packet. libvlc takes 1.3."""

SPARED = 300.0
"""Seconds for which a process that other channels are heard of is not ended a second time."""

Deed = Literal["start", "stop", "restart", "skip", "kill"]
"""What is to be done where to start the channel anew has not helped: `skip` takes the file that
plays for broken and goes on with the next, `kill` ends the process that sends the channel."""


class Company:
    """The channels that one process sends: to end it for one of them silences all."""

    def __init__(self) -> None:
        self._heard: dict[Keeper, float | None] = {}
        self._ended: float | None = None

    def hear(self, keeper: Keeper, heard: float | None) -> None:
        """When one of them was heard last."""
        self._heard[keeper] = heard

    def is_heard_without(self, keeper: Keeper, now: float) -> bool:
        """Whether others of them are on the wire."""
        return any(
            heard is not None and now - heard <= SILENT_AFTER
            for other, heard in self._heard.items()
            if other is not keeper
        )

    def is_spared(self, now: float) -> bool:
        """Whether their process was ended not long ago."""
        return self._ended is not None and now - self._ended < SPARED

    def end(self, now: float) -> None:
        """Their process is ended."""
        self._ended = now


class Keeper:
    """Asked now and then, it says what to do; whoever asks does it."""

    def __init__(self, company: Company) -> None:
        self._company = company
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

    def decide(
        self, now: float, wanted: bool, heard: float | None, able: bool, quiet: bool
    ) -> Deed | None:
        """What to do now.

        Args:
            now: on the monotonic clock.
            wanted: whether it is to be on the wire.
            heard: when a packet of it was heard last.
            able: whether it could be heard; if not, to start it anew would not help.
            quiet: whether the process that sends it says nothing.
        """
        self._company.hear(self, heard)
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
            return self._again(now, quiet)
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

    def _again(self, now: float, quiet: bool) -> Deed | None:
        if now < self._not_before:
            return None
        if quiet:
            # It hangs, and would take no order; but nobody is to lose what is still on the wire.
            if self._company.is_heard_without(self, now):
                return None
            self.restarts += 1
            return self._end_process(now)
        self._not_before = now + self._back_off.delay()
        self.restarts += 1
        self._in_vain += 1
        self._started = now
        if self._in_vain % 2:
            return "restart"
        # Who is to blame? While others are heard the file more likely than the process; and where
        # that did not help, the other of the two.
        is_first = self._in_vain % 4 == 2
        if self._company.is_heard_without(self, now):
            is_file = is_first or self._company.is_spared(now)
        else:
            is_file = not is_first
        if is_file:
            return "skip"
        return self._end_process(now)

    def _end_process(self, now: float) -> Deed:
        self._company.end(now)
        self.running = False
        return "kill"
