"""The journal survives what may happen to a machine in flight."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from apps.common.commands import Pause, SetVolume
from apps.common.testing import small_disk, wait_until
from apps.seat_control import journal as journals
from apps.seat_control.audit import Auditor
from apps.seat_control.commands import KEPT, CommandLog
from apps.seat_control.journal import Journal, JournalError
from apps.seat_control.tests.test_command_log import EPOCH, SEATS, issue, status

BOOT, OTHER_BOOT = "a" * 32, "b" * 32


def test_commands_and_their_outcome_come_back(tmp_path: Path) -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    journal = Journal(tmp_path, BOOT)
    for action in (SetVolume(volume=10), Pause()):
        journal.add(issue(log, action, ["1A", "1B"], now=100))
    log.confirm("1A", status(2), 150)
    journal.update(log.changed())
    journal.close()

    journal = Journal(tmp_path, BOOT)
    again = CommandLog(SEATS, EPOCH, journal.last_seq())
    for issued in journal.load(again.frame, SEATS):
        again.add(issued)
    assert again.last == 2
    for seq in (1, 2):
        before, after = log.get(seq), again.get(seq)
        assert before is not None
        assert after is not None
        assert after.report(EPOCH, 200) == before.report(EPOCH, 200)
        assert after.frame == before.frame
    journal.close()


def test_an_epoch_lasts_as_long_as_the_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path, BOOT)
    epoch = journal.epoch
    journal.close()
    journal = Journal(tmp_path, OTHER_BOOT)
    assert journal.epoch == epoch
    journal.close()


def test_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "LOCK_TIMEOUT", 0.1)
    journal = Journal(tmp_path, BOOT)
    with pytest.raises(JournalError, match="running twice"):
        Journal(tmp_path, BOOT)
    journal.close()
    Journal(tmp_path, BOOT).close()


def test_a_broken_journal_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"no database" * 1000)
    with pytest.raises(JournalError, match="move the file away"):
        Journal(tmp_path, BOOT)


def test_cabin_time_goes_on_in_the_same_boot(tmp_path: Path) -> None:
    journal = Journal(tmp_path, BOOT)
    before = journal.now()
    journal.close()
    journal = Journal(tmp_path, BOOT)
    assert 0 <= journal.now() - before < 5_000
    journal.close()


@pytest.mark.parametrize("hours", [-1, 1, -24 * 365 * 20])
def test_cabin_time_never_goes_back_over_a_reboot_with_a_wrong_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    journal = Journal(tmp_path, BOOT)
    before = journal.now()
    journal.close()
    wall = time.time()
    monkeypatch.setattr(time, "time", lambda: wall + hours * 3600)
    monkeypatch.setattr(journals, "_uptime_ms", lambda: 1_000)
    journal = Journal(tmp_path, OTHER_BOOT)
    assert journal.now() > before
    journal.close()


_WRITER = """
import sys
from contextlib import closing
from pathlib import Path
from apps.common.commands import SetVolume
from apps.seat_control.commands import CommandLog
from apps.seat_control.journal import Journal
from apps.seat_control.tests.test_command_log import SEATS, issue

journal = Journal(Path(sys.argv[1]), "a" * 32)
log = CommandLog(SEATS, journal.epoch, journal.last_seq())
while True:
    issued = issue(log, SetVolume(volume=10), ["1A"])
    journal.add(issued)
    print(issued.seq, flush=True)
