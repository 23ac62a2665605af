"""A child of a seat's player, by itself."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def child(
    namespace: str, module: str, arguments: list[str], ends: list[socket.socket], **settings: str
) -> Iterator[subprocess.Popen[bytes]]:
    """`module` of the player, in a network namespace, with these ends of sockets and settings."""
    process = subprocess.Popen(
        [
            *("ip", "netns", "exec", namespace, sys.executable, "-m", f"apps.player.{module}"),
            *("--parent", str(os.getpid()), *arguments),
        ],
        pass_fds=[end.fileno() for end in ends],
        env=os.environ
        | {"IFE_REGISTRATION": "EC-LAB"}
        | {f"IFE_{name.upper()}": value for name, value in settings.items()},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
