"""PA time on a real disk: it never goes back, also over boots and where the clock is wrong."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from apps.common.testing import wait_until
from apps.pa_audio import clock
from apps.pa_audio.clock import AHEAD, FILE, Kept, PaTime

YEAR = 31_536_000_000


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "NOTE_EVERY", 0.05)


def set_clock(monkeypatch: pytest.MonkeyPatch, offset_ms: int) -> None:
    """Put the wall clock forward, or back."""
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + offset_ms * 1_000_000)


def kept(folder: Path) -> Kept:
    return Kept.model_validate_json((folder / FILE).read_bytes())


def test_it_begins_near_unix_time_and_stays_in_a_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = PaTime(tmp_path, "a")
    assert abs(first.now() - time.time() * 1000) < 1_000
    assert first.trouble is None
    set_clock(monkeypatch, YEAR)
    assert 0 <= PaTime(tmp_path, "a").now() - first.now() < 1_000


def test_it_does_not_go_back_at_the_next_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = PaTime(tmp_path, "a")
    begun = kept(tmp_path).noted
    wait_until(lambda: kept(tmp_path).noted > begun + 200, "it is noted again and again")
    noted = kept(tmp_path).noted
    set_clock(monkeypatch, -YEAR)
    second = PaTime(tmp_path, "b")
    assert second.now() >= noted + AHEAD > first.now()
    assert second.now() - first.now() < AHEAD + 1_000
    # Long enough after it, it is the clock's again.
    monkeypatch.undo()
    set_clock(monkeypatch, YEAR)
    assert abs(PaTime(tmp_path, "c").now() - time.time_ns() // 1_000_000) < 1_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"boot_id": "b", "offset": "x"}',
        '{"boot_id": "a", "offset": 0, "noted": 18446744073709551615}',
    ],
)
def test_a_damaged_note_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert abs(PaTime(tmp_path, "b").now() - time.time() * 1000) < 1_000
    assert kept(tmp_path).boot_id == "b"


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    here = PaTime(tmp_path / "nowhere", "a")
    assert here.trouble is not None
    assert "No such file" in here.trouble
    (tmp_path / "nowhere").mkdir()
    wait_until(lambda: here.trouble is None, "it is noted")
    assert kept(tmp_path / "nowhere").offset + time.monotonic_ns() // 1_000_000 <= here.now()


def test_a_disk_that_hangs_is_told_and_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "OVERDUE", 0.3)
    (tmp_path / FILE).write_text(Kept(boot_id="a", offset=0).model_dump_json())
    # Whoever opens it waits for a reader.
    aside = tmp_path / f".{FILE}.new"
    os.mkfifo(aside)
    here = PaTime(tmp_path, "a")
    before = here.now()
    wait_until(lambda: here.trouble == f"{tmp_path / FILE}: the disk hangs", "it is told")
    assert here.now() - before >= 200
    # A reader that goes away ends it.
    os.close(os.open(aside, os.O_RDONLY | os.O_NONBLOCK))


def test_the_pa_does_not_wait_for_a_disk_that_hangs_at_boot(tmp_path: Path) -> None:
    aside = tmp_path / f".{FILE}.new"
    os.mkfifo(aside)
    (tmp_path / FILE).write_text(Kept(boot_id="a", offset=0, noted=2**42).model_dump_json())
    here = PaTime(tmp_path, "b")
    assert here.now() >= 2**42 + AHEAD
    assert here.trouble == f"{tmp_path / FILE}: the disk hangs"
    os.close(os.open(aside, os.O_RDONLY | os.O_NONBLOCK))
