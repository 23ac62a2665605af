"""Makes the tables of usage on a bench without content_sync, whose task that is.

Without them seat_control would do without its outbox, and say so. It waits for PostgreSQL.
``python -m bench.usage_tables DATABASE_URL``
"""

from __future__ import annotations

import sys
import time

from sqlalchemy.exc import OperationalError

from apps.common import outbox
from apps.content_sync.spool import migrate

TIMEOUT = 40.0


def make(url: str) -> None:
    """Make them, unless they are there; raises OperationalError."""
    engine = outbox.connect(url, "bench")
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            migrate(engine)
            return
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    make(sys.argv[1])
