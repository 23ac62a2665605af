"""All the seats of a cabin in one process, each with its own sockets and all that a seat decides.

But equal bytes are parsed, and their signature is checked, once: real seats have a processor each.
"""

from __future__ import annotations

import functools
import multiprocessing
import select
import socket
import time
from ipaddress import IPv4Address
from multiprocessing.connection import Connection
from typing import NamedTuple, Self

from pyroute2 import netns

from apps.common import pa
from apps.common.multicast import Membership, receiving_socket
from apps.common.pa import (
    ALL_AREAS,
    PORT,
    Audio,
    Beacon,
    PaError,
    Received,
    Receiver,
    Signer,
    Verifier,
)
from apps.common.pa import group as group_of
from apps.pa_audio.tests.cabin import INTERFACE, SEED, SERVER, Network
from apps.player.pa_hearing import Ear
from bench.media.pa_paths import AREA, BUFFER_MS, PEER_GROUP, PEER_PORT
from bench.media.streaming import BUFFER, SO_RCVBUFFORCE

SEATS = 312


class Seen(NamedTuple):
    """When each seat was taken over, and given back; and how many packets all of them missed.

    For a peer, which takes no seat over, that is when it heard the first packet.
    """

    on: dict[int, float]
    off: dict[int, float]
    lost: int


class _SharedVerifier(Verifier):
    """Checks the signature of equal bytes once, for seats that share a processor here."""

    def __init__(self, keys: list[bytes]) -> None:
        super().__init__(keys)
        self._last: tuple[bytes, bool] | None = None

    def is_signed(self, received: Received) -> bool:
        """Whether the signature is right."""
        if self._last is None or self._last[0] != received.signed:
            self._last = (received.signed, super().is_signed(received))
        return self._last[1]


class _Seat:
    """One seat. Its packets are numbered, so it knows which it has missed."""

    def __init__(self, verifier: Verifier) -> None:
        self._receiver = Receiver(verifier, AREA)
        self._ear = Ear((ALL_AREAS, AREA), BUFFER_MS / 1000)
        self.forget()

    def forget(self) -> None:
        """Before the next announcement."""
        self.on = self.off = 0.0
        self._had = self._first = self._last = 0

    @property
    def lost(self) -> int:
        """Packets between the first and the last that did not come."""
        return (self._last - self._first & 0xFFFF) + 1 - self._had if self._had else 0

    def _number(self, sequence: int) -> None:
        self._first = sequence if not self._had else self._first
        self._last = sequence
        self._had += 1

    def hear(self, datagram: bytes) -> None:
        """A datagram of pa_audio."""
        now = time.monotonic()
        try:
            # It has come, even where so many seats in one process take it late and are flooded.
            if isinstance(audio := pa.parse(datagram).message, Audio):
                self._number(audio.sequence)
            message = self._receiver.accept(datagram, now)
        except PaError:
            return
        self._ear.hear(message, now)
        if isinstance(message, Beacon):
            return
        # Between its first packet and its end nothing changes.
        if not self.on and self._ear.override is not None:
            self.on = now
        elif message.ended and not self.off and self._ear.override is None:
            self.off = now

    def hear_peer(self, datagram: bytes) -> None:
        """An RTP packet of GStreamer."""
        self.on = self.on or time.monotonic()
        self._number(int.from_bytes(datagram[2:4], "big"))


def _join(group: IPv4Address, port: int) -> socket.socket:
    sock = receiving_socket(group, port)
    # So many seats in one process may be late, but lose nothing.
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    Membership(INTERFACE, group, SERVER).renew(sock)
    return sock


def _be_seats(namespace: str, peer: bool, orders: Connection) -> None:
    """Hear, until `orders` is closed. ``True`` asks for what was `Seen`; all is then forgotten."""
    pa.parse = functools.lru_cache(4)(pa.parse)
    netns.setns(namespace)
    verifier = _SharedVerifier([Signer(SEED).public_key])
    seats = [_Seat(verifier) for _ in range(SEATS)]
    groups = [(group_of(area), PORT) for area in (ALL_AREAS, AREA)]
    if peer:
        groups = [(IPv4Address(PEER_GROUP), PEER_PORT)]
    poll = select.epoll()
    poll.register(orders, select.EPOLLIN)
    sockets = {}
    for seat in seats:
        for group, port in groups:
            sock = _join(group, port)
            sockets[sock.fileno()] = (sock, seat.hear_peer if peer else seat.hear)
            poll.register(sock, select.EPOLLIN)
    orders.send(None)
    while True:
        for fd, _ in poll.poll():
            if fd in sockets:
                sock, hear = sockets[fd]
                hear(sock.recv(1500))
                continue
            try:
                orders.recv()
            except EOFError:
                return
            on = {number: seat.on for number, seat in enumerate(seats) if seat.on}
            off = {number: seat.off for number, seat in enumerate(seats) if seat.off}
            orders.send(Seen(on, off, sum(seat.lost for seat in seats)))
            for seat in seats:
                seat.forget()


class CabinOfEars:
    """312 seats that hear the PA, or a peer's; a context manager."""

    def __init__(self, network: Network, peer: bool = False) -> None:
        context = multiprocessing.get_context("spawn")
        self._orders, theirs = context.Pipe()
        self._process = context.Process(
            target=_be_seats, args=(network.seats, peer, theirs), daemon=True
        )
        self._process.start()
        theirs.close()

    def seen(self) -> Seen:
        """What was seen since the last call."""
        self._orders.send(True)
        return self._answer()

    def _answer(self) -> Seen:
        if not self._orders.poll(30):
            raise RuntimeError("the seats do not answer")
        seen: Seen = self._orders.recv()
        return seen

    def __enter__(self) -> Self:
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        self._orders.close()
        self._process.join(timeout=10)
        self._process.kill()
