"""MPEG transport streams (ISO/IEC 13818-1): what pacing a file takes to know of them.

Clocks here are in ticks of the 27 MHz system clock, as PCRs are; PTS and DTS are 90 kHz, 1/300.
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

from apps.common import rtp

PACKET = rtp.PACKET
PER_DATAGRAM = 7
"""Packets in a datagram: 1,316 bytes, the most that an Ethernet frame holds (RFC 2250, 3.1)."""

CLOCK = 27_000_000
MAX_PCR_GAP = CLOCK // 2
"""Between two PCRs of a stream that is whole there are 0.1 s at most; a longer way is a break."""

_SYNC = rtp.SYNC
_PCR_RANGE = 2**33 * 300
_NULL = 0x1FFF
_VIDEO_TYPES = {0x02: "mpeg2video", 0x1B: "h264", 0x24: "hevc"}
_HEAD = 4 * 1024 * 1024
"""Bytes at the begin of a file in which program, first PCR and first key frame must be."""
_TAIL = 2 * 1024 * 1024
_CHUNK = 256 * PACKET
_MAX_WAITING = _HEAD // PACKET
"""Packets between two PCRs, after which the clock has stopped: the first must be within as many."""


class ClipError(ValueError):
    """A file that cannot be paced; the message says why."""


class Block(NamedTuple):
    """What goes into one datagram: `data` at `clock`, its stamps to be moved on by `shift`."""

    clock: int
    shift: int
    data: bytes


def pid(packet: bytes) -> int:
    """Whose packet it is."""
    return (packet[1] & 0x1F) << 8 | packet[2]


def pcr(packet: bytes) -> int | None:
    """The packet's PCR, if it has one."""
    if not (packet[3] & 0x20 and packet[4] >= 7 and packet[5] & 0x10):
        return None
    base = int.from_bytes(packet[6:10], "big") << 1 | packet[10] >> 7
    return base * 300 + ((packet[10] & 1) << 8 | packet[11])


def is_key(packet: bytes) -> bool:
    """Whether a decoder can begin with the picture that begins here."""
    return bool(packet[1] & 0x40 and packet[3] & 0x20 and packet[4] and packet[5] & 0x40)


def stamps(packet: bytes) -> tuple[int, ...]:
    """Where the packet has a PTS and a DTS: the offsets of their five bytes."""
    if not packet[1] & 0x40 or not packet[3] & 0x10:
        return ()
    pes = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
    if pes + 19 > PACKET or packet[pes : pes + 3] != b"\0\0\1" or packet[pes + 6] & 0xC0 != 0x80:
        return ()
    flags = packet[pes + 7] >> 6
    return {2: (pes + 9,), 3: (pes + 9, pes + 14)}.get(flags, ())


def stamp(data: bytes, at: int) -> int:
    """The PTS or DTS at an offset, in ticks of 27 MHz."""
    five = data[at : at + 5]
    value = (five[0] >> 1 & 7) << 30 | five[1] << 22 | (five[2] >> 1) << 15
    return (value | five[3] << 7 | five[4] >> 1) * 300


def _write_stamp(data: bytearray, at: int, ticks: int) -> None:
    value = ticks // 300 % 2**33
    data[at] = data[at] & 0xF0 | (value >> 30 & 7) << 1 | 1
    data[at + 1] = value >> 22 & 0xFF
    data[at + 2] = (value >> 15 & 0x7F) << 1 | 1
    data[at + 3] = value >> 7 & 0xFF
    data[at + 4] = (value & 0x7F) << 1 | 1


def _write_pcr(data: bytearray, at: int, ticks: int) -> None:
    base, extension = divmod(ticks % _PCR_RANGE, 300)
    # Between base and extension are six reserved bits, all one.
    data[at + 6 : at + 12] = (base << 15 | 0x3F << 9 | extension).to_bytes(6, "big")


