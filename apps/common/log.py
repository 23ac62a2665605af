"""Logging to standard error; under systemd the journal keeps every field.

A journal that stands still holds nobody up: what it does not take is not logged.

Log with `extra`: ``log.warning("seat refused", extra={"seat": "12C"})``. Where standard error
is the journal (systemd says so in `JOURNAL_STREAM`, see systemd.exec(5)), records go to it by
its own protocol, so ``journalctl EXTRA_SEAT=12C`` finds them; elsewhere they are lines with
``seat=12C`` at the end.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Any

from logging_journald import JournaldLogHandler, JournaldTransport, check_journal_stream

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_ESCAPES = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160))}
"""Control characters, so that what a peer sent cannot begin a line or colour a terminal."""


class _LineFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        line = super().formatMessage(record)
        line = " ".join([line, *(f"{key}={value}" for key, value in fields.items())])
        return line.translate(_ESCAPES)


class _Transport(JournaldTransport):  # type: ignore[misc]
    """To the journal, waiting for nothing."""

    def _open(self) -> socket.socket:
        sock: socket.socket = super()._open()
        sock.setblocking(False)
        return sock

    def send(self, pairs: Iterable[tuple[str, Any]]) -> None:
        # Else the handler would say so on standard error, which is the same journal.
        with contextlib.suppress(BlockingIOError):
            super().send(pairs)


def _journal() -> JournaldLogHandler:
    handler = JournaldLogHandler(use_message_id=False)
    handler.transport.socket.close()
    handler.transport = _Transport(handler.SOCKET_PATH)
    # Level and logger are fields of their own there.
    handler.setFormatter(logging.Formatter("%(message)s"))
    return handler


def setup(level: str = "info") -> None:
    """Send the whole process's records of `level` and above to standard error."""
    handler: logging.Handler
    if check_journal_stream():
        handler = _journal()
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_LineFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)


class Refusals:
    """Counts what was refused, and logs the first of each kind from each source only.

    A peer that goes on sending rubbish must fill neither the journal nor our memory. One that comes
    as many is forgotten after a while, so that what comes after it is logged again.
    """

    MAX_SOURCES = 1000
    FORGET_AFTER = 3600.0
    """Seconds after which sources are forgotten, where there were as many."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._seen: set[Hashable] = set()
        self._since = time.monotonic()

    def add(self, kind: str, source: str, detail: str) -> None:
        """Count a refusal of `kind`; `source` is who sent it (a seat, an address)."""
        with self._lock:
            self._counts[kind] += 1
            now = time.monotonic()
            if len(self._seen) >= self.MAX_SOURCES and now - self._since >= self.FORGET_AFTER:
                self._seen.clear()
                self._since = now
            first = (kind, source) not in self._seen
            if first and len(self._seen) < self.MAX_SOURCES:
                self._seen.add((kind, source))
                self._log.warning(
                    "refused, further ones from there are only counted: %s",
                    detail,
                    extra={"kind": kind, "source": source},
                )

    def counts(self) -> dict[str, int]:
        """How many of each kind since the start."""
        with self._lock:
            return dict(self._counts)
