"""What is sent to the ground by HTTPS, no faster than configured, however many threads send."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

BODY_SHARE = 0.95
"""Of the bandwidth, for what is carried: the rest is what SSH or TLS, TCP and IP put around it."""

PART = 16 * 1024


class Pace:
    """Threads share it.

    Args:
        bandwidth: bits a second, with what TLS, TCP and IP put around it; None: all that there is.
    """

    def __init__(self, bandwidth: int | None) -> None:
        self._rate = bandwidth * BODY_SHARE / 8 if bandwidth else None
        self._lock = threading.Lock()
        self._free_at = 0.0

    def parts(self, body: bytes) -> Iterator[bytes]:
        """A body in parts, each as soon as there is room for it on the link."""
        if self._rate is None:
            yield body
            return
        # Of a slow link no more than a second's worth, so that the others have their turn.
        size = max(1, min(PART, int(self._rate)))
        for start in range(0, len(body), size):
            part = body[start : start + size]
            time.sleep(self._wait(len(part) / self._rate))
            yield part

    def _wait(self, takes: float) -> float:
        """Take the link for so many seconds; after how many they begin."""
        now = time.monotonic()
        with self._lock:
            begins = max(now, self._free_at)
            self._free_at = begins + takes
        return begins - now
