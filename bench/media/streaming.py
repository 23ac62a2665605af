"""Measures how channels, imposed video and live relays are sent, beside their peers.

Senders are in one network namespace, what listens is in another; packets carry the kernel's own
time of arrival. Every sender sends the same clips, without transcoding. What a row is measured
with stands at its function. ``python -m bench.media.streaming --runs 1 --seconds 5`` tries it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import itertools
import os
import select
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import NamedTuple

from apps.common.multicast import Membership, receiving_socket
from apps.common.rtp import payload
from apps.seat_control import testing
from apps.vlc_stream import ts
from apps.vlc_stream.tests.served import SEAT, SERVER, Cabin, Served, cabin, serving
from bench.benchmark import Worst, in_turn, main
from bench.document import table
from bench.media import real_screen
from bench.media.clips import Clip, make

STORE = Path("/var/tmp/ife-clips")  # noqa: S108 - clips that last, for root
COUNTS = (1, 20, 60)
MANY = 20
SEATS = 312
LISTENED = 4
"""Channels whose packets are looked at; to look at all would take a core."""

SETTLE = 8.0
"""Seconds that senders have to come to rest."""

LONG = Clip("Channel", 60)
SHORT = Clip("Loop", 6)
CHANGE = Clip("Change", 6, 660)
SAFETY = Clip("Safety", 30)
SAFETY_GROUP = "239.192.90.1"

SO_ATTACH_FILTER, SO_RCVBUFFORCE, SO_TIMESTAMPNS = 26, 33, 35
"""From asm-generic/socket.h; Python does not name them."""

BUFFER = 8 * 1024 * 1024
"""Bytes: who listens may be late, but loses nothing."""

_TIME = struct.Struct("@qq")
_UDP, _RTP = 8, 12
"""Bytes of their heads."""


def group(number: int) -> str:
    """The nth channel's group."""
    return f"239.192.80.{number}"


# -- listening --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Packet:
    """A datagram's TS packets and when the kernel had it, in seconds since 1970."""

    at: float
    data: bytes

    def split(self) -> Iterator[bytes]:
        """The TS packets."""
        for at in range(0, len(self.data), ts.PACKET):
            yield self.data[at : at + ts.PACKET]


def _ear(address: str, source: IPv4Address) -> socket.socket:
    sock = receiving_socket(IPv4Address(address), 5004)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    Membership("eth0", IPv4Address(address), source).renew(sock)
    return sock


@contextlib.contextmanager
def ears(network: Cabin, addresses: list[str]) -> Iterator[list[socket.socket]]:
    """Sockets of a seat, one a group."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(network.seat.run(_ear, a, SERVER)) for a in addresses]


def receive(sock: socket.socket) -> Packet | None:
    """The next that has come; None: none, or no transport stream."""
    try:
        data, ancillary, _, _ = sock.recvmsg(2048, 64)
    except BlockingIOError:
        return None
    packets = payload(data)
    return None if packets is None else Packet(_arrived(ancillary), packets)


def listen(socks: list[socket.socket], seconds: float) -> list[list[Packet]]:
    """All that comes within some seconds, by socket."""
    heard: list[list[Packet]] = [[] for _ in socks]
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for sock in select.select(socks, [], [], left)[0]:
            if (packet := receive(sock)) is not None:
                heard[socks.index(sock)].append(packet)
    return heard


def drop(sock: socket.socket) -> None:
    """Forget what has come."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.recv(2048)


def gaps(packets: list[Packet]) -> list[float]:
    """Milliseconds from each datagram to the next."""
    return [1000 * (b.at - a.at) for a, b in itertools.pairwise(packets)]


def pcr_jitter(packets: list[Packet]) -> list[float]:
    """Milliseconds by which each PCR came off the straight line that fits all of them best."""
    seen = [(p.at, clock / ts.CLOCK) for p in packets for t in p.split() if (clock := ts.pcr(t))]
    if len(seen) < 10:
        return []
    at, said = ([pair[n] - seen[0][n] for pair in seen] for n in (0, 1))
    slope, start = statistics.linear_regression(said, at)
    return [1000 * abs(a - start - slope * s) for a, s in zip(at, said, strict=True)]


