"""Transport streams: real ones that ffmpeg made, and what happens to broken ones."""

from __future__ import annotations

import itertools
import random
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.common.rtp import payload
from apps.vlc_stream import ts
from apps.vlc_stream.tests.conftest import CLIPS

STEP = ts.CLOCK // 25
NOISE = random.Random(1).randbytes(100_000)  # noqa: S311 - the same each time


def read(
    clip: ts.Clip, position: float = 0, loop: bool = False, count: int = 10**6
) -> list[ts.Block]:
    with Path(clip.path).open("rb") as file:
        return list(itertools.islice(ts.blocks(clip, file, position, loop), count))


def packets(blocks: list[ts.Block]) -> list[bytes]:
    data = b"".join(block.data for block in blocks)
    return [data[at : at + ts.PACKET] for at in range(0, len(data), ts.PACKET)]


def video_times(clip: ts.Clip, sent: list[bytes]) -> list[int]:
    """When each picture is to be decoded, in the order sent."""
    return [
        ts.stamp(packet, at[-1])
        for packet in sent
        if ts.pid(packet) == clip.video_pid and (at := ts.stamps(packet))
    ]


@pytest.mark.parametrize("name", CLIPS)
def test_a_clip_is_as_long_as_its_pictures(clips: Path, name: str) -> None:
    clip = ts.examine(clips / name)
    assert clip.length == CLIPS[name].seconds * ts.CLOCK
    assert 0.5 * ts.CLOCK < clip.first_decoded - clip.first < ts.CLOCK
    assert ts.pid(bytes.fromhex(clip.head)) == 0


def test_all_of_a_file_comes_at_an_even_rate(clips: Path) -> None:
    clip = ts.examine(clips / "one.ts")
    blocks = read(clip)
    assert b"".join(block.data for block in blocks) == Path(clip.path).read_bytes()
    gaps = [later.clock - sooner.clock for sooner, later in itertools.pairwise(blocks)]
    even = 7 * ts.PACKET * 8 / 1_500_000 * ts.CLOCK
    assert max(abs(gap - even) for gap in gaps) < 0.02 * even


def test_a_loop_goes_on_without_a_step(clips: Path) -> None:
    clip = ts.examine(clips / "one.ts")
    once = len(read(clip))
    blocks = read(clip, loop=True, count=3 * once - 50)
    restamper, straight = ts.Restamper(), ts.Squeeze(0, 1)
    sent = packets(
        [block._replace(data=bytes(restamper.apply(block, 0, straight))) for block in blocks]
    )
    times = video_times(clip, sent)
    assert len(times) > 250
    assert {later - sooner for sooner, later in itertools.pairwise(times)} == {STEP}
    clocks = [clock for packet in sent if (clock := ts.pcr(packet)) is not None]
    assert all(0 < b - a < 0.1 * ts.CLOCK for a, b in itertools.pairwise(clocks))
    counters: dict[int, int] = {}
    for packet in sent:
        number = ts.pid(packet)
        if number != 0x1FFF and packet[3] & 0x10:
            assert packet[3] & 0x0F == (counters.get(number, -1) + 1) & 0x0F
            counters[number] = packet[3] & 0x0F
    due = [block.clock for block in blocks]
    assert all(0 <= b - a < 0.05 * ts.CLOCK for a, b in itertools.pairwise(due))


def test_a_place_in_the_middle_begins_with_tables_and_a_key_frame(clips: Path) -> None:
    clip = ts.examine(clips / "safety.ts")
    for position in (0.5, 3.3, 6.9):
        sent = packets(read(clip, position))
        assert sent[0] + sent[1] == bytes.fromhex(clip.head)
        assert ts.pid(sent[2]) == clip.video_pid
        assert ts.is_key(sent[2])
        begins = (read(clip, position)[0].clock - clip.first) / ts.CLOCK
        assert position - 0.7 < begins < position + 1.1


def test_a_loop_goes_on_from_behind_its_last_key_frame(clips: Path) -> None:
    clip = ts.examine(clips / "one.ts")
    blocks = read(clip, clip.length / ts.CLOCK - 0.05, loop=True, count=50)
    assert len(blocks) == 50
    assert blocks[0].clock - clip.first < ts.CLOCK


def test_held_stamps_move_together(clips: Path) -> None:
    clip = ts.examine(clips / "one.ts")
    block = next(block for block in read(clip) if any(ts.stamps(p) for p in packets([block])))
    held = 7 * ts.CLOCK // 3 // 300 * 300
    moved = packets(
        [block._replace(data=bytes(ts.Restamper().apply(block, held, ts.Squeeze(0, 1))))]
    )
    for before, after in zip(packets([block]), moved, strict=True):
        for at in ts.stamps(before):
            assert ts.stamp(after, at) == ts.stamp(before, at) + held
        if (clock := ts.pcr(before)) is not None:
            assert ts.pcr(after) == clock + held


def test_squeezed_the_clock_never_goes_back_and_ends_where_it_was() -> None:
    squeeze = ts.Squeeze(1000, 8)
    clocks = [squeeze(clock) for clock in range(0, 2000, 10)]
    assert clocks == sorted(clocks)
    assert (clocks[0], squeeze(1000), squeeze(1500)) == (875, 1000, 1500)


