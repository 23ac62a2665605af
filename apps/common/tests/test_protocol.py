"""Frames and statuses on the wire: what is ours comes through, and nothing else does."""

from __future__ import annotations

import base64
import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OKPKey
from nacl.signing import SigningKey
from pydantic import ValidationError

from apps.common.commands import (
    ACTIONS,
    Action,
    AnyAction,
    Pause,
    ReadingLight,
    SetVolume,
    ShowMessage,
)
from apps.common.layout import load
from apps.common.protocol import (
    EXPLICIT_SEATS,
    MAX_DATAGRAM,
    MAX_STATUS_BODY,
    PROTOCOL,
    ROOM_FOR_ONE,
    Beacon,
    Command,
    FrameError,
    FrameHead,
    FrameSigner,
    FrameTooLargeError,
    FrameVerifier,
    Status,
    StatusAnswer,
    address,
)

LAYOUTS = Path(__file__).parents[3] / "inventory" / "layouts"
CABIN = tuple(load(LAYOUTS / "a330-300.yml").seats)
CABINS = (CABIN, tuple(load(LAYOUTS / "a320.yml").seats))

SEED = bytes(range(32))
SIGNER = FrameSigner(SEED)
VERIFIER = FrameVerifier([SIGNER.public_key])

percent = st.integers(0, 100)
ARGUMENTS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "power": {"on": st.booleans()},
    "lock_screen": {"locked": st.booleans()},
    "mute": {"muted": st.booleans()},
    "set_volume": {"volume": percent},
    "limit_volume": {"limit": percent},
    "set_brightness": {"brightness": percent},
    "play": {
        "media": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True),
        "position": st.floats(0, 86_400),
    },
    "show_message": {
        "text": st.text(
            st.characters(exclude_categories=["Cc", "Cf", "Co", "Cs", "Zl", "Zp"]),
            min_size=1,
            max_size=200,
        ).filter(str.strip),
        "seconds": st.integers(1, 60),
    },
    "reading_light": {"on": st.booleans()},
    "identify": {"seconds": st.integers(1, 60)},
    "impose": {"channel": st.none() | st.just("safety-en")},
}
actions: st.SearchStrategy[Any] = st.one_of(
    [st.builds(action, **ARGUMENTS.get(name, {})) for name, action in ACTIONS.items()]
)
millis = st.integers(0, 2**53 - 1)
seqs = st.integers(0, 2**53 - 1)
epochs = st.integers(0, 2**32 - 1)
beacons = st.builds(
    Beacon,
    v=st.just(PROTOCOL),
    epoch=epochs,
    seq=seqs,
    iat=millis,
    pa=st.none() | st.lists(st.integers(0, 255), max_size=64).map(tuple),
)


@st.composite
def target_lists(draw: st.DrawFn) -> tuple[tuple[str, ...], set[str]]:
    """A cabin and some of its seats: few, blocks of rows, nearly all, all, or none."""
    cabin = draw(st.sampled_from(CABINS))
    chosen = set(draw(st.lists(st.sampled_from(cabin), max_size=20)))
    for _ in range(draw(st.integers(0, 3))):
        first, last = draw(st.integers(1, 50)), draw(st.integers(1, 50))
        letters = draw(st.sets(st.sampled_from("ABCDEFGHK"), min_size=1))
        chosen |= {
            seat for seat in cabin if first <= int(seat[:-1]) <= last and seat[-1] in letters
        }
    if draw(st.booleans()):
        chosen = set(cabin) - chosen
    return cabin, chosen


def command(action: AnyAction, to: Any = "all", v: int = 1, **fields: Any) -> Command:
    return Command(**{"v": v, "epoch": 1, "seq": 1, "iat": 0, "to": to, "action": action} | fields)


def b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def signed(payload: bytes, typ: str = "ife-command") -> bytes:
    """A frame with the right header and signature around any payload."""
    some: Command | Beacon = command(Pause())
    if typ == "ife-beacon":
        some = Beacon(epoch=0, seq=0, iat=0)
    header = SIGNER.sign(some).partition(b".")[0]
    text = header + b"." + b64(payload)
    return text + b"." + b64(SigningKey(SEED).sign(text).signature)


# -- frames that are ours -------------------------------------------------------------------


