"""Sessions and the file that they are kept in."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apps.crew_web.lockout import Lockout
from apps.crew_web.sessions import LIFETIME, MAX_SESSIONS, Sessions
from apps.crew_web.store import Store, StoreError
from apps.crew_web.tests.conftest import damage_table

if TYPE_CHECKING:
    from apps.crew_web.tests.conftest import Clock

IDLE = 1800.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.close()


def test_a_session_outlives_a_restart_and_ends_with_log_out(tmp_path: Path, clock: Clock) -> None:
    store = Store(tmp_path)
    session_id = Sessions(store, IDLE, clock).begin("anna")
    store.close()
    store = Store(tmp_path)
    sessions = Sessions(store, IDLE, clock)
    session = sessions.get(session_id, active=True)
    assert session is not None
    assert session.person == "anna"
    sessions.end(session_id)
    assert sessions.get(session_id, active=True) is None
    store.close()


def test_the_file_does_not_tell_a_cookie(store: Store, clock: Clock, tmp_path: Path) -> None:
    session_id = Sessions(store, IDLE, clock).begin("anna")
    assert len(session_id) >= 43  # 256 bits in base64
    for path in tmp_path.iterdir():
        assert session_id.encode() not in path.read_bytes()


def test_idling_ends_a_session_and_activity_does_not(store: Store, clock: Clock) -> None:
    sessions = Sessions(store, IDLE, clock)
    session_id = sessions.begin("anna")
    for _ in range(5):
        clock.now += IDLE - 1
        assert sessions.get(session_id, active=True)
    clock.now += IDLE + 1
    assert sessions.get(session_id, active=True) is None


def test_what_the_page_asks_by_itself_is_no_activity(store: Store, clock: Clock) -> None:
    sessions = Sessions(store, IDLE, clock)
    session_id = sessions.begin("anna")
    for _ in range(3):
        clock.now += IDLE / 3
        assert sessions.get(session_id, active=False)
    clock.now += 1
    assert sessions.get(session_id, active=False) is None


def test_twelve_hours_end_it_whatever_is_done(store: Store, clock: Clock) -> None:
    sessions = Sessions(store, IDLE, clock)
    session_id = sessions.begin("anna")
    began = clock.now
    while clock.now - began <= LIFETIME:
        assert sessions.get(session_id, active=True)
        clock.now += 600
    assert sessions.get(session_id, active=True) is None


def test_ended_sessions_are_swept(store: Store, clock: Clock) -> None:
    sessions = Sessions(store, IDLE, clock)
    for _ in range(5):
        sessions.begin("anna")
        clock.now += LIFETIME + 1
    row = store.read("SELECT count(*) FROM session", ())
    assert row is not None
    assert row[0] == 1


def rubbish(file: Path) -> None:
    file.write_bytes(b"no database at all, but long enough" * 100)


def unreadable(file: Path) -> None:
    # Nothing is at address 0, so the kernel says EIO, as of a bad sector.
    file.unlink()
    file.symlink_to("/proc/self/mem")


@pytest.mark.parametrize(
    "damage",
    [
        rubbish,
        unreadable,
        *(partial(damage_table, table=name) for name in ("session", "failure", "device")),
    ],
)
def test_a_broken_file_is_set_aside(
    tmp_path: Path, clock: Clock, damage: Callable[[Path], None]
) -> None:
    file = tmp_path / "crew_web.sqlite3"
    Store(tmp_path).close()
    damage(file)
    store = Store(tmp_path)
    sessions = Sessions(store, IDLE, clock)
    assert sessions.get(sessions.begin("anna"), active=True)
    lockout = Lockout(store, clock)
    assert lockout.was_right(lockout.begin_try("anna", "198.51.100.7"))
    assert (tmp_path / "crew_web.sqlite3.broken").exists()
    store.close()


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"crew_web\.sqlite3"):
        Store(tmp_path / "nowhere")


def test_a_person_has_no_more_than_some_sessions(store: Store, clock: Clock) -> None:
    sessions = Sessions(store, IDLE, clock)
    of_bruno = sessions.begin("bruno")
    begun = []
    for _ in range(MAX_SESSIONS + 2):
        clock.now += 1
        begun.append(sessions.begin("anna"))
    there = [sessions.get(session_id, active=False) is not None for session_id in begun]
    assert there == [False, False] + [True] * MAX_SESSIONS
    assert sessions.get(of_bruno, active=False)


def fill(sessions: Sessions) -> None:
    for number in range(200):
        sessions.begin(f"person{number}")


def test_when_the_disk_is_full_who_is_in_stays_in(store: Store, clock: Clock) -> None:
    sessions = Sessions(store, IDLE, clock)
    session_id = sessions.begin("anna")
    # SQLite says the same of a file that may grow no more as of a full disk (SQLITE_FULL).
    store._database.execute("PRAGMA max_page_count=1")
    with pytest.raises(StoreError, match="full"):
        fill(sessions)
    assert store.trouble
    assert "full" in store.trouble
    assert sessions.get(session_id, active=False)


def test_every_log_in_is_synced(store: Store) -> None:
    connection: sqlite3.Connection = store._database
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
