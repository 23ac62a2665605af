"""The cabin protocol between seat control and the seats' players: docs/protocols/cabin.md.

Frames go out as multicast datagrams, each a JWS in compact form (RFC 7515) signed with Ed25519
(RFC 8037, algorithm name by RFC 9864). Seats report by HTTP and get the frames that they miss
as answers. Nothing in here knows about sockets or HTTP.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Literal

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from apps.common.commands import PLAIN, AnyAction, Flag, MediaId, Percent, SeatName, Seq

PROTOCOL = 3
"""The newest protocol version that this code speaks; it speaks every one from 1 on."""

MAX_DATAGRAM = 1400
"""Bytes; a frame fits one Ethernet frame with room for VLAN tags and tunnels."""

ROOM_FOR_ONE = 8
"""Bytes of a datagram that a frame to the group leaves free: its form for one seat can be so much
longer."""

MAX_STATUS_BODY = 4096
"""Bytes of a status body; a full one of this version is under 1,500."""

MAX_FRAMES_PER_ANSWER = 16
"""Frames in one status answer; a seat that misses more gets the rest with its next status."""

REPEAT_AFTER = (0.020, 0.080)
"""Seconds after its first sending at which a frame is multicast again."""

REPEAT_WHILE_MISSING = (0.25, 0.5, 1.0, 1.5, 2.0)
"""And at which it is once more, if a live seat that it is for has not confirmed it by then."""

BEACON_EVERY = 1.0
"""Seconds between two beacons."""

BEACON_LIFETIME_MS = 3_000

LOST_AFTER = 3.0
"""Seconds of silence after which a seat is lost."""

EPOCH_HEADER = "Ife-Epoch"
TIME_HEADER = "Ife-Time"
PROTOCOL_HEADER = "Ife-Protocol"
SEAT_HEADER = "Ife-Seat"
"""Set by nginx, from the client certificate, and by nobody else."""
CREW_HEADER = "Ife-Crew"
"""Set by nginx and crew_web, from the crew member's session, and by nobody else."""
ASKED_HEADER = "Ife-Asked"
"""When a request was made, in Unix time, and for how many seconds its answer is waited for:
``1722222222.123 2``. Set by nginx and apps.common.calls, and by nobody else."""

EXPLICIT_SEATS = 16
"""Up to this many seats are listed one by one, which every protocol version understands."""

Epoch = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
Millis = Annotated[int, Field(ge=0, lt=2**53, strict=True)]
Count = Annotated[int, Field(ge=0, lt=2**53, strict=True)]
Area = Annotated[int, Field(ge=0, le=255, strict=True)]
ProtocolVersion = Annotated[int, Field(ge=1, le=1000, strict=True)]
SeatState = Literal["off", "booting", "idle", "playing", "paused", "announcement", "fault"]


class _Wire(BaseModel):
    """A frozen model that ignores fields it does not know: a newer peer may send more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


# -- status ---------------------------------------------------------------------------------


class Held(_Wire):
    """The last command of an unbroken run that a seat holds. (0, 0): none yet."""

    epoch: Epoch
    seq: Seq


class Refusal(_Wire):
    """A command that the seat understood but did not carry out."""

    seq: Seq
    reason: Annotated[str, StringConstraints(pattern=f"^{PLAIN}+$", max_length=100)]


class LinkCounters(_Wire):
    """Counted since the player's boot; `multicast_age` is seconds since the last good frame."""

    frames: Count
    duplicates: Count
    refused: Count
    gaps: Count
    http_failures: Count
    multicast_age: (
        Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False, strict=True)] | None
    ) = None


class Status(_Wire):
    """The body of a seat's report, once a second and soon after each command.

    `fresh` says that the player booted and has not had what is in force yet. `temperature` is
    in degrees Celsius, `position` in seconds into the title. Fields of protocol 2 have
    defaults, so that a player of protocol 1 may leave them out.
    """

    protocol: ProtocolVersion
    boot_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    held: Held
    fresh: Flag
    state: SeatState
    media: MediaId | None = None
    position: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False, strict=True)] | None = (
        None
    )
    volume: Percent
    brightness: Percent
    temperature: Annotated[float, Field(ge=-60, le=150, allow_inf_nan=False, strict=True)]
    firmware: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+~_-]{0,31}$")]
    faults: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,40}$")], ...],
        Field(max_length=16),
    ] = ()
    link: LinkCounters
    # Since protocol 2.
    muted: Flag = False
    locked: Flag = False
    attendant_call: Flag = False
    reading_light: Flag = False
    refused: Annotated[tuple[Refusal, ...], Field(max_length=16)] = ()


