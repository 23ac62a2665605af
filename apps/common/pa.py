"""The PA: its wire from the server to the seats (docs/protocols/pa.md), its keylines and state.

Audio goes out as RTP packets, and between announcements as RTCP beacons, each signed with Ed25519.
Nothing in here knows about sockets.
"""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address
from typing import Annotated, Literal, NamedTuple

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from apps.common.commands import AreaName, Flag, Strict

VERSION = 1

PORT = 5004

RATE = 48_000
"""Samples a second, one channel."""

SAMPLES = 240
"""Samples a packet."""

PACKET_SECONDS = SAMPLES / RATE

PAYLOAD_TYPE = 96

END_PACKETS = 4
"""Packets of silence with the flag *ended* that close an announcement."""

BEACON_EVERY = 1.0
PAUSE_EVERY = 0.020
"""Seconds between two beacons, and between two while `ent_pause` is on."""

SILENT_AFTER = 0.300
"""Seconds without a valid packet of an announcement, after which it is over for a seat."""

ALL_AREAS = 0
MAX_AREAS = 16
"""As many as a cabin layout can have."""

_GROUPS = IPv4Address("239.192.74.0")


def group(area: int) -> IPv4Address:
    """The multicast group of the nth area of the layout, n from 1; 0 is for all."""
    return _GROUPS + area


class Source(IntEnum):
    """Who speaks; the higher wins."""

    MUSIC = 1
    PRAM = 2
    CREW = 3
    PILOT = 4


class PaError(ValueError):
    """A datagram that is not heard. `reason` is a short word to count it by."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


# A seat makes one of these for each of 200 packets a second, and the bench for 312 seats: a named
# tuple is made in a third of the time that a frozen dataclass takes.


class Audio(NamedTuple):
    """5 ms of an announcement.

    `time` is PA time in ms. `samples` are 240 signed 16-bit ones, big endian. `first` is RTP's
    marker. `ent_pause`: entertainment stays paused when the announcement has ended.
    """

    area: int
    source: Source
    number: int
    time: int
    ssrc: int
    sequence: int
    timestamp: int
    samples: bytes
    first: bool = False
    ended: bool = False
    ent_pause: bool = False


class Beacon(NamedTuple):
    """The server is there. `source` is None and `number` 0 where no announcement is open.

    `ssrc` is that of the group's open announcement, else that of its next.
    """

    area: int
    source: Source | None
    number: int
    time: int
    ssrc: int
    cname: str
    ent_pause: bool = False


_ENDED = 1
_ENT_PAUSE = 2

_CONTEXT = b"ife-pa-1"

_MARK = struct.Struct("!4sBBBBIQ")
_SIGNATURE = 64
_ELEMENT = _MARK.size + _SIGNATURE

_RTP = struct.Struct("!BBHII")
_EXTENDED = 0x90
_EXTENSION = struct.pack("!HHBB", 0x1000, (2 + _ELEMENT + 2) // 4, 1, _ELEMENT)
_PADDING = bytes(2)
"""An audio packet: RTP's header (RFC 3550, 5.1) with the bit for an extension, the extension's head
and its element's (RFC 8285, 4.3), the element, padding to full words, the samples."""

_MARK_AT = _RTP.size + len(_EXTENSION)
_SIGNATURE_AT = _MARK_AT + _MARK.size
_SAMPLES_AT = _MARK_AT + _ELEMENT + len(_PADDING)
_AUDIO_SIZE = _SAMPLES_AT + 2 * SAMPLES

