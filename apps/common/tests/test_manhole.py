"""The manhole, in a process with an event loop, as the player is."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from apps.common.testing import ask_manhole

PROGRAM = """
import asyncio, signal, sys
from apps.common import manhole

async def main():
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    manhole.open_if_wanted(lamp={"on": True}, loop=loop)
    print("up", "manhole" in sys.modules, flush=True)
    await told.wait()
    print("told to end", flush=True)

asyncio.run(main())
"""

CLIENT = """
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.settimeout(10)
client.connect(sys.argv[1])
try:
    client.sendall(b"1 + 1\\n")
    client.shutdown(socket.SHUT_WR)
    print(client.makefile().read())
except (BrokenPipeError, ConnectionResetError):
    pass
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Like a unit's runtime directory: others reach it, yet may not enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o750)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def running(path: Path | None) -> Iterator[subprocess.Popen[str]]:
    """The program, which said that it is up; with its manhole at `path`."""
    variables = {name: value for name, value in os.environ.items() if name != "IFE_MANHOLE"}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=variables | ({"IFE_MANHOLE": str(path)} if path else {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        umask=0o077,
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == f"up {path is not None}\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def as_nobody(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
            *("/usr/bin/python3", "-c", CLIENT, str(path)),
        ],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_it_is_closed_unless_the_unit_opens_it(folder: Path) -> None:
    with running(None) as process:
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=10)[0] == "told to end\n"
    assert list(folder.iterdir()) == []


def test_what_is_typed_is_answered(folder: Path) -> None:
    with running(folder / "manhole.sock") as process:
        told = ask_manhole(
            folder / "manhole.sock",
            "lamp",
            "lamp.update(on=False)",
            "for state in lamp.values():",
            "    print('it is', state)",
            "",
            "lamp['off']",
            "loop.is_running(), __import__('os').getpid()",
        )
        assert "{'on': True}" in told
        assert "it is False" in told
        assert "KeyError: 'off'" in told
        assert f"(True, {process.pid})" in told


def test_one_comes_after_another_and_what_was_changed_stays(folder: Path) -> None:
    with running(folder / "manhole.sock"):
        ask_manhole(folder / "manhole.sock", "lamp.clear()", "exit()", "lamp['too late'] = 1")
        told = ask_manhole(folder / "manhole.sock", "lamp", "__import__('sys').stdin.closed")
    assert ">>> {}\n>>> False\n" in told


def test_it_tells_where_each_thread_is(folder: Path) -> None:
    with running(folder / "manhole.sock"):
        told = ask_manhole(folder / "manhole.sock", "stacks()")
    assert "MainThread:\n" in told
    assert "asyncio.run(main())" in told or "run_forever" in told


def test_the_apps_own_output_signals_and_end_stay_its_own(folder: Path) -> None:
    """While somebody sits at the prompt, too."""
    path = folder / "manhole.sock"
    with running(path) as process:
        ask_manhole(path, "print('to whom?')", "'to whom?'", "1 / 0")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(path))
            assert client.recv(1)
            process.send_signal(signal.SIGTERM)
            said, log = process.communicate(timeout=10)
    assert said == "told to end\n"
    assert process.returncode == 0
    assert "Traceback" not in log
    assert not (folder / "manhole.sock").exists()


def test_an_app_whose_manhole_cannot_be_made_works_without(folder: Path) -> None:
    with running(folder / "nowhere/manhole.sock") as process:
        assert process.stderr
        assert any("FileNotFoundError" in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=10)[0] == "told to end\n"
    assert process.returncode == 0


@as_root
def test_another_user_does_not_get_to_it(folder: Path) -> None:
    with running(folder / "manhole.sock"):
        ask_manhole(folder / "manhole.sock", "lamp")
        done = as_nobody(folder / "manhole.sock")
    assert "PermissionError" in done.stderr
    assert done.stdout == ""


@as_root
def test_another_user_is_refused_whatever_the_modes_are(folder: Path) -> None:
    path = folder / "manhole.sock"
    with running(path):
        ask_manhole(path, "lamp")
        folder.chmod(0o755)
        path.chmod(0o777)
        done = as_nobody(path)
        assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
        # And whoever may is still served.
        assert "True" in ask_manhole(path, "lamp")
