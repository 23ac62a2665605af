"""What a thread that must not be late asks of the system (sched(7), mlockall(2))."""

from __future__ import annotations

import ctypes
import gc
import os
import sys

PRIORITY, CAPTURE = 20, 21
"""Priorities of SCHED_FIFO; the unit allows as much (LimitRTPRIO=).

All threads of the process have the same. One of them holds Python's interpreter at a time, and the
sender waits for it: were that an ordinary thread, a busy machine could keep it from going on, and
the sender with it. arecord, which brings what the sender waits for, goes before.
"""

SWITCH_INTERVAL = 0.000_2
"""Seconds after which a Python thread that waits for the interpreter gets it."""

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4


def lock_memory() -> str | None:
    """Keep what is in memory there, so that nothing waits for a disk; why not, if it cannot be."""
    libc = ctypes.CDLL(None, use_errno=True)
    # On fault: else each thread's stack would be filled at once, with 8 MiB.
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0:
        return None
    return f"memory is not locked: {os.strerror(ctypes.get_errno())}"


def go_first(priority: int, process: int = 0) -> str | None:
    """Put a process, or the calling thread, before all of a lower priority; why not, if so."""
    try:
        os.sched_setscheduler(process, os.SCHED_FIFO, os.sched_param(priority))
    except OSError as error:
        return f"no real-time priority: {error.strerror}"
    return None


def calm_python() -> None:
    """Keep Python's own doings short: who holds the interpreter, and collections."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()
