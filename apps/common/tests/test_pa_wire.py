"""The PA on the wire: what is the server's comes through once, and nothing else does."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from apps.common.pa import (
    FLOOD_BURST,
    FLOOD_RATE,
    FLOOD_RATE_OF_NEXT,
    FORGET_AFTER,
    FRESH_MS,
    SAMPLES,
    Audio,
    Beacon,
    Keylines,
    PaError,
    Receiver,
    Signer,
    Source,
    Verifier,
    group,
    parse,
)

SIGNER = Signer(bytes(range(32)))
STRANGER = Signer(bytes(range(1, 33)))
VERIFIER = Verifier([SIGNER.public_key])
AREA = 2
SILENCE = bytes(2 * SAMPLES)
START = 1_764_000_000_000

bits16, bits32, bits64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
audios = st.builds(
    Audio,
    area=st.integers(0, 255),
    source=st.sampled_from(Source),
    number=st.integers(1, 2**32 - 1),
    time=bits64,
    ssrc=bits32,
    sequence=bits16,
    timestamp=bits32,
    samples=st.binary(min_size=2 * SAMPLES, max_size=2 * SAMPLES),
    first=st.booleans(),
    ended=st.booleans(),
    ent_pause=st.booleans(),
)
beacons = st.builds(
    lambda open_, **rest: Beacon(
        **rest, source=open_ and open_[0], number=open_[1] if open_ else 0
    ),
    open_=st.none() | st.tuples(st.sampled_from(Source), st.integers(1, 2**32 - 1)),
    area=st.integers(0, 255),
    time=bits64,
    ssrc=bits32,
    cname=st.from_regex(r"pa_audio@[A-Z0-9][A-Z0-9-]{1,15}", fullmatch=True),
    ent_pause=st.booleans(),
)


def audio(index: int = 0, **different: Any) -> Audio:
    """Packet number `index` of an announcement, which begins at second 0."""
    values: dict[str, Any] = {
        "area": 0,
        "source": Source.CREW,
        "number": 7,
        "time": START + 5 * index,
        "ssrc": 99,
        "sequence": index & 0xFFFF,
        "timestamp": SAMPLES * index & 0xFFFFFFFF,
        "samples": SILENCE,
    }
    return Audio(**values | different)


def beacon(seconds: float, **different: Any) -> Beacon:
    values: dict[str, Any] = {
        "area": 0,
        "source": None,
        "number": 0,
        "time": START + int(seconds * 1000),
        "ssrc": 99,
        "cname": "pa_audio@EC-LAB",
    }
    return Beacon(**values | different)


class Seat:
    """A receiver that says in a word what becomes of a datagram."""

    def __init__(self) -> None:
        self.receiver = Receiver(VERIFIER, AREA)

    def hears(self, message: Audio | Beacon | bytes, now: float, signer: Signer = SIGNER) -> str:
        datagram = message if isinstance(message, bytes) else signer.sign(message)
        try:
            self.receiver.accept(datagram, now)
        except PaError as error:
            return error.reason
        return "valid"


def forged(message: Audio | Beacon) -> bytes:
    """As a stranger makes it who gives the right key's name."""
    datagram = bytearray(SIGNER.sign(message))
    datagram[-1 if isinstance(message, Beacon) else 50] ^= 1
    return bytes(datagram)


@given(message=audios | beacons)
def test_what_is_signed_is_read_again(message: Audio | Beacon) -> None:
    received = parse(SIGNER.sign(message))
    assert received.message == message
    assert VERIFIER.is_signed(received)


def test_sizes_are_those_of_the_protocol() -> None:
    assert len(SIGNER.sign(audio())) == 12 + 4 + 2 + 84 + 2 + 480
    assert len(SIGNER.sign(beacon(0))) % 4 == 0  # RFC 3550, 6.1
    assert str(group(0)) == "239.192.74.0"
    assert str(group(AREA)) == "239.192.74.2"


@given(datagram=st.binary(max_size=700))
@example(b"")
@example(b"\x80\xc9")
@example(SIGNER.sign(audio())[:-1])
@example(SIGNER.sign(audio()) + b"\0")
@example(SIGNER.sign(beacon(0))[:-1])
@example(SIGNER.sign(beacon(0)) + b"\0")
@example(SIGNER.sign(beacon(0))[:20])
def test_any_other_bytes_are_malformed(datagram: bytes) -> None:
    with pytest.raises(PaError, match="malformed"):
        Receiver(VERIFIER, AREA).accept(datagram, 0)


