"""Measures how channels, imposed video and live relays are sent, beside their peers.

Senders are in one network namespace, what listens is in another; packets carry the kernel's own
time of arrival. Every sender sends the same clips, without transcoding. What a row is measured
with stands at its function. ``python -m bench.media.streaming --runs 1 --seconds 5`` tries it.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import select
import shutil
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
from ipaddress import IPv4Address
from pathlib import Path

from apps.common.multicast import Membership, receiving_socket
from apps.vlc_stream import ts
from apps.vlc_stream.tests.served import SEAT, SERVER, Cabin, Served, cabin, serving
from apps.vlc_stream.wire import payload
from bench.document import machine, table, write
from bench.media.clips import Clip, make

STORE = Path("/var/tmp/ife-clips")  # noqa: S108 - clips that last, for root
COUNTS = (1, 20, 60)
MANY = 20
LISTENED = 4
"""Channels whose packets are looked at; to look at all would take a core."""

SETTLE = 6.0
"""Seconds that senders have to come to rest."""

LONG = Clip("Channel", 60)
SHORT = Clip("Loop", 6)
SAFETY = Clip("Safety", 30)

SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
"""From asm-generic/socket.h; Python does not name them."""

_TIME = struct.Struct("@qq")


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
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 * 1024 * 1024)
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
    seconds, nanoseconds = _TIME.unpack(ancillary[0][2])
    packets = payload(data)
    return None if packets is None else Packet(seconds + nanoseconds / 1e9, packets)


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


def cpu_seconds(network: Cabin) -> float:
    """What all senders have taken of the processor."""
    ticks = 0
    for pid in _pids(network):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


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


Start = Callable[[Cabin, Path, int], contextlib.AbstractContextManager[object]]
"""Starts to send a clip on the first n groups."""


@contextlib.contextmanager
def ours(network: Cabin, clip: Path, count: int) -> Iterator[Served]:
    """vlc_stream, whole, and until each channel plays."""
    text = "channels:\n" + "".join(
        f"  c{n}: {{names: {{en: C{n}}}, group: {group(n)}, playlist: [{clip.name}]}}\n"
        for n in range(1, count + 1)
    )
    text += "imposed:\n  safety: {names: {en: S}, group: 239.192.90.1, files: {en: safety.ts}}\n"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "media").symlink_to(STORE)
        with serving(network, folder, text) as served:
            deadline = time.monotonic() + 60
            while any(channel.state != "playing" for channel in served.view().channels):
                if time.monotonic() > deadline:
                    raise RuntimeError("not all channels play")
                time.sleep(0.2)
            yield served


def _rtp(number: int) -> str:
    return f"#rtp{{mux=ts,dst={group(number)},port=5004,ttl=1}}"


@contextlib.contextmanager
def vlm(network: Cabin, clip: Path, count: int) -> Iterator[object]:
    """VLC's own VLM: one process."""
    with tempfile.NamedTemporaryFile("w", suffix=".vlm") as file:
        for n in range(1, count + 1):
            file.write(f'new c{n} broadcast enabled loop\nsetup c{n} input "{clip}"\n')
            file.write(f"setup c{n} output {_rtp(n)}\ncontrol c{n} play\n")
        file.flush()
        Path(file.name).chmod(0o644)
        command = ["vlc", "-I", "dummy", "--quiet", "--miface=cabin0", f"--vlm-conf={file.name}"]
        with running(network, command) as started:
            yield started


def vlc_each(network: Cabin, clip: Path, count: int) -> contextlib.AbstractContextManager[object]:
    """A VLC process a channel."""
    return running(
        network,
        *(
            [
                *("vlc", "-I", "dummy", "--quiet", "--miface=cabin0", "--loop", str(clip)),
                *("--sout", _rtp(n)),
            ]
            for n in range(1, count + 1)
        ),
    )


def multicat(network: Cabin, clip: Path, count: int) -> contextlib.AbstractContextManager[object]:
    """multicat: a process a channel. It does not loop."""
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