@dataclass(frozen=True)
class Clip:
    """A file that can be paced.

    Attributes:
        head: PAT and PMT, which a decoder needs first, in hexadecimal digits.
        pcr_pid: whose packets carry the clock.
        video_pid: whose pictures are looked at.
        first: the clock at its begin.
        first_decoded: when its first picture is to be decoded (DTS).
        length: in ticks, in whole pictures, so that a loop goes on without a step.
        size: of the file, in bytes.
    """

    path: str
    head: str
    pcr_pid: int
    video_pid: int
    first: int
    first_decoded: int
    length: int
    size: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.length / CLOCK


def examine(path: Path) -> Clip:
    """Look at begin and end of a file.

    Raises:
        ClipError: it is no transport stream with a program, a clock and a key frame.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        begin = file.read(_HEAD)
        file.seek(max(0, size - _TAIL))
        end = file.read(_TAIL)
    packets = list(_packets(begin))
    head, pcr_pid, video_pid = _program(packets)
    first = _first_pcr(packets, pcr_pid)
    video = [packet for packet in packets if pid(packet) == video_pid]
    key = next((packet for packet in video if is_key(packet)), None)
    if key is None or not (at := stamps(key)):
        raise ClipError("it does not begin with a key frame")
    times = _picture_times([*video, *(p for p in _packets(end) if pid(p) == video_pid)])
    since = sorted({(time - stamp(key, at[0])) % _PCR_RANGE for time in times})
    since = [time for time in since if time < _PCR_RANGE // 2]
    if len(since) < 2:
        raise ClipError("it has less than two pictures")
    picture = min(later - sooner for sooner, later in pairwise(since))
    if first < 0 or first + since[-1] + picture > _PCR_RANGE:
        raise ClipError("its clock begins anew in its middle")
    return Clip(
        path=str(path),
        head=head.hex(),
        pcr_pid=pcr_pid,
        video_pid=video_pid,
        first=first,
        first_decoded=first + (stamp(key, at[-1]) - first) % _PCR_RANGE,
        length=since[-1] + picture,
        size=size,
    )


def _packets(data: bytes) -> Iterator[bytes]:
    """The whole packets of `data`; what is between them is left out."""
    for end in _ends(data):
        yield data[end - PACKET : end]


def _ends(data: bytes) -> Iterator[int]:
    """Where each whole packet of `data` ends."""
    at = 0
    while at + PACKET <= len(data):
        if data[at] == _SYNC and (at + PACKET == len(data) or data[at + PACKET] == _SYNC):
            at += PACKET
            yield at
        else:
            at = data.find(_SYNC, at + 1)
            if at < 0:
                return


def _program(packets: list[bytes]) -> tuple[bytes, int, int]:
    """PAT and PMT, the clock's PID and the video's, of the first program."""
    pat = next((p for p in packets if pid(p) == 0 and p[1] & 0x40), None)
    if pat is None:
        raise ClipError("it is no transport stream, or has no program")
    table = _section(pat)
    programs = [table[at : at + 4] for at in range(8, len(table) - 4, 4)]
    pmt_pid = next((pid(b"\0" + p[2:4]) for p in programs if p[:2] != b"\0\0"), _NULL)
    pmt = next((p for p in packets if pid(p) == pmt_pid and p[1] & 0x40), None)
    if pmt is None:
        raise ClipError("its program is not described")
    table = _section(pmt)
    at = 12 + _twelve_bits(table, 10)
    while at + 5 <= len(table) - 4:
        if table[at] in _VIDEO_TYPES:
            return pat + pmt, pid(b"\0" + table[8:10]), pid(b"\0" + table[at + 1 : at + 3])
        at += 5 + _twelve_bits(table, at + 3)
    raise ClipError("it has no video")


def _section(packet: bytes) -> bytes:
    """The section that begins in a packet, of 12 bytes at least; what is in another is cut."""
    begin = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
    begin += 1 + packet[begin] if begin < PACKET else 0
    rest = packet[begin:]
    section = rest[: 3 + _twelve_bits(rest, 1)] if len(rest) >= 3 else b""
    if len(section) < 12:
        raise ClipError("its program is not described")
    return section


def _twelve_bits(data: bytes, at: int) -> int:
    return (data[at] & 0x0F) << 8 | data[at + 1]


def _first_pcr(packets: list[bytes], pcr_pid: int) -> int:
    """The clock at the first packet, counted back from the first two PCRs."""
    found = [
        (index, clock)
        for index, packet in enumerate(packets)
        if pid(packet) == pcr_pid and (clock := pcr(packet)) is not None
    ][:2]
    if len(found) < 2:
        raise ClipError("it has no clock")
    (before, clock), (after, later) = found
    gap = (later - clock) % _PCR_RANGE
    if gap > MAX_PCR_GAP:
        raise ClipError("its clock is broken")
    return clock - gap * before // (after - before)


def _picture_times(video: list[bytes]) -> Iterator[int]:
    for packet in video:
        if at := stamps(packet):
            yield stamp(packet, at[0])


def blocks(clip: Clip, file: BinaryIO, position: float, loop: bool) -> Iterator[Block]:
    """The file from a position (seconds) on, cut for datagrams; for ever if it is to `loop`.

    It begins with PAT and PMT and, from a position other than 0, with a key frame.
    """
    again = position > 0
    offset = _offset(clip, file, position) if again else 0
    shift = 0
    while True:
        clock = None
        for block in _one_pass(clip, file, offset, shift, again):
            if loop and block.clock - shift >= clip.first + clip.length:
                break  # what is left are some frames of audio; the clock must not go back
            clock = block.clock
            yield block
        # From a position behind the last key frame on there is nothing: it goes on from the begin.
        if not loop or (clock is None and not again):
            return
        if clock is not None:
            # In whole pictures; but where a part of the file was missing, on from where it came to.
            shift = min(shift + clip.length, clock - clip.first + CLOCK // 10)
        offset, again = 0, False


def _offset(clip: Clip, file: BinaryIO, position: float) -> int:
    """Where the clock has come to `position`, a little before."""

    def clock_at(offset: int) -> int:
        file.seek(offset)
        for packet in _packets(file.read(_CHUNK * 8)):
            if pid(packet) == clip.pcr_pid and (clock := pcr(packet)) is not None:
                return clock - clip.first
        return clip.length

    wanted = int(position * CLOCK)
    steps = range(0, clip.size, _CHUNK)
    return max(0, bisect.bisect_right(steps, wanted, key=clock_at) - 1) * _CHUNK


class _Pass:
    """Packets in, blocks out, each with the clock that is interpolated between two PCRs."""

    def __init__(self, clip: Clip, shift: int, from_key: bool) -> None:
        self._clip = clip
        self._shift = shift
        self._skipping = from_key
        self._last: int | None = None
        self._rate = 0.0
        self._waiting: list[bytes] = []
        self._block = b""
        self._block_clock = 0

    def add(self, packet: bytes) -> Iterator[Block]:
        """One more packet; the blocks that are complete with it."""
        clock = pcr(packet) if pid(packet) == self._clip.pcr_pid else None
        if clock is not None:
            yield from self._flush(clock)
        if self._skipping:
            if self._last is None or pid(packet) != self._clip.video_pid or not is_key(packet):
                return
            self._skipping = False
            head = bytes.fromhex(self._clip.head)
            self._waiting += [head[:PACKET], head[PACKET:]]
        self._waiting.append(packet)
        if len(self._waiting) >= _MAX_WAITING:
            yield from self._go_on()

    def end(self) -> Iterator[Block]:
        """What is left, at the rate of before."""
        if self._last is not None:
            yield from self._cut(self._last, self._rate)
        if self._block:
            yield Block(self._block_clock, self._shift, self._block)

    def _flush(self, clock: int) -> Iterator[Block]:
        if self._last is None:
            self._last = clock if self._skipping else self._clip.first
        gap = clock - self._last
        if 0 <= gap <= MAX_PCR_GAP:
            self._rate = gap / max(1, len(self._waiting))
            yield from self._cut(self._last, self._rate)
        else:
            # A break in the clock. The stream goes on as it went, its stamps moved accordingly.
            went = int(self._rate * len(self._waiting))
            yield from self._cut(self._last, self._rate)
            self._shift -= gap - went
        self._last = clock

    def _go_on(self) -> Iterator[Block]:
        """The clock has stopped: what waits goes out as fast as the whole file is on average."""
        began = self._clip.first if self._last is None else self._last
        self._rate = self._clip.length * PACKET / self._clip.size
        self._last = began + int(self._rate * len(self._waiting))
        yield from self._cut(began, self._rate)

    def _cut(self, clock: float, rate: float) -> Iterator[Block]:
        for packet in self._waiting:
            if not self._block:
                self._block_clock = int(clock) + self._shift
            self._block += packet
            clock += rate
            if len(self._block) == PER_DATAGRAM * PACKET:
                yield Block(self._block_clock, self._shift, self._block)
                self._block = b""
        self._waiting = []


def _one_pass(
    clip: Clip, file: BinaryIO, offset: int, shift: int, from_key: bool
) -> Iterator[Block]:
    file.seek(offset)
    run = _Pass(clip, shift, from_key)
    rest = b""
    while data := file.read(_CHUNK):
        data = rest + data
        end = 0
        for end in _ends(data):
            yield from run.add(data[end - PACKET : end])
        # Of what is left, the begin of a packet that goes on in the next piece.
        rest = data[end:][-PACKET:]
    yield from run.end()


class Restamper:
    """Moves the stamps of what goes out, and numbers each PID's packets on without a break."""

    def __init__(self) -> None:
        self._counters: dict[int, int] = {}

    def apply(self, block: Block, held: int, squeeze: Squeeze) -> bytearray:
        """A block as it is sent, all stamps moved on by `held`, its PCRs squeezed before."""
        data, move = block.data, block.shift + held
        out = bytearray(data)
        for at in range(0, len(data), PACKET):
            packet = data[at : at + PACKET]
            number = (packet[1] & 0x1F) << 8 | packet[2]
            if number == _NULL:
                continue
            if packet[3] & 0x10:
                counter = self._counters[number] = (self._counters.get(number, -1) + 1) & 0x0F
                out[at + 3] = packet[3] & 0xF0 | counter
            if (clock := pcr(packet)) is not None:
                _write_pcr(out, at, int(squeeze(clock + block.shift)) + held)
            for where in stamps(packet) if move else ():
                _write_stamp(out, at + where, stamp(packet, where) + move)
        return out

    def clock_alone(self, pcr_pid: int, ticks: int) -> bytes:
        """A packet that has a PCR and nothing else: it keeps a receiver's clock while we pause."""
        counter = self._counters.get(pcr_pid, 0)
        packet = bytearray(
            b"\x47" + pcr_pid.to_bytes(2, "big") + bytes([0x20 | counter, 183, 0x10])
        )
        packet += b"\xff" * (PACKET - len(packet))
        _write_pcr(packet, 0, ticks)
        return bytes(packet)


class Squeeze:
    """The clock at which the begin of a clip is sent, faster than it will go on.

    A multiplexer sends a picture up to a second before it is to be decoded, so a receiver that
    begins with the first packet waits for that long. Here all that comes before `until` is sent
    `speed` times as fast, and its PCRs say so; the stamps of the pictures stay. So the first is
    due that much sooner, and no later picture comes late.
    """

    def __init__(self, until: int, speed: float) -> None:
        self._until = until
        self._speed = speed

    def __call__(self, clock: float) -> float:
        """The clock on the wire for a clock of the file."""
        if clock >= self._until:
            return clock
        return self._until - (self._until - clock) / self._speed
