"""Seat control as its unit runs it, under gunicorn, for tests that want the whole process."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from apps.common.testing import kill_group, wait_until
from apps.seat_control import testing


@dataclass(frozen=True)
class Served:
    """A seat control that listens on `port`."""

    port: int
    process: subprocess.Popen[bytes]

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout: float = 10,
    ) -> httpx.Response:
        """One request on a connection of its own."""
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.request(method, url, content=body, headers=headers, timeout=timeout)

    def kill(self) -> None:
        """End it by SIGKILL, master and worker at once."""
        kill_group(self.process)


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """A seat control with its state in `folder`; that it ends in order is checked."""
    port = testing.free_port()
    command = [*testing.GUNICORN, "--bind", f"127.0.0.1:{port}", "apps.seat_control.asgi:app"]
    with testing.server(command, port, testing.variables(folder)) as process:
        served = Served(port, process)
        # It listens before it has loaded; until then whoever asks waits.
        is_ready = partial(served.ask, "GET", "/healthz", timeout=60)
        wait_until(lambda: is_ready().status_code == 200, "it is ready", 60)
        yield served
    assert process.returncode in {0, -signal.SIGKILL}
