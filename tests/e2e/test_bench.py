"""The bench itself: what `make demo` promises."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.common.testing import wait_until
from bench import processes, up
from bench.instance import Instance, default_directory, load_instance
from bench.testing import Cabin, running

NUMBER = 10
DIRECTORY = default_directory(NUMBER, os.geteuid())
SEATS = 6
AS_ROOT = os.geteuid() == 0
ARGUMENTS = ["--instance", str(NUMBER), "--seats", str(SEATS)] + ["--loopback"] * (not AS_ROOT)

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]
needs_root = pytest.mark.skipif(not AS_ROOT, reason="the cabin has a network of its own as root")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the bench to its end."""
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def processes_of(instance: Instance) -> list[str]:
    """The processes of a bench, by the folder that all their command lines have."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if f"{instance.directory}/" in command:
            found.append(command)
    return found


def assert_nothing_is_left(instance: Instance) -> None:
    wait_until(lambda: not processes_of(instance), "no process is left", 5)
    assert not (Path("/run/netns") / instance.name).exists()
    assert not (Path("/sys/class/net") / instance.name).exists()
    assert not instance.seats_memory.exists()
    assert not instance.paths.run.exists()


@pytest.fixture
def directory() -> Iterator[Path]:
    """The folder of a bench that this module has to itself."""
    yield DIRECTORY
    assert bench("down", "--instance", str(NUMBER)).returncode == 0


@pytest.mark.long
def test_it_comes_up_and_leaves_nothing(directory: Path) -> None:
    with running(*ARGUMENTS):
        instance = load_instance(directory)
        assert len(processes_of(instance)) > SEATS
        assert Cabin(instance).live() == SEATS
        status = bench("status", "--instance", str(NUMBER))
        assert f"seats: {SEATS} live" in status.stdout
        second = bench("up", *ARGUMENTS)
        assert second.returncode == 1
        assert f"a bench is up in {directory}" in second.stderr
        assert "make demo-down" in second.stderr
    assert_nothing_is_left(instance)


def test_programs_end_with_supervisor_whatever_kills_it(directory: Path) -> None:
    with running(*ARGUMENTS) as process:
        instance = load_instance(directory)
        supervisor = processes.leader(instance.paths.pids / up.SUPERVISOR)
        assert supervisor is not None
        process.send_signal(signal.SIGSTOP)  # so that it is not the one that ends them
        try:
            os.kill(supervisor, signal.SIGKILL)
            wait_until(lambda: not processes_of(instance), "every program ends", 30)
        finally:
            process.send_signal(signal.SIGCONT)
        assert process.wait(60) == 1
    assert_nothing_is_left(instance)


@pytest.mark.long
def test_a_killed_bench_is_cleaned_up_after_and_the_next_start_is_quick(directory: Path) -> None:
    """By `up` or by `down`, whichever comes first; by then most of it has ended by itself."""
    with running(*ARGUMENTS) as process:
        instance = load_instance(directory)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        begin = time.monotonic()
        with running(*ARGUMENTS) as process:
            took = time.monotonic() - begin
            assert Cabin(instance).live() == SEATS
            process.send_signal(signal.SIGKILL)
            process.wait(10)
            assert bench("down", "--instance", str(NUMBER), "--wipe").returncode == 0
            assert_nothing_is_left(instance)
            assert not directory.exists()
    print(f"the second start took {took:.1f} s")


def test_a_taken_port_is_told_with_a_way_out(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = bench("up", *ARGUMENTS, "--port", str(port))
    assert answer.returncode == 1
    assert f"port {port} is taken by" in answer.stderr
    assert f"(process {os.getpid()})" in answer.stderr
    assert "make demo PORT=" in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--seats", "400"], "1 to 312 seats"),
        (["--layout", "concorde"], "a320, a330-300"),
        (["--port", "70000"], "PORT can be 1 to 65531"),
    ],
)
def test_what_cannot_be_is_told(arguments: list[str], told: str) -> None:
    answer = bench("up", "--instance", str(NUMBER), "--loopback", *arguments)
    assert answer.returncode == 1
    assert told in answer.stderr


@needs_root
def test_a_folder_of_somebody_else_is_refused() -> None:
    with tempfile.TemporaryDirectory() as theirs:
        shutil.chown(theirs, "nobody")
        answer = bench("up", *ARGUMENTS, "--directory", theirs)
        assert answer.returncode == 1
        assert "is not root's but nobody's" in answer.stderr
        assert not list(Path(theirs).iterdir())


@pytest.mark.parametrize("command", [["status"], ["drop", "10"], ["cut", "1A"], ["kill", "redis"]])
def test_without_a_bench_one_is_told_how_to_start_it(command: list[str]) -> None:
    answer = bench(*command, "--instance", "63")
    assert answer.returncode == 1
    assert "make demo" in answer.stderr
