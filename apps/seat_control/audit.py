"""Copies the crew's commands into the audit log: who told whom what, and what came of it.

The command journal is the outbox: what PostgreSQL does not have yet is sent when it answers
again, so commands never wait for it.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from apps.common.backoff import BackOff
from apps.common.outbox import LOADING
from apps.seat_control.journal import Journal

if TYPE_CHECKING:
    from apps.seat_control.audit_log import AuditLog

log = logging.getLogger(__name__)

EVERY = 1.0
BATCH = 100
RETRY_FIRST = 0.5
RETRY_MAX = 10.0


class Auditor:
    """Copies the journal into the audit log, in a thread of its own."""

    def __init__(self, journal: Journal, database_url: str, registration: str) -> None:
        self._journal = journal
        self._database_url = database_url
        self._registration = registration
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._error: str | None = None

    @property
    def trouble(self) -> str | None:
        """A sentence while the audit log cannot be written."""
        if self._error is None:
            return None
        count = self._journal.count_unaudited()
        waiting = "nobody knows how many" if count is None else count
        return f"commands work, {waiting} wait to be written to the audit log: {self._error}"

    def start(self) -> None:
        """Begin to copy."""
        self._thread.start()

    def close(self) -> None:
        """Stop; what was not copied yet is copied after the next start."""
        self._closing.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        # Here, for it takes half of the app's time to load, and no seat has to wait for that.
        with LOADING:
            from apps.seat_control.audit_log import AuditLog

            audit_log = AuditLog(self._database_url, self._registration)
        back_off = BackOff(RETRY_FIRST, RETRY_MAX)
        while not self._closing.is_set():
            try:
                self._copy(audit_log)
            except OSError as error:
                self._failed(str(error))
                self._closing.wait(back_off.delay())
            except Exception as error:
                # A database of a newer version, say. This thread is the only one to tell.
                log.exception("the audit log cannot be written")
                self._failed(str(error))
                self._closing.wait(back_off.delay())
            else:
                if self._error is not None:
                    log.info("the audit log is written again")
                self._error = None
                back_off.reset()
                self._closing.wait(EVERY)
        audit_log.close()

    def _failed(self, said: str) -> None:
        error = said.partition("\n")[0] or "it does not say why"
        if self._error is None:
            log.warning("the audit log cannot be written", extra={"error": error})
        self._error = error

    def _copy(self, audit_log: AuditLog) -> None:
        while True:
            rows = self._journal.unaudited(BATCH)
            audit_log.write(rows)
            # If not: a full disk; the rows are copied again later, to no harm.
            if not rows or not self._journal.audited(rows):
                return