def pictures(packets: list[Packet]) -> list[tuple[float, int]]:
    """When each picture's first packet came, and its DTS."""
    return [
        (p.at, ts.stamp(t, at[-1]))
        for p in packets
        for t in p.split()
        if (at := ts.stamps(t)) and t[t.find(b"\0\0\1") + 3] & 0xF0 == 0xE0
    ]


def percentile(values: list[float], percent: int) -> float:
    """The value that so many percent are not above."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


# -- senders ----------------------------------------------------------------------------------


def _pids(network: Cabin) -> list[int]:
    done = subprocess.run(
        ["ip", "netns", "pids", network.server.name],
        capture_output=True, text=True, check=True, timeout=10,
    )  # fmt: skip
    return [pid for pid in map(int, done.stdout.split()) if pid != os.getpid()]


def cpu_seconds(network: Cabin) -> dict[Path, float]:
    """What each thread of all senders has taken of the processor, to the nanosecond."""
    taken = {}
    for pid in _pids(network):
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                taken[path] = int(path.read_text().split()[0]) / 1e9
    return taken


def memory_mib(network: Cabin, without: tuple[str, ...] = ()) -> float:
    """What all senders have of memory; what several have is counted once (PSS).

    `without`: what is in the command of processes that are left out.
    """
    total = 0
    for pid in _pids(network):
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_text()
            if any(part in command for part in without):
                continue
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


def _as_nobody(network: Cabin, command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *("ip", "netns", "exec", network.server.name),
            *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
            *command,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"HOME": "/nonexistent"},
    )


@contextlib.contextmanager
def running(network: Cabin, *commands: list[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Programs in the server's namespace, as nobody: VLC refuses root."""
    processes = []
    try:
        for command in commands:
            processes.append(_as_nobody(network, command))  # noqa: PERF401 - all that began end
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


Start = Callable[[Cabin, list[Path], int], contextlib.AbstractContextManager[object]]
"""Starts to send clips, over and over, on the first n groups. Who plays but one takes the first."""


@contextlib.contextmanager
def ours(network: Cabin, clips: list[Path], count: int, **more: str) -> Iterator[Served]:
    """vlc_stream, whole, with `more` settings, and until each channel plays."""
    playlist = ", ".join(clip.name for clip in clips)
    text = "channels:\n" + "".join(
        f"  c{n}: {{names: {{en: C{n}}}, group: {group(n)}, playlist: [{playlist}]}}\n"
        for n in range(1, count + 1)
    )
    text += "imposed:\n"
    text += f"  safety: {{names: {{en: S}}, group: {SAFETY_GROUP}, files: {{en: safety.ts}}}}\n"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "media").symlink_to(STORE)
        with serving(network, folder, text, **more) as served:
            deadline = time.monotonic() + 60
            while any(channel.state != "playing" for channel in served.view().channels):
                if time.monotonic() > deadline:
                    raise RuntimeError("not all channels play")
                time.sleep(0.2)
            yield served


def _rtp(number: int) -> str:
    return f"#rtp{{mux=ts,dst={group(number)},port=5004,ttl=1}}"


@contextlib.contextmanager
def vlm(network: Cabin, clips: list[Path], count: int) -> Iterator[object]:
    """VLC's own VLM: one process."""
    with tempfile.NamedTemporaryFile("w", suffix=".vlm") as file:
        for n in range(1, count + 1):
            file.write(f'new c{n} broadcast enabled loop\nsetup c{n} input "{clips[0]}"\n')
            file.write(f"setup c{n} output {_rtp(n)}\ncontrol c{n} play\n")
        file.flush()
        Path(file.name).chmod(0o644)
        command = ["vlc", "-I", "dummy", "--quiet", "--miface=cabin0", f"--vlm-conf={file.name}"]
        with running(network, command) as started:
            yield started


