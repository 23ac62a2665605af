"""What must be so before a bench can start; what is not is told with what to do about it."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from pathlib import Path

from bench.instance import MAX_PORT, BenchError, Instance

PACKAGES = Path(__file__).with_name("packages.txt")
TIMEOUT = 10

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What systemd gives its services; an ordinary user's may lack the sbin folders."""


def check(instance: Instance) -> None:
    """Find out whether the bench could start.

    Raises:
        BenchError: it could not.
    """
    check_programs()
    check_port("127.0.0.1", instance.port)
    if instance.content:
        check_port("127.0.0.1", instance.hangar_port)
        check_port("127.0.0.1", instance.ssh_port)
    if instance.loopback:
        check_port("127.0.0.1", instance.seats_port)
        check_port("127.0.0.1", instance.media_port)


def check_programs() -> None:
    """See that the Debian packages are there."""
    missing = [
        name
        for name in (
            *("nginx", "redis-server", "nft", "ip", "ffmpeg", "espeak-ng"),
            *("sshd", "rrsync", "mkfs.ext4", "systemd-socket-activate"),
        )
        if find(name) is None
    ]
    if postgresql_folder() is None:
        missing.append("postgres")
    if missing:
        lines = PACKAGES.read_text().splitlines()
        packages = " ".join(line.partition("#")[0].strip() for line in lines).split()
        raise BenchError(
            f"not installed: {', '.join(missing)}. Run `make install`, "
            f"or as root: apt-get install {' '.join(packages)}"
        )


def find(name: str) -> str | None:
    """Where a program is."""
    return shutil.which(name, path=SYSTEM_PATH)


def postgresql_folder() -> Path | None:
    """The newest PostgreSQL's programs; Debian keeps each version in a folder."""
    versions = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    return max(
        (path.parent for path in versions),
        key=lambda path: int(path.parent.name),
        default=None,
    )


def check_port(address: str, port: int) -> None:
    """See that nobody listens there."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((address, port))
        except PermissionError:
            raise BenchError(
                f"port {port} is only for root: choose one from 1024, make demo PORT=9443"
            ) from None
        except OSError:
            raise BenchError(
                f"port {port} is taken{_by_whom(port)}: stop that, "
                f"or choose another with make demo PORT={_other(port)}"
            ) from None


def _other(port: int) -> int:
    return port + 1000 if port + 1000 <= MAX_PORT else port - 1000


def _by_whom(port: int) -> str:
    """`` by nginx (process 42)``, or nothing where that is not to be known."""
    try:
        listening = subprocess.run(
            ["ss", "-Hltnp", f"sport = :{port}"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            env={"PATH": SYSTEM_PATH},
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r'\("([^"]+)",pid=(\d+)', listening)
    return f" by {found[1]} (process {found[2]})" if found else ""
