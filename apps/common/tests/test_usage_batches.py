"""Usage: records within their bounds, and batches that are what they say or nothing."""

from __future__ import annotations

import json
import secrets
from typing import Any
from uuid import UUID, uuid4

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey
from pydantic import ValidationError

from apps.common import usage
from apps.common.gate import Heartbeat, HeartbeatAnswer
from apps.common.usage import (
    KINDS,
    BatchError,
    BatchHead,
    Play,
    Record,
    RecordError,
    Sale,
    Stat,
    Survey,
    User,
    fitting,
    head_of,
    line,
    open_batch,
    parse,
    seal,
)

KEY = SigningKey(bytes(range(32)))
HEAD = BatchHead(registration="EC-LAB", spool=UUID(int=7), number=17, kind="play")
ONE = UUID(int=1)
"""A record's number, the same in each run: tests are named after it."""


def _play(**more: Any) -> Play:
    return Play(media="film", seconds=60, seat="12C", **more)


def _signed(text: bytes, body: bytes) -> bytes:
    """A batch with any head and body, rightly signed."""
    whole = b"ife-usage-1\n" + text + b"\n" + body
    return whole + KEY.sign(whole).signature


def _head(**more: object) -> bytes:
    head = {**HEAD.model_dump(mode="json"), "records": 1, "unpacked": 10, **more}
    return json.dumps(head).encode()


def test_each_kind_has_a_worth_of_its_own_goes_out_and_only_sales_never_go() -> None:
    worths = [kind.priority for kind in KINDS.values()]
    assert worths[0] is None
    rest = [worth for worth in worths[1:] if worth is not None]
    assert len(rest) == len(worths) - 1
    assert rest == sorted(set(rest), reverse=True)
    assert KINDS["sale"] is Sale
    assert {kind.direction for kind in KINDS.values()} == {"out"}


@given(st.text(max_size=500))
def test_a_record_is_one_line_whatever_people_write(text: str) -> None:
    try:
        survey = Survey(survey="s", answers={"q": text})
    except ValidationError:
        return
    raw = line(survey)
    assert b"\n" not in raw
    assert parse("survey", raw) == survey


@pytest.mark.parametrize(
    ("kind", "raw", "said"),
    [
        ("member", b"{}", "no kind"),
        ("play", b"[]", "the record"),
        ("play", b'{"id":"x"}', "id"),
        ("play", line(_play()).replace(b",", b",\n", 1), "not one line"),
        ("play", line(_play())[:-1] + b',"more":"' + b"x" * usage.MAX_LINE + b'"}', "bytes"),
        ("play", b'{"media":"film","seconds":1,"at":1}', "no id"),
        ("play", line(_play()).replace(b'"seconds":60', b'"seconds":-1'), "seconds"),
        ("stat", line(Stat(id=ONE, at=1, name="n", value=1)).replace(b"1.0", b"1e400"), "value"),
        # The year 10000.
        ("play", line(_play(at=7)).replace(b'"at":7', b'"at":253402300800000'), "at"),
        # PostgreSQL has no null character.
        ("play", line(_play())[:-1] + b',"new":"\\u0000"}', "null character"),
        ("play", line(_play())[:-1] + b',"new":"\\\\\\u0000"}', "null character"),
    ],
)
def test_a_line_that_is_no_record_is_told_why(kind: str, raw: bytes, said: str) -> None:
    with pytest.raises(RecordError, match=said):
        parse(kind, raw)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (User, {"user": UUID(int=1), "email": "a\0b@example.org"}),
        (User, {"user": UUID(int=1), "email": "ab@example\0.org"}),
        (User, {"user": UUID(int=1), "name": "a\0b"}),
        (Survey, {"survey": "s", "answers": {"q": "a\0b"}}),
        (Play, {"media": "film", "seconds": 1, "at": 253_402_300_800_000}),
    ],
)
def test_what_postgresql_could_not_keep_is_refused_where_it_enters(
    kind: type[Record], fields: dict[str, object]
) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate(fields)


def test_a_backslash_before_u0000_is_no_null_character() -> None:
    survey = Survey(survey="s", answers={"q": r"C:\u0000"})
    assert parse("survey", line(survey)) == survey


def test_a_record_that_is_too_long_is_not_sent() -> None:
    answers: dict[str, int | str] = {f"q{number}": "x" * 500 for number in range(20)}
    with pytest.raises(RecordError, match="bytes"):
        line(Survey(survey="s", answers=answers))