def ffmpeg(network: Cabin, clip: Path, count: int) -> contextlib.AbstractContextManager[object]:
    """ffmpeg, paced by the rate of its output: a process a channel."""
    rate = 4_000_000
    return running(
        network,
        *(
            [
                *("ffmpeg", "-v", "quiet", "-nostdin", "-re", "-stream_loop", "-1"),
                *("-i", str(clip), "-c", "copy", "-f", "mpegts", "-muxrate", str(rate)),
                f"udp://{group(n)}:5004?pkt_size=1316&bitrate={rate}&ttl=1&localaddr={SERVER}",
            ]
            for n in range(1, count + 1)
        ),
    )


# -- what is measured -------------------------------------------------------------------------


def cpu(network: Cabin, start: Start, count: int, seconds: float) -> float:
    """Percent of a core a channel."""
    with start(network, make(STORE / "long.ts", LONG), count):
        time.sleep(SETTLE)
        before = cpu_seconds(network)
        time.sleep(seconds)
        return 100 * (cpu_seconds(network) - before) / seconds / count


def memory(network: Cabin, start: Start, count: int) -> tuple[float, float]:
    """MiB a channel: of the processes that send channels, and with what watches them."""
    with start(network, make(STORE / "long.ts", LONG), count):
        time.sleep(SETTLE)
        senders = memory_mib(network, without=("vlc_stream.app", "vlc_stream.pacer"))
        return senders / count, memory_mib(network) / count


def evenness(network: Cabin, start: Start, seconds: float) -> tuple[float, float]:
    """Of 20 channels: the p99 of the gap between packets and of the PCRs' jitter, ms."""
    clip = make(STORE / "long.ts", LONG)
    with (
        ears(network, [group(n) for n in range(1, LISTENED + 1)]) as socks,
        start(network, clip, MANY),
    ):
        time.sleep(SETTLE)
        for sock in socks:
            drop(sock)
        heard = listen(socks, seconds)
    return (
        percentile([gap for packets in heard for gap in gaps(packets)], 99),
        percentile([value for packets in heard for value in pcr_jitter(packets)], 99),
    )


def loop(network: Cabin, start: Start, loops: int) -> tuple[float, float]:
    """Of a clip of 6 s in a loop: the longest gap a loop, and the step of the pictures' DTS, ms.

    The medians over the loops. A step is what a DTS is off one picture after the one before.
    """
    clip = make(STORE / "short.ts", SHORT)
    with ears(network, [group(1)]) as socks, start(network, clip, 1):
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


def first_picture(packets: list[Packet], clicked: float) -> float:
    """Milliseconds from the click until a receiver that keeps the stream's clock has a picture.

    That is when the first key frame after the click is there whole, and its DTS has come.
    """
    begun: int | None = None
    whole = 0.0
    for packet in packets:
        for t in packet.split():
            at = ts.stamps(t)
            if not at or t[t.find(b"\0\0\1") + 3] & 0xF0 != 0xE0:
                continue
            if begun is None and _begins_sequence(t):
                begun = ts.stamp(t, at[-1])
            elif begun is not None and not whole:
                whole = packet.at
    if begun is None:
        raise RuntimeError("no key frame came")
    clocks = [(p.at, clock) for p in packets for t in p.split() if (clock := ts.pcr(t))]
    due = next(at for at, clock in clocks if clock >= begun)
    return 1000 * (max(due, whole) - clicked)


def _begins_sequence(packet: bytes) -> bool:
    """Whether a sequence parameter set of H.264 is in it: VLC marks no key frame as such."""
    return b"\0\0\1\x67" in packet or b"\0\0\1\x27" in packet


def impose_ours(network: Cabin, clicks: int) -> list[float]:
    """Clicks on vlc_stream's API, 4 channels beside it."""
    make(STORE / "safety.ts", SAFETY)
    taken = []
    body = {"channel": "safety", "language": "en", "screens": True}
    with (
        ears(network, ["239.192.90.1"]) as socks,
        ours(network, make(STORE / "long.ts", LONG), 4) as served,
    ):
        for _ in range(clicks):
            listen(socks, 0.5)
            clicked = time.time()
            served.ask("POST", "/api/v1/imposed", body)
            taken.append(first_picture(listen(socks, 1.5)[0], clicked))
            served.control_video("safety", "stop")
    return taken


