"""USB devices of any kind for a virtual machine: played here, by the protocol usbredir.

QEMU has no device that is a disk and a keyboard, or that changes what it says of itself. It does
have one that is somewhere else, at the end of a socket. The protocol: usb-redirection-protocol.md
of usbredir 0.13.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from apps.usb_lockdown.descriptors import parse

HELLO, CONNECT, RESET, INTERFACES, ENDPOINTS = 0, 1, 3, 4, 5
SET_CONFIGURATION, CONFIGURATION, SET_ALTERNATE, ALTERNATE = 6, 8, 9, 11
START_INTERRUPTS, INTERRUPTS = 15, 17
CONTROL, BULK = 100, 101

OK, STALL = 0, 4
HIGH_SPEED = 2
NO_ENDPOINT = 255
GET_DESCRIPTOR = 6
FROM_DEVICE = 0x80
MOST = 32

CAPABILITIES = 1 << 4 | 1 << 5 | 1 << 6
"""Without these QEMU lets no device onto a controller of USB 3: endpoints with the size of their
packets, numbers of 64 bits (from the first packet after HELLO on), bulk lengths of 32 bits."""

_HELLO_HEADER = struct.Struct("<III")
_HEADER = struct.Struct("<IIQ")
_CONTROL = struct.Struct("<BBBBHHH")
_BULK = struct.Struct("<BBHIH")

STRINGS = (b"\x04\x03\x09\x04", *(text.encode("utf-16-le") for text in ("Maker", "Stick", "1")))


class Redirected:
    """A device, a context manager; plugged in by `VM.plug_redirected` at its `path`.

    It says of itself what `descriptors` are at that moment, takes what it is told, and answers all
    else with a stall.

    Attributes:
        path: its socket.
        descriptors: the device's, and those of all configurations.
        is_configured: whether it was ever given a configuration, which is: let in.
    """

    def __init__(self, path: Path, descriptors: bytes) -> None:
        self.path = path
        self.descriptors = descriptors
        self.is_configured = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._thread = threading.Thread(target=self._play, daemon=True)

    def __enter__(self) -> Self:
        self._listener.bind(str(self.path))
        self._listener.listen(1)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _play(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            self._qemu, _ = self._listener.accept()
            with self._qemu:
                self._introduce()
                self._take(_HELLO_HEADER.unpack(self._take(_HELLO_HEADER.size))[1])
                while True:
                    kind, length, number = _HEADER.unpack(self._take(_HEADER.size))
                    self._answer(kind, number, self._take(length))

    def _introduce(self) -> None:
        found = parse(self.descriptors)
        hello = b"a test".ljust(64, b"\0") + struct.pack("<I", CAPABILITIES)
        self._qemu.sendall(_HELLO_HEADER.pack(HELLO, len(hello), 0) + hello)
        kinds, intervals, interfaces = [NO_ENDPOINT] * MOST, [0] * MOST, [0] * MOST
        sizes = [0] * MOST
        # Endpoint 0, out and in.
        kinds[0] = kinds[16] = 0
        sizes[0] = sizes[16] = 64
        for address, attributes, size, interval in _endpoints(self.descriptors):
            at = (address & 0x80) >> 3 | address & 0xF
            kinds[at], intervals[at], sizes[at] = attributes & 3, interval, size
        packed = struct.pack(f"<{MOST}H", *sizes)
        self._send(ENDPOINTS, 0, bytes((*kinds, *intervals, *interfaces)) + packed)
        columns = [[0] * MOST for _ in range(4)]
        for at, interface in enumerate(found.interfaces):
            for column, value in zip(columns, (interface.number, *interface.kind), strict=True):
                column[at] = value
        count = struct.pack("<I", len(found.interfaces))
        self._send(INTERFACES, 0, count + bytes(value for column in columns for value in column))
        numbers = struct.pack("<HH", found.vendor, found.product)
        self._send(CONNECT, 0, bytes((HIGH_SPEED, *found.kind)) + numbers)

    def _answer(self, kind: int, number: int, body: bytes) -> None:
        if kind == SET_CONFIGURATION:
            self.is_configured |= body[0] != 0
            self._send(CONFIGURATION, number, bytes((OK, body[0])))
        elif kind == SET_ALTERNATE:
            self._send(ALTERNATE, number, bytes((OK, body[0], body[1])))
        elif kind == START_INTERRUPTS:
            self._send(INTERRUPTS, number, bytes((OK, body[0])))
        elif kind == CONTROL:
            self._control(number, body)
        elif kind == BULK:
            endpoint, _, _, stream, _ = _BULK.unpack_from(body)
            self._send(BULK, number, _BULK.pack(endpoint, STALL, 0, stream, 0))

    def _control(self, number: int, body: bytes) -> None:
        endpoint, request, kind, _, value, index, length = _CONTROL.unpack_from(body)
        said = self._descriptor(value) if request == GET_DESCRIPTOR else None
        status = STALL if said is None and kind & FROM_DEVICE else OK
        data = (said or b"")[:length]
        size = len(data) if kind & FROM_DEVICE else length
        header = _CONTROL.pack(endpoint, request, kind, status, value, index, size)
        self._send(CONTROL, number, header + data)

    def _descriptor(self, value: int) -> bytes | None:
        kind, index = value >> 8, value & 0xFF
        device, rest = self.descriptors[:18], self.descriptors[18:]
        if kind == 1:
            return device
        if kind == 2:
            for _ in range(index):
                rest = rest[struct.unpack_from("<H", rest, 2)[0] :]
            return rest[: struct.unpack_from("<H", rest, 2)[0]] if rest else None
        if kind == 3 and index < len(STRINGS):
            text = STRINGS[index]
            return text if index == 0 else bytes((len(text) + 2, 3)) + text
        return None

    def _send(self, kind: int, number: int, body: bytes) -> None:
        self._qemu.sendall(_HEADER.pack(kind, len(body), number) + body)

    def _take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._qemu.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data


def _endpoints(descriptors: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Address, attributes, size of a packet, interval of each endpoint that is announced."""
    while len(descriptors) > 1 and descriptors[0] > 1:
        this, descriptors = descriptors[: descriptors[0]], descriptors[descriptors[0] :]
        if this[1] == 5 and len(this) >= 7:
            yield struct.unpack_from("<BBHB", this, 2)