def vlc_each(
    network: Cabin, clips: list[Path], count: int
) -> contextlib.AbstractContextManager[object]:
    """A VLC process a channel."""
    return running(
        network,
        *(
            [
                *("vlc", "-I", "dummy", "--quiet", "--miface=cabin0", "--loop"),
                *map(str, clips),
                *("--sout", _rtp(n)),
            ]
            for n in range(1, count + 1)
        ),
    )


def multicat(
    network: Cabin, clips: list[Path], count: int
) -> contextlib.AbstractContextManager[object]:
    """multicat: a process a channel. It does not loop."""
    clip = clips[0]
    if not clip.with_suffix(".aux").exists():
        clock = str(ts.examine(clip).pcr_pid)
        subprocess.run(["ingests", "-p", clock, str(clip)], check=True, capture_output=True)
    return running(
        network,
        *(
            ["multicat", "-t", "1", str(clip), f"{group(n)}:5004@{SERVER}"]
            for n in range(1, count + 1)
        ),
    )


def ffmpeg(
    network: Cabin, clips: list[Path], count: int
) -> contextlib.AbstractContextManager[object]:
    """ffmpeg, paced by the rate of its output: a process a channel."""
    rate = 4_000_000
    return running(
        network,
        *(
            [
                *("ffmpeg", "-v", "quiet", "-nostdin", "-re", "-stream_loop", "-1"),
                *("-i", str(clips[0]), "-c", "copy", "-f", "mpegts", "-muxrate", str(rate)),
                f"udp://{group(n)}:5004?pkt_size=1316&bitrate={rate}&ttl=1&localaddr={SERVER}",
            ]
            for n in range(1, count + 1)
        ),
    )


# -- what is measured -------------------------------------------------------------------------


class Look(NamedTuple):
    """What some channels take, and how they come.

    Attributes:
        cpu: percent of a core a channel.
        memory: MiB a channel, of the processes that send channels.
        watched: MiB a channel, with what watches these.
        gap: between packets, p99, ms.
        jitter: of the PCRs, p99, ms.
    """

    cpu: float
    memory: float
    watched: float
    gap: float
    jitter: float


def look(network: Cabin, start: Start, count: int, seconds: float) -> Look:
    """At so many channels, of which some are listened to."""
    clip = make(STORE / "long.ts", LONG)
    groups = [group(n) for n in range(1, min(LISTENED, count) + 1)]
    with ears(network, groups) as socks, start(network, [clip], count):
        time.sleep(SETTLE)
        for sock in socks:
            drop(sock)
        before, began = cpu_seconds(network), time.monotonic()
        heard = listen(socks, seconds)
        passed = time.monotonic() - began
        cpu = sum(value - before.get(path, 0) for path, value in cpu_seconds(network).items())
        senders = memory_mib(network, without=("vlc_stream.app", "vlc_stream.pacer"))
        watched = memory_mib(network)
    return Look(
        cpu=100 * cpu / passed / count,
        memory=senders / count,
        watched=watched / count,
        gap=percentile([gap for packets in heard for gap in gaps(packets)], 99),
        jitter=percentile([value for packets in heard for value in pcr_jitter(packets)], 99),
    )


def loop(network: Cabin, start: Start, loops: int) -> tuple[float, float]:
    """Of two clips of 6 s, again and again: the longest gap at a change, and the step of the DTS.

    In ms, the medians over all changes. A step is what a picture's DTS is off one picture after
    the one before.
    """
    clips = [make(STORE / "short.ts", SHORT), make(STORE / "change.ts", CHANGE)]
    with ears(network, [group(1)]) as socks, start(network, clips, 1):
        time.sleep(2)
        drop(socks[0])
        (heard,) = listen(socks, SHORT.seconds * loops)
    frame = ts.CLOCK / SHORT.rate
    windows: list[float] = []
    steps: list[float] = []
    shown = pictures(heard)
    for (_, before), (_, after) in itertools.pairwise(shown):
        off = abs(after - before - frame) / ts.CLOCK * 1000
        if off > 1:
            steps.append(off)
    begin = heard[0].at
    for n in range(loops):
        inside = [p for p in heard if n * SHORT.seconds <= p.at - begin < (n + 1) * SHORT.seconds]
        windows += [max(gaps(inside), default=1000 * SHORT.seconds)]
    # A loop without a step counts as 0.
    steps += [0.0] * max(0, loops - len(steps))
    return statistics.median(windows), statistics.median(steps)


