"""Helpers for the tests of every app."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import redis
from flask import Flask
from werkzeug.serving import make_server


def wait_until(
    condition: Callable[[], object], what: str, timeout: float = 10.0, every: float = 0.005
) -> None:
    """Wait until `condition` holds; `what` it is, in words, for the message if it never does.

    It looks `every` so many seconds: seldom where a server counts who asks.

    Raises:
        AssertionError: it does not hold within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(every)


async def wait_until_async(
    condition: Callable[[], object], what: str, within: float = 10.0
) -> None:
    """As `wait_until`, while the event loop goes on.

    Raises:
        AssertionError: it does not hold within `within` seconds.
    """
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what}")
        await asyncio.sleep(0.005)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Have a folder lie on a disk of its own, empty, of so many bytes (``12M``), as root."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs"]
    subprocess.run([*mount, folder], check=True, timeout=10)
    try:
        yield folder
    finally:
        # Lazily: who is ending may still have files open there.
        subprocess.run(["umount", "--lazy", folder], check=True, timeout=10)


@contextmanager
def hung_disk(folder: Path) -> Iterator[threading.Event]:
    """Have a disk lie on a folder that does not answer, as root; set as soon as somebody waits.

    Who asks for a file waits, and cannot be killed meanwhile; at the end there is an error.
    """
    device = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    mount = ["mount", "--internal-only", "-t", "fuse", "-o", options, "hung", str(folder)]
    asked, ended = threading.Event(), threading.Event()
    thread = threading.Thread(target=_take_and_do_nothing, args=(device, asked, ended))
    try:
        subprocess.run(mount, check=True, timeout=10, pass_fds=[device])
        thread.start()
        try:
            yield asked
        finally:
            ended.set()
            thread.join()
            # Lazily: it would be asked for what it still has to write.
            subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=10)
    finally:
        os.close(device)


def _take_and_do_nothing(device: int, asked: threading.Event, ended: threading.Event) -> None:
    """Answer the first request, FUSE_INIT (linux/fuse.h), and take what comes then."""
    is_new = True
    while not ended.wait(0.01):
        with suppress(BlockingIOError):
            (unique,) = struct.unpack_from("=8xQ", os.read(device, 256 * 1024))
            if is_new:
                is_new = False
                os.write(device, struct.pack("=IiQ2I56x", 80, 0, unique, 7, 31))
            else:
                asked.set()


def is_open(address: str, port: int, entering: Sequence[str] = ()) -> bool:
    """Whether somebody takes TCP connections there.

    Args:
        address: as numbers.
        port: of TCP.
        entering: what to put before a command to run it in the network where that address is.
    """
    connect = f"import socket; socket.create_connection(({address!r}, {port}), timeout=1)"
    command = [*entering, sys.executable, "-c", connect]
    return not subprocess.run(command, stderr=subprocess.DEVNULL, timeout=10).returncode


