"""The least MQTT 3.1.1 client that subscribes and publishes with QoS 1: a fair peer is lean."""

from __future__ import annotations

import struct

PUBLISH = 0x30


def _string(text: bytes) -> bytes:
    return struct.pack("!H", len(text)) + text


def _packet(kind: int, body: bytes) -> bytes:
    length, size = b"", len(body)
    while True:
        size, digit = divmod(size, 128)
        length += bytes([digit | (0x80 if size else 0)])
        if not size:
            return bytes([kind]) + length + body


def connect(client: str) -> bytes:
    """CONNECT with a clean session, kept alive for ten minutes."""
    return _packet(0x10, _string(b"MQTT") + b"\x04\x02\x02\x58" + _string(client.encode()))


def subscribe(topic: bytes) -> bytes:
    """SUBSCRIBE with QoS 1."""
    return _packet(0x82, b"\x00\x01" + _string(topic) + b"\x01")


def publish(topic: bytes, number: int, payload: bytes) -> bytes:
    """PUBLISH with QoS 1."""
    return _packet(PUBLISH | 2, _string(topic) + struct.pack("!H", number) + payload)


def puback(number: int) -> bytes:
    """The answer to a PUBLISH."""
    return _packet(0x40, struct.pack("!H", number))


class Reader:
    """Cuts a stream into packets."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The packets that are whole now: kind (flags included) and body."""
        self._buffer += data
        packets = []
        while (packet := self._next()) is not None:
            packets.append(packet)
        return packets

    def _next(self) -> tuple[int, bytes] | None:
        length = shift = 0
        for index in range(1, 5):
            if index >= len(self._buffer):
                return None
            length |= (self._buffer[index] & 0x7F) << shift
            shift += 7
            if not self._buffer[index] & 0x80:
                end = index + 1 + length
                if len(self._buffer) < end:
                    return None
                kind, body = self._buffer[0], self._buffer[index + 1 : end]
                self._buffer = self._buffer[end:]
                return kind, body
        raise ValueError("a packet length of over four bytes")


def publish_number(body: bytes) -> tuple[int, bytes]:
    """The packet identifier and the payload of a PUBLISH with QoS 1."""
    (topic,) = struct.unpack_from("!H", body)
    (number,) = struct.unpack_from("!H", body, 2 + topic)
    return number, body[4 + topic :]
