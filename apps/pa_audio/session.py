"""The description of the streams, for any receiver: SDP (RFC 8866), announced by SAP (RFC 2974)."""

from __future__ import annotations

import hashlib
import logging
import socket
import struct
import threading
from collections.abc import Mapping
from ipaddress import IPv4Address

from apps.common.multicast import sending_socket
from apps.common.pa import ALL_AREAS, PACKET_SECONDS, PAYLOAD_TYPE, PORT, RATE, group

log = logging.getLogger(__name__)

SAP_GROUP = IPv4Address("239.255.255.255")
SAP_PORT = 9875

ANNOUNCE_EVERY = 10.0
"""Seconds. RFC 2974 has 300 for the Internet; in a cabin whoever asks wants to know soon."""

EXTENSION_URI = "urn:ife:pa:1"


def describe(
    registration: str, area: int, label: str, source: IPv4Address, ttl: int, version: int
) -> str:
    """The SDP of one group.

    Args:
        registration: the aircraft's.
        area: the group's.
        label: the area's, for people.
        source: who sends.
        ttl: of the packets.
        version: a number that rises when the description changes.
    """
    address = group(area)
    ident = int.from_bytes(hashlib.sha256(f"{registration} {area}".encode()).digest()[:4], "big")
    lines = [
        "v=0",
        f"o=- {ident} {version} IN IP4 {source}",
        f"s={registration} PA {label}",
        f"c=IN IP4 {address}/{ttl}",
        "t=0 0",
        "a=recvonly",
        f"a=source-filter: incl IN IP4 {address} {source}",
        f"m=audio {PORT} RTP/AVP {PAYLOAD_TYPE}",
        f"a=rtpmap:{PAYLOAD_TYPE} L16/{RATE}/1",
        f"a=ptime:{round(PACKET_SECONDS * 1000)}",
        "a=rtcp-mux",
        f"a=extmap:1 {EXTENSION_URI}",
    ]
    return "".join(f"{line}\r\n" for line in lines)


def sap_packet(sdp: str, source: IPv4Address, delete: bool = False) -> bytes:
    """An announcement, or a deletion, of a session by SAP version 1."""
    ident = int.from_bytes(hashlib.sha256(sdp.encode()).digest()[:2], "big") or 1
    payload = sdp.split("\r\n")[1].encode() if delete else sdp.encode()
    return (
        struct.pack("!BBH4s", 0x24 if delete else 0x20, 0, ident, source.packed)
        + b"application/sdp\0"
        + payload
    )


class Announcer:
    """Announces all groups every `ANNOUNCE_EVERY` seconds, and takes it back at the end."""

    def __init__(
        self,
        registration: str,
        areas: Mapping[str, int],
        interface: str,
        source: IPv4Address,
        ttl: int,
        version: int,
    ) -> None:
        labels = {ALL_AREAS: "all areas", **{number: name for name, number in areas.items()}}
        self.sessions = [
            describe(registration, area, label, source, ttl, version)
            for area, label in labels.items()
        ]
        self._interface, self._source, self._ttl = interface, source, ttl
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sap", daemon=True)
        self.trouble: str | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Take the sessions back."""
        self._closing.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            self._send(delete=False)
            if self._closing.wait(ANNOUNCE_EVERY):
                self._send(delete=True)
                return

    def _send(self, delete: bool) -> None:
        try:
            with sending_socket(
                self._interface, self._source, SAP_GROUP, SAP_PORT, self._ttl
            ) as sock:
                self._send_all(sock, delete)
        except OSError as error:
            self.trouble = f"interface {self._interface}: {error.strerror or error}"
        else:
            self.trouble = None

    def _send_all(self, sock: socket.socket, delete: bool) -> None:
        for sdp in self.sessions:
            sock.send(sap_packet(sdp, self._source, delete))