def listens(path: Path) -> bool:
    """Whether somebody takes connections at this Unix socket; its file is there a moment before."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        return client.connect_ex(str(path)) == 0


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and its whole group by SIGKILL, and wait until all of them have ended.

    `process` leads its group. A child of it takes a moment longer to end than it does, and until
    then holds the sockets that a next one needs.

    Raises:
        AssertionError: one of them is there 10 s later.
    """
    watched = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(ProcessLookupError):
            if os.getpgid(int(entry.name)) == process.pid:
                watched.append(os.pidfd_open(int(entry.name)))
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for fd in watched:
        ended, _, _ = select.select([fd], [], [], 10)
        os.close(fd)
        if not ended:
            raise AssertionError("a process outlives SIGKILL by 10 s")
    process.wait()


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Ask a process and its whole group to end, and kill what is left of it 10 s later.

    Raises:
        AssertionError: one of them outlives that, too.
    """
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)
    kill_group(process)


def ask_manhole(path: Path, *lines: str) -> str:
    """What the manhole (`apps.common.manhole`) at `path` answers to these lines."""
    wait_until(lambda: listens(path), "the manhole is open", 20)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall("".join(f"{line}\n" for line in lines).encode())
        client.shutdown(socket.SHUT_WR)
        with client.makefile("r") as answer:
            return answer.read()


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """A Flask app on HTTP, while it lasts; its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class RedisServer:
    """A real Redis on a Unix socket, empty at each start; a context manager.

    Args:
        folder: for its socket; the path must be short (unix(7): 107 bytes).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = folder / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What an app's `IFE_REDIS_URL` is to be."""
        return f"unix://{self._socket}"

    def client(self) -> redis.Redis:
        """A client of its own for the test to look with; close it."""
        return redis.Redis.from_url(self.url, socket_timeout=5, decode_responses=True)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(
            [
                *("redis-server", "--port", "0", "--unixsocket", str(self._socket)),
                *("--save", "", "--appendonly", "no", "--dir", str(self._folder)),
            ],
            stdout=subprocess.DEVNULL,
        )
        with self.client() as client:
            wait_until(lambda: self._answers(client), "Redis answers")

    def _answers(self, client: redis.Redis) -> bool:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False

    def kill(self) -> None:
        """End it by SIGKILL, if it runs; what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Let it hang: it takes connections but no longer answers. `thaw` ends that."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "Redis was not started"  # noqa: S101 - a test's helper
        self._process.send_signal(number)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class PostgresServer:
    """A real PostgreSQL on a Unix socket, where everybody is believed; a context manager.

    It keeps what it has committed over `kill` and `start`, and syncs it, as an aircraft's does.

    Args:
        folder: an empty one, for its data and its socket; PostgreSQL's user gets it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        # PostgreSQL does not run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0

    def url(self, database: str, user: str = "postgres") -> str:
        """What SQLAlchemy finds a database by."""
        return f"postgresql+psycopg://{user}@/{database}?host={self._folder}"

    @property
    def pid(self) -> int:
        """The number of its first process."""
        assert self._process is not None, "it was not started"  # noqa: S101 - a test's helper
        return self._process.pid

    def create(self, owner: str) -> str:
        """Make a new database, and its owner where there is none; its name."""
        self._databases += 1
        name = f"test{self._databases}"
        self.run(
            "postgres",
            f"SELECT format('CREATE ROLE %I LOGIN', '{owner}') "  # noqa: S608
            f"WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{owner}') \\gexec",
        )
        self.run("postgres", f'CREATE DATABASE {name} OWNER "{owner}"')
        return name

    def run(self, database: str, sql: str) -> str:
        """Have psql run statements as the superuser; what it prints, without adornment."""
        done = subprocess.run(
            [
                *("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align"),
                *(
                    "--set=ON_ERROR_STOP=1",
                    f"--host={self._folder}",
                    "--username=postgres",
                    database,
                ),
            ],
            input=sql,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        return done.stdout.strip()

    def start(self, options: Sequence[str] = ()) -> None:
        """Start it, and wait until it answers; after a `kill` it first repairs itself."""
        programs = max(
            Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name)
        )
        if not self._data.exists():
            if self._user:
                shutil.chown(self._folder, self._user)
            self._folder.chmod(0o755)
            subprocess.run(
                [
                    *(programs / "initdb", "-D", self._data, "-U", "postgres"),
                    *("--auth=trust", "--no-sync", "--locale=C.UTF-8"),
                ],
                check=True,
                capture_output=True,
                timeout=60,
                user=self._user,
            )
        command: list[str | Path] = [
            *(programs / "postgres", "-D", self._data, "-k", self._folder),
            *("-c", "listen_addresses=", "-c", "timezone=UTC", *options),
        ]

        def answers() -> bool:
            # What is left of one that was killed may still hold its memory.
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    command, stderr=subprocess.DEVNULL, user=self._user, start_new_session=True
                )
            with suppress(AssertionError):
                return self.run("postgres", "SELECT 1") == "1"
            return False

        wait_until(answers, "PostgreSQL answers", timeout=30)

    def kill(self) -> None:
        """End it by SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            # Immediate shutdown (postgres(1)): nobody needs what it holds any more.
            self._process.send_signal(signal.SIGQUIT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
        self.kill()


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL in a folder of its own, while it lasts."""
    with (
        tempfile.TemporaryDirectory(prefix="ife-") as folder,
        PostgresServer(Path(folder)) as server,
    ):
        yield server
