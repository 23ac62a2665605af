"""A process that sends, as the supervisor sees it."""

from __future__ import annotations

import json
import logging
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, cast

from pydantic import TypeAdapter, ValidationError

from apps.common.backoff import BackOff
from apps.vlc_stream.orders import Order, Output, Report, to_line

log = logging.getLogger(__name__)

RETRY_FIRST = 0.05
RETRY_MAX = 5.0
"""Seconds between two starts of a process that ends by itself."""

STEADY = 10.0
"""Seconds after which a process counts as one that lives."""

FROZEN = 5.0
"""Seconds without a word from a process, after which it is ended. It speaks twice a second."""

QUIET = 1.0
"""Seconds without a word, after which it hangs if nothing of it is on the wire, either."""

LOADING = 30.0
LOADING_MAX = 300.0
"""Seconds that it has for its first word: on a slow machine libvlc takes its time to load.

Twice as long after each try that was too short, up to the longest: or else one that starts anew
for ever would keep the machine as slow as it is.
"""

MAX_ORDERS = 1000
"""Orders that wait for a process; one that leaves so many is ended."""

_REPORT = TypeAdapter(Report)


class SendingProcess:
    """Starts it, tells it, hears it. `tend` starts it again when it has ended.

    Args:
        module: what Python runs.
        output: how its streams go out.
        on_report: called, in a thread of this process's own, with what it says.
        on_end: called there when it has ended.
        log_level: for its log, which goes where ours goes.
    """

    def __init__(
        self,
        module: str,
        output: Output,
        on_report: Callable[[Report], None],
        on_end: Callable[[], None],
        log_level: str,
    ) -> None:
        self._module = module
        self._settings = json.dumps(
            {
                "interface": output.interface,
                "source": str(output.source),
                "ttl": output.ttl,
                "log_level": log_level,
            }
        )
        self._on_report = on_report
        self._on_end = on_end
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: queue.Queue[bytes | None] = queue.Queue(MAX_ORDERS)
        self._back_off = BackOff(RETRY_FIRST, RETRY_MAX)
        self._loading = LOADING
        self._started = 0.0
        self._next_start = 0.0
        self._heard = 0.0
        self._speaks = self._killed = False
        self.starts = 0

    @property
    def alive(self) -> bool:
        """Whether it runs, and was not told to end."""
        return self._process is not None and not self._killed and self._process.poll() is None

    @property
    def speaks(self) -> bool:
        """Whether it runs, and has loaded."""
        return self._speaks and self.alive

    @property
    def quiet(self) -> bool:
        """Whether it has loaded, and has not said a word for longer than it should take."""
        return self.speaks and time.monotonic() - self._heard > QUIET

    @property
    def pid(self) -> int | None:
        """Its number, while it runs."""
        return self._process.pid if self._process and self.alive else None

    def tend(self) -> bool:
        """Start it if it does not run and it is time to; True: it is a new one, and knows nothing.

        One that does not speak any more is ended.
        """
        now = time.monotonic()
        if self.alive:
            if now - self._heard > (FROZEN if self._speaks else self._loading):
                log.warning("a process hangs", extra={"child": self._module})
                self._loading = LOADING if self._speaks else min(2 * self._loading, LOADING_MAX)
                self.kill()
            elif now - self._started > STEADY:
                self._back_off.reset()
            return False
        if self._process is not None:
            if self._process.poll() is None:
                return False  # killed, and not yet gone: a disk that hangs may keep it
            log.warning(
                "a process has ended",
                extra={"child": self._module, "status": self._process.returncode},
            )
            self._bury()
            # At once after a good life, else it would be hammered into a wall.
            steady = now - self._started > STEADY
            self._next_start = now if steady else now + self._back_off.delay()
        if now < self._next_start:
            return False
        self._start(now)
        return True

    def tell(self, order: Order) -> None:
        """Give an order. Never waits; if it has ended, the one that comes next is told anew."""
        with self._lock:
            if self._process is None:
                return
            try:
                self._orders.put_nowait(to_line(order).encode())
            except queue.Full:
                log.warning("a process takes no orders", extra={"child": self._module})
                self._process.kill()

    def kill(self) -> None:
        """End it. Never waits; `tend` starts another when it has ended."""
        if self._process is not None:
            self._killed = True
            self._process.kill()

    def close(self) -> None:
        """End it for good."""
        self.kill()
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=2)
        self._bury()

    def _start(self, now: float) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", self._module, self._settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        orders: queue.Queue[bytes | None] = queue.Queue(MAX_ORDERS)
        with self._lock:
            self._process, self._orders = process, orders
            self._speaks = self._killed = False
        self._started = self._heard = now
        self.starts += 1
        for target, args in ((self._listen, (process,)), (_pass_on, (orders, process))):
            threading.Thread(target=target, args=args, name=self._module, daemon=True).start()

    def _bury(self) -> None:
        with self._lock:
            self._process = None
            # Who passes them on has nobody to do so to, and may wait for the next.
            with suppress(queue.Full):
                self._orders.put_nowait(None)

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        with cast("IO[bytes]", process.stdout) as lines:
            for line in lines:
                if process is self._process:
                    self._heard, self._speaks = time.monotonic(), True
                if not line.strip():
                    continue
                try:
                    report = _REPORT.validate_json(line)
                except ValidationError:
                    log.warning("a report that is none", extra={"child": self._module})
                    continue
                if process is self._process:
                    try:
                        self._on_report(report)
                    except Exception:
                        log.exception("a report was not taken")
        self._on_end()


def _pass_on(orders: queue.Queue[bytes | None], process: subprocess.Popen[bytes]) -> None:
    """Write its orders to a process as it takes them, until it has ended."""
    with suppress(OSError), cast("IO[bytes]", process.stdin) as pipe:
        while (line := orders.get()) is not None:
            pipe.write(line)
            pipe.flush()
