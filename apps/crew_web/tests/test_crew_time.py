"""Sessions and lock-outs while the machine's clock is set, and over restarts and reboots."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from apps.crew_web import clock
from apps.crew_web.clock import CrewTime
from apps.crew_web.lockout import DEVICE_AGE, PERSON_TRIES, LockedOutError, Lockout
from apps.crew_web.sessions import Sessions
from apps.crew_web.store import Store

HOME = "198.51.100.7"
IDLE = 1800.0
HOUR = 3600.0


@dataclass
class Machine:
    """Its clocks, which a test moves."""

    wall: float = 1_800_000_000.0
    uptime: float = 100.0
    boot_id: str = "a" * 32

    def wait(self, seconds: float) -> None:
        self.wall += seconds
        self.uptime += seconds

    def boot(self) -> None:
        self.uptime, self.boot_id = 20.0, "b" * 32


class Page:
    """What is behind the page, as the app puts it together; made once more it is started anew."""

    def __init__(self, folder: Path, machine: Machine) -> None:
        self.store = Store(folder)
        crew_time = CrewTime(self.store, machine.boot_id)
        self.sessions = Sessions(self.store, IDLE, crew_time.now)
        self.lockout = Lockout(self.store, crew_time.now)

    def lock(self) -> None:
        for _ in range(PERSON_TRIES):
            self.lockout.begin_try("anna", HOME)

    def wait(self) -> float:
        """Seconds that Anna has to wait; 0: she has tried."""
        try:
            self.lockout.begin_try("anna", HOME)
        except LockedOutError as error:
            return error.seconds
        return 0.0

    def knows(self, session_id: str) -> bool:
        return self.sessions.get(session_id, active=False) is not None


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(time, "time", lambda: machine.wall)
    monkeypatch.setattr(clock, "_uptime", lambda: machine.uptime)
    return machine


@pytest.fixture
def page(tmp_path: Path, machine: Machine) -> Iterator[Page]:
    page = Page(tmp_path, machine)
    yield page
    page.store.close()


@pytest.mark.parametrize("step", [-9 * HOUR, -HOUR, HOUR, 9 * HOUR, 40 * 24 * HOUR])
def test_a_step_of_the_clock_ends_no_session_and_changes_no_wait(
    page: Page, tmp_path: Path, machine: Machine, step: float
) -> None:
    session_id = page.sessions.begin("anna")
    device = page.lockout.was_right(page.lockout.begin_try("anna", HOME))
    page.lock()
    machine.wall += step
    assert page.wait() == 30
    machine.wait(10)
    assert page.wait() == 20
    assert page.knows(session_id)
    page.store.close()
    anew = Page(tmp_path, machine)
    machine.wait(10)
    assert anew.wait() == 10
    assert anew.knows(session_id)
    assert anew.lockout.begin_try("anna", HOME, device).trusted
    machine.wait(10)
    assert anew.wait() == 0
    assert anew.wait() == 60
    machine.wait(IDLE)
    assert not anew.knows(session_id)
    anew.store.close()


@pytest.mark.parametrize("behind", [0.0, 600.0, 9 * HOUR])
def test_a_boot_with_a_clock_that_is_behind_frees_and_locks_nobody(
    page: Page, tmp_path: Path, machine: Machine, behind: float
) -> None:
    session_id = page.sessions.begin("anna")
    page.lock()
    machine.wait(10)
    page.store.close()
    machine.boot()
    machine.wall -= behind
    anew = Page(tmp_path, machine)
    assert anew.wait() == (30 if behind else 20)
    # Then the first source is there.
    machine.wall += behind + 9 * HOUR
    machine.wait(30)
    assert anew.knows(session_id)
    assert anew.wait() == 0
    anew.store.close()


def test_a_night_without_power_is_a_night_where_the_clock_knows(
    page: Page, tmp_path: Path, machine: Machine
) -> None:
    session_id = page.sessions.begin("anna")
    device = page.lockout.was_right(page.lockout.begin_try("anna", HOME))
    page.lock()
    page.store.close()
    machine.boot()
    machine.wall += DEVICE_AGE + 1
    anew = Page(tmp_path, machine)
    assert not anew.knows(session_id)
    assert not anew.lockout.begin_try("anna", HOME, device).trusted
    anew.store.close()


def test_a_disk_that_cannot_be_written_stops_no_crew_time(page: Page, machine: Machine) -> None:
    page.store._database.execute("PRAGMA query_only=1")
    machine.boot()
    crew_time = CrewTime(page.store, machine.boot_id)
    assert page.store.trouble
    machine.wall -= HOUR
    machine.wait(5)
    assert crew_time.now() == 1_800_000_005


def test_the_page_goes_by_it(
    app: Flask, anna: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 9 * HOUR)
    assert anna.get("/session/check").status_code == 204
    for _ in range(PERSON_TRIES):
        app.extensions["crew_web"].lockout.begin_try("bruno", HOME)
    monkeypatch.undo()
    with pytest.raises(LockedOutError) as caught:
        app.extensions["crew_web"].lockout.begin_try("bruno", HOME)
    assert 0 < caught.value.seconds <= 30
