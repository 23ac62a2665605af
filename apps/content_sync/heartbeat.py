"""Heartbeats: each 30 s while the gate is open the Hangar is told how we are, and may ask.

What it asks for are requests, not orders: `Requests` keeps them, the app decides, and each
heartbeat tells what became of them until the Hangar has heard it.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from apps.common.backoff import BackOff
from apps.common.gate import (
    HEARTBEAT_EVERY,
    MAX_REQUESTS,
    Heartbeat,
    HeartbeatAnswer,
    Outcome,
    Request,
)

log = logging.getLogger(__name__)

RETRY_FIRST = 2.0

SPREAD = 0.1
"""The share of `HEARTBEAT_EVERY` by which heartbeats come early: a fleet is not in step."""

APART = 2.0
"""Seconds between two of them, however much there is to tell: each asks all apps how they are."""

REMEMBERED = 64
"""Requests whose outcome is known, should the Hangar ask for one again."""


class TakesHeartbeats(Protocol):
    """The Hangar, as far as heartbeats go (`apps.content_sync.hangar.HangarClient`)."""

    def send_heartbeat(self, heartbeat: Heartbeat) -> HeartbeatAnswer:
        """Tell it how we are; raises OSError."""

    def close(self) -> None:
        """Hang up."""


class Requests:
    """What the Hangar has asked for, and what became of it. No I/O; used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcomes: OrderedDict[UUID, Outcome] = OrderedDict()
        self._untold: set[UUID] = set()

    def new(self, requests: tuple[Request, ...]) -> list[Request]:
        """Those of an answer that are to be decided; the others will be told of once more."""
        with self._lock:
            fresh = [request for request in requests if request.id not in self._outcomes]
            for request in requests:
                if request.id in self._outcomes:
                    self._untold.add(request.id)
            return fresh

    def decide(self, outcome: Outcome) -> None:
        """What becomes of a request; of one that was accepted, at its end a second time."""
        with self._lock:
            self._outcomes[outcome.id] = outcome
            self._outcomes.move_to_end(outcome.id)
            self._untold.add(outcome.id)
            while len(self._outcomes) > REMEMBERED:
                forgotten, _ = self._outcomes.popitem(last=False)
                self._untold.discard(forgotten)

    def untold(self) -> tuple[Outcome, ...]:
        """What the Hangar has not heard yet, as much as one heartbeat holds."""
        with self._lock:
            outcomes = [self._outcomes[id_] for id_ in self._outcomes if id_ in self._untold]
            return tuple(outcomes[: 2 * MAX_REQUESTS])

    def told(self, outcomes: tuple[Outcome, ...]) -> None:
        """The Hangar has heard these."""
        with self._lock:
            for outcome in outcomes:
                # It may have gone on meanwhile, from accepted to done.
                if self._outcomes.get(outcome.id) == outcome:
                    self._untold.discard(outcome.id)


class Heartbeats:
    """Sends them, in a thread of its own. Make it, `start` it, `close` it.

    Args:
        connect: makes the Hangar's client, when there is a link.
        compose: what to tell, with these outcomes.
        requests: of the Hangar.
        asked: called with each new request; it decides at once or begins to act, and never waits.
    """

    def __init__(
        self,
        connect: Callable[[], TakesHeartbeats],
        compose: Callable[[tuple[Outcome, ...]], Heartbeat],
        requests: Requests,
        asked: Callable[[Request], None],
    ) -> None:
        self._connect = connect
        self._compose = compose
        self._requests = requests
        self._asked = asked
        self._hangar: TakesHeartbeats | None = None
        self._changed = threading.Condition()
        self._is_up = False
        self._is_due = False
        self._closing = False
        self._soonest = 0.0
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)
        self.last: float | None = None
        """When the Hangar last answered one, in Unix time."""
        self.trouble: str | None = None
        """A sentence while it does not answer, though the gate is open."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def link(self, up: bool) -> None:
        """The gate is open now, or is not any more. Never waits."""
        with self._changed:
            self._is_up = self._is_due = up
            self._changed.notify_all()

    def send_soon(self) -> None:
        """There is something new to tell: do not wait for the next to be due."""
        with self._changed:
            self._is_due = self._is_up
            self._changed.notify_all()

    def close(self) -> None:
        """Stop."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        back_off = BackOff(RETRY_FIRST, HEARTBEAT_EVERY)
        delay: float | None = None
        while self._wait(delay):
            try:
                self._send()
            except Exception as error:  # noqa: BLE001 - this thread is the only one to tell
                self._failed(error)
                delay = back_off.delay()
            else:
                if self.trouble:
                    log.info("the Hangar answers")
                self.trouble = None
                back_off.reset()
                delay = HEARTBEAT_EVERY * (1 - SPREAD * random.random())  # noqa: S311 - a spread
        self._hang_up()

    def _wait(self, delay: float | None) -> bool:
        """Wait until one is due; False: it is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_due or self._closing or not self._is_up, delay)
            self._changed.wait_for(
                lambda: self._closing or not self._is_up, self._soonest - time.monotonic()
            )
            if not self._is_up and not self._closing:
                self._hang_up()
                self.trouble = None
                self._changed.wait_for(lambda: self._is_up or self._closing)
            self._is_due = False
            return not self._closing

    def _send(self) -> None:
        if self._hangar is None:
            self._hangar = self._connect()
        self._soonest = time.monotonic() + APART
        outcomes = self._requests.untold()
        answer = self._hangar.send_heartbeat(self._compose(outcomes))
        self.last = time.time()
        self._requests.told(outcomes)
        for request in self._requests.new(answer.requests):
            log.info("the Hangar asks", extra={"request": request.kind})
            self._asked(request)

    def _failed(self, error: Exception) -> None:
        why = str(error).partition("\n")[0] or type(error).__name__
        if self.trouble is None:
            log.warning("no heartbeat", extra={"error": why})
        self.trouble = why
        self._hang_up()

    def _hang_up(self) -> None:
        if self._hangar is not None:
            self._hangar.close()
            self._hangar = None