@given(actions, target_lists(), epochs, seqs, millis, st.none() | millis)
def test_every_command_comes_through_and_reaches_exactly_its_targets(
    action: Any,
    targets: tuple[tuple[str, ...], set[str]],
    epoch: int,
    seq: int,
    iat: int,
    exp: int | None,
) -> None:
    cabin, chosen = targets
    version, to = address(chosen, cabin)
    sent = Command(v=version, epoch=epoch, seq=seq, iat=iat, exp=exp, to=to, action=action)
    try:
        datagram = SIGNER.sign(sent)
    except FrameTooLargeError:
        # Only targets without any order or a long text take so much room.
        assert len(chosen) > EXPLICIT_SEATS or isinstance(action, ShowMessage)
        return
    assert len(datagram) <= MAX_DATAGRAM
    received = VERIFIER.verify(datagram)
    assert received == sent
    assert isinstance(received, Command)
    assert {seat for seat in cabin if received.is_for(seat)} == chosen


@given(beacons)
def test_every_beacon_comes_through(beacon: Beacon) -> None:
    assert VERIFIER.verify(SIGNER.sign(beacon)) == beacon


def test_whom_a_command_is_for_is_told_in_the_shortest_form() -> None:
    assert address(CABIN, CABIN) == (1, "all")
    assert address({"12D", "12C"}, CABIN) == (1, ("12C", "12D"))
    rows_12_to_15 = [seat for seat in CABIN if 12 <= int(seat[:-1]) <= 15]
    # The cabin has no row 13, so one block spans it.
    assert address(rows_12_to_15, CABIN) == (2, ((12, 15, "ACDEFGHK"),))
    windows = [seat for seat in CABIN if seat[-1] in "AK"]
    assert address(windows, CABIN) == (2, ((1, 45, "AK"),))
    assert address(CABIN[:EXPLICIT_SEATS], CABIN)[0] == 1
    assert address(CABIN[: EXPLICIT_SEATS + 1], CABIN)[0] == 2


@given(target_lists())
@example((CABIN, {seat for seat in CABIN if seat[-1] == "A"}))
def test_what_goes_to_the_group_leaves_room_for_its_form_for_one_seat(
    cabin_and_chosen: tuple[tuple[str, ...], set[str]],
) -> None:
    """So what could be multicast can also be in an answer to an older player."""
    cabin, chosen = cabin_and_chosen
    version, to = address(chosen, cabin)
    assume(version == 2)
    for_many = SIGNER.sign(command(Pause(), to, version))
    for seat in chosen:
        assert len(SIGNER.sign(command(Pause(), (seat,), one=True))) <= len(for_many) + ROOM_FOR_ONE


@pytest.mark.parametrize("zone_rows", [(1, 6), (10, 28), (29, 45), (10, 45)])
def test_the_longest_message_to_any_zone_fits_a_datagram(zone_rows: tuple[int, int]) -> None:
    first, last = zone_rows
    zone = [seat for seat in CABIN if first <= int(seat[:-1]) <= last]
    version, to = address(zone, CABIN)
    SIGNER.sign(command(ShowMessage(text="x" * 200, seconds=60), to, version))


def test_a_command_that_does_not_fit_a_datagram_says_what_to_do() -> None:
    here_and_there = CABIN[::3]
    version, to = address(here_and_there, CABIN)
    message = ShowMessage(text="\N{AIRPLANE}" * 200)
    with pytest.raises(FrameTooLargeError, match="shorten the message, or address fewer seats"):
        SIGNER.sign(command(message, to, version))


# -- other versions -------------------------------------------------------------------------


def test_a_player_of_version_1_sees_from_a_newer_frame_what_it_misses() -> None:
    old = FrameVerifier([SIGNER.public_key], speaks=1)
    block = command(SetVolume(volume=30), [(10, 14, "AC")], v=2, seq=7)
    assert old.verify(SIGNER.sign(block)) == FrameHead(v=2, epoch=1, seq=7, iat=0)
    light = command(ReadingLight(on=True), v=2, seq=8)
    assert old.verify(SIGNER.sign(light)) == FrameHead(v=2, epoch=1, seq=8, iat=0)
    beacon = Beacon(epoch=1, seq=9, iat=5)
    assert old.verify(SIGNER.sign(beacon)) == FrameHead(v=2, epoch=1, seq=9, iat=5)
    first = command(SetVolume(volume=30), ["12C"], v=1)
    assert old.verify(SIGNER.sign(first)) == first


