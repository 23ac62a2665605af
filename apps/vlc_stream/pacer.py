"""``python -m apps.vlc_stream.pacer``: the process that sends imposed videos.

Each is paced by its own clock, in a thread. It begins with a key frame, at once and faster than it
goes on (`ts.Squeeze`); in a pause the clock goes on alone, so that receivers wait in step.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

from apps.vlc_stream import child, ts
from apps.vlc_stream.orders import Control, Order, Output, Report, StartClip
from apps.vlc_stream.wire import RtpSender

log = logging.getLogger(__name__)

SPEED = 8.0
"""How many times as fast the begin is sent: 32 Mbit/s for some 0.1 s, of a cabin's 100."""

LEAD = int(0.04 * ts.CLOCK)
"""Ticks before the first picture is to be decoded from which on it goes at its own speed."""

MAX_SQUEEZED = 2 * ts.CLOCK
"""Ticks; a picture that is sent sooner than that before its time was not made for this."""

CLOCK_EVERY = 0.04
"""Seconds between two packets with the clock alone; at most 0.1 by ISO/IEC 13818-1, 2.7.2."""

LATE = 0.25
"""Seconds behind after which what is late is not hurried after, but everything moved on."""

SILENT_AFTER = 1.0
"""Seconds without a datagram after which it is told that nothing goes out."""


class _Video(threading.Thread):
    """One video, from its start to its end or to `stop`."""

    def __init__(self, order: StartClip, output: Output, tell: Callable[[Report], None]) -> None:
        super().__init__(name=f"pacer {order.id}", daemon=True)
        self._order = order
        self._tell = tell
        self._sender = RtpSender(output, IPv4Address(order.group), order.port)
        self._restamper = ts.Restamper()
        clip = order.clip
        until = min(clip.first_decoded - LEAD, clip.first + MAX_SQUEEZED)
        self._squeeze = ts.Squeeze(until if order.position == 0 else 0, SPEED)
        self._wake = threading.Condition()
        self._stopping = self._paused = self._ended = False
        self._position = order.position
        self._held = 0.0
        """Seconds that the video was paused, or late."""
        self._sent = time.monotonic()
        """When the last datagram went out."""

    def report(self) -> Report:
        """How it is."""
        return Report(
            id=self._order.id,
            run=self._order.run,
            state="ended" if self._ended else "paused" if self._paused else "playing",
            position=round(self._position, 3),
            trouble=self._sender.trouble or self._silence(),
        )

    def pause(self, paused: bool) -> None:
        """Hold it where it is, or go on."""
        with self._wake:
            self._paused = paused
            self._wake.notify()

    def stop(self) -> None:
        """End it; returns when nothing more goes out."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self.join(timeout=1)

    def run(self) -> None:
        """Send all of it."""
        trouble = None
        path = Path(self._order.clip.path)
        try:
            with path.open("rb") as file:
                left = self._send_all(
                    ts.blocks(self._order.clip, file, self._order.position, self._order.loop)
                )
            if self._order.loop or left > child.TOO_EARLY:
                # It was changed meanwhile, or the disk ended it.
                trouble = f"{path.name}: it ended {max(left, 0):.0f} s before its end"
        except OSError as error:
            trouble = f"{path.name}: {error.strerror}"
        except Exception:
            # If nobody heard of its end, seats would go on showing nothing.
            trouble = f"{path.name}: it cannot be sent on"
            log.exception("a video cannot be sent on", extra={"file": path.name})
        self._sender.close()
        self._ended = True
        if not self._stopping:
            self._tell(replace(self.report(), trouble=trouble))

    def _silence(self) -> str | None:
        """What is told when nothing goes out, not even a pause: the disk may hang."""
        if self._ended or time.monotonic() - self._sent < SILENT_AFTER:
            return None
        return f"{Path(self._order.clip.path).name}: nothing goes out"

    def _send(self, data: bytes | bytearray, clock: float) -> None:
        self._sender.send(data, clock + self._held)
        self._sent = time.monotonic()

    def _send_all(self, blocks: Iterable[ts.Block]) -> float:
        """Returns the seconds that the clip would have gone on."""
        began, origin = time.monotonic(), None
        clip = self._order.clip
        left = clip.length - int(self._order.position * ts.CLOCK)
        for block in blocks:
            clock = self._squeeze(block.clock) / ts.CLOCK
            if origin is None:
                origin = clock
            if not self._wait_until(began, clock - origin, clock):
                break
            data = self._restamper.apply(block, int(self._held * ts.CLOCK), self._squeeze)
            self._send(data, clock)
            left = clip.first + clip.length - block.clock
            self._position = (block.clock - clip.first) % clip.length / ts.CLOCK
        return left / ts.CLOCK

    def _wait_until(self, began: float, after: float, clock: float) -> bool:
        """Wait until a block is due, `after` seconds and what was held; False: it is stopped."""
        with self._wake:
            while not self._stopping:
                now = time.monotonic()
                left = began + after + self._held - now
                if self._paused:
                    self._hold(now, clock)
                elif left < -LATE:
                    self._held -= left
                elif left <= 0:
                    return True
                else:
                    self._wake.wait(left)
        return False

    def _hold(self, since: float, clock: float) -> None:
        held = self._held
        while self._paused and not self._stopping:
            self._held = held + time.monotonic() - since
            ticks = int((clock + self._held) * ts.CLOCK)
            packet = self._restamper.clock_alone(self._order.clip.pcr_pid, ticks)
            self._send(packet, clock)
            self._wake.wait(CLOCK_EVERY)
        self._held = held + time.monotonic() - since


class Pacer:
    """All imposed videos of the aircraft."""

    def __init__(self, output: Output, tell: Callable[[Report], None]) -> None:
        self._output = output
        self._tell = tell
        self._videos: dict[str, _Video] = {}

    def handle(self, order: Order) -> None:
        """Start, pause, resume or stop one."""
        video = self._videos.get(order.id)
        match order:
            case StartClip():
                if video is not None:
                    video.stop()
                self._videos[order.id] = _Video(order, self._output, self._tell)
                self._videos[order.id].start()
            case Control(do="stop") if video is not None:
                video.stop()
                del self._videos[order.id]
            case Control() if video is not None:
                video.pause(order.do == "pause")
            case _:
                pass

    def reports(self) -> list[Report]:
        """How each is that was started and not stopped."""
        return [video.report() for video in list(self._videos.values())]


if __name__ == "__main__":
    child.run(Pacer)
