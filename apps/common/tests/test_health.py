"""An app's health: ready or why not, what it does without, and what systemd is told."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.common.health import Degraded, Health, sd_notify


@pytest.fixture(params=["a path", "an abstract name"])
def service_manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """The socket of sd_notify(3), whose two kinds of address there are."""
    path = str(tmp_path / "notify.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        if request.param == "a path":
            sock.bind(path)
            monkeypatch.setenv("NOTIFY_SOCKET", path)
        else:
            sock.bind("\0" + path)
            monkeypatch.setenv("NOTIFY_SOCKET", "@" + path)
        yield sock


def test_an_app_with_all_that_it_needs_is_ready() -> None:
    health = Health("lamp")
    health.need(lambda: None)
    health.part("redis", lambda: None)
    report = health.report()
    assert (report.app, report.ready, report.why_not, report.degraded) == ("lamp", True, None, [])


def test_an_app_without_a_part_is_degraded_yet_ready() -> None:
    away: list[str] = []
    health = Health("lamp")
    health.part("redis", lambda: away[-1] if away else None)
    health.part("audit log", lambda: None)
    assert health.report().degraded == []
    away.append("connection refused")
    report = health.report()
    assert report.ready
    assert report.degraded == [Degraded(part="redis", why="connection refused")]
    away.clear()
    assert health.report().degraded == []


def test_an_app_without_what_it_needs_is_not_ready_and_says_why() -> None:
    health = Health("lamp")
    health.need(lambda: None)
    health.need(lambda: "there is no bulb")
    health.need(lambda: "nor a socket")
    report = health.report()
    assert not report.ready
    assert report.why_not == "there is no bulb"


def test_systemd_is_told(service_manager: socket.socket) -> None:
    trouble: list[str] = []
    health = Health("lamp")
    health.part("redis", lambda: trouble[-1] if trouble else None)
    health.notify()
    assert service_manager.recv(4096) == b"STATUS=ready"
    trouble.append("connection failed:\n  is it running?")
    health.notify()
    # One line, since each line is a variable of its own.
    assert (
        service_manager.recv(4096) == b"STATUS=degraded: redis (connection failed: is it running?)"
    )
    health.need(lambda: "there is no bulb")
    health.notify()
    assert service_manager.recv(4096) == b"STATUS=there is no bulb"
    sd_notify("READY=1")
    assert service_manager.recv(4096) == b"READY=1"


def test_the_first_sign_of_life_makes_the_watchdog_watch_closely(
    service_manager: socket.socket,
) -> None:
    health = Health("lamp")
    health.alive()
    assert service_manager.recv(4096) == b"WATCHDOG_USEC=30000000\nWATCHDOG=1"
    health.alive()
    assert service_manager.recv(4096) == b"WATCHDOG=1"


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Health("lamp").notify()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody.sock"))
    Health("lamp").notify()