def test_a_frame_of_a_version_to_come_is_seen_too() -> None:
    head = {"v": PROTOCOL + 1, "epoch": 1, "seq": 7, "iat": 5}
    body = {**head, "to": {"new": "form"}, "action": {"name": "dance"}}
    frame = signed(json.dumps(body).encode())
    assert VERIFIER.verify(frame) == FrameHead(**head)
    # Of our own version the same is a mistake.
    body["v"] = PROTOCOL
    with pytest.raises(FrameError) as caught:
        VERIFIER.verify(signed(json.dumps(body).encode()))
    assert caught.value.reason == "malformed"


def test_fields_that_a_newer_server_adds_are_ignored() -> None:
    body = {"v": 1, "epoch": 1, "seq": 2, "iat": 3, "new": [1], "to": "all"}
    body["action"] = {"name": "mute", "muted": True}
    received = VERIFIER.verify(signed(json.dumps(body).encode()))
    assert isinstance(received, Command)
    assert received.seq == 2


# -- frames that are not ours ---------------------------------------------------------------


def refused(datagram: bytes) -> str:
    with pytest.raises(FrameError) as caught:
        VERIFIER.verify(datagram)
    return caught.value.reason


@settings(max_examples=1000)
@given(st.binary(max_size=MAX_DATAGRAM + 10))
@example(b"")
@example(b"..")
@example(b"\xff" * MAX_DATAGRAM)
def test_random_bytes_are_refused(datagram: bytes) -> None:
    assert refused(datagram) == ("oversize" if len(datagram) > MAX_DATAGRAM else "unsigned")