PLAIN_VLC = """
import itertools, sys, vlc
player = vlc.Instance("--quiet", "--miface=cabin0").media_player_new()
for path in itertools.chain(sys.argv[1:2], map(str.strip, sys.stdin)):
    media = player.get_instance().media_new(path)
    media.add_option(":sout=#rtp{mux=ts,dst=239.192.90.1,port=5004,ttl=1}")
    player.set_media(media)
    player.play()
"""
"""Plays a clip, and then whatever it reads."""


def first_picture(packets: list[Packet]) -> Packet:
    """With which packet a receiver that keeps the stream's clock can show a picture.

    That is when the first key frame is there whole, and its DTS has come.
    """
    begun: int | None = None
    whole: Packet | None = None
    for packet in packets:
        for t in packet.split():
            at = ts.stamps(t)
            if not at or t[t.find(b"\0\0\1") + 3] & 0xF0 != 0xE0:
                continue
            if begun is None and _begins_sequence(t):
                begun = ts.stamp(t, at[-1])
            elif begun is not None and whole is None:
                whole = packet
    if begun is None or whole is None:
        raise RuntimeError("no key frame came")
    due = next(p for p in packets for t in p.split() if (ts.pcr(t) or 0) >= begun)
    return max(due, whole, key=lambda packet: packet.at)


def last_seat(socks: list[socket.socket], clicked: float, seconds: float, silence: bool) -> float:
    """Milliseconds from a click, just now, until the last seat can show a picture.

    `silence`: what was shown before still comes for a while, and after a silence the new begins.
    """
    first: list[Packet] = []
    others: list[dict[int, float]] = [{} for _ in socks]
    end = time.monotonic() + seconds
    with select.epoll() as poll:
        places = {sock.fileno(): place for place, sock in enumerate(socks)}
        for sock in socks[1:]:
            _hear_heads(sock)
        for fd in places:
            poll.register(fd, select.EPOLLIN)
        while (left := end - time.monotonic()) > 0:
            for fd, _ in poll.poll(left):
                place = places[fd]
                if place == 0:
                    first += iter(partial(receive, socks[0]), None)
                else:
                    data, ancillary, _, _ = socks[place].recvmsg(2048, 64)
                    others[place][hash(data[_RTP:])] = _arrived(ancillary)
    first = [packet for packet in first if packet.at > clicked]
    begins = 0
    if silence:
        begins = max(range(1, len(first)), key=lambda n: first[n].at - first[n - 1].at)
    shown = first_picture(first[begins:])
    return 1000 * (max(shown.at, *(had[hash(shown.data)] for had in others[1:])) - clicked)


def _hear_heads(sock: socket.socket) -> None:
    """Take only datagrams with the begin of a picture, or a clock: one of these decides.

    All of them would be more than one process can hear for 312 seats. It is a filter of classic
    BPF (bpf(4)), which looks at the bits that say so in each TS packet.
    """
    load, test, give = 0x30, 0x45, 0x06
    program = []
    for at in range(_UDP + _RTP, _UDP + _RTP + ts.PER_DATAGRAM * ts.PACKET, ts.PACKET):
        for byte, bit in ((1, 0x40), (3, 0x20)):
            program += [(load, 0, 0, at + byte), (test, 0, 1, bit), (give, 0, 0, 0xFFFF)]
    program.append((give, 0, 0, 0))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    sock.setsockopt(
        socket.SOL_SOCKET,
        SO_ATTACH_FILTER,
        struct.pack("@HP", len(program), ctypes.addressof(code)),
    )


def _arrived(ancillary: list[tuple[int, int, bytes]]) -> float:
    seconds, nanoseconds = _TIME.unpack(ancillary[0][2])
    return float(seconds + nanoseconds / 1e9)


def _begins_sequence(packet: bytes) -> bool:
    """Whether a sequence parameter set of H.264 is in it: VLC marks no key frame as such."""
    return b"\0\0\1\x67" in packet or b"\0\0\1\x27" in packet


