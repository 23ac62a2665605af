"""Readers for tests: the real process, on an image, asked by HTTP."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

TIMEOUT = 30.0


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path | str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._path)


def get(path: Path | str, name: str, **headers: str) -> tuple[int, bytes]:
    """Status and body; a body that ends too early raises http.client.IncompleteRead."""
    connection = Connection(path)
    try:
        connection.request("GET", f"/{name}", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Reading:
    """A reader on an image, a context manager; `said` is its first word."""

    def __init__(self, image: Path, at: Path, size: int | None = None) -> None:
        self.at = at
        self._image, self._size = image, size

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair()
        ours.settimeout(TIMEOUT)
        with socket.socket(socket.AF_UNIX) as listener, theirs:
            self.at.unlink(missing_ok=True)
            listener.bind(str(self.at))
            listener.listen(8)
            disk = os.open(self._image, os.O_RDONLY)
            size = os.fstat(disk).st_size if self._size is None else self._size
            self.process = subprocess.Popen(
                [sys.executable, "-m", "apps.usb_lockdown.reader"],
                stdin=theirs.fileno(),
                stderr=subprocess.DEVNULL,
            )
            order = json.dumps({"bytes": size}).encode()
            socket.send_fds(ours, [order], [disk, listener.fileno()])
            os.close(disk)
        self._control = ours
        with ours.makefile("rb") as lines:
            line = lines.readline()
        self.said: dict[str, Any] = json.loads(line) if line else {}
        return self

    def get(self, name: str, **headers: str) -> tuple[int, bytes]:
        """See `get`."""
        return get(self.at, name, **headers)

    def most_memory(self) -> int:
        """The most that it has had in memory so far, in bytes; 0 if it has ended."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return 0
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found[1]) << 10 if found else 0

    def __exit__(self, *_: object) -> None:
        self._control.close()
        try:
            self.process.wait(5)
        finally:
            self.process.kill()
            self.process.wait()
