"""Seat control on its own, for tests and benchmarks: neither Redis nor PostgreSQL is about."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from apps.common.testing import end_group, wait_until
from apps.seat_control.settings import SeatControlSettings

ROOT = Path(__file__).parents[2]

GUNICORN = (
    *(sys.executable, "-m", "gunicorn", "--no-control-socket"),
    *("--worker-class", "apps.seat_control.worker.Worker"),
)
"""As the unit runs it; what is left to say is where to listen, and the app."""


def variables(folder: Path) -> dict[str, str]:
    """The settings of a seat control with its state, and a command key, in `folder`."""
    key = folder / "command.key"
    if not key.exists():
        key.write_bytes(os.urandom(32))
    return {
        "IFE_REGISTRATION": "EC-LAB",
        "IFE_LAYOUT": str(ROOT / "inventory/layouts/a320.yml"),
        "IFE_STATE_DIRECTORY": str(folder),
        "IFE_COMMAND_KEY": str(key),
        "IFE_BOOT_ID": "a" * 32,
        "IFE_REDIS_URL": f"unix://{folder}/no-redis.sock",
        "IFE_DATABASE_URL": f"postgresql+psycopg:///ife?host={folder}/no-postgresql",
        "IFE_USAGE_DATABASE_URL": f"postgresql+psycopg:///usage?host={folder}/no-postgresql",
        "IFE_MULTICAST_INTERFACE": "lo",
        "IFE_MULTICAST_SOURCE": "127.0.0.1",
    }


def settings(folder: Path) -> SeatControlSettings:
    """The same, read."""
    return SeatControlSettings.model_validate(
        {name.removeprefix("IFE_").lower(): value for name, value in variables(folder).items()}
    )


def free_port() -> int:
    """A TCP port of the loopback interface that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def server(
    command: Sequence[str], port: int, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that runs in the checkout, in a process group of its own, and listens on `port`.

    At the end it gets SIGTERM, and SIGKILL 10 s later.

    Raises:
        AssertionError: it ended, or did not listen within 30 s.
    """
    process = subprocess.Popen(
        command,
        env={"PATH": os.environ["PATH"], **environment},
        cwd=ROOT,
        start_new_session=True,
    )

    def listens() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    try:
        wait_until(listens, "the server listens", 30)
        yield process
    finally:
        end_group(process)
