"""Announcements written down, on real files."""

from __future__ import annotations

import os
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from apps.common.pa import Source
from apps.common.testing import small_disk, wait_until
from apps.pa_audio.recorder import DAY, Recorder
from apps.pa_audio.tap import OnTap
from apps.pa_audio.tests.cabin import tone
from apps.pa_audio.wav import packets_of

AREAS = {"business": 1, "economy": 2}
SINCE = 1_764_000_000_000


def packet(number: int, samples: bytes, **different: object) -> OnTap:
    on_tap = OnTap(number, SINCE + number, Source.CREW, frozenset({2}), samples, wins=True)
    return on_tap._replace(**different)  # type: ignore[arg-type]


def speak(recorder: Recorder, number: int, seconds: float, **different: object) -> None:
    for samples in packets_of(tone(seconds)):
        recorder.tap.put(packet(number, samples, **different))


def end(recorder: Recorder, number: int, **different: object) -> None:
    recorder.tap.put(packet(number, b"", ended=True, **different))


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path / "kept", AREAS, 3, 10_000_000, 7)
    recorder.start()
    yield recorder
    recorder.close()


def numbers(recorder: Recorder) -> list[int]:
    return [view.number for view in recorder.all()]


def test_an_announcement_can_be_heard_again(recorder: Recorder) -> None:
    speak(recorder, 7, 0.5)
    end(recorder, 7)
    wait_until(lambda: numbers(recorder) == [7], "it is there")
    (view,) = recorder.all()
    assert view.model_dump() == {
        "number": 7,
        "since": SINCE + 7,
        "source": "crew",
        "areas": ("economy",),
        "seconds": 0.5,
    }
    path = recorder.path_of(7)
    assert path is not None
    with wave.open(str(path)) as wav:
        samples = np.frombuffer(wav.readframes(10**6), "<i2")
    assert (samples == tone(0.5)).all()
    assert recorder.path_of(8) is None


def test_two_at_once_are_two_and_music_is_none(recorder: Recorder) -> None:
    speak(recorder, 1, 0.1)
    speak(recorder, 2, 0.2, source=Source.PILOT)
    speak(recorder, 3, 0.2, source=Source.MUSIC)
    for number, source in ((1, Source.CREW), (2, Source.PILOT), (3, Source.MUSIC)):
        end(recorder, number, source=source)
    wait_until(lambda: numbers(recorder) == [2, 1], "both are there")


def test_it_is_not_there_before_it_is_whole(recorder: Recorder, tmp_path: Path) -> None:
    speak(recorder, 1, 0.1)
    wait_until(lambda: list((tmp_path / "kept").glob(".*.part")), "it is being written")
    assert recorder.all() == []


def test_the_oldest_go_when_there_are_too_many(recorder: Recorder) -> None:
    for number in range(1, 6):
        speak(recorder, number, 0.1)
        end(recorder, number)
    wait_until(lambda: numbers(recorder) == [5, 4, 3], "the last three are there")


def test_the_oldest_go_when_they_take_too_much(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, AREAS, 100, 25_000, 7)
    recorder.start()
    for number in (1, 2, 3, 4):
        speak(recorder, number, 0.1)  # 9.6 kB
        end(recorder, number)
    wait_until(lambda: numbers(recorder) == [4, 3], "the last two are there")
    recorder.close()


def said(recorder: Recorder, number: int, since: int) -> None:
    """One that is written down, of that moment."""
    speak(recorder, number, 0.1, since=since)
    end(recorder, number, since=since)
    wait_until(lambda: numbers(recorder)[:1] == [number], f"{number} is there")


def test_the_old_go(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, AREAS, 100, 10**9, 7)
    recorder.start()
    said(recorder, 1, SINCE)
    said(recorder, 2, SINCE + 1)
    # However long the aircraft is parked in between.
    for day in range(7):
        said(recorder, 10 + day, SINCE + (100 + day) * DAY)
    wait_until(lambda: numbers(recorder) == [16, 15, 14, 13, 12, 11, 10], "the old are gone")
    recorder.close()