@contextlib.contextmanager
def seat_control(folder: Path) -> Iterator[Path]:
    """A seat control of 312 seats; its socket."""
    port, path = testing.free_port(), folder / "seat_control.sock"
    layout = Path(__file__).parents[2] / "inventory/layouts/a330-300.yml"
    command = [*testing.GUNICORN, "--bind", f"127.0.0.1:{port}", "--bind", f"unix:{path}"]
    variables = testing.variables(folder) | {"IFE_LAYOUT": str(layout)}
    with testing.server([*command, "apps.seat_control.asgi:app"], port, variables):
        yield path


@contextlib.contextmanager
def imposing(network: Cabin) -> Iterator[Served]:
    """vlc_stream with a safety video, 4 channels beside it, and a real seat control."""
    make(STORE / "safety.ts", SAFETY)
    with (
        tempfile.TemporaryDirectory() as name,
        seat_control(Path(name)) as path,
        ours(
            network, [make(STORE / "long.ts", LONG)], 4, IFE_SEAT_CONTROL_SOCKET=str(path)
        ) as served,
    ):
        yield served


def _click(served: Served) -> float:
    """On vlc_stream's API; the time before. The seats have been told after it."""
    body = {"channel": "safety", "language": "en", "screens": True, "selector": {"all": True}}
    clicked = time.time()
    status, answer = served.ask("POST", "/api/v1/imposed", body)
    if status != 202 or answer["command"] is None:
        raise RuntimeError(f"the seats were not told: {answer}")
    return clicked


def impose_ours(network: Cabin, clicks: int) -> tuple[float, float]:
    """From the click until the first picture is at 312 seats, and seat control has told them.

    Ms at p50, and the longest.
    """
    taken = []
    with imposing(network) as served:
        for _ in range(clicks):
            with ears(network, [SAFETY_GROUP] * SEATS) as socks:
                time.sleep(0.5)
                clicked = _click(served)
                told = 1000 * (time.time() - clicked)
                taken.append(max(told, last_seat(socks, clicked, 1.5, silence=False)))
            served.control_video("safety", "stop")
    return _spread(taken)


def impose_player(network: Cabin, clicks: int) -> tuple[float, float]:
    """From the click until the picture is on the screen of a seat with the project's player.

    The screen is an X server's. Ms at p50, and the longest.
    """
    taken = []
    url = f"rtp://{SERVER}@{SAFETY_GROUP}:5004"
    with imposing(network) as served, real_screen.seat(network.seat.name, "eth0", url) as screen:
        for _ in range(clicks):
            clicked = _click(served)
            taken.append(1000 * (screen.shown(url) - clicked))
            served.control_video("safety", "stop")
            screen.let_go()
            time.sleep(1)
    return _spread(taken)


def impose_vlc(network: Cabin, clicks: int) -> tuple[float, float]:
    """`set_media` on a libvlc player that shows another clip; ms at p50, and the longest."""
    safety, other = make(STORE / "safety.ts", SAFETY), make(STORE / "long.ts", LONG)
    taken = []
    for _ in range(clicks):
        with (
            ears(network, [SAFETY_GROUP] * SEATS) as socks,
            running(network, [sys.executable, "-c", PLAIN_VLC, str(other)]) as (player,),
        ):
            time.sleep(4)
            for sock in socks:
                drop(sock)
            clicked = time.time()
            assert player.stdin is not None  # noqa: S101 - it is a pipe
            player.stdin.write(f"{safety}\n".encode())
            player.stdin.flush()
            taken.append(last_seat(socks, clicked, 10, silence=True))
    return _spread(taken)


def _source(network: Cabin, sent: dict[int, float], stop: threading.Event) -> None:
    clip = ts.examine(make(STORE / "safety.ts", SAFETY))
    with (
        network.seat.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sock,
        Path(clip.path).open("rb") as file,
    ):
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, SEAT.packed)
        began, origin = time.monotonic(), None
        for block in ts.blocks(clip, file, 0, loop=False):
            clock = block.clock / ts.CLOCK
            origin = clock if origin is None else origin
            if stop.wait(max(0, began + clock - origin - time.monotonic())):
                return
            now = time.time()
            sock.sendto(block.data, ("239.255.1.1", 6000))
            for dts in (d for _, d in pictures([Packet(now, block.data)])):
                sent.setdefault(dts, now)