@settings(max_examples=1000)
@given(beacons | actions.map(command), st.data())
def test_a_frame_with_any_bit_turned_is_refused(
    frame: Command | Beacon, data: st.DataObject
) -> None:
    datagram = bytearray(SIGNER.sign(frame))
    bit = data.draw(st.integers(0, len(datagram) * 8 - 1))
    datagram[bit // 8] ^= 1 << bit % 8
    assert refused(bytes(datagram)) in {"unsigned", "forged"}


def test_every_single_bit_of_a_frame_counts() -> None:
    datagram = SIGNER.sign(Beacon(epoch=1, seq=2, iat=3))
    for bit in range(len(datagram) * 8):
        turned = bytearray(datagram)
        turned[bit // 8] ^= 1 << bit % 8
        assert refused(bytes(turned)) in {"unsigned", "forged"}, bit


@given(beacons, st.binary(min_size=1, max_size=8), st.data())
def test_a_frame_can_be_written_in_one_way_only(
    beacon: Beacon, extra: bytes, data: st.DataObject
) -> None:
    datagram = SIGNER.sign(beacon)
    where = data.draw(st.integers(0, len(datagram) - 1))
    refused(datagram[:where] + extra + datagram[where:])
    refused(datagram[:where] + datagram[where + 1 :])
    refused(datagram + b"==")


def test_a_frame_of_another_key_is_refused() -> None:
    other = FrameSigner(bytes(32))
    beacon = Beacon(epoch=1, seq=2, iat=3)
    assert refused(other.sign(beacon)) == "unsigned"
    # Both keys are trusted while they change.
    assert FrameVerifier([SIGNER.public_key, other.public_key]).verify(other.sign(beacon)) == beacon


def test_parts_of_two_frames_do_not_make_a_third() -> None:
    one = SIGNER.sign(Beacon(epoch=1, seq=2, iat=3)).split(b".")
    two = SIGNER.sign(command(SetVolume(volume=30))).split(b".")
    assert refused(b".".join([one[0], two[1], two[2]])) == "forged"
    assert refused(b".".join([one[0], one[1], two[2]])) == "forged"
    assert refused(b".".join([two[0], one[1], one[2]])) == "forged"


@pytest.mark.parametrize("alg", ["none", "EdDSA", "HS256", "ed25519"])
def test_another_algorithm_in_the_header_is_refused(alg: str) -> None:
    header, payload, signature = SIGNER.sign(Beacon(epoch=1, seq=2, iat=3)).split(b".")
    fields = json.loads(base64.urlsafe_b64decode(header + b"=" * (-len(header) % 4)))
    turned = b64(json.dumps(fields | {"alg": alg}, separators=(",", ":")).encode())
    for end in (signature, b""):
        assert refused(b".".join([turned, payload, end])) == "unsigned"


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}", b"\xff", b"[]", b"null", b'{"v":1}', b'{"v":3,"epoch":1}', b"[" * 900, b"9" * 900],
)
def test_a_signed_payload_that_is_no_frame_is_refused(payload: bytes) -> None:
    assert refused(signed(payload)) == "malformed"
    assert refused(signed(payload, "ife-beacon")) == "malformed"


def test_a_signed_payload_that_is_not_base64_is_refused() -> None:
    header = SIGNER.sign(Beacon(epoch=1, seq=2, iat=3)).partition(b".")[0]
    for payload in (b"!!!", b"e30=", b"e31", b"e", b"a.b"):
        text = header + b"." + payload
        assert refused(text + b"." + b64(SigningKey(SEED).sign(text).signature)) == "malformed"


def test_a_datagram_that_is_too_long_is_refused_before_anything_else() -> None:
    assert refused(signed(b" " * MAX_DATAGRAM)) == "oversize"


# -- joserfc, a whole implementation of JWS -------------------------------------------------


def okp() -> OKPKey:
    fields: dict[str, str | list[str]] = {
        "kty": "OKP",
        "crv": "Ed25519",
        "d": b64(SEED).decode(),
        "x": b64(SIGNER.public_key).decode(),
    }
    return OKPKey.import_key(fields)


def test_joserfc_verifies_what_we_sign() -> None:
    beacon = Beacon(epoch=1, seq=2, iat=3)
    found = jws.deserialize_compact(SIGNER.sign(beacon), okp(), algorithms=["Ed25519"])
    kid = found.headers()["kid"]
    assert found.headers() == {"alg": "Ed25519", "kid": kid, "typ": "ife-beacon"}
    assert len(kid) == 8
    assert json.loads(found.payload or b"") == {"v": 2, "epoch": 1, "seq": 2, "iat": 3}


def test_we_verify_what_joserfc_signs() -> None:
    sent = command(SetVolume(volume=30), ["12C"])
    kid = jws.extract_compact(SIGNER.sign(sent)).headers()["kid"]
    header = {"alg": "Ed25519", "kid": kid, "typ": "ife-command"}
    payload = sent.model_dump_json(exclude_none=True)
    frame = jws.serialize_compact(header, payload, okp(), algorithms=["Ed25519"])
    assert VERIFIER.verify(frame.encode()) == sent
    # Ed25519 signatures have no chance in them (RFC 8032).
    assert frame.encode() == SIGNER.sign(sent)


# -- status ---------------------------------------------------------------------------------

V1 = {
    "protocol": 1,
    "boot_id": "0f" * 16,
    "held": {"epoch": 1764000000, "seq": 17},
    "fresh": False,
    "state": "playing",
    "media": "film-12",
    "position": 123.4,
    "volume": 50,
    "brightness": 80,
    "temperature": 41.5,
    "firmware": "1.0.0",
    "faults": [],
    "link": {"frames": 20, "duplicates": 40, "refused": 0, "gaps": 0, "http_failures": 0},
}
V2 = V1 | {
    "protocol": 2,
    "muted": True,
    "locked": True,
    "attendant_call": True,
    "reading_light": True,
    "refused": [{"seq": 16, "reason": "no title film-99"}],
}


def parse(body: dict[str, Any]) -> Status:
    return Status.model_validate_json(json.dumps(body))


def with_field(path: str, value: object) -> dict[str, Any]:
    """A good status with one field, ``held.seq``, made something else."""
    body = json.loads(json.dumps(V2))
    *parents, last = path.split(".")
    place = body
    for parent in parents:
        place = place[parent]
    place[last] = value
    return dict(body)


def test_a_status_of_either_version_is_read() -> None:
    old = parse(V1)
    assert (old.muted, old.locked, old.attendant_call, old.reading_light) == (False,) * 4
    assert old.refused == ()
    new = parse(V2)
    assert new.muted
    assert new.refused[0].reason == "no title film-99"
    assert Status.model_validate_json(new.model_dump_json()) == new


def test_fields_that_a_newer_player_adds_are_ignored() -> None:
    new = V2 | {"protocol": 3, "mood": "fine", "link": {**V1["link"], "rtt": 0.1}}  # type: ignore[dict-item] # it is a dict
    assert parse(new) == parse(V2 | {"protocol": 3})


def test_the_longest_status_fits_its_bound() -> None:
    link = dict.fromkeys(("frames", "duplicates", "refused", "gaps", "http_failures"), 2**53 - 1)
    longest = V2 | {
        "protocol": 1000,
        "held": {"epoch": 2**32 - 1, "seq": 2**53 - 1},
        "state": "announcement",
        "media": "m" * 64,
        "position": 12345.678901234567,
        "firmware": "1" * 32,
        "faults": ["f" * 40] * 16,
        "link": {**link, "multicast_age": 123456789.12345679},
        "refused": [{"seq": 2**53 - 1, "reason": "r" * 100}] * 16,
    }
    assert len(parse(longest).model_dump_json()) < MAX_STATUS_BODY


WHOLE = ("protocol", "held.epoch", "held.seq", "volume", "brightness", "link.frames", "link.gaps")
REAL = ("position", "temperature", "link.multicast_age")
FLAGS = ("fresh", "muted", "locked", "attendant_call", "reading_light")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *product(WHOLE, (True, -1, 1.5, "1", None, [], 2**53)),
        *product(REAL, (True, -61, "1", [], 1e300, float("nan"), float("inf"))),
        *product(FLAGS, (0, 1, "true", None)),
        ("protocol", 0),
        ("protocol", 1001),
        ("held.epoch", 2**32),
        ("held", None),
        ("link", []),
        ("boot_id", "0f" * 15),
        ("boot_id", "0F" * 16),
        ("boot_id", "0f" * 16 + "\n"),
        ("state", "asleep"),
        ("state", None),
        ("media", ""),
        ("media", "../../etc/passwd"),
        ("media", "m" * 65),
        ("volume", 101),
        ("brightness", 101),
        ("temperature", 151),
        ("temperature", None),
        ("firmware", ""),
        ("firmware", "1 0"),
        ("firmware", "1" * 33),
        ("faults", "screen"),
        ("faults", ["Screen"]),
        ("faults", ["f" * 41]),
        ("faults", ["screen"] * 17),
        ("refused", [{"seq": 1, "reason": "r"}] * 17),
        ("refused", [{"seq": 1, "reason": ""}]),
        ("refused", [{"seq": 1, "reason": "r" * 101}]),
        ("refused", [{"seq": True, "reason": "r"}]),
    ],
)
def test_a_status_out_of_bounds_is_refused(path: str, value: object) -> None:
    parse(V2)
    with pytest.raises(ValidationError) as caught:
        parse(with_field(path, value))
    assert {error["loc"][0] for error in caught.value.errors()} == {path.partition(".")[0]}