@given(st.lists(st.builds(_play, at=st.integers(0, 253_402_300_799_999)), min_size=1, max_size=30))
def test_what_is_sealed_is_what_is_opened(records: list[Play]) -> None:
    lines = [line(record) for record in records]
    raw = seal(KEY, HEAD, lines)
    batch = open_batch(raw, [SigningKey.generate().verify_key, KEY.verify_key])
    assert [parse("play", each) for each in batch.lines] == records
    for name, value in HEAD:
        assert getattr(batch.head, name) == getattr(head_of(raw), name) == value


def test_as_many_lines_fit_as_a_batch_may_have() -> None:
    short = [line(_play())] * (usage.MAX_RECORDS + 1)
    assert fitting(short) == usage.MAX_RECORDS
    long = [b"x" * usage.MAX_LINE] * 200
    assert fitting(long) == usage.MAX_UNPACKED // (usage.MAX_LINE + 1)
    assert fitting([]) == 0
    # Also what cannot be compressed.
    lines = [secrets.token_bytes(4000).replace(b"\n", b" ") for _ in range(300)]
    assert len(seal(KEY, HEAD, lines[: fitting(lines)])) <= usage.MAX_BATCH


@given(st.binary(max_size=300))
def test_bytes_that_are_no_batch_are_refused(raw: bytes) -> None:
    with pytest.raises(BatchError):
        open_batch(raw, [KEY.verify_key])
    with pytest.raises(BatchError):
        open_batch(b"ife-usage-1\n" + raw, [KEY.verify_key])


_RAW = seal(KEY, HEAD, [line(_play(id=UUID(int=n), at=n)) for n in range(20)])


@given(st.integers(0, len(_RAW) - 1), st.integers(1, 255))
def test_a_batch_with_one_byte_changed_or_cut_off_is_refused(at: int, change: int) -> None:
    for wrong in (_RAW[:at] + bytes([_RAW[at] ^ change]) + _RAW[at + 1 :], _RAW[:at]):
        with pytest.raises(BatchError):
            open_batch(wrong, [KEY.verify_key])


def test_only_this_aircrafts_keys_count() -> None:
    with pytest.raises(BatchError, match="forged"):
        open_batch(_RAW, [SigningKey.generate().verify_key])
    with pytest.raises(BatchError, match="forged"):
        open_batch(_RAW, [])


_TEN = zstandard.compress(b"0123456789")


@pytest.mark.parametrize(
    ("head", "body", "said"),
    [
        (_head(), b"no frame", "unpacked"),
        (_head(unpacked=9), _TEN, "as many bytes"),
        (_head(records=2), _TEN, "as many records"),
        (_head(), _TEN + _TEN, "unpacked"),
        (_head(), _TEN + b"more", "unpacked"),
        (_head(number=0), _TEN, "number"),
        (_head(spool="x"), _TEN, "spool"),
        (_head(more="x" * usage.MAX_HEAD), _TEN, "cut off"),
        # A gigabyte of zeros in some ten thousand bytes, said and not said.
        (_head(unpacked=2**30), zstandard.compress(bytes(2**24)), "unpacked"),
        (_head(), zstandard.compress(bytes(2**24)), "as many bytes"),
        (_head(), zstandard.ZstdCompressor(write_content_size=False).compress(bytes(2**24)), "as"),
    ],
)
def test_a_signed_batch_that_is_not_what_it_says_is_refused(
    head: bytes, body: bytes, said: str
) -> None:
    with pytest.raises(BatchError, match=said):
        open_batch(_signed(head, body), [KEY.verify_key])


def test_a_batch_that_is_too_large_is_not_even_looked_at() -> None:
    with pytest.raises(BatchError, match="too-large"):
        head_of(bytes(usage.MAX_BATCH + 1))


def test_what_a_newer_peer_says_besides_is_passed_over() -> None:
    beat = {
        "registration": "EC-LAB",
        "at": 1,
        "boot_id": "a" * 32,
        "space": {"free": 1, "total": 2, "new": 3},
        "newer": {"still": "understood"},
    }
    assert Heartbeat.model_validate(beat).space.free == 1
    asked = {"id": str(uuid4()), "kind": "dance", "asked_at": 1}
    answer = HeartbeatAnswer.model_validate({"at": 1, "requests": [asked]})
    assert answer.requests[0].kind == "dance"
