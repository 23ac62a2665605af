r"""Usage: the records that an aircraft sends to the ground, and the batches they travel in.

A record is one line of JSON. Records of one kind are sealed into a batch, which is numbered,
compressed and signed; docs/protocols/gate.md has the format. Nothing in here does I/O.

A batch::

    ife-usage-1\n                       what it is
    {"registration": ..., ...}\n        its head, at most `MAX_HEAD` bytes
    ...                                 a zstd frame (RFC 8878) of the records, a line each
    64 bytes                            Ed25519 (RFC 8032) of all that comes before
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal
from uuid import UUID, uuid4

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from apps.common.commands import HIDDEN, PLAIN, Flag, MediaId, SeatName
from apps.common.settings import Registration

MAX_LINE = 8 * 1024
"""Bytes of one record."""

MAX_RECORDS = 5_000
MAX_UNPACKED = 1024 * 1024
MAX_BATCH = MAX_UNPACKED + 16 * 1024
"""Of a batch: its records, the bytes of their lines, and its own bytes as it travels, also where
nothing could be compressed. Mostly it is a tenth of that: a second or two by a poor link, so that
one that flaps still brings batches over."""

MAX_HEAD = 1024

CONTENT_TYPE = "application/vnd.ife.usage"

_MAGIC = b"ife-usage-1\n"
_SIGNATURE = 64
_LEVEL = 3
"""zstd's: higher ones take several times as long for some per cent."""

Direction = Literal["out", "in"]
"""From the aircraft to the ground, or back. Each kind of record goes one way only, so that no two
copies of one can ever differ."""

Millis = Annotated[int, Field(ge=0, lt=253_402_300_800_000, strict=True)]
"""Unix time in milliseconds, up to the end of the year 9999: Python has no later one."""
Count = Annotated[int, Field(ge=0, lt=2**53, strict=True)]
Text = Annotated[str, StringConstraints(pattern=f"^{PLAIN}*$", max_length=500)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.-]{0,63}$")]
Email = Annotated[
    str, StringConstraints(pattern=rf"^[^\s@{HIDDEN}]{{1,64}}@[^\s@{HIDDEN}]{{1,190}}$")
]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}$")]


def now() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


# -- records --------------------------------------------------------------------------------


class Record(BaseModel):
    """Something that happened on board: at the time `at`, known everywhere by its `id`.

    `priority`: when there is no room left, what has the lowest goes first. None: it never goes.
    Fields that are not known are passed over, for an aircraft may be newer than the Hangar; the
    Hangar keeps them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: ClassVar[str]
    priority: ClassVar[int | None]
    direction: ClassVar[Direction] = "out"

    id: UUID = Field(default_factory=uuid4)
    at: Millis = Field(default_factory=now)


class Sale(Record):
    """Something was sold. `amount` is in the currency's smallest unit, for all of `quantity`."""

    kind = "sale"
    priority = None

    item: MediaId
    quantity: Annotated[int, Field(ge=1, le=1000, strict=True)]
    amount: Annotated[int, Field(ge=-(10**9), le=10**9, strict=True)]
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
    seat: SeatName | None = None
    payment: Name
    crew: Name | None = None


class User(Record):
    """A passenger signed up, or changed what we know of them."""

    kind = "user"
    priority = 50

    user: UUID
    name: Annotated[Text, Field(max_length=100)] = ""
    email: Email | None = None
    language: Language | None = None
    marketing: Flag = False


class Survey(Record):
    """Answers to a survey, by question."""

    kind = "survey"
    priority = 40

    survey: MediaId
    answers: Annotated[dict[Name, Annotated[int, Field(strict=True)] | Text], Field(max_length=32)]
    seat: SeatName | None = None
    language: Language | None = None


class Bite(Record):
    """A fault of the built-in test appeared, or went (`ended`). `part`: ``seat 12C``."""

    kind = "bite"
    priority = 30

    part: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")]
    fault: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,40}$")]
    ended: Flag = False
    detail: Annotated[Text, Field(max_length=200)] = ""


class Play(Record):
    """A title was played, from `at` on: how long (`seconds`), and up to where (`position`, s)."""

    kind = "play"
    priority = 20

    media: MediaId
    seconds: Annotated[int, Field(ge=0, le=10**6, strict=True)]
    position: Annotated[int, Field(ge=0, le=86_400, strict=True)] | None = None
    seat: SeatName | None = None
    language: Language | None = None


class Stat(Record):
    """Something that was counted or measured, by `name`, since the one before it."""

    kind = "stat"
    priority = 10

    name: Name
    value: Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]
    unit: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9/%]{0,16}$")] = ""


KINDS: dict[str, type[Record]] = {
    kind.kind: kind for kind in (Sale, User, Survey, Bite, Play, Stat)
}
"""Every kind of record that goes out, what is worth most first."""


_NULL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""JSON's escape of it, also in a field that we do not know; not a backslash before ``u0000``."""


class RecordError(ValueError):
    """A line that is no record of its kind."""


