"""Where live sources come from: real pipes, processes and sockets."""

from __future__ import annotations

import fcntl
import logging
import os
import select
import signal
import socket
import struct
import subprocess
import time
from ipaddress import IPv4Address
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from apps.common.multicast import sending_socket
from apps.common.testing import wait_until
from apps.pa_audio.inputs import AlsaInput, FifoInput, FileInput, Input, RtpInput
from apps.pa_audio.settings import Alsa, Fifo, PaAudioSettings, Rtp, WavFile
from apps.pa_audio.tests.cabin import tone, write_wav

SETTINGS = {
    "IFE_RUNTIME_DIRECTORY": "/run/ife/pa_audio",
    "IFE_REGISTRATION": "EC-LAB",
    "IFE_LAYOUT": "/layout.yml",
    "IFE_PA_KEY": "/pa.key",
    "IFE_BOOT_ID": "a" * 32,
    "IFE_STATE_DIRECTORY": "/state",
    "IFE_MULTICAST_INTERFACE": "cabin0",
    "IFE_MULTICAST_SOURCE": "10.0.0.1",
    "IFE_PILOT_INPUT": "alsa:hw:CARD=handset,DEV=0",
    "IFE_CREW_INPUT": "rtp:10.1.1.1@239.1.1.1:5004%avionics0",
}


def read(entry: Input, size: int) -> bytes:
    """So many bytes, or what came within 5 s."""
    got = b""
    deadline = time.monotonic() + 5
    while len(got) < size and time.monotonic() < deadline:
        number = entry.fileno()
        if number is not None and select.select([number], [], [], 0.1)[0]:
            got += entry.read()
    return got


def test_settings_name_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    settings = PaAudioSettings.load()
    assert settings.pilot_input == Alsa("hw:CARD=handset,DEV=0")
    source, group = IPv4Address("10.1.1.1"), IPv4Address("239.1.1.1")
    assert settings.crew_input == Rtp(source, group, 5004, "avionics0")
    values = {name.removeprefix("IFE_").lower(): value for name, value in SETTINGS.items()}
    files = {"pilot_input": "fifo:/run/pilot.pcm", "crew_input": "file:/a.wav"}
    settings = PaAudioSettings.model_validate(values | files)
    assert (settings.pilot_input, settings.crew_input) == (
        Fifo(Path("/run/pilot.pcm")),
        WavFile(Path("/a.wav")),
    )
    for wrong in ("", "hw:0", "alsa:", "alsa:-D", "fifo:pilot", "rtp:10.1.1.1@10.1.1.2:1%a"):
        with pytest.raises(ValidationError):
            PaAudioSettings.model_validate(values | {"pilot_input": wrong})


def test_a_writer_that_stops_within_a_sample_leaves_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    entry = FifoInput(Fifo(path))
    entry.mend()
    assert "No such file" in (entry.trouble or "")
    os.mkfifo(path)
    entry.mend()
    assert entry.trouble is None
    for text in (b"\x01\x02\x03", b"\x04\x05"):
        with path.open("wb", buffering=0) as writer:
            writer.write(text)
        assert read(entry, 2) == text[:2]
        # It has gone: nothing is readable until the next.
        wait_until(lambda: entry.read() == b"" and entry.fileno() is None, "the end is seen")
        entry.mend()
        assert entry.fileno() is not None
    entry.close()


