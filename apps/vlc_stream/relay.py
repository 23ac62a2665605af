"""``python -m apps.vlc_stream.relay``: the process that relays live streams into the cabin.

A packet goes out when it comes in; nothing is buffered, so nothing is paced either.
"""

from __future__ import annotations

import logging
import selectors
import threading
import time
from collections.abc import Callable
from ipaddress import IPv4Address

from apps.common.multicast import Membership, receiving_socket
from apps.common.rtp import payload
from apps.vlc_stream import child
from apps.vlc_stream.orders import Control, Order, Output, Report, StartLive
from apps.vlc_stream.wire import MAX_DATAGRAM, REJOIN_AFTER, RtpSender

log = logging.getLogger(__name__)

AT_ONCE = 64
"""Datagrams of one source before the others have their turn."""

SILENT_AFTER = 1.0
"""Seconds without a packet after which the source counts as silent."""


class _Stream:
    def __init__(self, order: StartLive, output: Output) -> None:
        self.order = order
        self.sender = RtpSender(output, IPv4Address(order.group), order.port)
        group = IPv4Address(order.from_group)
        self.socket = receiving_socket(group, order.from_port)
        self._membership = Membership(order.interface, group, IPv4Address(order.source))
        self._joined = 0.0
        self.heard = 0.0
        self.paused = False
        self.trouble: str | None = "not joined yet"

    def mend(self) -> None:
        """Join its source's group; again where nothing comes, or where the interface was away."""
        now = time.monotonic()
        if self.trouble is None and now - max(self.heard, self._joined) < REJOIN_AFTER:
            return
        try:
            self._membership.renew(self.socket)
        except OSError as error:
            self.trouble = f"interface {self.order.interface}: {error.strerror or error}"
        else:
            self._joined, self.trouble = now, None

    def report(self) -> Report:
        """How it is."""
        trouble = self.trouble or self.sender.trouble
        if trouble is None and time.monotonic() - self.heard > SILENT_AFTER:
            trouble = "its source is silent"
        return Report(
            id=self.order.id,
            run=self.order.run,
            state="paused" if self.paused else "playing",
            trouble=trouble,
        )


class Relay:
    """All live channels, in one thread."""

    def __init__(self, output: Output, _tell: Callable[[Report], None]) -> None:
        self._output = output
        self._streams: dict[str, _Stream] = {}
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        threading.Thread(target=self._relay, name="relay", daemon=True).start()

    def handle(self, order: Order) -> None:
        """Start, pause, resume or stop one."""
        with self._lock:
            stream = self._streams.get(order.id)
            match order:
                case StartLive():
                    self._forget(self._streams.pop(order.id, None))
                    stream = self._streams[order.id] = _Stream(order, self._output)
                    stream.mend()
                    self._selector.register(stream.socket, selectors.EVENT_READ, stream)
                case Control(do="stop"):
                    self._forget(self._streams.pop(order.id, None))
                case Control() if stream is not None:
                    stream.paused = order.do == "pause"
                case _:
                    pass

    def reports(self) -> list[Report]:
        """How each is. One that is not heard is mended."""
        with self._lock:
            for stream in self._streams.values():
                stream.mend()
            return [stream.report() for stream in self._streams.values()]

    def _forget(self, stream: _Stream | None) -> None:
        if stream is None:
            return
        self._selector.unregister(stream.socket)
        stream.socket.close()
        stream.sender.close()

    def _relay(self) -> None:
        while True:
            ready = self._selector.select(timeout=0.5)
            if not self._selector.get_map():
                time.sleep(0.1)  # without sockets select does not wait
            with self._lock:
                for key, _ in ready:
                    stream: _Stream = key.data
                    if stream is self._streams.get(stream.order.id):
                        self._forward(stream)

    def _forward(self, stream: _Stream) -> None:
        for _ in range(AT_ONCE):
            try:
                datagram = stream.socket.recv(MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                return  # that the interface went down, which is told once
            data = payload(datagram)
            if data is not None:
                stream.heard = time.monotonic()
                if not stream.paused:
                    stream.sender.send(data, stream.heard)


if __name__ == "__main__":
    child.run(Relay)
