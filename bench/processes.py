"""Ends programs together with all that they started, as systemd does by control group.

Each program leads a process group, and its id and birth lie in a file. So whoever finds the
file later, after whatever happened, ends exactly that program and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

KILL_TIMEOUT = 5.0
"""Seconds that the kernel has to end a process; one that waits for a disk may take longer."""


@dataclass(frozen=True)
class Process:
    """From ``/proc/<pid>/stat`` (proc(5)). `born` is in clock ticks since the machine's boot."""

    pid: int
    group: int
    born: int
    dead: bool


def look(pid: int) -> Process | None:
    """What runs as `pid`, if anything does."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return Process(pid, int(fields[2]), int(fields[19]), fields[0] in "ZX")


def write_pid_file(path: Path) -> None:
    """Note the calling process in `path`."""
    me = look(os.getpid())
    if me is not None:
        path.write_text(f"{me.pid} {me.born}\n")


def leader(path: Path) -> int | None:
    """The process that `path` names, if it is alive."""
    noted = _read(path)
    found = noted and look(noted[0])
    if not noted or not found or found.dead or found.born != noted[1]:
        return None
    return noted[0]


def members(path: Path) -> list[int]:
    """All living processes of the group that the process in `path` leads, or led."""
    noted = _read(path)
    if noted is None:
        return []
    found = look(noted[0])
    if found is not None and found.born != noted[1]:
        return []  # the number has gone to somebody else, so the group is gone
    processes = (look(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [p.pid for p in processes if p and p.group == noted[0] and not p.dead]


def end(path: Path, seconds: float = 0.0) -> bool:
    """End the program in `path` and all that it started.

    Args:
        path: the file with its id; removed.
        seconds: how long it may take to stop by itself, once asked to.

    Returns:
        Whether there was anything to end.
    """
    found = bool(members(path))
    if seconds and (pid := leader(path)):
        _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while leader(path) and time.monotonic() < deadline:
            time.sleep(0.05)
    kill(path)
    path.unlink(missing_ok=True)
    return found


def kill(path: Path) -> bool:
    """`SIGKILL` for the program in `path` and all that it started.

    Returns:
        Whether there was anything to kill; it is gone.
    """
    found = left = members(path)
    deadline = time.monotonic() + KILL_TIMEOUT
    while left and time.monotonic() < deadline:
        for pid in left:
            _signal(pid, signal.SIGKILL)
        time.sleep(0.005)
        left = members(path)
    return bool(found)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _read(path: Path) -> tuple[int, int] | None:
    try:
        pid, born = path.read_text().split()
        return int(pid), int(born)
    except (OSError, ValueError):
        return None
