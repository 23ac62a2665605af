"""What is not there is told, with the way to it."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from bench import preflight
from bench.instance import BenchError

ROOT = Path(preflight.__file__).parents[1]


def test_a_taken_port_is_told_with_who_has_it_and_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BenchError) as told:
            preflight.check_port("127.0.0.1", port)
    assert f"port {port} is taken by" in str(told.value)
    assert f"(process {os.getpid()})" in str(told.value)
    assert "make demo PORT=" in str(told.value)
    preflight.check_port("127.0.0.1", port)


def test_the_other_port_is_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BenchError) as told:
            preflight.check_port("127.0.0.1", port)
    other = int(str(told.value).rpartition("PORT=")[2])
    assert 1024 <= other < 65535
    assert abs(other - port) == 1000


def test_missing_programs_are_told_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "find", lambda name: None if name == "nginx" else "/bin/true")
    with pytest.raises(BenchError) as told:
        preflight.check_programs()
    assert "not installed: nginx. Run `make install`" in str(told.value)
    assert "apt-get install " in str(told.value)


def make(*arguments: str) -> str:
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout


def test_bare_make_prints_every_target() -> None:
    text = make()
    for target in ("demo", "demo-down", "install", "build", "lint", "test", "bench-seats", "clean"):
        assert f"\n  {target} " in text


def test_make_hands_over_what_it_is_told() -> None:
    """That `make demo SEATS=40` and its like reach the bench."""
    text = make("-n", "demo", "SEATS=40", "PORT=9443", "LAYOUT=a320", "LOOPBACK=1")
    assert "-m bench up --seats=40 --port=9443 --layout=a320 --loopback" in " ".join(text.split())
    assert "-m bench up" in make("-n", "demo")
    assert "--seats" not in make("-n", "demo")


def test_packages_that_are_there_are_not_installed_again() -> None:
    """By name, as apt takes them: it has to work without a network then."""
    subprocess.run([ROOT / "bench/install_packages.sh", preflight.PACKAGES], check=True, timeout=30)
