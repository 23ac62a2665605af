"""The samples of a live source, and when the next packet of them goes out. No I/O.

The source's clock leads: a packet goes when its last sample is there, so nothing is added to its
delay. Our own clock keeps it from going too early or too late.
"""

from __future__ import annotations

from apps.common.pa import PACKET_SECONDS, SAMPLES

PACKET = 2 * SAMPLES
"""Bytes."""

SILENCE = bytes(PACKET)

EARLY = 0.001
"""Seconds that a packet may go before it is due: sources are not quite regular."""

LATE = 0.005
"""Seconds that a packet is waited for after it is due; then silence goes in its place."""

HELD_UP = 0.050
"""Seconds after which what was not sent is not made up for: the machine stood still."""

LONGEST_PIECE = 6
"""Packets that a source may send at once: 30 ms. What is longer has waited somewhere."""

MISSED_AFTER = 1.0
"""Seconds without a sample, while packets are wanted, after which something is wrong."""

MOST_PIECES, COUNTED_FOR = 64, 0.020
"""So many pieces are read in so many seconds: a source that floods must not keep others waiting."""

_PULL = 0.000_005
"""Seconds that the due time follows the source's with each packet: 1,000 ppm, ten times what
crystals are off."""


class Feed:
    """Takes 16-bit samples in pieces of any length, gives packets of 5 ms.

    Args:
        waits: its writer waits while it is full, so nothing may be dropped.
    """

    def __init__(self, waits: bool) -> None:
        self.waits = waits
        self._pcm = bytearray()
        self._is_open = False
        self._starved = False
        self._due = 0.0
        self._came = self._opened = 0.0
        self._counted_from = 0.0
        self._pieces = 0

    def is_missed(self, now: float) -> bool:
        """Whether packets are wanted, and no samples have come for long. Any thread may ask."""
        return self._is_open and now - max(self._came, self._opened) > MISSED_AFTER

    def is_full(self, now: float) -> bool:
        """Whether nothing is to be read right now."""
        if self.waits:
            return len(self._pcm) >= PACKET
        return self._pieces >= MOST_PIECES and now - self._counted_from < COUNTED_FOR

    def put(self, pcm: bytes, now: float) -> None:
        """What was read: samples, or nothing that is of use."""
        if now - self._counted_from >= COUNTED_FOR:
            self._counted_from, self._pieces = now, 0
        self._pieces += 1
        if not pcm:
            return
        self._forget_old(now)
        self._pcm += pcm
        self._came = now
        if self.waits:
            return
        if not self._is_open:
            del self._pcm[: -(PACKET + len(self._pcm) % 2)]
            return
        # Of a source that sends more at once as much may wait, and one packet beside; what is older
        # is dropped, so that no delay stays.
        piece = -(-len(pcm) // PACKET)
        if piece > LONGEST_PIECE:
            piece = 1
        if len(self._pcm) > (piece + 1) * PACKET:
            del self._pcm[: (len(self._pcm) // PACKET - piece) * PACKET]

    def _forget_old(self, now: float) -> None:
        """What a source left that then paused is no part of what it sends now."""
        if not self.waits and now - self._came > HELD_UP:
            self._pcm.clear()

    def open(self, now: float) -> None:
        """From now on packets are wanted; the first of what was there just now."""
        self._opened = now
        self._is_open = True
        self._starved = False
        self._forget_old(now)
        # The source's beat, if it has one: the next packet is complete 5 ms after the last was.
        recent = len(self._pcm) >= PACKET and now - self._came < PACKET_SECONDS
        self._due = self._came if recent else now

    def close(self) -> None:
        """No packets are wanted."""
        self._is_open = False

    def take(self, now: float) -> bytes | None:
        """The next packet, silence in its place, or None while it is too early."""
        if now - self._due > HELD_UP:
            self._due = now
        if len(self._pcm) >= PACKET and now >= self._due - EARLY:
            packet = bytes(self._pcm[:PACKET])
            del self._pcm[:PACKET]
            off = 0.0 if self._starved else max(-_PULL, min(_PULL, now - self._due))
            self._due = (now if self._starved else self._due + off) + PACKET_SECONDS
            self._starved = False
            return packet
        if now >= self._due + LATE:
            self._starved = True
            self._due += PACKET_SECONDS
            return SILENCE
        return None

    def look_again(self) -> float:
        """When to ask for the next packet, if no samples come before."""
        return self._due - EARLY if len(self._pcm) >= PACKET else self._due + LATE
