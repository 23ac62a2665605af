"""Listening in: what is on the air as a WAV stream without end, with silence in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from apps.common.pa import PACKET_SECONDS, SAMPLES, Source
from apps.pa_audio.tap import Tap
from apps.pa_audio.wav import header

MOST_LISTENERS = 4
LONGEST = 300.0
"""Seconds, after which a listener is asked for a session again."""

CHUNK = 0.1
"""Seconds of audio that are written at once."""

_PACKETS = round(CHUNK / PACKET_SECONDS)


class Listening:
    """Hands out streams, a few at a time.

    Args:
        add: called with each listener's tap.
        remove: called with it when the listener has gone.
    """

    def __init__(self, add: Callable[[Tap], None], remove: Callable[[Tap], None]) -> None:
        self._add, self._remove = add, remove
        self._places = threading.Semaphore(MOST_LISTENERS)
        self.closing = threading.Event()
        """Set it to end all streams."""

    def listen(self) -> Stream | None:
        """A new listener's stream; None where there are too many."""
        if not self._places.acquire(blocking=False):
            return None
        # All that speak in different areas come by it.
        tap = Tap(2 * len(Source) * _PACKETS)
        self._add(tap)
        return Stream(tap, self.closing, self._gone)

    def _gone(self, tap: Tap) -> None:
        self._remove(tap)
        self._places.release()


class Stream:
    """One listener's; whoever writes it calls `close`, also where it was never begun."""

    def __init__(self, tap: Tap, closing: threading.Event, gone: Callable[[Tap], None]) -> None:
        self._tap, self._closing, self._gone = tap, closing, gone
        self._open = True

    def __iter__(self) -> Iterator[bytes]:
        """The head, then audio as fast as it is played."""
        yield header(None)
        began = time.monotonic()
        for chunk in range(1, round(LONGEST / CHUNK) + 1):
            if self._closing.wait(max(0.0, began + chunk * CHUNK - time.monotonic())):
                return
            heard = b"".join(packet.samples for packet in self._tap.take() if packet.wins)
            samples = np.frombuffer(heard, ">i2").astype("<i2").tobytes()
            yield samples + bytes(max(0, 2 * SAMPLES * _PACKETS - len(samples)))

    def close(self) -> None:
        """Give the place to the next."""
        if self._open:
            self._open = False
            self._gone(self._tap)