def impose_vlc(network: Cabin, clicks: int) -> list[float]:
    """`set_media` on a libvlc player that shows another clip."""
    safety, other = make(STORE / "safety.ts", SAFETY), make(STORE / "long.ts", LONG)
    taken = []
    for _ in range(clicks):
        with (
            ears(network, ["239.192.90.1"]) as socks,
            running(network, [sys.executable, "-c", PLAIN_VLC, str(other)]) as (player,),
        ):
            time.sleep(4)
            drop(socks[0])
            clicked = time.time()
            assert player.stdin is not None  # noqa: S101 - it is a pipe
            player.stdin.write(f"{safety}\n".encode())
            player.stdin.flush()
            heard = listen(socks, 6)[0]
            # What it showed before still comes for a while; then there is a silence.
            begins = max(
                range(1, len(heard)), key=lambda n: heard[n].at - heard[n - 1].at, default=0
            )
            taken.append(first_picture(heard[begins:], clicked))
    return taken


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
    network: Cabin, start: contextlib.AbstractContextManager[object], seconds: float
) -> float:
    """The median delay that a relay adds, ms: between the same picture's first packets."""
    sent: dict[int, float] = {}
    stop = threading.Event()
    with ears(network, [group(1)]) as socks, start:
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
    return statistics.median(delays)


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
            *("-i", f"udp://239.255.1.1:6000?localaddr={SERVER}", "-c", "copy", "-f", "mpegts"),
            *("-muxdelay", "0", f"udp://{group(1)}:5004?pkt_size=1316&localaddr={SERVER}"),
        ],
    )


# -- all of it --------------------------------------------------------------------------------


def medians(
    runs: int, measures: dict[str, Callable[[], float | tuple[float, ...]]]
) -> dict[str, tuple[float, ...]]:
    """Each measure `runs` times in turn, so that a slow minute hits all alike; the medians."""
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in measures}
    for run in range(runs):
        for name, measure in measures.items():
            value = measure()
            found[name].append(value if isinstance(value, tuple) else (value,))
            print(f"  run {run + 1} of {runs}, {name}: {found[name][-1]}", file=sys.stderr)
    return {
        name: tuple(statistics.median(column) for column in zip(*values, strict=True))
        for name, values in found.items()
    }


