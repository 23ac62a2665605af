"""What fails around the PA, and what is heard all the same."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from apps.common.pa import Audio, Line, Source
from apps.common.protocol import ASKED_HEADER
from apps.common.testing import RedisServer, ask_manhole, small_disk, wait_until
from apps.pa_audio.pram import INDEX
from apps.pa_audio.tests.cabin import (
    EVERYWHERE,
    INTERFACE,
    ROOT,
    SEAT,
    Keys,
    Network,
    Pa,
    Seat,
    Speaker,
    library,
    tone,
    write_wav,
)

ECONOMY = 2


@pytest.fixture
def seat(network: Network) -> Iterator[Seat]:
    with Seat(network, ECONOMY) as seat:
        yield seat


@pytest.fixture
def keys(short: Path) -> Iterator[Keys]:
    with Keys(short / "keylines.sock") as keys:
        yield keys


def go_on(seat: Seat, packets: int = 100) -> list[Audio]:
    """As many packets of audio, from now."""
    now = time.monotonic()
    wait_until(lambda: len(seat.audio(now)) >= packets, "it goes on")
    return [it for _, it in seat.audio(now)]


def gaps(packets: list[Audio]) -> list[int]:
    """Milliseconds of PA time between two packets: when the server sent them."""
    return [b.time - a.time for a, b in pairwise(packets)]


@pytest.mark.parametrize("whom", ["the worker", "all of it"])
def test_killed_in_the_middle_it_is_heard_again_within_2_s(
    short: Path, network: Network, seat: Seat, keys: Keys, whom: str
) -> None:
    with Pa(short, network) as pa:
        keys.set(pilot=EVERYWHERE)
        took = []
        for _ in range(3):
            go_on(seat)
            number = seat.audio()[-1][1].number
            if whom == "the worker":
                os.kill(pa.worker(), signal.SIGKILL)
            else:
                pa.kill()
                pa.start()  # as systemd does, RestartSec= later
            killed = time.monotonic()
            wait_until(lambda: not seat.speaking(0.05), "it is dead")
            wait_until(lambda: seat.speaking(), "it is heard again")
            took.append(time.monotonic() - killed)
            again = go_on(seat)
            assert again[0].number != number
            # Nobody took it for something old.
            assert set(seat.refused) <= {"duplicate"}
        # A machine that is busy with other things takes longer, but not each time.
        assert min(took) < 2


def test_what_was_said_before_it_was_killed_is_kept(
    short: Path, network: Network, seat: Seat, keys: Keys
) -> None:
    with Pa(short, network) as pa:
        keys.set(pilot=EVERYWHERE)
        go_on(seat, 200)
        number = seat.audio()[-1][1].number
        pa.kill()
        pa.start()
        pa.wait()

        def kept() -> list[float]:
            entries = pa.http.get("/api/v1/announcements").json()["announcements"]
            return [entry["seconds"] for entry in entries if entry["number"] == number]

        wait_until(kept, "it can be heard again")
        assert kept()[0] > 0.5


def test_killed_it_goes_on_with_what_the_crew_asked_for(
    short: Path, network: Network, seat: Seat, keys: Keys
) -> None:
    """Once: a message that ends the PA is not begun for ever."""
    library(short, 30.0)
    agenda = short / "agenda.json"

    def asked(pa: Pa) -> tuple[list[str], list[str]]:
        view = pa.http.get("/api/v1/pa").json()
        return [item["message"] for item in view["queue"]], view["music"]

    with Pa(short, network) as pa:
        keys.set()
        for message in ("safety", "welcome"):
            pa.http.post("/api/v1/pram", json={"message": message, "areas": ["economy"]})
        pa.http.post("/api/v1/music", json={"on": True, "areas": ["business"]})
        wait_until(agenda.exists, "it is noted", 20)
        pa.kill()
        pa.start()
        pa.wait()
        wait_until(lambda: asked(pa) == (["safety", "welcome"], ["business"]), "it goes on")
        wait_until(lambda: seat.speaking() == {"pram"}, "it is heard")
        pa.kill()
        pa.start()
        pa.wait()
        time.sleep(1)
        assert asked(pa) == ([], [])

        pa.http.post("/api/v1/music", json={"on": True})
        wait_until(agenda.exists, "it is noted", 20)
        os.kill(pa.worker(), signal.SIGKILL)
        keys.set(decompression=True)
        wait_until(lambda: not agenda.exists(), "it is dealt with")
        pa.wait()
        time.sleep(1)
        assert asked(pa) == ([], []), "not in a decompression"


def test_redis_gone_frozen_and_back_is_not_heard(
    short: Path, network: Network, seat: Seat, keys: Keys
) -> None:
    with RedisServer(short) as redis, Pa(short, network) as pa:
        keys.set(pilot=EVERYWHERE)
        go_on(seat)
        began = time.monotonic()
        redis.freeze()
        go_on(seat, 400)
        redis.thaw()
        redis.kill()
        go_on(seat, 200)
        wait_until(lambda: "redis" in pa.degraded(), "it is told")
        redis.start()
        wait_until(lambda: "redis" not in pa.degraded(), "it is back")

        def told() -> bool:
            with redis.client() as client:
                return '"pilot"' in str(client.get("ife:pa_audio/state"))

        wait_until(told, "the bus is told again")
        packets = [it for _, it in seat.audio(began)]
        assert len({it.number for it in packets}) == 1
        assert {(b.sequence - a.sequence) & 0xFFFF for a, b in pairwise(packets)} == {1}


def test_a_stream_that_is_silent_is_told_while_it_is_to_be_heard(
    short: Path, network: Network, keys: Keys
) -> None:
    crew = {"IFE_CREW_INPUT": f"rtp:{SEAT}@239.192.75.9:6000%{INTERFACE}"}
    with Pa(short, network, crew) as pa:
        assert "crew input" not in pa.degraded()
        keys.set(crew=EVERYWHERE)
        wait_until(lambda: "no samples" in pa.degraded().get("crew input", ""), "it is told", 3)
        keys.set()
        wait_until(lambda: "crew input" not in pa.degraded(), "it need not be heard")


def test_interface_down_and_up(short: Path, network: Network, seat: Seat, keys: Keys) -> None:
    with Pa(short, network) as pa:
        keys.set(pilot=EVERYWHERE)
        go_on(seat)
        try:
            network.set_link("down")
            wait_until(lambda: not seat.speaking(), "nothing is heard")
            wait_until(lambda: "multicast" in pa.degraded(), "it is told")
        finally:
            network.set_link("up")
        wait_until(lambda: seat.speaking(), "it is heard again")
        go_on(seat)
        wait_until(lambda: not {"multicast", "self-test"} & pa.degraded().keys(), "all is well")
        assert "the PA is not going out" in pa.log()
        assert pa.log().count("the PA is not going out") < 5


def test_a_cable_that_is_out_is_told_though_it_hears_itself(short: Path) -> None:
    # A network of its own: an interface that was down has lost the route that others need.
    with Network() as network, Pa(short, network) as pa:

        def passed() -> bool:
            return bool(pa.http.get("/api/v1/pa").json()["self_test"]["passed"])

        wait_until(lambda: passed() and "cable" not in pa.degraded(), "all is well")
        network.set_cable("down")
        wait_until(lambda: "cabin0" in pa.degraded().get("cable", ""), "it is told")
        assert not passed()
        network.set_cable("up")
        wait_until(lambda: passed() and "cable" not in pa.degraded(), "all is well again")


def test_a_writer_that_stops_is_silence_never_noise(
    short: Path, network: Network, seat: Seat, keys: Keys
) -> None:
    with Pa(short, network):
        keys.set(crew=EVERYWHERE)
        with Speaker(short / "crew", tone(1.0)):
            wait_until(lambda: any(any(it.samples) for _, it in seat.audio()), "it is heard")
        with (short / "crew").open("wb", buffering=0) as pipe:
            pipe.write(b"\x55")  # half a sample
        wait_until(
            lambda: not any(it.samples.strip(b"\0") for _, it in seat.audio()[-20:]), "silence"
        )
        packets = go_on(seat)
        assert {it.samples for it in packets} == {bytes(480)}
        assert {it.source for it in packets} == {Source.CREW}
        # It is the right way round for the next writer.
        now = time.monotonic()
        with (short / "crew").open("wb", buffering=0) as pipe:
            pipe.write(b"\x01\x00" * 240)
        wait_until(
            lambda: b"\x00\x01" * 240 in b"".join(it.samples for _, it in seat.audio(now)),
            "it is heard as it is",
        )


def test_a_capture_device_that_goes_in_the_middle_is_silence_until_it_is_back(
    short: Path, network: Network, seat: Seat, keys: Keys
) -> None:
    device = short / "device.raw"
    device.write_bytes(b"\x01\x00" * 48_000 * 60)
    (short / "asound.conf").write_text(
        "pcm.null { type null }\npcm.handset { type file slave.pcm null format raw "
        f'file "/dev/null" infile "{device}" }}\n'
    )
    more = {"IFE_CREW_INPUT": "alsa:handset", "ALSA_CONFIG_PATH": str(short / "asound.conf")}
    with Pa(short, network, more) as pa:
        keys.set(crew=EVERYWHERE)
        loud = b"\x00\x01" * 240
        wait_until(lambda: seat.audio()[-1:] and seat.audio()[-1][1].samples == loud, "heard")
        device.rename(short / "gone")
        children = Path(f"/proc/{pa.worker()}/task").glob("*/children")
        captures = [int(child) for path in children for child in path.read_text().split()]
        for child in captures:
            os.kill(child, signal.SIGKILL)
        wait_until(lambda: seat.audio()[-1][1].samples == bytes(480), "silence")
        wait_until(lambda: "away" in pa.degraded().get("crew input", ""), "it is told")
        assert {it.samples for it in go_on(seat)} == {bytes(480)}
        (short / "gone").rename(device)
        wait_until(lambda: seat.audio()[-1][1].samples == loud, "it is heard again")


def test_a_full_disk_is_not_heard(short: Path, network: Network, seat: Seat, keys: Keys) -> None:
    with small_disk(short / "state", "120k"), Pa(short, network) as pa:
        keys.set(pilot=EVERYWHERE)
        go_on(seat, 400)
        wait_until(lambda: "No space" in pa.degraded().get("recordings", ""), "it is told")
        go_on(seat)
        assert {
            (b.sequence - a.sequence) & 0xFFFF for (_, a), (_, b) in pairwise(seat.audio())
        } == {1}


def test_a_disk_that_hangs_keeps_no_input_from_being_opened(
    short: Path, network: Network, seat: Seat, keys: Keys
) -> None:
    (short / "pram").mkdir()
    os.mkfifo(short / "pram" / INDEX)  # whoever opens it waits
    pa = Pa(short, network)
    (short / "crew").unlink()
    with pa:
        wait_until(lambda: "does not answer" in pa.degraded().get("messages", ""), "it is told", 30)
        assert "crew input" in pa.degraded()
        os.mkfifo(short / "crew")
        keys.set(crew=EVERYWHERE)
        with Speaker(short / "crew", tone(1.0)):
            wait_until(lambda: any(any(it.samples) for _, it in seat.audio()), "it is heard")


def test_disks_that_hang_leave_the_crew_their_orders(
    short: Path, network: Network, seat: Seat, keys: Keys
) -> None:
    (short / "pram").mkdir()
    os.mkfifo(short / "pram" / INDEX)  # whoever opens it waits
    hang = "pa.recorder._recordings = lambda: __import__('time').sleep(60) or []"
    with Pa(short, network, {"IFE_MANHOLE": str(short / "manhole")}) as pa:
        ask_manhole(short / "manhole", hang)
        asked = ["/api/v1/pram", "/api/v1/announcements", "/api/v1/announcements/1/audio"] * 8

        def ask(path: str) -> None:
            # One of each waits for its disk until the PA ends.
            with contextlib.suppress(httpx.TransportError):
                pa.http.get(path, timeout=20)

        threads = [threading.Thread(target=ask, args=(path,), daemon=True) for path in asked]
        for thread in threads:
            thread.start()
        wait_until(lambda: sum(thread.is_alive() for thread in threads) == 2, "others get one", 30)
        assert pa.http.post("/api/v1/music", json={"on": False}, timeout=2).status_code == 204
        pram = pa.http.get("/api/v1/pram", timeout=2).json()
        assert pram["trouble"] == "the disk of the messages does not answer"


def test_music_that_there_is_not_holds_no_seat(short: Path, network: Network, seat: Seat) -> None:
    """Silence would be heard in place of the film, until somebody finds out why."""
    (short / "music").mkdir()
    with Pa(short, network) as pa:
        assert pa.http.post("/api/v1/music", json={"on": True}).status_code == 204
        wait_until(lambda: "no music" in pa.degraded().get("music", ""), "it is told")
        time.sleep(0.5)
        assert seat.audio() == []
        assert pa.http.get("/api/v1/pa").json()["state"]["state"] == "idle"
        write_wav(short / "music/1.wav", tone(1.0))
        wait_until(seat.audio, "it is heard once it is there", 10)
        (short / "music/1.wav").unlink()
        wait_until(lambda: not seat.speaking(0.5), "and over when it is gone", 10)


def test_a_thread_that_has_ended_is_told(short: Path, network: Network) -> None:
    with Pa(short, network, {"IFE_MANHOLE": str(short / "manhole")}) as pa:
        assert "threads" not in pa.degraded()
        ask_manhole(short / "manhole", "pa.recorder.close()", "pa.library.index = lambda: 1 / 0")
        wait_until(lambda: pa.degraded().get("threads") == "ended: recorder", "it is told")
        # One that meets what nobody expected goes on.
        wait_until(lambda: "division" in pa.degraded()["messages"], "that is told, too", 20)
        assert pa.degraded()["threads"] == "ended: recorder"


def test_rounds_that_fail_are_no_pa(short: Path, network: Network) -> None:
    with Pa(short, network, {"IFE_MANHOLE": str(short / "manhole")}) as pa:
        ask_manhole(short / "manhole", "pa.engine._send = lambda now: 1 / 0")
        wait_until(lambda: pa.http.get("/healthz").status_code == 503, "it is not ready", 20)
        assert pa.http.get("/healthz").json()["why_not"] == "the real-time thread is stuck"


def test_a_message_that_nobody_waits_for_any_more_is_not_played(
    short: Path, network: Network
) -> None:
    slow = "pa.library.prepare = lambda *item: __import__('time').sleep(1) or item"
    with Pa(short, network, {"IFE_MANHOLE": str(short / "manhole")}) as pa:
        ask_manhole(short / "manhole", slow)
        answer = pa.http.post(
            "/api/v1/pram",
            json={"message": "welcome"},
            headers={ASKED_HEADER: f"{time.time():.3f} 0.5"},
        )
        assert answer.status_code == 412
        assert pa.http.get("/api/v1/pram").json()["queue"] == []


def test_a_busy_api_and_machine_do_not_hold_packets_up(
    short: Path, network: Network, seat: Seat, keys: Keys
) -> None:
    with Pa(short, network) as pa:
        keys.set(pilot=EVERYWHERE)
        go_on(seat)
        began = time.monotonic()
        asked = 0
        while asked < 150 or time.monotonic() < began + 1:
            assert pa.http.get("/openapi.json").status_code == 200
            assert pa.http.get("/api/v1/pa").status_code == 200
            asked += 1
        packets = [it for _, it in seat.audio(began)]
        assert len(packets) > 50
        # Not a benchmark: three packets' time, on whatever machine this is.
        assert sorted(gaps(packets))[-len(packets) // 100 - 1] <= 15


@pytest.mark.parametrize("speaking", [False, True])
def test_it_sleeps_until_something_is_due(
    short: Path, network: Network, keys: Keys, speaking: bool
) -> None:
    with Pa(short, network) as pa, Speaker(short / "pilot", tone(1.0)):
        keys.set(pilot=Line(all=speaking))

        def used() -> float:
            fields = Path(f"/proc/{pa.worker()}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        began, before = time.monotonic(), used()
        wait_until(lambda: time.monotonic() - began > 3, "time passes")
        # Not a benchmark: one that never sleeps uses all of the time.
        assert used() - before < (time.monotonic() - began) / 2


@pytest.mark.parametrize(
    "count", [50, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_many_announcements_leave_nothing_behind(
    short: Path, network: Network, seat: Seat, keys: Keys, count: int
) -> None:
    with Pa(short, network) as pa:

        def held() -> tuple[int, int]:
            return len(list(Path(f"/proc/{pa.worker()}/fd").iterdir())), status("Threads")

        def is_no_more() -> bool:
            # Less it may be: what looks at a disk or at a listener comes and goes.
            return all(now <= then for now, then in zip(held(), before, strict=True))

        def status(name: str) -> int:
            text = Path(f"/proc/{pa.worker()}/status").read_text()
            return int(text.split(f"{name}:")[1].split()[0])

        def announce(count: int) -> None:
            for _ in range(count):
                keys.set(pilot=EVERYWHERE, crew=Line(areas=("economy",)))
                wait_until(lambda: seat.speaking(0.03) == {"pilot"}, "the pilot speaks")
                keys.set()
                wait_until(lambda: seat.audio()[-1][1].ended, "it ends")

        announce(max(10, count // 10))
        before, kib = held(), status("VmRSS")
        announce(count)
        wait_until(is_no_more, "no more is open than before")
        # The recorder keeps a list of what it has, which has its bound.
        assert status("VmRSS") < kib + 8192


def test_the_service_manager_hears_that_it_is_well_while_it_is(
    short: Path, network: Network
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(short / "notify"))
        manager.settimeout(20)
        with Pa(short, network, {"NOTIFY_SOCKET": str(short / "notify")}):
            said = [manager.recv(4096).decode() for _ in range(6)]
        assert any(line.startswith("STATUS=degraded: keylines") for line in said)
        assert any("WATCHDOG=1" in line for line in said)
        assert any("READY=1" in line for line in said)


def test_a_wrong_setting_ends_it_with_a_line_that_names_it(short: Path, network: Network) -> None:
    pa = Pa(short, network, {"IFE_PILOT_INPUT": "tape"})
    (short / "pa.key").write_bytes(b"short")
    for wrong, name in (
        (pa.environment, "IFE_PILOT_INPUT"),
        ({**pa.environment, "IFE_PILOT_INPUT": "alsa:hw:0", "IFE_MULTICAST_TTL": "0"}, "_TTL"),
        ({**pa.environment, "IFE_PILOT_INPUT": "alsa:hw:0"}, "IFE_PA_KEY"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", "from apps.pa_audio.app import create_app; create_app()"],
            env={"PATH": os.environ["PATH"], **wrong},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 4
        assert name in done.stderr
        assert len(done.stderr.splitlines()) == 1
    pa.http.close()
