"""Supervisor does what systemd would: same command, same socket, started again for ever."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from apps.common.testing import wait_until
from bench import processes, supervise
from bench.instance import BenchError, Paths
from bench.supervise import Program, configuration, program_of
from bench.units import ServiceUnit, SocketUnit

ANSWER = """
import os, socket
listening = socket.socket(fileno=3)
while True:
    connection, _ = listening.accept()
    connection.sendall(b"%d" % os.getpid())
    connection.close()
"""


def parsed(programs: list[Program], paths: Paths) -> ServerOptions:
    """The configuration as supervisor itself reads it."""
    (paths.directory / "supervisord.conf").write_text(configuration(programs, paths, False))
    options = ServerOptions()
    options.realize(["-c", str(paths.directory / "supervisord.conf")])
    return options


@pytest.fixture
def paths() -> Iterator[Paths]:
    """A folder, short enough for sockets, whose virtual environment is that of the tests."""
    with tempfile.TemporaryDirectory(prefix="ife") as folder:
        paths = Paths(Path(folder))
        paths.make_folders()
        paths.venv.symlink_to(sys.prefix)
        yield paths


def test_a_program_is_passed_on_to_the_letter(paths: Paths) -> None:
    program = Program(
        name="x",
        argv=("/bin/x", "two words", "it's", 'a "quote"', "100%", "%(here)s", "$HOME", ";"),
        environment={"A": "1,2=3", "B": "it's 100%", "C": ""},
        umask=0o077,
        stop_signal="INT",
        stop_seconds=7,
    )
    (group,) = parsed([program], paths).process_group_configs
    (config,) = group.process_configs
    _, _, after = config.command.partition(" -- ")
    said = subprocess.run(
        ["/bin/sh", "-c", f'printf "%s\\n" {after}'], capture_output=True, text=True, check=True
    )
    assert said.stdout.splitlines() == list(program.argv)
    assert config.environment == dict(program.environment)
    assert "--umask 0077 --end-with INT" in config.command
    assert (config.stopsignal, config.stopwaitsecs) == (signal.SIGINT, 7)
    assert config.killasgroup
    assert config.startsecs == 0


@pytest.mark.parametrize(
    "program",
    [
        Program(name="x", argv=("/bin/x",), environment={"A": 'a "quote"'}),
        Program(name="x", argv=("/bin/x",), environment={"A": "two\nlines"}),
        Program(name="x", argv=("/bin/x", "two\nlines")),
    ],
)
def test_what_supervisor_cannot_pass_on_is_refused(paths: Paths, program: Program) -> None:
    with pytest.raises(ValueError, match="can pass on neither"):
        configuration([program], paths, False)


def test_a_unit_becomes_a_program(tmp_path: Path) -> None:
    (tmp_path / "x.env").write_text("IFE_A=from the file\n")
    unit = ServiceUnit(
        name="x",
        argv=("/bin/x",),
        user="ife-x",
        groups=("ife",),
        umask=0o077,
        environment={"IFE_A": "from the unit", "IFE_B": "2"},
        environment_files=(tmp_path / "x.env",),
        credentials={"key": Path("/etc/key")},
        state_directories=(),
        cache_directories=(),
        state_mode=0o700,
        runtime_directories=(),
        runtime_mode=0o755,
        limits={"RTPRIO": 21},
        stop_seconds=5,
        socket=None,
    )
    program = program_of(unit, Path("/run/credentials"), as_root=True)
    assert program.user == "ife-x"
    assert program.environment == {
        "IFE_A": "from the file",  # which has the last word, systemd.exec(5)
        "IFE_B": "2",
        "CREDENTIALS_DIRECTORY": "/run/credentials/x",
    }
    assert program_of(unit, Path("/run/credentials"), as_root=False).user is None


def test_as_root_programs_get_their_users_and_networks(paths: Paths) -> None:
    program = Program(
        name="x",
        argv=("/bin/x",),
        user="nobody",
        groups=("daemon", "mail"),
        namespace="ife-bench-7",
        socket=SocketUnit(Path("/run/x.sock"), 0o660, None, "ife", 1024),
    )
    text = configuration([program], paths, True)
    assert "command=ip netns exec ife-bench-7 " in text
    assert "--user nobody --group=daemon --group=mail --socket -- /bin/x" in text
    assert "[fcgi-program:x]" in text
    for line in ("socket=unix:///run/x.sock", "socket_mode=0660", "socket_owner=root:ife"):
        assert f"\n{line}\n" in text


@pytest.fixture
def answering(paths: Paths) -> Iterator[Path]:
    """A supervised program that answers at a socket with its process id; the socket's path."""
    socket_unit = SocketUnit(paths.run / "x.sock", 0o600, None, None, None)
    (paths.etc / "answer.py").write_text(ANSWER)
    argv = (sys.executable, str(paths.etc / "answer.py"))
    program = Program(name="x", argv=argv, socket=socket_unit)
    (paths.etc / "supervisord.conf").write_text(configuration([program], paths, False))
    with subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "-c", paths.etc / "supervisord.conf"],
    ) as supervisord:
        try:
            wait_until(lambda: processes.leader(paths.pids / "x"), "the program runs")
            yield socket_unit.path
        finally:
            supervisord.terminate()
            supervisord.wait(20)


def ask(path: Path) -> int:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        return int(sock.recv(100))


def test_a_killed_program_comes_back_and_nobody_is_refused_meanwhile(
    answering: Path, paths: Paths
) -> None:
    first = ask(answering)
    supervise.kill(paths, "x")
    second = ask(answering)
    assert second != first
    assert processes.leader(paths.pids / "x") == second
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_there_is_no_such_program(paths: Paths) -> None:
    (paths.pids / "nginx").write_text("")
    with pytest.raises(BenchError, match="no program apache, but nginx"):
        supervise.kill(paths, "apache")
    with pytest.raises(BenchError, match="being started"):
        supervise.kill(paths, "nginx")
