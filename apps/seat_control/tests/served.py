"""Seat control as its unit runs it, under gunicorn, for tests that want the whole process."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.common.testing import wait_until

LAYOUT = Path(__file__).parents[3] / "inventory/layouts/a320.yml"


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Served:
    """A seat control that listens on `port`."""

    port: int

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            named = {name.title(): value for name, value in answer.getheaders()}
            return Answer(answer.status, named, answer.read())
        finally:
            connection.close()


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """A seat control with its state in `folder`, without Redis and PostgreSQL."""
    key = folder / "command.key"
    if not key.exists():
        key.write_bytes(os.urandom(32))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        served = Served(int(probe.getsockname()[1]))
    worker = "apps.seat_control.worker.Worker"
    command = ["-m", "gunicorn", "--worker-class", worker, "--no-control-socket"]
    settings = {
        "PATH": os.environ["PATH"],
        "IFE_REGISTRATION": "EC-LAB",
        "IFE_LAYOUT": str(LAYOUT),
        "IFE_STATE_DIRECTORY": str(folder),
        "IFE_COMMAND_KEY": str(key),
        "IFE_BOOT_ID": "a" * 32,
        "IFE_REDIS_URL": f"unix://{folder}/no-redis.sock",
        "IFE_DATABASE_URL": f"postgresql+psycopg:///ife?host={folder}/no-postgresql",
        "IFE_MULTICAST_INTERFACE": "lo",
        "IFE_MULTICAST_TTL": "0",
    }
    with subprocess.Popen(
        [
            *(sys.executable, *command, "--bind", f"127.0.0.1:{served.port}"),
            "apps.seat_control.asgi:app",
        ],
        env=settings,
    ) as process:

        def answers() -> bool:
            assert process.poll() is None, "gunicorn ended"
            try:
                return served.ask("GET", "/healthz").status == 200
            except OSError:
                return False

        try:
            wait_until(answers, "seat control answers", 30)
            yield served
        finally:
            process.terminate()
            code = process.wait(timeout=15)
        assert code == 0