_PLAIN = 0x80
_RR = struct.pack("!BBH", _PLAIN, 201, 1)
_SDES = 202
_APP = struct.pack("!BBH", _PLAIN, 204, (12 + _ELEMENT) // 4 - 1)
_APP_NAME = b"IFPA"
_APP_SIZE = 12 + _ELEMENT
_MAX_CNAME = 64


def _sdes(ssrc: bytes, cname: bytes) -> bytes:
    """One chunk with one item, ended by one to four zeros (RFC 3550, 6.5)."""
    item = struct.pack("!BB", 1, len(cname)) + cname
    item += bytes(4 - len(item) % 4)
    return struct.pack("!BBH", _PLAIN | 1, _SDES, 1 + len(item) // 4) + ssrc + item


def _key_id(public_key: bytes) -> bytes:
    return hashlib.sha256(public_key).digest()[:4]


class Signer:
    """Makes datagrams with the aircraft's PA key (32 bytes, Ed25519 seed)."""

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self._key_id = _key_id(self.public_key)

    @property
    def public_key(self) -> bytes:
        """The 32 bytes that a `Verifier` wants."""
        return bytes(self._key.verify_key)

    def sign(self, message: Audio | Beacon) -> bytes:
        """The message as a datagram."""
        return self._audio(message) if isinstance(message, Audio) else self._beacon(message)

    def _audio(self, audio: Audio) -> bytes:
        mark = self._mark(audio, audio.ended * _ENDED | audio.ent_pause * _ENT_PAUSE)
        head = _RTP.pack(
            *(_EXTENDED, audio.first << 7 | PAYLOAD_TYPE),
            *(audio.sequence, audio.timestamp, audio.ssrc),
        )
        head += _EXTENSION + mark
        tail = _PADDING + audio.samples
        return head + self._key.sign(_CONTEXT + head + tail).signature + tail

    def _beacon(self, beacon: Beacon) -> bytes:
        ssrc = struct.pack("!I", beacon.ssrc)
        sdes = _sdes(ssrc, beacon.cname.encode("ascii"))
        mark = self._mark(beacon, beacon.ent_pause * _ENT_PAUSE)
        head = _RR + ssrc + sdes + _APP + ssrc + _APP_NAME + mark
        return head + self._key.sign(_CONTEXT + head).signature

    def _mark(self, message: Audio | Beacon, flags: int) -> bytes:
        return _MARK.pack(
            *(self._key_id, VERSION, message.area, message.source or 0, flags),
            *(message.number, message.time),
        )


class Received(NamedTuple):
    """A datagram of the right form; of whom it is, its `signature` over `signed` has to show."""

    message: Audio | Beacon
    key: bytes
    signed: bytes
    signature: bytes


def parse(datagram: bytes) -> Received:
    """What a datagram says, unchecked.

    Raises:
        PaError: `malformed`.
    """
    try:
        # RFC 5761, 4: a payload type of RTCP shows in the second byte, whatever the marker.
        if len(datagram) > 1 and 192 <= datagram[1] <= 223:
            return _parse_beacon(datagram)
        return _parse_audio(datagram)
    except (struct.error, ValueError) as error:
        raise PaError("malformed") from error


def _parse_audio(packet: bytes) -> Received:
    first_byte, kind, sequence, timestamp, ssrc = _RTP.unpack_from(packet)
    key, version, area, source, flags, number, time = _MARK.unpack_from(packet, _MARK_AT)
    if (
        len(packet) != _AUDIO_SIZE
        or first_byte != _EXTENDED
        or kind & 0x7F != PAYLOAD_TYPE
        or packet[_RTP.size : _MARK_AT] != _EXTENSION
        or version != VERSION
        or not number
    ):
        raise PaError("malformed")
    return Received(
        Audio(
            *(area, Source(source), number, time, ssrc, sequence, timestamp, packet[_SAMPLES_AT:]),
            first=kind > 0x7F,
            ended=flags & _ENDED != 0,
            ent_pause=flags & _ENT_PAUSE != 0,
        ),
        key,
        _CONTEXT + packet[:_SIGNATURE_AT] + packet[_SIGNATURE_AT + _SIGNATURE :],
        packet[_SIGNATURE_AT : _SIGNATURE_AT + _SIGNATURE],
    )


def _parse_beacon(packet: bytes) -> Received:
    ssrc, app = packet[4:8], packet[-_APP_SIZE:]
    cname = packet[18 : 18 + packet[17]] if len(packet) > 17 else b""
    key, version, area, source, flags, number, time = _MARK.unpack_from(app, 12)
    # Only one way to write it is right, so it is made again and compared.
    head = _RR + ssrc + _sdes(ssrc, cname) + _APP + ssrc + _APP_NAME
    if (
        version != VERSION
        or not 0 < len(cname) <= _MAX_CNAME
        or packet[: -_SIGNATURE - _MARK.size] != head
        or (source == 0) != (number == 0)
    ):
        raise PaError("malformed")
    return Received(
        Beacon(
            area,
            Source(source) if source else None,
            number,
            time,
            int.from_bytes(ssrc, "big"),
            cname.decode("ascii"),
            ent_pause=flags & _ENT_PAUSE != 0,
        ),
        key,
        _CONTEXT + packet[:-_SIGNATURE],
        packet[-_SIGNATURE:],
    )


# -- receiving ------------------------------------------------------------------------------

FRESH_MS = 3_000
FORGET_AFTER = 5.0
"""Seconds without anything valid after which every PA time is fresh."""

FLOOD_BURST = 400
FLOOD_RATE, FLOOD_RATE_OF_NEXT = 200, 3_000
"""Datagrams with a wrong signature that are checked at once, and a second: any, and besides those
that look like what comes next, which are worth a fifth of a core."""

_WINDOW = 1024
"""Packets of an announcement, back from the newest, of which is known whether they were had."""

_ROUND_MS = 0x10000 * 1000 * SAMPLES // RATE
"""Milliseconds after which its sequence numbers begin again."""

_KNOWN = 64
"""Announcements that are remembered."""

_NEAR = 200
"""Packets (1 s) about the one that comes next in an announcement, which pass a flood first."""


class Verifier:
    """The PA keys that a seat was given (32 bytes each)."""

    def __init__(self, public_keys: Iterable[bytes]) -> None:
        self._keys = {_key_id(key): VerifyKey(key) for key in public_keys}

    def knows(self, key: bytes) -> bool:
        """Whether the first bytes of a key's hash are those of one of them."""
        return key in self._keys

    def is_signed(self, received: Received) -> bool:
        """Whether the signature is right. The slow step: some 50 µs."""
        try:
            self._keys[received.key].verify(received.signed, received.signature)
        except BadSignatureError:
            return False
        return True


class _Stream:
    """The packets of one announcement that were had, by sequence number (RFC 3711, 3.3.2)."""

    def __init__(self) -> None:
        self.newest: int | None = None
        self._time = 0
        self._had = 0

    def has(self, audio: Audio) -> bool:
        """Whether it was had, or is too old to tell."""
        if self.newest is None:
            return False
        back = _behind(self.newest, audio.sequence)
        # The numbers begin again after 5 minutes, a time never does.
        if audio.time > self._time:
            return False
        if 0 <= back < _WINDOW:
            return bool(self._had >> back & 1)
        return audio.time < self._time

    def add(self, audio: Audio) -> None:
        """Note one that it has not."""
        back = 0 if self.newest is None else _behind(self.newest, audio.sequence)
        if 0 < back < _WINDOW and audio.time <= self._time:
            self._had |= 1 << back
            return
        ahead = min((audio.sequence - (self.newest or 0)) & 0xFFFF, _WINDOW)
        if audio.time - self._time > _ROUND_MS // 2:
            ahead = _WINDOW
        self._had = (self._had << ahead | 1) & (1 << _WINDOW) - 1
        self.newest, self._time = audio.sequence, audio.time


def _behind(newest: int, sequence: int) -> int:
    """How many packets `sequence` is before `newest`; negative if after it."""
    return (newest - sequence + 0x8000 & 0xFFFF) - 0x8000


class _Budget:
    """Failures that may still happen: `FLOOD_BURST`, and `rate` more each second."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._left = float(FLOOD_BURST)
        self._at = 0.0

    def is_left(self, now: float) -> bool:
        self._left = min(FLOOD_BURST, self._left + (now - self._at) * self._rate)
        self._at = now
        return self._left >= 1

    def spend(self) -> None:
        self._left -= 1


@dataclass
class _Next:
    """What comes next in an area's group; `sequence` is None where only a beacon told."""

    ssrc: int
    sequence: int | None

    def is_it(self, message: Audio | Beacon) -> bool:
        if message.ssrc != self.ssrc:
            return False
        if isinstance(message, Beacon) or self.sequence is None:
            return True
        return abs(_behind(self.sequence, message.sequence)) <= _NEAR


class Receiver:
    """Tells a seat's valid datagrams from others, by the rules of docs/protocols/pa.md.

    Args:
        area: the seat's, from 1.
    """

    def __init__(self, verifier: Verifier, area: int) -> None:
        self._verifier = verifier
        self._areas = (ALL_AREAS, area)
        self._newest: int | None = None
        self._heard = 0.0
        self._streams: OrderedDict[tuple[int, int, int], _Stream] = OrderedDict()
        self._beacons: dict[int, int] = {}
        self._next: dict[int, _Next] = {}
        self._unexpected, self._expected = _Budget(FLOOD_RATE), _Budget(FLOOD_RATE_OF_NEXT)

    def accept(self, datagram: bytes, now: float) -> Audio | Beacon:
        """What a valid datagram says.

        Args:
            datagram: as it came from the network.
            now: seconds, of a clock that never goes back.

        Raises:
            PaError: it is not valid: `malformed`, `other-area`, `unknown-key`, `stale`,
                `duplicate`, `flood` or `forged`.
        """
        received = parse(datagram)
        message = received.message
        if message.area not in self._areas:
            raise PaError("other-area")
        if not self._verifier.knows(received.key):
            raise PaError("unknown-key")
        if now - self._heard > FORGET_AFTER:
            self._newest = None
            self._beacons.clear()
        if (
            self._newest is not None
            and message.time < self._newest + (now - self._heard) * 1000 - FRESH_MS
        ):
            raise PaError("stale")
        if self._was_had(message):
            raise PaError("duplicate")
        self._check(received, now)
        self._note(message, now)
        return message

    def _was_had(self, message: Audio | Beacon) -> bool:
        if isinstance(message, Beacon):
            return message.time <= self._beacons.get(message.area, -1)
        stream = self._streams.get((message.area, message.number, message.ssrc))
        return stream is not None and stream.has(message)

    def _check(self, received: Received, now: float) -> None:
        coming = self._next.get(received.message.area)
        is_next = coming is not None and coming.is_it(received.message)
        budget = self._expected if is_next else self._unexpected
        if not budget.is_left(now):
            raise PaError("flood")
        if not self._verifier.is_signed(received):
            budget.spend()
            raise PaError("forged")

    def _note(self, message: Audio | Beacon, now: float) -> None:
        if self._newest is None or message.time > self._newest:
            self._newest, self._heard = message.time, now
        if isinstance(message, Beacon):
            self._beacons[message.area] = message.time
            coming = self._next.get(message.area)
            if coming is None or coming.ssrc != message.ssrc:
                self._next[message.area] = _Next(message.ssrc, None)
            return
        key = (message.area, message.number, message.ssrc)
        stream = self._streams.setdefault(key, _Stream())
        self._streams.move_to_end(key)
        if len(self._streams) > _KNOWN:
            self._streams.popitem(last=False)
        stream.add(message)
        self._next[message.area] = _Next(message.ssrc, stream.newest)


# -- keylines and state ---------------------------------------------------------------------

KEYLINES_EVERY = 0.100
KEYLINES_LOST_AFTER = 1.0
"""Seconds between two datagrams with the keylines, and after which without one all are open."""


class Line(Strict):
    """A keyline that there is for all areas and for each: where it is closed."""

    all: Flag = False
    areas: Annotated[tuple[AreaName, ...], Field(max_length=MAX_AREAS)] = ()


class Keylines(Strict):
    """All keylines of the PA as they stand: a datagram to pa_audio's `keylines.sock`, as JSON."""

    pilot: Line = Line()
    crew: Line = Line()
    ent_pause: Line = Line()
    pram_pause: Flag = False
    decompression: Flag = False


TOPIC = "pa_audio/state"
LEVELS_TOPIC = "pa_audio/levels"

STATE_EVERY = 1.0
STATE_GOOD_FOR = 3.0
"""Seconds between two sendings of the state, and after which it is believed no more."""

Word = Annotated[str, StringConstraints(max_length=64)]
Areas = Annotated[tuple[Word, ...], Field(max_length=64)]


class PaAnnouncement(BaseModel):
    """One that is open. `areas` are the cabin's PA areas that hear it; `since` is PA time, ms."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: Word
    areas: Areas
    number: int
    since: int


class PaState(BaseModel):
    """The PA on the bus. `areas` are all those in which anything is heard.

    `source`, `number` and `since` are those of the announcement that wins over all others.
    `ent_pause` are the areas that are paused without audio. `decompression`: that keyline is on.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    state: Literal["idle", "announcement"]
    source: Word = ""
    areas: Areas = ()
    number: int = 0
    since: int = 0
    announcements: Annotated[tuple[PaAnnouncement, ...], Field(max_length=MAX_AREAS + 1)] = ()
    ent_pause: Areas = ()
    decompression: Flag = False