def relay(
    network: Cabin,
    start: Callable[[Cabin], contextlib.AbstractContextManager[object]],
    seconds: float,
) -> tuple[float]:
    """The median delay that a relay adds, ms: between the same picture's first packets."""
    sent: dict[int, float] = {}
    stop = threading.Event()
    with ears(network, [group(1)]) as socks, start(network):
        thread = threading.Thread(target=_source, args=(network, sent, stop))
        thread.start()
        time.sleep(3)
        drop(socks[0])
        (heard,) = listen(socks, seconds)
        stop.set()
        thread.join()
    delays = [1000 * (at - sent[dts]) for at, dts in pictures(heard) if dts in sent]
    if not delays:
        raise RuntimeError("nothing was relayed")
    return (statistics.median(delays),)


@contextlib.contextmanager
def relay_ours(network: Cabin) -> Iterator[object]:
    """vlc_stream with a live channel."""
    text = f"""channels:
  live: {{names: {{en: Live}}, group: {group(1)},
    live: {{group: 239.255.1.1, port: 6000, source: {SEAT}, interface: cabin0}}}}
"""
    with tempfile.TemporaryDirectory() as name, serving(network, Path(name), text) as served:
        yield served


def relay_multicat(network: Cabin) -> contextlib.AbstractContextManager[object]:
    """multicat, from a group without RTP."""
    return running(
        network,
        ["multicat", "-t", "1", "-u", "@239.255.1.1:6000", f"{group(1)}:5004@{SERVER}"],
    )


def relay_ffmpeg(network: Cabin) -> contextlib.AbstractContextManager[object]:
    """ffmpeg, copying, with as little buffering as it has."""
    return running(
        network,
        [
            *("ffmpeg", "-v", "quiet", "-nostdin", "-fflags", "nobuffer", "-copyts"),
            *("-analyzeduration", "1000000"),
            *("-i", f"udp://239.255.1.1:6000?localaddr={SERVER}", "-c", "copy", "-f", "mpegts"),
            *("-muxdelay", "0", f"udp://{group(1)}:5004?pkt_size=1316&localaddr={SERVER}"),
        ],
    )


# -- all of it --------------------------------------------------------------------------------

OURS, VLM, EACH, MULTICAT, FFMPEG = (
    "vlc_stream",
    "VLC, VLM",
    "VLC, a process each",
    "multicat",
    "ffmpeg, `bitrate=`",
)
SENDERS: dict[str, Start] = {OURS: ours, VLM: vlm, MULTICAT: multicat}


def _channels(network: Cabin, runs: int, seconds: float) -> str:
    starts = {(name, count): start for count in COUNTS for name, start in SENDERS.items()}
    starts |= {(EACH, MANY): vlc_each, (FFMPEG, MANY): ffmpeg}
    found = in_turn(
        runs,
        {
            f"{name}, {count}": partial(look, network, start, count, seconds)
            for (name, count), start in starts.items()
        },
    )

    def at(name: str, count: int = MANY) -> Look:
        return Look(*found[f"{name}, {count}"])

    rows = [["% of a core a channel", *(f"{count} channels" for count in COUNTS)]]
    rows += [[name, *(f"{at(name, count).cpu:.2f}" for count in COUNTS)] for name in SENDERS]
    ratios = [
        f"{name} " + ", ".join(f"{at(OURS, n).cpu / at(name, n).cpu:.2f}x at {n}" for n in COUNTS)
        for name in (VLM, MULTICAT)
    ]
    text = (
        f"### Channels\n\n{table(*rows)}\nvlc_stream against {'; '.join(ratios)}. "
        f"{COUNTS[-1]} channels take {at(OURS, COUNTS[-1]).cpu / at(OURS).cpu:.2f}x as much each "
        f"as {MANY} do (1 is linear growth).\n\n"
    )
    rows = [[f"{MANY} channels", "gap p99 ms", "PCR jitter p99 ms", "MiB a channel", "with all"]]
    for name in (OURS, VLM, EACH, MULTICAT, FFMPEG):
        seen = at(name)
        rows.append([name, *(f"{value:.2f}" for value in (seen.gap, seen.jitter))])
        rows[-1] += [f"{value:.1f}" for value in (seen.memory, seen.watched)]
    mine, each = at(OURS), at(EACH)
    return text + (
        f"{table(*rows)}\nvlc_stream: gap {mine.gap / at(MULTICAT).gap:.2f}x multicat's, jitter "
        f"{mine.jitter / at(FFMPEG).jitter:.2f}x ffmpeg's, memory "
        f"{mine.memory / each.memory:.2f}x that of a VLC process each; with what watches the "
        f"channels and what waits to send imposed videos {mine.watched / each.watched:.2f}x.\n"
    )


