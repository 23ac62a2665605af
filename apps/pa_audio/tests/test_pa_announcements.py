"""Announcements as packets, and the description of their streams."""

from __future__ import annotations

import random
import struct
from ipaddress import IPv4Address

from apps.common.pa import ALL_AREAS, END_PACKETS, SAMPLES, Beacon, Source
from apps.pa_audio.announcement import Announcement, Announcements
from apps.pa_audio.arbiter import NOWHERE, OnAir
from apps.pa_audio.feed import SILENCE
from apps.pa_audio.session import describe, sap_packet

TIME = 1_764_000_000_123
TONE = bytes(range(240)) * 2
BOTH = OnAir(Source.CREW, frozenset({1, 2}), frozenset({1, 2}))


def announcements() -> Announcements:
    generator = random.Random(1)  # noqa: S311 - no secret
    return Announcements(frozenset({0, 1, 2}), "pa_audio@EC-LAB", generator.getrandbits)


def test_each_group_has_a_stream_of_its_own_that_goes_on() -> None:
    made = announcements()
    one = made.open(BOTH, TIME, 0.0)
    rounds = [list(made.packets(one, TONE, TIME + 5 * n, NOWHERE)) for n in range(3)]
    for area in (1, 2):
        first, second, third = (
            next(packet for packet in packets if packet.area == area) for packets in rounds
        )
        assert (first.first, second.first, third.first) == (True, False, False)
        assert (third.sequence - first.sequence) & 0xFFFF == 2
        assert (third.timestamp - first.timestamp) & 0xFFFFFFFF == 2 * SAMPLES
        assert first.ssrc == second.ssrc == third.ssrc
        assert (first.number, first.samples, first.source) == (one.number, TONE, Source.CREW)
    assert len({packet.ssrc for packet in rounds[0]}) == 2


def test_counters_begin_again_at_their_ends() -> None:
    made = announcements()
    one = made.open(BOTH, TIME, 0.0)
    for stream in one.streams.values():
        stream.sequence, stream.timestamp = 0xFFFF, 0xFFFFFFFF
    list(made.packets(one, TONE, TIME, NOWHERE))
    packets = list(made.packets(one, TONE, TIME, NOWHERE))
    assert {(packet.sequence, packet.timestamp) for packet in packets} == {(0, SAMPLES - 1)}


def test_numbers_are_new_also_after_a_restart() -> None:
    made = announcements()
    numbers = [made.open(BOTH, TIME, 0.0).number for _ in range(3)]
    assert len(set(numbers)) == 3
    assert announcements().open(BOTH, TIME + 300, 0.0).number not in numbers
    late = [made.open(BOTH, 2**45, 0.0).number for _ in range(3)]
    assert len(set(late)) == 3
    assert all(0 < number < 2**32 for number in late)


def test_an_area_that_comes_later_begins_there_and_one_that_leaves_is_ended() -> None:
    made = announcements()
    one = made.open(BOTH, TIME, 0.0)
    list(made.packets(one, TONE, TIME, NOWHERE))
    ending = made.move(one, OnAir(Source.CREW, frozenset({0, 1}), frozenset({1})))
    assert isinstance(ending, Announcement)
    assert (ending.number, ending.groups, ending.left) == (
        one.number,
        frozenset({2}),
        END_PACKETS,
    )
    (last,) = made.packets(ending, TONE, TIME, NOWHERE)
    assert (last.area, last.ended, last.samples) == (2, True, SILENCE)
    packets = {packet.area: packet for packet in made.packets(one, TONE, TIME, NOWHERE)}
    assert packets.keys() == {0, 1}
    assert (packets[0].first, packets[1].first) == (True, False)
    assert made.move(one, OnAir(Source.CREW, frozenset({0, 1}), frozenset({0}))) is None


def test_a_beacon_tells_the_next_announcement_that_its_group_has() -> None:
    made = announcements()
    before = made.beacon(1, None, TIME, frozenset({1}))
    assert (before.source, before.number, before.ent_pause) == (None, 0, True)
    one = made.open(BOTH, TIME, 0.0)
    (packet,) = (it for it in made.packets(one, TONE, TIME, frozenset({1})) if it.area == 1)
    assert packet.ssrc == before.ssrc
    assert packet.ent_pause
    during = made.beacon(1, one, TIME, NOWHERE)
    assert during == Beacon(
        1, Source.CREW, one.number, TIME, before.ssrc, "pa_audio@EC-LAB", ent_pause=False
    )
    assert made.beacon(1, None, TIME, NOWHERE).ssrc != before.ssrc


def test_a_session_is_announced_and_taken_back() -> None:
    source = IPv4Address("198.18.0.1")
    sdp = describe("EC-LAB", ALL_AREAS, "all areas", source, 1, 7)
    assert sdp.endswith("\r\n")
    assert "m=audio 5004 RTP/AVP 96\r\na=rtpmap:96 L16/48000/1\r\n" in sdp
    assert "a=source-filter: incl IN IP4 239.192.74.0 198.18.0.1\r\n" in sdp
    packet, gone = sap_packet(sdp, source), sap_packet(sdp, source, delete=True)
    # RFC 2974, 3: version 1, IPv4, no authentication; the same hash for both.
    first, _, ident, origin = struct.unpack("!BBH4s", packet[:8])
    assert (first, origin) == (0x20, source.packed)
    assert gone[0] == 0x24
    assert gone[2:4] == ident.to_bytes(2, "big")
    assert packet[8:] == b"application/sdp\0" + sdp.encode()
    assert describe("EC-LAB", 1, "economy", source, 1, 7).split("\r\n")[1] != sdp.split("\r\n")[1]