def results(network: Cabin, runs: int, seconds: float, counts: tuple[int, ...]) -> str:
    """All of it, as Markdown."""
    senders: dict[str, Start] = {"vlc_stream": ours, "VLC, VLM": vlm, "multicat": multicat}
    loads = medians(
        runs,
        {
            f"{name}, {count}": lambda start=start, count=count: cpu(  # type: ignore[misc]
                network, start, count, seconds
            )
            for count in counts
            for name, start in senders.items()
        },
    )
    rows = [["% of a core a channel", *(f"{count} channels" for count in counts)]]
    rows += [[n, *(f"{loads[f'{n}, {c}'][0]:.2f}" for c in counts)] for n in senders]
    ratios = [
        f"{name}: " + ", ".join(
            f"{loads[f'vlc_stream, {c}'][0] / max(0.001, loads[f'{name}, {c}'][0]):.2f}x at {c}"
            for c in counts
        )
        for name in ("VLC, VLM", "multicat")
    ]  # fmt: skip
    text = f"### Channels\n\n{table(*rows)}vlc_stream against {'; '.join(ratios)}.\n\n"

    sizes = medians(
        runs,
        {
            "vlc_stream": lambda: memory(network, ours, MANY),
            "a VLC process each": lambda: memory(network, vlc_each, MANY),
        },
    )
    even = medians(
        runs,
        {
            name: lambda start=start: evenness(network, start, seconds)  # type: ignore[misc]
            for name, start in (*senders.items(), ("ffmpeg, `bitrate=`", ffmpeg))
        },
    )
    rows = [["20 channels", "gap p99 ms", "PCR jitter p99 ms", "MiB a channel"]]
    for name, (gap, jitter) in even.items():
        rows.append([name, f"{gap:.2f}", f"{jitter:.2f}"])
        rows[-1].append(" of ".join(f"{s:.1f}" for s in sizes[name]) if name in sizes else "")
    rows.append(["a VLC process each", "", "", f"{sizes['a VLC process each'][0]:.1f}"])
    mine = even["vlc_stream"]
    text += (
        f"{table(*rows)}vlc_stream: gap {mine[0] / even['multicat'][0]:.2f}x multicat's, jitter "
        f"{mine[1] / even['ffmpeg, `bitrate=`'][1]:.2f}x ffmpeg's, memory "
        f"{sizes['vlc_stream'][0] / sizes['a VLC process each'][0]:.2f}x "
        "that of a process each, where what watches the channels is left out (with it "
        f"{sizes['vlc_stream'][1] / sizes['a VLC process each'][0]:.2f}x).\n\n"
    )

    loops = medians(
        runs,
        {
            "vlc_stream": lambda: loop(network, ours, 4),
            "VLC, `--loop`": lambda: loop(network, vlc_each, 4),
            "ffmpeg, `-stream_loop`": lambda: loop(network, ffmpeg, 4),
        },
    )
    rows = [["a loop", "gap ms", "step of DTS ms"]]
    rows += [[name, f"{gap:.1f}", f"{step:.1f}"] for name, (gap, step) in loops.items()]
    text += (
        f"{table(*rows)}vlc_stream: gap 1/"
        f"{loops['VLC, `--loop`'][0] / loops['vlc_stream'][0]:.0f} of VLC's.\n\n"
    )

    shown = medians(
        runs,
        {
            "vlc_stream": lambda: _spread(impose_ours(network, 10)),
            "VLC, `set_media`": lambda: _spread(impose_vlc(network, 3)),
        },
    )
    rows = [["imposed video, click to first picture due", "p50 ms", "longest ms"]]
    rows += [[name, *(f"{value:,.0f}" for value in values)] for name, values in shown.items()]
    ratio = shown["vlc_stream"][0] / shown["VLC, `set_media`"][0]
    text += f"### Imposed video and live relays\n\n{table(*rows)}{ratio:.2f}x VLC's.\n\n"

    relays = medians(
        runs,
        {
            name: lambda start=start: relay(network, start(network), seconds)  # type: ignore[misc]
            for name, start in (
                ("vlc_stream", relay_ours),
                ("multicat", relay_multicat),
                ("ffmpeg, copy", relay_ffmpeg),
            )
        },
    )
    rows = [["live relay", "added ms"]]
    rows += [[name, f"{value:.2f}"] for name, (value,) in relays.items()]
    ratio = relays["vlc_stream"][0] / relays["ffmpeg, copy"][0]
    return text + f"{table(*rows)}{ratio:.3f}x ffmpeg's.\n"


def _spread(values: list[float]) -> tuple[float, float]:
    return statistics.median(values), max(values)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.media.streaming", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="of each, in turn; 5 unless given")
    parser.add_argument("--seconds", type=float, default=10, help="of each look; 10 unless given")
    parser.add_argument("--channels", type=int, nargs="*", default=COUNTS, help="1 20 60")
    parser.add_argument("--print", action="store_true", help="and do not write them down")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench.media.streaming: a network of its own takes root rights")
    missing = [name for name in ("vlc", "multicat", "ffmpeg") if shutil.which(name) is None]
    if missing:
        sys.exit(f"bench.media.streaming: not installed: {', '.join(missing)}")
    STORE.mkdir(mode=0o755, exist_ok=True)
    with cabin() as network:
        network.server.run(
            subprocess.run, ["ip", "route", "add", "224.0.0.0/4", "dev", "cabin0"], check=True
        )
        text = results(network, options.runs, options.seconds, tuple(options.channels))
    text = f"{machine()} Medians of {options.runs} runs.\n\n{text}"
    if options.print:
        print(text)
    else:
        write("streaming", text)


if __name__ == "__main__":
    main()