def _changes(network: Cabin, runs: int) -> str:
    vlc, ffmpeg_loop = "VLC, `--loop`", "ffmpeg, `-stream_loop`, one file"
    starts: dict[str, Start] = {OURS: ours, vlc: vlc_each, ffmpeg_loop: ffmpeg}
    found = in_turn(
        runs, {name: partial(loop, network, start, 3) for name, start in starts.items()}
    )
    rows = [["loop and file change", "gap ms", "step of DTS ms"]]
    rows += [[name, f"{gap:.1f}", f"{step:.1f}"] for name, (gap, step) in found.items()]
    return (
        f"{table(*rows)}\nvlc_stream: gap 1/{found[vlc][0] / found[OURS][0]:.0f} of VLC's, step "
        f"{found[OURS][1]:.1f} ms beside ffmpeg's {found[ffmpeg_loop][1]:.1f}.\n"
    )


def _imposed(network: Cabin, runs: int) -> str:
    everywhere, plain = f"{OURS}, at {SEATS} seats", "VLC, `set_media`"
    player = f"{OURS}, on the screen of the project's player"
    found = in_turn(
        runs,
        {
            everywhere: partial(impose_ours, network, 5),
            plain: partial(impose_vlc, network, 2),
            player: partial(impose_player, network, 20),
        },
    )
    rows = [["safety video, from the click to the first picture", "p50 ms", "longest ms"]]
    rows += [[name, *(f"{value:,.0f}" for value in values)] for name, values in found.items()]
    ratio = found[everywhere][0] / found[plain][0]
    return f"### Imposed video and live relays\n\n{table(*rows)}\n{ratio:.2f}x VLC's.\n"


def _relays(network: Cabin, runs: int, seconds: float) -> str:
    copy = "ffmpeg, copy"
    starts = {OURS: relay_ours, MULTICAT: relay_multicat, copy: relay_ffmpeg}
    found = in_turn(
        runs, {name: partial(relay, network, start, seconds) for name, start in starts.items()}
    )
    rows = [["live relay", "added ms"]]
    rows += [[name, f"{value:.2f}"] for name, (value,) in found.items()]
    return f"{table(*rows)}\n{found[OURS][0] / found[copy][0]:.3f}x ffmpeg's.\n"


def _spread(values: list[float]) -> tuple[float, float]:
    return statistics.median(values), Worst(max(values))


def results(options: argparse.Namespace) -> str:
    """All of it, as Markdown."""
    runs, seconds = options.runs, options.seconds
    STORE.mkdir(mode=0o755, exist_ok=True)
    with cabin() as network:
        network.server.run(
            subprocess.run, ["ip", "route", "add", "224.0.0.0/4", "dev", "cabin0"], check=True
        )
        return "\n".join(
            [
                _channels(network, runs, seconds),
                _changes(network, runs),
                _imposed(network, runs),
                _relays(network, runs, seconds),
            ]
        )


if __name__ == "__main__":
    main("streaming", results, __doc__, ("vlc", "multicat", "ffmpeg"), seconds=5.0)