class StatusAnswer(_Wire):
    """The body of a 200 answer: the frames that the seat misses, in order.

    With all of them applied the seat holds everything up to `upto`: what is not among them is
    not for this seat or no longer worth applying. `in_force` asks a fresh seat to apply
    retained frames even where their sequence number is one that it already held.
    """

    frames: tuple[Annotated[str, StringConstraints(max_length=MAX_DATAGRAM)], ...]
    upto: Seq
    in_force: Flag = False


# -- frames ---------------------------------------------------------------------------------

Block = tuple[Annotated[int, Field(ge=1, le=99)], Annotated[int, Field(ge=1, le=99)], str]
"""First row, last row, letters: ``(10, 14, "AC")``. Since protocol 2."""

Address = Literal["all"] | tuple[SeatName, ...] | tuple[Block, ...]
"""Whom a command is for."""


class Command(_Wire):
    """A command as it travels. `iat` and `exp` are cabin time, in milliseconds.

    `v` is the lowest protocol version that understands it. `to` is ``"all"``, seats by name,
    or blocks of rows. `one` marks a form that was made for one seat's status answer: it has the
    number of a command that is for others too, so from the group it would mislead them.
    """

    v: ProtocolVersion
    epoch: Epoch
    seq: Seq
    iat: Millis
    exp: Millis | None = None
    to: Address
    one: Literal[True] | None = None
    action: AnyAction

    def is_for(self, seat: str) -> bool:
        """Whether `seat` is among those addressed."""
        if self.to == "all":
            return True
        row, letter = int(seat[:-1]), seat[-1]
        return any(
            part == seat
            if isinstance(part, str)
            else part[0] <= row <= part[1] and letter in part[2]
            for part in self.to
        )


class Beacon(_Wire):
    """Once a second: the last sequence number there is, so that a seat sees what it misses.

    `pa` (since protocol 3): the PA areas with an announcement, by number, 0 for all
    (docs/protocols/pa.md).
    """

    # Older players pass over what they do not know.
    v: ProtocolVersion = 2
    epoch: Epoch
    seq: Seq
    iat: Millis
    pa: Annotated[tuple[Area, ...], Field(max_length=64)] | None = None


class FrameHead(_Wire):
    """What every frame of every version has: enough to see a gap."""

    v: ProtocolVersion
    epoch: Epoch
    seq: Seq
    iat: Millis


