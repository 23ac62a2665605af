"""The demo's real player: all of `apps.player`, but for the hardware, which is simulated.

This machine's own is none of a seat's: a reset would restart it, a dark cabin darken its screen.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time

from apps.player import __main__ as player
from bench.cabin import REBOOT_SECONDS, SimulatedPlatform


def main() -> None:
    """Be the player; after a reset, once more with another boot id."""
    is_reset = False

    def reset() -> None:
        nonlocal is_reset
        is_reset = True
        signal.raise_signal(signal.SIGTERM)

    player.main(SimulatedPlatform(reset))
    if is_reset:
        time.sleep(REBOOT_SECONDS)
        os.environ["IFE_BOOT_ID"] = secrets.token_hex(16)
        # The same process, as the bench knows it.
        os.execv(sys.executable, [sys.executable, "-m", "bench.player"])


if __name__ == "__main__":
    main()
