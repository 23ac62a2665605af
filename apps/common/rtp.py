"""RTP (RFC 3550) around MPEG transport streams (RFC 2250)."""

from __future__ import annotations

import struct

PACKET = 188
"""Bytes of a packet of a transport stream (ISO/IEC 13818-1)."""
SYNC = 0x47
"""The first of them."""

MP2T = 33
"""RTP's payload type of transport streams, with a clock of 90 kHz (RFC 3551, 6)."""

HEADER = struct.Struct("!BBHII")
"""Version and flags, payload type, sequence, timestamp, synchronization source."""


def payload(datagram: bytes) -> bytes | None:
    """The TS packets in a datagram, with or without RTP around them; None if it is neither."""
    data = datagram
    if data[:1] != b"G":
        if len(data) < HEADER.size or data[0] >> 6 != 2 or data[1] & 0x7F != MP2T:
            return None
        begin = HEADER.size + 4 * (data[0] & 0x0F)
        if data[0] & 0x10:
            begin += 4 + 4 * int.from_bytes(data[begin + 2 : begin + 4], "big")
        data = data[begin : len(data) - (data[-1] if data[0] & 0x20 else 0)]
    if not data or len(data) % PACKET or set(data[::PACKET]) != {SYNC}:
        return None
    return data


def source(datagram: bytes) -> int:
    """Which stream an RTP datagram is of: its SSRC, which each sender chooses at random."""
    return int(HEADER.unpack_from(datagram)[4])


def sequence(datagram: bytes) -> int:
    """The number of an RTP datagram in its stream, which begins anywhere and goes round."""
    return int(HEADER.unpack_from(datagram)[2])