def line(record: Record) -> bytes:
    """A record as it is kept and sent.

    Raises:
        RecordError: it is longer than `MAX_LINE`.
    """
    text = record.model_dump_json(exclude_none=True).encode()
    if len(text) > MAX_LINE:
        raise RecordError(f"the record has {len(text)} bytes, {MAX_LINE} may be")
    return text


def parse(kind: str, text: bytes) -> Record:
    """The record of a line.

    Raises:
        RecordError: it is none of that kind.
    """
    if kind not in KINDS:
        raise RecordError(f"{kind!r} is no kind of record that goes out")
    if len(text) > MAX_LINE:
        raise RecordError(f"the record has {len(text)} bytes, {MAX_LINE} may be")
    if b"\n" in text:
        raise RecordError("the record is not one line")
    if _NULL.search(text):
        raise RecordError("the record has a null character, which PostgreSQL cannot keep")
    try:
        record = KINDS[kind].model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "the record"
        raise RecordError(f"{where}: {first['msg']}") from None
    # What has them by default here has other ones each time.
    if not record.model_fields_set >= {"id", "at"}:
        raise RecordError("the record has no id, or no time")
    return record


# -- batches --------------------------------------------------------------------------------


class BatchError(ValueError):
    """Bytes that are no batch of this aircraft's. `reason` is a short word to count it by."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class BatchHead(BaseModel):
    """Which batch it is. Its number is unique in its spool, and a spool's id in the world.

    A spool that has lost its memory begins as a new one, and so never gives a number twice.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    registration: Registration
    spool: UUID
    number: Annotated[int, Field(ge=1, lt=2**53, strict=True)]
    kind: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{0,31}$")]


class _Sealed(BatchHead):
    """The head as it travels: with how many records there are, and of how many bytes."""

    records: Annotated[int, Field(ge=1, le=MAX_RECORDS, strict=True)]
    unpacked: Annotated[int, Field(ge=1, le=MAX_UNPACKED, strict=True)]


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that has been checked, and its records, a line each."""

    head: BatchHead
    lines: list[bytes]


def fitting(lines: Sequence[bytes]) -> int:
    """How many of these lines, from the first on, fit one batch."""
    room = MAX_UNPACKED
    for count, text in enumerate(lines[:MAX_RECORDS]):
        room -= len(text) + 1
        if room < 0:
            return count
    return min(len(lines), MAX_RECORDS)


def seal(key: SigningKey, head: BatchHead, lines: Sequence[bytes]) -> bytes:
    """A batch of these records, of which there are as many as are `fitting`."""
    body = b"\n".join(lines)
    sealed = _Sealed.model_validate(dict(head) | {"records": len(lines), "unpacked": len(body)})
    # Here, for apps that only append records have no need of it.
    import zstandard

    packed = zstandard.ZstdCompressor(level=_LEVEL).compress(body)
    signed = _MAGIC + sealed.model_dump_json().encode() + b"\n" + packed
    return signed + key.sign(signed).signature


def head_of(batch: bytes) -> BatchHead:
    """What a batch says it is; nothing is checked but the form.

    Raises:
        BatchError: it is none.
    """
    return _split(batch)[0]


def open_batch(batch: bytes, keys: Sequence[VerifyKey]) -> Batch:
    """Check a batch, its signature before all else, and unpack it.

    Args:
        batch: as it came.
        keys: the public keys of the aircraft that brought it.

    Raises:
        BatchError: it is none, is signed by none of them, or is not what its head says.
    """
    head, packed = _split(batch)
    signed, signature = batch[:-_SIGNATURE], batch[-_SIGNATURE:]
    if not any(_is_signed(key, signed, signature) for key in keys):
        raise BatchError("forged", "the signature is none of this aircraft's")
    import zstandard

    try:
        # The frame says how large it is; more than that is not unpacked.
        if zstandard.frame_content_size(packed) != head.unpacked:
            raise BatchError("malformed", "the records are not as many bytes as the head says")
        body = zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BatchError("malformed", f"the records cannot be unpacked: {error}") from error
    lines = body.split(b"\n")
    if len(lines) != head.records:
        raise BatchError("malformed", "there are not as many records as the head says")
    return Batch(head, lines)


def _split(batch: bytes) -> tuple[_Sealed, bytes]:
    """The head and the compressed records."""
    if len(batch) > MAX_BATCH:
        raise BatchError("too-large", f"{len(batch)} bytes, {MAX_BATCH} may be")
    if not batch.startswith(_MAGIC):
        raise BatchError("malformed", "this is no usage batch of version 1")
    end = batch.find(b"\n", len(_MAGIC), len(_MAGIC) + MAX_HEAD)
    if end < 0 or len(batch) < end + 1 + _SIGNATURE:
        raise BatchError("malformed", "it is cut off")
    try:
        head = _Sealed.model_validate_json(batch[len(_MAGIC) : end])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise BatchError("malformed", f"the head: {first['loc']}: {first['msg']}") from None
    return head, batch[end + 1 : -_SIGNATURE]


def _is_signed(key: VerifyKey, signed: bytes, signature: bytes) -> bool:
    try:
        key.verify(signed, signature)
    except BadSignatureError:
        return False
    return True
