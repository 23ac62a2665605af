"""Other apps, watched: how each is, and calls that a dead or hung one cannot hold up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from apps.common.calls import Client, RefusedError, UnavailableError
from apps.common.health import Degraded

LOOK_EVERY = 2.0
"""Seconds between two looks at an app."""

MOST_CALLS = 3
"""To one app at a time. Each may hang for seconds, and holds a thread of the page's few."""

PATIENCE = 0.5
"""Seconds for one of these calls to end: those of an app that is well take milliseconds."""

C = TypeVar("C", bound=Client)
T = TypeVar("T")


class Watched(Generic[C]):
    """An app that is asked how it is, in a thread. Make it, `start` it, `close` it.

    Args:
        name: the app's.
        client: its other end.
        also: called with each look, while the app answers.
    """

    def __init__(self, name: str, client: C, also: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self._client = client
        self._also = also
        self._silent: str | None = None
        self._places = threading.BoundedSemaphore(MOST_CALLS)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"watch {name}", daemon=True)
        self._trouble: str | None = "not asked yet"
        self.degraded: list[Degraded] = []
        """What it does without."""

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._closing.set()
        self._thread.join(timeout=5)

    def trouble(self) -> str | None:
        """None while it is ready, else why it is not."""
        return self._trouble

    def call(self, what: Callable[[C], T]) -> T:
        """What the app answers to a call.

        Raises:
            UnavailableError: it does not answer, did not the last time, or too many wait already.
            RefusedError: it says no.
        """
        if self._silent is not None:
            raise UnavailableError(self._silent, maybe_done=False)
        if not self._places.acquire(timeout=PATIENCE):
            raise UnavailableError("others wait for it already", maybe_done=False)
        try:
            return what(self._client)
        finally:
            self._places.release()

    def look(self, what: Callable[[C], T]) -> T | None:
        """What the app answers to a call; None while it is away."""
        try:
            return self.call(what)
        except UnavailableError:
            return None

    def _watch(self) -> None:
        while True:
            began = time.monotonic()
            self._look()
            if self._closing.wait(max(0.1, LOOK_EVERY - (time.monotonic() - began))):
                return

    def _look(self) -> None:
        try:
            report = self._client.health()
            self._also()
        except (UnavailableError, RefusedError) as error:
            self._silent = self._trouble = str(error)
            self.degraded = []
        else:
            self._silent, self._trouble, self.degraded = None, report.why_not, report.degraded
