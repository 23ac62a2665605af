"""Reads one crew disk: what `apps.usb_lockdown.reading` has systemd start, once for each.

Standard input is a socket. One message comes by it, ``{"bytes": 31042043904}``, with two open files
(unix(7), SCM_RIGHTS): the disk, and a Unix socket that listens. Lines go back:
``{"state": "ready"}``, or ``{"state": "unreadable", "why": "..."}``. When the other end is closed,
it is over.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import sys
import threading
from socket import recv_fds, socket

from apps.usb_lockdown.reader import http
from apps.usb_lockdown.reader.disk import CrewDisk, UnreadableError

ADDRESSES = 1 << 30
"""Bytes. With its threads it takes 400 MiB of them, and 40 MiB of memory, which its unit bounds."""

MAX_ORDER = 4096


def main() -> None:
    """Read until the other end is closed."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    control = socket(fileno=os.dup(0))
    order, files, _, _ = recv_fds(control, MAX_ORDER, 2)
    if len(files) != 2:
        raise SystemExit("no disk has come")
    disk, listener = files
    if fcntl.fcntl(disk, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
        raise SystemExit("the disk must be open for reading alone")
    size = int(json.loads(order)["bytes"])
    threading.Thread(target=_end_with, args=(control,), daemon=True).start()
    try:
        content = CrewDisk(disk, size)
    except UnreadableError as error:
        _say(control, {"state": "unreadable", "why": str(error)})
        return
    _say(control, {"state": "ready"})
    http.serve(socket(fileno=listener), content)


def _end_with(control: socket) -> None:
    """Nobody is to be served any more when whoever has started this is gone."""
    while control.recv(1):
        pass
    os._exit(0)


def _say(control: socket, line: dict[str, str]) -> None:
    print(json.dumps(line), file=sys.stderr)
    control.sendall(json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    main()
