"""What systemd's watchdog hears from the app."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask

from apps.common.testing import wait_until
from apps.crew_web import service
from apps.crew_web.app import create_app
from apps.crew_web.settings import CrewWebSettings
from apps.crew_web.tests.conftest import damage_table


@pytest.fixture
def service_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What systemd would hear, from an app that is made after this."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


@pytest.fixture
def watched(
    service_manager: socket.socket, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Flask:
    """The app, which looks after itself ten times a second, and has said that it is well."""
    monkeypatch.setattr(service, "LOOK_EVERY", 0.1)
    app: Flask = request.getfixturevalue("app")
    wait_until(lambda: service_manager.recv(4096) == b"WATCHDOG=1", "the watchdog is told")
    return app


def test_the_watchdog_is_told_while_sessions_answer_and_only_then(
    service_manager: socket.socket, watched: Flask
) -> None:
    with watched.extensions["crew_web"].store.transaction():
        # Somebody hangs in there: it says how it is for a last time.
        service_manager.settimeout(1)
        with pytest.raises(TimeoutError):
            _hear(service_manager, 20)
    service_manager.settimeout(10)
    wait_until(lambda: service_manager.recv(4096) == b"WATCHDOG=1", "it goes on")


def test_a_session_file_that_breaks_is_a_reason_to_start_anew(
    service_manager: socket.socket, watched: Flask, settings: CrewWebSettings
) -> None:
    file = settings.state_directory / "crew_web.sqlite3"
    damage_table(file, "session")
    with closing(sqlite3.connect(file)) as other, other:
        # What the app keeps of the file in memory is old with this.
        other.execute("INSERT INTO failure VALUES ('address 198.51.100.7', 1, 0)")
    broken = b"STATUS=sessions cannot be read: "
    wait_until(lambda: service_manager.recv(4096).startswith(broken), "it says so")
    assert all(service_manager.recv(4096).startswith(broken) for _ in range(10))
    # It is systemd that does this.
    watched.extensions["crew_web"].close()
    create_app(settings).extensions["crew_web"].close()
    assert file.with_name("crew_web.sqlite3.broken").exists()


def _hear(service_manager: socket.socket, messages: int) -> None:
    for _ in range(messages):
        service_manager.recv(4096)


def test_a_disk_that_cannot_be_written_is_no_reason_to_start_anew(
    service_manager: socket.socket, watched: Flask
) -> None:
    watched.extensions["crew_web"].store.trouble = "sessions cannot be written: it is full"
    full = b"STATUS=sessions cannot be written: it is full"
    wait_until(lambda: service_manager.recv(4096) == full, "it says so")
    wait_until(lambda: service_manager.recv(4096) == b"WATCHDOG=1", "and goes on")
