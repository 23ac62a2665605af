"""A manhole: a Python prompt inside a running app, for root on this machine.

It is closed, and nothing of it is loaded, unless the unit sets `IFE_MANHOLE`, the path of its Unix
socket; apps/common/README.md says how. It leaves standard input and output, signals, and the
app's event loop alone: what a command prints goes to whoever typed it.
"""

from __future__ import annotations

import code
import contextlib
import logging
import os
import socket
import sys
import threading
import traceback
from collections.abc import Mapping
from functools import partial
from types import CodeType
from typing import TextIO

log = logging.getLogger(__name__)


def open_if_wanted(**names: object) -> None:
    """Open it in this process, in a thread of its own, if `IFE_MANHOLE` says where.

    Call it in the process that does the work, after its last fork. `names` is what the prompt
    knows besides `print`, `stacks` and `exit`.
    """
    path = os.environ.get("IFE_MANHOLE")
    if not path:
        return
    log.warning("opening the manhole", extra={"socket": path})
    import manhole  # not before: nothing of it is loaded while it is closed

    manhole.install(
        socket_path=path,
        connection_handler=partial(_serve, names),
        patch_fork=False,
        daemon_connection=True,
        verbose=False,
    )


class _Console(code.InteractiveConsole):
    """Runs what is typed, and answers on `stream` instead of standard output."""

    def __init__(self, names: Mapping[str, object], stream: TextIO) -> None:
        known = {"exit": sys.exit, "print": partial(print, file=stream), "stacks": self.stacks}
        super().__init__({**known, **names})
        self._stream = stream

    def write(self, data: str) -> None:
        """An error of what was typed."""
        self._stream.write(data)

    def runcode(self, code: CodeType) -> None:
        """Run one statement, and show its value. SystemExit comes through."""
        # Only code that was compiled as typed at a prompt calls it, so nobody else's.
        before, sys.displayhook = sys.displayhook, self._show
        try:
            super().runcode(code)
        finally:
            sys.displayhook = before

    def _show(self, value: object) -> None:
        if value is not None:
            print(repr(value), file=self._stream)

    def stacks(self) -> None:
        """Print where each thread is right now."""
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():  # noqa: SLF001 - documented as this
            print(f"{names.get(ident)}:", file=self._stream)
            traceback.print_stack(frame, file=self._stream)


def _serve(names: Mapping[str, object], client: socket.socket) -> None:
    """Talk with one client, of whom `manhole` has seen that it is root or the app's own user."""
    client.settimeout(None)
    # Two of them: what is written to one that can do both would take what it has read ahead along.
    typed = client.makefile("r", encoding="utf-8", errors="replace")
    stream = client.makefile("w", encoding="utf-8", errors="replace")
    with client, typed, stream:
        console = _Console(names, stream)
        known = ", ".join([*names, "print", "stacks", "exit"])
        stream.write(f"Python in process {os.getpid()}. You have {known}.\n")
        more = False
        with contextlib.suppress(SystemExit):
            while True:
                stream.write("... " if more else ">>> ")
                stream.flush()
                line = typed.readline()
                if not line:
                    break
                more = console.push(line.rstrip("\n"))