class FrameError(ValueError):
    """A datagram that is no frame of ours. `reason` is a short word to count it by."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class FrameTooLargeError(ValueError):
    """A command that does not fit one datagram."""


def address(targets: Iterable[str], everyone: Iterable[str]) -> tuple[int, Address]:
    """The shortest form of `to` for `targets` out of `everyone`, and the version it needs.

    Args:
        targets: names of the seats that a command is for.
        everyone: names of all the seats of the cabin.
    """
    wanted = set(targets)
    everyone = list(everyone)
    if wanted.issuperset(everyone):
        return 1, "all"
    if len(wanted) <= EXPLICIT_SEATS:
        return 1, tuple(seat for seat in everyone if seat in wanted)
    letters_of: dict[int, str] = {}
    for seat in sorted(wanted, key=lambda seat: (int(seat[:-1]), seat[-1])):
        letters_of[int(seat[:-1])] = letters_of.get(int(seat[:-1]), "") + seat[-1]
    # Some rows are left out, 13 often.
    next_row = dict(pairwise(sorted({int(seat[:-1]) for seat in everyone})))
    blocks: list[tuple[int, int, str]] = []
    for row, letters in letters_of.items():
        if blocks and blocks[-1][2] == letters and next_row.get(blocks[-1][1]) == row:
            blocks[-1] = (blocks[-1][0], row, letters)
        else:
            blocks.append((row, row, letters))
    return 2, tuple(blocks)


def _b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _unb64(data: bytes) -> bytes:
    """The bytes that `data` is the one right encoding of (RFC 7515, section 2).

    Python's decoder skips what it does not know and ignores spare bits, so the same signature
    could be written in many ways, and each would pass for a datagram not seen before.
    """
    decoded = base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4))
    if _b64(decoded) != data:
        raise ValueError("not base64url")
    return decoded


def _header(key: VerifyKey, typ: str) -> bytes:
    """The protected header, encoded. One exact form a key and a type, so a lookup checks it."""
    kid = hashlib.sha256(bytes(key)).hexdigest()[:8]
    return _b64(
        json.dumps({"alg": "Ed25519", "kid": kid, "typ": typ}, separators=(",", ":")).encode()
    )


class FrameSigner:
    """Makes frames with the aircraft's command key (32 bytes, Ed25519 seed)."""

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self._headers = {kind: _header(self._key.verify_key, typ) for typ, kind in _TYPES.items()}

    @property
    def public_key(self) -> bytes:
        """The 32 bytes that a `FrameVerifier` wants."""
        return bytes(self._key.verify_key)

    def sign(self, frame: Command | Beacon) -> bytes:
        """The frame as a datagram.

        Raises:
            FrameTooLargeError: it would be longer than `MAX_DATAGRAM` in one of its forms.
        """
        payload = frame.model_dump_json(exclude_none=True).encode()
        signed = self._headers[type(frame)] + b"." + _b64(payload)
        datagram = signed + b"." + _b64(self._key.sign(signed).signature)
        for_one = isinstance(frame, Command) and frame.one
        if len(datagram) > MAX_DATAGRAM - (0 if for_one else ROOM_FOR_ONE):
            raise FrameTooLargeError(
                f"the command takes {len(datagram)} bytes, a datagram holds {MAX_DATAGRAM}: "
                "shorten the message, or address fewer seats at a time"
            )
        return datagram


_TYPES: dict[str, type[Command | Beacon]] = {"ife-command": Command, "ife-beacon": Beacon}


class FrameVerifier:
    """Checks datagrams against the command keys that a seat trusts (32 bytes each).

    libsodium checks an Ed25519 signature in half the time that OpenSSL takes, and a player
    checks every frame, so it is used directly; the compact form of a JWS leaves little else to
    do. That joserfc, a whole implementation, reads and writes the same is a test.
    """

    def __init__(self, public_keys: Iterable[bytes], speaks: int = PROTOCOL) -> None:
        self._speaks = speaks
        self._known = {
            _header(key, typ): (key, kind)
            for key in map(VerifyKey, public_keys)
            for typ, kind in _TYPES.items()
        }

    def verify(self, datagram: bytes) -> Command | Beacon | FrameHead:
        """The frame in a datagram; only its head where it needs a newer protocol than ours.

        Raises:
            FrameError: not a frame, or not signed by a trusted key.
        """
        if len(datagram) > MAX_DATAGRAM:
            raise FrameError("oversize", f"{len(datagram)} bytes")
        signed, dot, signature = datagram.rpartition(b".")
        header, _, payload = signed.partition(b".")
        if not dot or (known := self._known.get(header)) is None:
            raise FrameError("unsigned", "no header of a trusted key")
        key, kind = known
        try:
            key.verify(signed, _unb64(signature))
        except (BadSignatureError, ValueError, TypeError) as error:
            raise FrameError("forged", "the signature is wrong") from error
        try:
            body = _unb64(payload)
        except ValueError as error:
            raise FrameError("malformed", "the payload is not base64url") from error
        try:
            frame = kind.model_validate_json(body)
        except ValidationError as error:
            # The signature is right, so this is a frame of a newer version, or our own mistake.
            head = _head(body)
            if head is not None and head.v > self._speaks:
                return head
            raise FrameError("malformed", str(error)) from error
        if frame.v > self._speaks:
            return FrameHead(v=frame.v, epoch=frame.epoch, seq=frame.seq, iat=frame.iat)
        return frame


def _head(body: bytes) -> FrameHead | None:
    try:
        return FrameHead.model_validate_json(body)
    except ValidationError:
        return None
