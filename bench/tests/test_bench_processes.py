"""Ending programs: the right ones, all of them, and nobody else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from apps.common.testing import wait_until
from bench import processes

SLEEP = "import time; time.sleep(60)"
FORK = f"""
import os, sys
if os.fork() == 0:
    print(os.getpid(), flush=True)
{SLEEP}
"""
STOPPABLE = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("ready", flush=True)
signal.pause()
"""
LAUNCH = [sys.executable, "-m", "bench.launch"]


def launch(tmp_path: Path, *command: str, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*LAUNCH, "--pid-file", str(tmp_path / "pid"), *options, "--", *command],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def gone(pid: int) -> bool:
    found = processes.look(pid)
    return found is None or found.dead


def test_a_program_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    with launch(tmp_path, sys.executable, "-c", FORK) as program:
        assert program.stdout is not None
        child = int(program.stdout.readline())
        assert processes.leader(tmp_path / "pid") == program.pid
        assert set(processes.members(tmp_path / "pid")) == {program.pid, child}
        assert processes.end(tmp_path / "pid")
        wait_until(lambda: gone(child), "the child is gone")
    assert not (tmp_path / "pid").exists()


def test_what_a_dead_program_left_is_ended_before_it_is_started_again(tmp_path: Path) -> None:
    with launch(tmp_path, sys.executable, "-c", FORK) as program:
        assert program.stdout is not None
        child = int(program.stdout.readline())
        program.kill()
        program.wait()
        assert not gone(child)
        assert processes.leader(tmp_path / "pid") is None
        with launch(tmp_path, sys.executable, "-c", SLEEP) as again:
            wait_until(lambda: gone(child), "the orphan is gone")
            wait_until(lambda: processes.leader(tmp_path / "pid") == again.pid, "it is noted")
            processes.end(tmp_path / "pid")


def test_a_process_that_has_the_number_by_chance_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEP], start_new_session=True) as other:
        found = processes.look(other.pid)
        assert found is not None
        (tmp_path / "pid").write_text(f"{other.pid} {found.born - 1}\n")
        assert processes.members(tmp_path / "pid") == []
        assert not processes.end(tmp_path / "pid")
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize("text", [None, "", "12", "one two", "1 2 3"])
def test_a_file_that_says_nothing_ends_nothing(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "pid").write_text(text)
    assert not processes.end(tmp_path / "pid")


def test_a_program_may_stop_by_itself_first(tmp_path: Path) -> None:
    with launch(tmp_path, sys.executable, "-c", STOPPABLE) as program:
        assert program.stdout is not None
        program.stdout.readline()
        processes.end(tmp_path / "pid", 10)
        assert program.wait(5) == 7


def test_limits_hold_for_the_program(tmp_path: Path) -> None:
    told = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"
    with launch(
        tmp_path, sys.executable, "-c", told, options=("--limit=CORE=0", "--limit=NPROC=4000")
    ) as program:
        assert program.communicate(timeout=20)[0] == "(0, 0)\n"


def test_a_program_ends_with_whoever_launched_it(tmp_path: Path) -> None:
    command = [*LAUNCH, "--pid-file", str(tmp_path / "pid"), "--", sys.executable, "-c", SLEEP]
    launcher = f"import subprocess; subprocess.run({command!r})"
    with subprocess.Popen([sys.executable, "-c", launcher]) as parent:
        wait_until((tmp_path / "pid").exists, "the program is launched")
        pid = int((tmp_path / "pid").read_text().split()[0])
        # Until it has become the command it may not have asked for the signal yet.
        wait_until(lambda: b"bench.launch" not in command_line(pid), "it is the command")
        parent.kill()
        wait_until(lambda: gone(pid), "the program is gone")


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_a_program_gets_its_user_groups_and_umask(tmp_path: Path) -> None:
    show = (
        "import os; print(os.getresuid(), os.getresgid(), sorted(os.getgroups()), oct(os.umask(0)),"
        " os.environ['USER'])"
    )
    options = ("--user", "nobody", "--group", "daemon", "--group", "mail", "--umask", "0027")
    with launch(tmp_path, "/usr/bin/python3", "-c", show, options=options) as program:
        said, _ = program.communicate(timeout=20)
    user, group = (65534,) * 3, (65534,) * 3
    assert said.split("\n")[0] == f"{user} {group} [1, 8, 65534] 0o27 nobody"


def test_a_program_gets_its_socket_as_systemd_passes_it(tmp_path: Path) -> None:
    show = """
import os, socket, sys
sock = socket.socket(fileno=3)
print(os.environ["LISTEN_FDS"], int(os.environ["LISTEN_PID"]) == os.getpid(), sock.getsockname())
print(sys.stdin.read() == "", "SUPERVISOR_ENABLED" in os.environ)
"""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        done = subprocess.run(
            [
                *(*LAUNCH, "--pid-file", str(tmp_path / "pid"), "--socket", "--"),
                *(sys.executable, "-c", show),
            ],
            stdin=listening.fileno(),
            capture_output=True,
            text=True,
            timeout=20,
            env=os.environ | {"SUPERVISOR_ENABLED": "1"},
        )
    assert done.stdout == f"1 True {tmp_path / 's'}\nTrue False\n", done.stderr