@given(
    datagram=st.one_of(audios, beacons).map(lambda message: bytearray(SIGNER.sign(message))),
    data=st.data(),
)
def test_no_damage_to_a_good_one_raises_anything_else(
    datagram: bytearray, data: st.DataObject
) -> None:
    for _ in range(3):
        datagram[data.draw(st.integers(0, len(datagram) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PaError):
        Receiver(VERIFIER, AREA).accept(bytes(datagram), 0)


@pytest.mark.parametrize("message", [audio(first=True), beacon(0), beacon(0, ent_pause=True)])
def test_a_flipped_bit_anywhere_is_refused(message: Audio | Beacon) -> None:
    datagram = SIGNER.sign(message)
    assert Seat().hears(datagram, 0) == "valid"
    for position in range(8 * len(datagram)):
        flipped = bytearray(datagram)
        flipped[position // 8] ^= 1 << position % 8
        assert Seat().hears(bytes(flipped), 0) != "valid", position


def test_another_key_or_area_is_not_heard() -> None:
    seat = Seat()
    assert seat.hears(audio(), 0, STRANGER) == "unknown-key"
    assert seat.hears(audio(area=AREA + 1), 0) == "other-area"
    assert seat.hears(audio(area=AREA), 0) == "valid"
    assert seat.hears(audio(area=0), 0) == "valid"


def test_a_key_with_the_right_name_alone_is_forged() -> None:
    datagram = bytearray(STRANGER.sign(audio()))
    datagram[18:22] = SIGNER.sign(audio())[18:22]
    assert Seat().hears(bytes(datagram), 0) == "forged"


@settings(max_examples=50)
@given(
    first=st.sampled_from([0, 65_000, 65_535]),
    order=st.lists(st.integers(0, 599), min_size=1, max_size=200),
)
@example(first=65_535, order=[0, 1, 0, 1])
def test_a_packet_is_heard_once_in_whatever_order_they_come(first: int, order: list[int]) -> None:
    seat = Seat()
    assert seat.hears(audio(first), 0) == "valid"
    had = {0}
    for index in order:
        expected = "duplicate" if index in had else "valid"
        assert seat.hears(audio(first + index), 0) == expected
        had.add(index)


def test_a_long_announcement_is_heard_to_its_end_and_never_twice() -> None:
    seat = Seat()
    step = 150
    for index in range(0, 3 * 65_536, step):
        assert seat.hears(audio(index), index * 0.005) == "valid"
        # That number was there a round ago.
        assert seat.hears(audio(index), index * 0.005) == "duplicate"


def test_after_a_gap_of_minutes_it_is_heard_again() -> None:
    """Also after one as long as it takes the numbers to begin again, or nearly."""
    for gap in (1_000, 32_000, 40_000, 65_000, 65_535, 65_536, 65_537, 3 * 65_536 - 7):
        seat = Seat()
        for index in range(2_000, 2_100):
            assert seat.hears(audio(index), index * 0.005) == "valid"
        began = index + gap
        for index in range(began, began + 200):
            assert seat.hears(audio(index), index * 0.005) == "valid"
        # What was late of the first round is none of the second.
        assert seat.hears(audio(began - 5), index * 0.005) == "valid"
        assert seat.hears(audio(began - 5), index * 0.005) == "duplicate"
        assert seat.hears(audio(began), index * 0.005) == "duplicate"


def test_packets_that_were_sent_within_a_millisecond_are_all_heard() -> None:
    seat = Seat()
    assert [seat.hears(audio(index, time=START), 0) for index in range(3)] == 3 * ["valid"]


def test_what_is_old_is_not_heard() -> None:
    seat = Seat()
    late = audio(0, number=8, ssrc=100)
    assert seat.hears(beacon(FRESH_MS / 1000), 10) == "valid"
    assert seat.hears(late, 10) == "valid"  # 3 s before the newest
    assert seat.hears(late._replace(sequence=1), 10.001) == "stale"
    # The clock goes on without packets.
    assert seat.hears(audio(0, time=START + 4_000), 14.5) == "stale"


def test_a_server_with_another_time_is_heard_after_five_seconds_of_silence() -> None:
    seat = Seat()
    assert seat.hears(beacon(1000), 10) == "valid"
    assert seat.hears(audio(0), 10 + FORGET_AFTER) == "stale"
    assert seat.hears(audio(0), 10.01 + FORGET_AFTER) == "valid"
    assert seat.hears(beacon(0.001), 10.02 + FORGET_AFTER) == "valid"


def test_an_announcement_cannot_be_played_again_after_it() -> None:
    seat = Seat()
    packets = [SIGNER.sign(audio(index)) for index in range(1_500)]
    assert {seat.hears(packet, 0.005 * index) for index, packet in enumerate(packets)} == {"valid"}
    assert {seat.hears(packet, 7.5) for packet in packets[-400:]} == {"duplicate"}
    assert {seat.hears(packet, 7.5) for packet in packets[:600]} == {"stale"}
    # Nor when the server is silent: its packets are still known.
    assert {seat.hears(packet, 100) for packet in packets} == {"duplicate"}


def test_a_beacon_counts_once() -> None:
    seat = Seat()
    assert seat.hears(beacon(1, ent_pause=True), 1) == "valid"
    assert seat.hears(beacon(1, ent_pause=True), 1) == "duplicate"
    assert seat.hears(beacon(0.98, ent_pause=True), 1) == "duplicate"
    assert seat.hears(beacon(1, area=AREA), 1) == "valid"
    assert seat.hears(beacon(1.02), 1) == "valid"


def test_a_flood_costs_no_more_than_its_budget() -> None:
    seat = Seat()
    flood = [forged(audio(0, ssrc=1, sequence=index)) for index in range(FLOOD_BURST + 100)]
    assert [seat.hears(datagram, 0) for datagram in flood].count("forged") == FLOOD_BURST
    assert seat.hears(audio(0), 0) == "flood"
    checked = [seat.hears(datagram, 0.5) for datagram in flood].count("forged")
    assert checked == FLOOD_RATE // 2
    assert seat.hears(audio(0), 0.51) == "valid"


def test_what_comes_next_passes_a_flood() -> None:
    seat = Seat()
    assert seat.hears(audio(65_530), 0) == "valid"
    flood = [forged(audio(65_530, ssrc=1, sequence=index)) for index in range(FLOOD_BURST + 1)]
    assert seat.hears(flood[-1], 0) == "forged"
    assert {seat.hears(datagram, 0) for datagram in flood} == {"forged", "flood"}
    assert seat.hears(audio(65_530 + 100), 0) == "valid"
    assert seat.hears(audio(65_530 + 1_000), 0) == "flood"


def test_the_announcement_that_a_beacon_told_of_passes_a_flood() -> None:
    seat = Seat()
    assert seat.hears(beacon(0), 0) == "valid"
    flood = [forged(audio(0, ssrc=1, sequence=index)) for index in range(FLOOD_BURST + 1)]
    assert {seat.hears(datagram, 0) for datagram in flood} == {"forged", "flood"}
    assert seat.hears(audio(1), 0) == "valid"


def test_a_flood_of_what_comes_next_has_a_budget_too() -> None:
    seat = Seat()
    assert seat.hears(audio(0), 0) == "valid"
    flood = [forged(audio(1 + index % 100)) for index in range(FLOOD_BURST + 100)]
    assert [seat.hears(datagram, 0) for datagram in flood].count("forged") == FLOOD_BURST
    checked = [seat.hears(datagram, 0.1) for datagram in flood].count("forged")
    assert checked == FLOOD_RATE_OF_NEXT // 10
    # Others are still checked.
    assert seat.hears(audio(0, area=AREA, ssrc=5), 0) == "valid"


def test_whoever_forges_what_comes_next_two_thousand_times_a_second_hides_none_of_it() -> None:
    seat = Seat()
    assert seat.hears(audio(0), 0) == "valid"
    for index in range(1, 400):
        now = index * 0.005
        false = forged(audio(index))
        assert {seat.hears(false, now - 0.005 + 0.0005 * step) for step in range(10)} == {"forged"}
        assert seat.hears(audio(index), now) == "valid"


def test_keylines_are_read_strictly() -> None:
    text = b'{"pilot": {"all": true}, "crew": {"areas": ["economy"]}, "pram_pause": true}'
    keylines = Keylines.model_validate_json(text)
    assert keylines.pilot.all
    assert keylines.crew.areas == ("economy",)
    assert keylines.pram_pause
    assert not keylines.decompression
    for wrong in (b"", b"[]", b'{"pilot": true}', b'{"pilot": {"all": 1}}', b'{"cabin": {}}'):
        with pytest.raises(ValidationError):
            Keylines.model_validate_json(wrong)
