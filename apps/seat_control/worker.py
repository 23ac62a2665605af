"""The gunicorn worker that seat control runs under.

The arbiter imports this module, and tells systemd that the service is there once it has. So what
takes long to load, the server and the app, is imported where the worker's own process needs it.
"""

from __future__ import annotations

import signal
import sys

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker as BaseWorker


class Worker(BaseWorker):  # type: ignore[misc]  # it carries no types
    """Hands the sockets to `apps.seat_control.server`."""

    def init_signals(self) -> None:
        """The server takes care of those that it obeys."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    def run(self) -> None:
        """Serve until the arbiter ends it."""
        from apps.seat_control.server import serve

        if not serve(self.wsgi, self.sockets, self.cfg.keepalive, self._alive, self.timeout):
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    async def _alive(self) -> None:
        self.notify()