"""


def test_no_number_is_used_twice_over_kills(tmp_path: Path) -> None:
    said: list[int] = []
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            killer = threading.Timer(0.05, process.kill)
            killer.start()
            lines = [first, *process.stdout]
            killer.join()
        assert process.returncode == -signal.SIGKILL
        said += [int(line) for line in lines if line.endswith("\n")]
    assert len(said) == len(set(said))
    assert said == sorted(said)
    journal = Journal(tmp_path, BOOT)
    assert journal.last_seq() >= said[-1]
    journal.close()


def _free(folder: Path) -> int:
    return os.statvfs(folder).f_bavail


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk_neither_stops_commands_nor_takes_numbers_back(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "1M"):
        log = CommandLog(SEATS, EPOCH, 0)
        journal = Journal(disk, BOOT)
        journal.add(issue(log, SetVolume(volume=1), ["1A"]))
        with (disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(b"x" * 4096) == 4096 and _free(disk) > 0:
                pass
        while journal.trouble is None:  # until SQLite has used up what it had
            last = issue(log, SetVolume(volume=2), SEATS)
            journal.add(last)
        assert "forgotten" in (journal.trouble or "")
        assert journal.last_seq() == last.seq
        journal.close()
        (disk / "filler").unlink()
        journal = Journal(disk, BOOT)
        assert journal.last_seq() == last.seq
        assert journal.update([last])
        assert journal.trouble is None
        assert [issued.seq for issued in journal.load(log.frame, SEATS)][-1] == last.seq
        journal.close()


def test_only_what_is_remembered_is_loaded(tmp_path: Path) -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    journal = Journal(tmp_path, BOOT)
    first = [
        issue(log, SetVolume(volume=1), ["1A", "1B"]),
        issue(log, SetVolume(volume=2), ["1B"]),
        issue(log, SetVolume(volume=3), ["1C"]),
        issue(log, Pause(), ["1A"]),
    ]
    rest = [issue(log, SetVolume(volume=4), ["1C"]) for _ in range(KEPT + 50)]
    assert journal.update([*first, *rest])
    log.changed()
    log.tick(0)
    loaded = journal.load(log.frame, SEATS)
    assert [issued.seq for issued in loaded] == sorted(log.remembered())
    assert [issued.seq for issued in loaded[:3]] == [1, 2, 55]
    journal.close()


def test_a_journal_that_is_damaged_further_back_says_what_to_do(tmp_path: Path) -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    journal = Journal(tmp_path, BOOT)
    assert journal.update([issue(log, SetVolume(volume=1), SEATS) for _ in range(200)])
    journal.close()
    with (tmp_path / "journal.db").open("r+b") as file:
        file.seek(16 * 4096)
        file.write(b"\xff" * 64 * 4096)
    journal = Journal(tmp_path, BOOT)
    with pytest.raises(JournalError, match="move the file away"):
        journal.load(log.frame, SEATS)


def test_a_journal_that_breaks_while_it_is_used_is_told(tmp_path: Path) -> None:
    """Health is asked each second by the thread that watches the seats: nothing may stop that."""
    log = CommandLog(SEATS, EPOCH, 0)
    journal = Journal(tmp_path, BOOT)
    journal.update([issue(log, SetVolume(volume=1), SEATS) for _ in range(200)])
    with closing(sqlite3.connect(tmp_path / "journal.db")) as other, other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with (tmp_path / "journal.db").open("r+b") as file:
            file.seek(16 * 4096)
            file.write(b"\xff" * 64 * 4096)
        # What the journal keeps of the file in memory is old with this.
        other.execute("INSERT INTO meta VALUES ('test', 1)")
    auditor = Auditor(journal, "postgresql+psycopg://nowhere", "EC-LAB")
    auditor.start()
    wait_until(lambda: "malformed" in (auditor.trouble or ""), "the auditor says so")
    journal.add(issue(log, SetVolume(volume=1), SEATS))
    auditor.close()
    journal.close()


def test_a_journal_without_a_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="IFE_STATE_DIRECTORY"):
        Journal(tmp_path / "missing", BOOT)


def test_a_number_outlives_its_command(tmp_path: Path) -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    journal = Journal(tmp_path, BOOT)
    for _ in range(3):
        journal.add(issue(log, Pause(), ["1A"]))
    journal.audited(journal.unaudited(10))
    journal.forget_but([])
    journal.close()
    journal = Journal(tmp_path, BOOT)
    assert journal.load(log.frame, SEATS) == []
    assert journal.last_seq() == 3
    journal.close()


def test_a_smaller_cabin_leaves_sane_reports(tmp_path: Path) -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    journal = Journal(tmp_path, BOOT)
    journal.add(issue(log, Pause(), ["1A", "1B"]))
    refusal = [{"seq": 1, "reason": "no media"}]
    log.confirm("1B", status(1, refused=refusal), 50)
    journal.update(log.changed())
    (issued,) = journal.load(log.frame, ["1A"])
    assert (issued.targets, issued.open, issued.refused, issued.applied()) == (
        ("1A",),
        {"1A"},
        {},
        0,
    )
    journal.close()


def test_a_command_of_a_newer_version_is_left_out(tmp_path: Path) -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    journal = Journal(tmp_path, BOOT)
    journal.add(issue(log, Pause(), ["1A"]))
    journal.add(issue(log, SetVolume(volume=3), ["1A"]))
    journal.close()
    with closing(sqlite3.connect(tmp_path / "journal.db")) as database, database:
        database.execute(
            "UPDATE command SET record = replace(record, 'pause', 'fold') WHERE seq = 1"
        )
    journal = Journal(tmp_path, BOOT)
    assert [issued.seq for issued in journal.load(log.frame, SEATS)] == [2]
    assert journal.last_seq() == 2
    journal.close()


def test_the_audit_log_gets_each_version_once(tmp_path: Path) -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    journal = Journal(tmp_path, BOOT)
    journal.add(issue(log, SetVolume(volume=10), ["1A"]))
    rows = journal.unaudited(10)
    assert [row.seq for row in rows] == [1]
    log.confirm("1A", status(1), 50)
    journal.update(log.changed())
    journal.audited(rows)
    assert journal.count_unaudited() == 1  # the outcome came while the row was on its way
    journal.audited(journal.unaudited(10))
    assert journal.unaudited(10) == []
    journal.forget_but([1])
    assert journal.last_seq() == 1
    journal.close()