def test_the_clock_alone_is_a_packet_with_a_pcr_and_no_payload() -> None:
    packet = ts.Restamper().clock_alone(256, 123_456_789)
    assert (len(packet), ts.pid(packet), ts.pcr(packet)) == (ts.PACKET, 256, 123_456_789)
    assert not packet[3] & 0x10


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no transport stream"),
        (NOISE, "no transport stream"),
        (b"G" + bytes(187), "no transport stream"),
        (b"G" * 188 * 50, "no transport stream"),
    ],
)
def test_what_is_no_clip_is_told(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "x.ts"
    path.write_bytes(content)
    with pytest.raises(ts.ClipError, match=why):
        ts.examine(path)


@pytest.mark.parametrize("length", [0, 7, 8])
@pytest.mark.parametrize("table", [0, 1], ids=["PAT", "PMT"])
def test_a_table_that_is_too_short_is_told(
    clips: Path, tmp_path: Path, table: int, length: int
) -> None:
    whole = bytearray((clips / "short.ts").read_bytes())
    at = whole.find(bytes.fromhex(ts.examine(clips / "short.ts").head)) + table * ts.PACKET
    # After the packet's head, the pointer and the table's id.
    whole[at + 6 : at + 8] = (0xB000 | length).to_bytes(2, "big")
    path = tmp_path / "x.ts"
    path.write_bytes(whole)
    with pytest.raises(ts.ClipError, match="not described"):
        ts.examine(path)


def test_a_clip_that_has_holes_is_sent_on_with_an_even_clock(clips: Path, tmp_path: Path) -> None:
    whole = (clips / "safety.ts").read_bytes()
    third = len(whole) // 3 // ts.PACKET * ts.PACKET
    path = tmp_path / "hole.ts"
    noise = NOISE[:10_000]
    path.write_bytes(whole[:third] + noise + whole[2 * third :])
    clip = ts.examine(path)
    blocks = read(clip)
    assert sum(len(block.data) for block in blocks) > 0.6 * len(whole)
    due = [block.clock for block in blocks]
    assert all(0 <= b - a < 0.6 * ts.CLOCK for a, b in itertools.pairwise(due))


def test_a_clip_whose_clock_stops_is_sent_on_evenly_and_not_kept_in_memory(
    clips: Path, tmp_path: Path
) -> None:
    whole = (clips / "safety.ts").read_bytes()
    quarter = len(whole) // 4 // ts.PACKET * ts.PACKET
    without = bytearray(whole[quarter:])
    for at in range(0, len(without), ts.PACKET):
        if ts.pcr(bytes(without[at : at + ts.PACKET])) is not None:
            without[at + 5] &= ~0x10
    path = tmp_path / "stopped.ts"
    path.write_bytes(whole[:quarter] + 10 * bytes(without) + whole[quarter:])
    clip = ts.examine(path)
    sent, kept, due = 0, 0, []
    with path.open("rb") as file:
        for block in ts.blocks(clip, file, 0, False):
            sent += len(block.data)
            kept = max(kept, file.tell() - sent)
            due.append(block.clock)
    assert sent == clip.size > 12_000_000
    assert kept < 5_000_000
    assert all(0 <= b - a < 0.1 * ts.CLOCK for a, b in itertools.pairwise(due))
    # Where there is no clock, as fast as all of it is on average.
    stopped = 10 * len(without) / clip.size * clip.length
    assert due[-1] - due[0] == pytest.approx(clip.length + stopped, rel=0.02)


@settings(max_examples=200)
@given(st.data())
def test_damage_breaks_nothing(
    clips: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray((clips / "short.ts").read_bytes())
    for _ in range(data.draw(st.integers(0, 20))):
        at = data.draw(st.integers(0, len(whole) - 1))
        piece = data.draw(st.binary(max_size=400))
        whole[at : at + data.draw(st.integers(0, 400))] = piece
    path = tmp_path_factory.getbasetemp() / "damaged.ts"
    path.write_bytes(whole)
    try:
        clip = ts.examine(path)
    except ts.ClipError:
        return
    blocks = read(clip, loop=True, count=400)
    due = [block.clock for block in blocks]
    assert all(b - a >= 0 for a, b in itertools.pairwise(due))
    restamper = ts.Restamper()
    for block in blocks:
        assert len(restamper.apply(block, 5, ts.Squeeze(clip.first_decoded, 8))) == len(block.data)


def test_no_byte_of_the_tables_breaks_anything(clips: Path, tmp_path: Path) -> None:
    """They are a few bytes of many, which damage by chance does not come upon."""
    whole = (clips / "short.ts").read_bytes()
    path = tmp_path / "x.ts"
    taken = 0
    # ffmpeg begins a file with them.
    for packet, at, byte in itertools.product(range(3), range(1, 30), (0, 1, 8, 0xFF)):
        damaged = bytearray(whole)
        damaged[packet * ts.PACKET + at] = byte
        path.write_bytes(damaged)
        with suppress(ts.ClipError):
            ts.examine(path)
            taken += 1
    assert taken > 100


@given(st.binary(max_size=400))
def test_only_transport_streams_are_taken_from_the_wire(datagram: bytes) -> None:
    found = payload(datagram)
    assert found is None or (len(found) % ts.PACKET == 0 and found[0] == 0x47)


def test_rtp_is_taken_off() -> None:
    packet = b"G" + bytes(187)
    plain = bytes([0x80, 33]) + bytes(10)
    assert payload(packet * 7) == packet * 7
    assert payload(plain + packet) == packet
    assert payload(bytes([0x81, 0x80 | 33]) + bytes(14) + packet) == packet
    extended = bytes([0x90, 33]) + bytes(10) + b"\xbe\xde\0\1" + bytes(4)
    assert payload(extended + packet) == packet
    assert payload(bytes([0xA0, 33]) + bytes(10) + packet + b"\0\0\3") == packet
    assert payload(bytes([0x80, 96]) + bytes(10) + packet) is None
    assert payload(plain) is None
