"""Starts a command for each connection to a socket, as systemd does for one with ``Accept=yes``.

The socket comes as file 3 (`bench.launch`), a connection is the command's standard input.
``python -m bench.inetd MOST COMMAND…``
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Sequence

_FIRST_SOCKET = 3


def serve(most: int, command: Sequence[str]) -> None:
    """Serve for ever, `most` at a time: more are turned away."""
    running: list[subprocess.Popen[bytes]] = []
    with socket.socket(fileno=_FIRST_SOCKET) as listener:
        while True:
            connection, _ = listener.accept()
            running = [one for one in running if one.poll() is None]
            with connection:
                if len(running) < most:
                    running.append(subprocess.Popen(command, stdin=connection.fileno()))


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2:])