def test_none_goes_because_the_clock_is_another(tmp_path: Path) -> None:
    """It began in 1970 at one start, was ahead at the next, and right before and after that."""
    moments = [SINCE, 5, SINCE + 3000 * DAY, SINCE + DAY]
    for number, since in enumerate(moments, 1):
        recorder = Recorder(tmp_path, AREAS, 100, 10**9, 7)
        recorder.start()
        said(recorder, number, since)
        recorder.close()
    assert numbers(recorder) == [4, 3, 2, 1]
    # What was made by the clock that was ahead is not the newest for ever.
    few = Recorder(tmp_path, AREAS, 2, 10**9, 7)
    few.start()
    said(few, 5, SINCE + 2 * DAY)
    wait_until(lambda: numbers(few) == [5, 4], "those of the wrong clocks are gone")
    few.close()


def test_what_was_said_before_a_crash_is_kept(recorder: Recorder, tmp_path: Path) -> None:
    speak(recorder, 1, 2.0)
    folder = tmp_path / "kept"
    wait_until(
        lambda: any(path.stat().st_size > 100_000 for path in folder.glob(".*.part")),
        "most of it is written",
    )
    # As a crash leaves it: a copy of what is on the disk right now.
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for path in folder.glob(".*.part"):
        (crashed / path.name).write_bytes(path.read_bytes())
    (crashed / ".2-2-5-crew-1.wav.part").write_bytes(b"")
    again = Recorder(crashed, AREAS, 3, 10_000_000, 7)
    again.start()
    wait_until(lambda: numbers(again) == [1], "it is there again")
    again.close()
    assert again.all()[0].seconds > 1
    assert not list(crashed.glob(".*"))
    kept = again.path_of(1)
    assert kept is not None
    with wave.open(str(kept)) as wav:
        assert wav.getnframes() / 48_000 == pytest.approx(again.all()[0].seconds, abs=0.001)


def test_what_is_none_of_ours_in_its_folder_does_not_end_it(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    (folder / "1-1-5-crew-1.wav").mkdir(parents=True)
    (folder / ".2-2-5-crew-1.wav.part").mkdir()
    with (folder / ".3-3-5-crew-1.wav.part").open("wb") as file:
        file.truncate(5 * 1024**3)  # with nothing in it, so it takes no space
    recorder = Recorder(folder, AREAS, 1, 10_000_000, 7)
    recorder.start()
    for number in (4, 5):
        speak(recorder, number, 0.2)
        end(recorder, number)
    wait_until(lambda: numbers(recorder) == [5], "the next is there")
    assert recorder.path_of(1) is None
    assert not (folder / ".3-3-5-crew-1.wav.part").exists()
    recorder.close()


def test_a_full_disk_is_told_and_then_it_goes_on(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "200k"):
        recorder = Recorder(disk / "kept", AREAS, 100, 10**9, 7)
        recorder.start()
        speak(recorder, 1, 5.0)  # 480 kB
        wait_until(lambda: "No space" in (recorder.trouble or ""), "it is told")
        wait_until(lambda: not list(disk.glob("kept/.*")), "its space is free, though it goes on")
        end(recorder, 1)
        assert recorder.all() == []
        speak(recorder, 2, 0.2)
        end(recorder, 2)
        wait_until(lambda: numbers(recorder) == [2], "the next is there")
        assert recorder.trouble is None
        recorder.close()


def test_a_slow_disk_loses_audio_but_stops_nobody(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, AREAS, 3, 10_000_000, 7)  # not started: it takes nothing
    speak(recorder, 1, 30)
    assert recorder.tap.lost == 6_000 - 4_000


def test_one_whose_end_was_lost_is_kept_all_the_same(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.pa_audio.recorder.ENDED_AFTER", 0.5)
    speak(recorder, 1, 0.2)
    wait_until(lambda: numbers(recorder) == [1], "it is there")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_disk_that_has_gone_read_only_is_told_and_then_it_goes_on(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "2M"):
        recorder = Recorder(disk / "kept", AREAS, 100, 10**9, 7)
        recorder.start()
        speak(recorder, 1, 0.2)
        end(recorder, 1)
        wait_until(lambda: numbers(recorder) == [1], "it is there")
        mount = ("mount", "-o", "remount,ro", str(disk))
        subprocess.run(mount, check=True, timeout=10)
        speak(recorder, 2, 0.2)
        end(recorder, 2)
        wait_until(lambda: "Read-only" in (recorder.trouble or ""), "it is told")
        subprocess.run((*mount[:2], "remount,rw", str(disk)), check=True, timeout=10)
        speak(recorder, 3, 0.2)
        end(recorder, 3)
        wait_until(lambda: numbers(recorder) == [3, 1], "the next is there")
        recorder.close()
