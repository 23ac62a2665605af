"""Holds a network namespace and a folder for as long as whoever started it lives.

    unshare --net python3 keeper.py FOLDER

It says that it is there, and then waits for the end of its standard input. The kernel closes that
however its owner ends, by SIGKILL as well. Then it kills every process in the namespace, removes
the folder and ends; with it goes the namespace, and with that the bridges and taps.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

TIMEOUT = 10.0
"""Seconds until it gives up on a process that does not die."""


def main() -> None:
    """Keep what this process was started in."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    folder = Path(sys.argv[1])
    print("here", flush=True)
    sys.stdin.read()
    deadline = time.monotonic() + TIMEOUT
    while (others := _others()) and time.monotonic() < deadline:
        for pid in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    shutil.rmtree(folder, ignore_errors=True)


def _others() -> list[int]:
    """The other living processes of this network namespace."""
    mine = _namespace("self")
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if pid != os.getpid() and _namespace(str(pid)) == mine]


def _namespace(process: str) -> str | None:
    """None for one that is gone or dead, or is somebody else's."""
    try:
        return str(Path(f"/proc/{process}/ns/net").readlink())
    except OSError:
        return None


if __name__ == "__main__":
    main()
