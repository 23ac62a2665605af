"""The stream of server-sent events: a ring of the newest, so that a client can resume."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable

KEPT = 2_000
"""Events that a client which comes back can still get."""


class EventStream:
    """Events with ids ``<stream>-<number>``. Clients read at their own pace; nothing queues.

    A client is never waited for: one that falls behind by more than `KEPT` events gets a
    snapshot instead.
    """

    def __init__(self) -> None:
        self._stream = secrets.token_hex(4)
        self._lock = threading.Lock()
        self._ring: deque[bytes] = deque(maxlen=KEPT)
        self._last = 0
        self._listeners: set[Callable[[], object]] = set()

    def publish(self, kind: str, data: str) -> None:
        """Add an event; `data` is JSON on one line."""
        with self._lock:
            self._last += 1
            self._ring.append(self._encode(self._last, kind, data))
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def _encode(self, number: int, kind: str, data: str) -> bytes:
        return f"id: {self._stream}-{number}\nevent: {kind}\ndata: {data}\n\n".encode()

    def position(self) -> int:
        """The number of the newest event."""
        with self._lock:
            return self._last

    def resume(self, last_event_id: str | None) -> int | None:
        """The number that a client left at, by its `Last-Event-ID`; None when unknown."""
        stream, _, number = (last_event_id or "").partition("-")
        if stream != self._stream or not number.isascii() or not number.isdigit():
            return None
        position = int(number[:20])
        return position if self.since(position) is not None else None

    def since(self, position: int) -> tuple[int, bytes] | None:
        """The newest number and the events after `position`; None when some are gone."""
        with self._lock:
            missing = self._last - position
            if missing < 0 or missing > len(self._ring):
                return None
            return self._last, b"".join(list(self._ring)[len(self._ring) - missing :])

    def snapshot(self, position: int, data: str) -> bytes:
        """A snapshot event for one client, which stands at `position` after it."""
        return self._encode(position, "snapshot", data)

    def listen(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call `listener`, from any thread, when there is something new; returns the undoing."""
        with self._lock:
            self._listeners.add(listener)

        def stop() -> None:
            with self._lock:
                self._listeners.discard(listener)

        return stop
