"""What time it is, as far as that is known: docs/decisions/0014."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime

ASK_EVERY = 30.0
TIMEOUT = 5.0

_ASK = ("timedatectl", "show", "--property=NTPSynchronized", "--value")


class Clock:
    """The machine's clock, and whether somebody has told it the time.

    Args:
        now: the time.
        told: whether the clock was told it; asked each 30 s at most.
    """

    def __init__(
        self,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        told: Callable[[], bool] | None = None,
    ) -> None:
        self.now = now
        self._told = told or _is_told
        self._asked: tuple[float, bool] | None = None

    def is_sure(self) -> bool:
        """Whether the clock was told the time, by the ground or the avionics (chrony)."""
        moment = time.monotonic()
        if self._asked is None or moment - self._asked[0] > ASK_EVERY:
            self._asked = (moment, self._told())
        return self._asked[1]

    def surely_passed(self, made: datetime | None) -> datetime:
        """The latest moment that is surely over.

        A clock that was told a time before `made` was told a wrong one.

        Args:
            made: when the ground signed what is trusted here; None: nothing is.
        """
        made = made or datetime.min.replace(tzinfo=UTC)
        return max(self.now(), made) if self.is_sure() else made


def _is_told() -> bool:
    """By systemd, which asks the kernel (adjtimex(2)): our unit may not."""
    try:
        done = subprocess.run(
            _ASK, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == "yes"