def test_what_was_written_too_early_waits_but_little_of_it(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    filled = os.write(writer, b"\x01\x02" * 50_000)
    assert filled > 60_000
    entry = FifoInput(Fifo(path))
    entry.mend()
    assert os.write(writer, b"\x03\x04" * 50_000) == 4_096
    assert entry.read() == b"\x03\x04" * 240
    entry.close()
    os.close(writer)


def test_a_pipe_that_is_filled_all_the_time_is_short_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = subprocess.Popen(["sh", "-c", f"exec yes > {path}"])
    try:
        with path.open("rb", buffering=0) as first:
            assert first.read(1)
            # As long as this is open, the next is not the first to read.
            entry = FifoInput(Fifo(path))
            time.sleep(0.2)
            entry.mend()
            number = entry.fileno()
            assert number is not None
            assert fcntl.fcntl(number, fcntl.F_GETPIPE_SZ) == 4_096
            entry.close()
    finally:
        writer.kill()
        writer.wait(timeout=10)


def test_half_of_a_sample_that_was_thrown_away_is_joined(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    os.write(writer, b"\x01\x02" * 3_000 + b"\x03")
    entry = FifoInput(Fifo(path))
    entry.mend()
    os.write(writer, b"\x04\x05\x06")
    assert entry.read() == b"\x03\x04\x05\x06"
    entry.close()
    os.close(writer)


def test_pieces_that_end_within_a_sample_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    entry = FifoInput(Fifo(path))
    entry.mend()
    with path.open("wb", buffering=0) as writer:
        writer.write(b"\x01\x02\x03")
        assert read(entry, 2) == b"\x01\x02"
        writer.write(b"\x04\x05\x06")
        assert read(entry, 4) == b"\x03\x04\x05\x06"
    entry.close()


def test_a_file_is_there_over_and_over(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", tone(0.1))
    entry = FileInput(WavFile(tmp_path / "a.wav"))
    entry.mend()
    pcm = tone(0.1).astype("<i2").tobytes()
    assert read(entry, 30_000)[:28_800] == 3 * pcm
    entry.close()
    away = FileInput(WavFile(tmp_path / "b.wav"))
    away.mend()
    assert "b.wav" in (away.trouble or "")


@pytest.fixture
def alsa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A capture device of alsa-lib, whose samples are those of a file; without it, it is gone."""
    device = tmp_path / "device.raw"
    (tmp_path / "asound.conf").write_text(
        "pcm.null { type null }\n"
        "pcm.handset { type file slave.pcm null format raw "
        f'file "/dev/null" infile "{device}" }}\n'
    )
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "asound.conf"))
    device.write_bytes(tone(1.0).astype("<i2").tobytes())
    return device


def arecord() -> list[int]:
    """The children of ours that capture."""
    found = subprocess.run(
        ["pgrep", "--exact", "--parent", str(os.getpid()), "arecord"],
        capture_output=True,
        text=True,
        check=False,
    )
    return [int(line) for line in found.stdout.split()]


def test_a_capture_device_is_heard_goes_and_comes_back(alsa: Path) -> None:
    pcm = tone(1.0).astype("<i2").tobytes()
    entry = AlsaInput(Alsa("handset"))
    entry.mend()
    assert read(entry, 9_600)[:9_600] == pcm[:9_600]
    assert entry.trouble is None
    # It goes: arecord ends, and does not start again.
    alsa.rename(alsa.with_suffix(".gone"))
    (process,) = arecord()
    os.kill(process, signal.SIGKILL)

    def is_away() -> bool:
        entry.read()
        entry.mend()
        return entry.trouble == "handset: the device is away"

    wait_until(is_away, "it is told")
    alsa.with_suffix(".gone").rename(alsa)

    def is_back() -> bool:
        entry.mend()
        return bool(entry.read())

    wait_until(is_back, "it is heard again")
    assert entry.trouble is None
    entry.close()
    assert arecord() == []


def test_a_device_that_stays_away_is_told_once(
    alsa: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    alsa.rename(alsa.with_suffix(".gone"))
    entry = AlsaInput(Alsa("handset"))
    tries: set[int] = set()

    def is_tried_again() -> bool:
        entry.read()
        entry.mend()
        tries.update(arecord())
        return len(tries) > 2

    wait_until(is_tried_again, "it is tried again and again", 20)
    (told,) = caplog.records
    assert told.getMessage() == "a capture device is away"
    assert "No such file" in told.__dict__["arecord"]
    alsa.with_suffix(".gone").rename(alsa)

    def is_back() -> bool:
        entry.read()
        entry.mend()
        return len(caplog.records) > 1

    wait_until(is_back, "that it is back is told")
    assert caplog.messages[1:] == ["a capture device is back"]
    entry.close()
    assert capfd.readouterr().err == ""


def test_a_driver_that_hangs_is_ended_and_started_again(alsa: Path) -> None:
    entry = AlsaInput(Alsa("handset"))
    entry.mend()
    assert read(entry, 480)
    (hangs,) = arecord()
    os.kill(hangs, signal.SIGSTOP)

    def is_another() -> bool:
        entry.read()
        entry.mend()
        return arecord() not in ([hangs], [])

    wait_until(is_another, "another reads the device")
    wait_until(lambda: bool(entry.read()), "it is heard again")
    entry.close()


GROUP, SOURCE = IPv4Address("239.192.75.1"), IPv4Address("127.0.0.1")


def rtp(sequence: int, samples: bytes, ssrc: int = 5, head: int = 0x80, kind: int = 97) -> bytes:
    return struct.pack("!BBHII", head, kind, sequence & 0xFFFF, 0, ssrc) + samples


def test_a_stream_is_heard_in_order_and_nothing_else(unused_port: int) -> None:
    entry = RtpInput(Rtp(SOURCE, GROUP, unused_port, "lo"))
    assert entry.trouble == "not joined yet"
    entry.mend()
    assert not entry.trouble
    samples = np.array([1, -2, 3, -4], ">i2").tobytes()
    swapped = np.array([1, -2, 3, -4], "<i2").tobytes()
    with sending_socket("lo", SOURCE, GROUP, unused_port, 0) as sock:

        def heard(packet: bytes) -> bytes:
            sock.send(packet)
            number = entry.fileno()
            assert number is not None
            assert select.select([number], [], [], 5)[0]
            return entry.read()

        assert heard(rtp(65_535, samples)) == swapped
        assert heard(rtp(65_535, samples)) == b""  # a double
        assert heard(rtp(0, samples)) == swapped
        assert heard(rtp(65_534, samples)) == b""  # too late
        assert heard(rtp(5, samples)) == swapped  # some were lost
        assert heard(rtp(6, samples, ssrc=6)) == b""  # a second sender
        assert heard(rtp(6, samples[:-1])) == b""
        assert heard(rtp(6, b"")) == b""
        assert heard(rtp(6, samples, kind=72)) == b""  # RTCP
        assert heard(rtp(6, samples, kind=101)) == b""  # a key that is pressed
        assert heard(b"rubbish") == b""
        extended = struct.pack("!HH", 0xBEDE, 1) + b"\x10\xff\x00\x00"
        assert heard(rtp(6, extended + samples, head=0x90)) == swapped
    entry.close()
    assert entry.fileno() is None


def test_a_stream_that_is_missed_is_soon_joined_again(unused_port: int) -> None:
    entry = RtpInput(Rtp(SOURCE, GROUP, unused_port, "lo"))
    entry.mend()
    # As a switch that forgets it would have it.
    joined, sock = entry._membership._joined, entry._socket
    assert joined is not None
    assert sock is not None
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, joined)
    with sending_socket("lo", SOURCE, GROUP, unused_port, 0) as sender:
        sequence = iter(range(10_000))

        def is_heard(missed: bool) -> bool:
            entry.mend(missed)
            sender.send(rtp(next(sequence), b"\0\1"))
            return bool(entry.read())

        with pytest.raises(AssertionError):
            wait_until(lambda: is_heard(missed=False), "nobody misses it", 1.5)
        wait_until(lambda: is_heard(missed=True), "it is heard again", 1.5)
    entry.close()


def test_an_interface_that_is_away_is_told(unused_port: int) -> None:
    entry = RtpInput(Rtp(SOURCE, GROUP, unused_port, "nosuch0"))
    entry.mend()
    assert "nosuch0" in (entry.trouble or "")
    entry.close()


@pytest.fixture
def unused_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((str(SOURCE), 0))
        return int(sock.getsockname()[1])