@pytest.mark.parametrize(
    "field", [field for field in V1 if field not in {"media", "position", "faults"}]
)
def test_a_status_without_a_field_of_version_1_is_refused(field: str) -> None:
    body = {name: value for name, value in V2.items() if name != field}
    with pytest.raises(ValidationError):
        parse(body)


@given(st.binary(max_size=MAX_STATUS_BODY))
@example(b"[" * MAX_STATUS_BODY)
def test_random_bytes_are_no_status(body: bytes) -> None:
    with pytest.raises(ValidationError):
        Status.model_validate_json(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.sampled_from(sorted(V2)), json_values)
def test_a_status_with_any_value_in_a_field_is_read_or_refused(field: str, value: object) -> None:
    assume(value != V2[field])
    try:
        status = parse(V2 | {field: value})
    except ValidationError:
        return
    assert Status.model_validate_json(status.model_dump_json()) == status


def test_an_answer_holds_frames_that_fit_a_datagram() -> None:
    frame = SIGNER.sign(command(SetVolume(volume=30))).decode()
    answer = StatusAnswer(frames=(frame,), upto=1)
    assert StatusAnswer.model_validate_json(answer.model_dump_json()) == answer
    with pytest.raises(ValidationError):
        StatusAnswer(frames=("x" * (MAX_DATAGRAM + 1),), upto=1)


def test_every_action_travels() -> None:
    assert set(ACTIONS) == {
        *("reset", "power", "lock_screen", "mute", "set_volume", "limit_volume"),
        *("set_brightness", "pause", "resume", "play", "show_message", "attendant_call_clear"),
        *("reading_light", "identify", "impose"),
    }
    assert all(issubclass(action, Action) for action in ACTIONS.values())
