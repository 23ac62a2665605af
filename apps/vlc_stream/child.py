"""What the processes that send have in common: orders come in as lines, reports go out.

Such a process ends when its standard input does, so it never outlives the supervisor.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from typing import Protocol

from apps.common import log as logs
from apps.vlc_stream.orders import Order, Output, Report, order_of, to_line

log = logging.getLogger(__name__)

REPORT_EVERY = 0.5
"""Seconds."""

TOO_EARLY = 3.0
"""Seconds before its end at which a file is over, if it is cut short. What libvlc says then may be
a second behind."""


class Streams(Protocol):
    """What one kind of process does."""

    def handle(self, order: Order) -> None:
        """Carry out an order. Must not block for long: other streams wait behind it."""

    def reports(self) -> Iterable[Report]:
        """How each stream is. If it hangs, so does this, and the supervisor ends the process."""


def run(make: Callable[[Output, Callable[[Report], None]], Streams]) -> None:
    """Be the process: never returns.

    Args:
        make: gets how streams go out, and a function that sends a report at once.
    """
    settings = json.loads(sys.argv[1])
    logs.setup(settings["log_level"])
    lock = threading.Lock()
    out = os.fdopen(os.dup(1), "w", buffering=1)

    def tell(report: Report) -> None:
        try:
            with lock:
                out.write(to_line(report))
        except OSError:
            os._exit(0)  # nobody listens any more

    source = IPv4Address(settings["source"])
    streams = make(Output(settings["interface"], source, settings["ttl"]), tell)

    def listen() -> None:
        for line in sys.stdin:
            try:
                streams.handle(order_of(line))
            except Exception:
                log.exception("an order failed")
        # Whatever a library's threads are at, the supervisor is gone.
        os._exit(0)

    threading.Thread(target=listen, name="orders", daemon=True).start()
    pause = threading.Event()
    while True:
        for report in streams.reports():
            tell(report)
        with lock:
            out.write("\n")  # there may be no stream, and still it lives
        pause.wait(REPORT_EVERY)
