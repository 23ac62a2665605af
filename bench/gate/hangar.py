"""A Hangar on this machine: the unit's gunicorn, and nginx with the role's configuration."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self

from apps.common.testing import end_group, is_open, kill_group, listens, wait_until
from bench import render, units
from bench.prepare import UNITS

LOOPBACK = IPv4Address("127.0.0.1")


@dataclass(frozen=True)
class Keys:
    """What the role pki made: for the Hangar, and for each aircraft by its registration."""

    airline: str
    hangar: Path
    aircraft: dict[str, Path]


@dataclass
class Hangar:
    """A context manager; `kill` and `start` its app at will.

    Attributes:
        folder: for its files, with a short path.
        keys: whose keys it has, and who may come.
        database_url: of a PostgreSQL that is there.
        content: what it publishes.
        revoked: serial numbers of certificates that are let in no more.
        address: where nginx listens.
        port: of it; unless given, one that is free.
        entering: what to put before a command to run it in the network where that address is.
    """

    folder: Path
    keys: Keys
    database_url: str
    content: Path
    revoked: Sequence[str] = ()
    address: IPv4Address = LOOPBACK
    port: int = 0
    entering: Sequence[str] = ()
    _app: subprocess.Popen[bytes] | None = None
    _nginx: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        if not self.port:
            with socket.create_server((str(LOOPBACK), 0)) as probe:
                self.port = probe.getsockname()[1]

    @property
    def url(self) -> str:
        """Where aircraft and operators reach it."""
        return f"https://localhost:{self.port}"

    @property
    def socket(self) -> Path:
        """The app's."""
        return self.folder / "hangar.sock"

    @property
    def app_pid(self) -> int:
        """The number of gunicorn's master; its workers are in its group."""
        assert self._app is not None, "it was not started"  # noqa: S101 - a helper of tests
        return self._app.pid

    @property
    def nginx_pid(self) -> int:
        """The number of nginx's master."""
        assert self._nginx is not None, "it was not started"  # noqa: S101 - a helper of tests
        return self._nginx.pid

    def start(self) -> None:
        """Start the app, and wait until it listens."""
        where = units.Where(
            {"/opt/ife": Path(sys.executable).parents[1]}, {"S": str(self.folder)}, self.folder
        )
        unit = units.load(UNITS, "hangar", where)
        self.socket.unlink(missing_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            **unit.environment,
            "IFE_DATABASE_URL": self.database_url,
            "IFE_FLEET_FILE": str(self._fleet_file()),
            "IFE_CONTENT_DIRECTORY": str(self.content),
            "IFE_LOG_LEVEL": "error",
        }
        with (self.folder / "app.log").open("ab") as log:
            self._app = subprocess.Popen(
                [*unit.argv, f"--bind=unix:{self.socket}"],
                env=environment,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: self.socket.exists() and listens(self.socket), "the app listens", 30)

    def kill(self) -> None:
        """End the app by SIGKILL, all of it."""
        if self._app is not None:
            kill_group(self._app)
            self._app = None

    def _fleet_file(self) -> Path:
        aircraft = [
            {
                "registration": name,
                "type": "Airbus A330-300",
                "usage_keys": (folder / "usage.pub").read_text().split(),
            }
            for name, folder in self.keys.aircraft.items()
        ]
        path = self.folder / "fleet.json"
        path.write_text(json.dumps({"aircraft": aircraft}))
        return path

    def _start_nginx(self) -> None:
        as_root = os.geteuid() == 0
        text = render.render(
            "hangar",
            "nginx.conf.j2",
            hangar_airline=self.keys.airline,
            hangar_listen=f"{self.address}:{self.port}",
            hangar_revoked_serials=list(self.revoked),
            hangar_nginx_user="root" if as_root else "",
            hangar_nginx_group="root",
            hangar_nginx_pid_file=self.folder / "nginx.pid",
            hangar_nginx_error_log=self.folder / "nginx.log",
            hangar_nginx_temp_directory=self.folder,
            hangar_certificate=self.keys.hangar / "hangar.crt",
            hangar_certificate_key=self.keys.hangar / "hangar.key",
            hangar_authority=self.keys.hangar / "root.crt",
            hangar_socket=self.socket,
        )
        configuration = self.folder / "nginx.conf"
        configuration.write_text(text)
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        self._nginx = subprocess.Popen(
            [*self.entering, program, "-e", "stderr", "-c", configuration, "-g", "daemon off;"]
        )
        wait_until(
            lambda: is_open(str(self.address), self.port, self.entering), "nginx listens", 20
        )

    def __enter__(self) -> Self:
        try:
            self._start_nginx()
            self.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        if self._app is not None:
            end_group(self._app)
            self._app = None
        if self._nginx is not None:
            self._nginx.terminate()
            self._nginx.wait(timeout=15)


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time that these processes, and those that they started, have used so far."""
    tick = os.sysconf("SC_CLK_TCK")
    wanted = set(pids)
    spent = 0.0
    parents: dict[int, tuple[int, float]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            used = (int(fields[11]) + int(fields[12])) / tick
            parents[int(entry.name)] = (int(fields[1]), used)
    for pid, (_, used) in parents.items():
        ancestor = pid
        while ancestor in parents and ancestor not in wanted:
            ancestor = parents[ancestor][0]
        if ancestor in wanted:
            spent += used
    return spent
