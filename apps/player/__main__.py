"""Run the player of this seat: ``python -m apps.player``."""

from __future__ import annotations

import asyncio
import signal
import sys
import time

from apps.common import log, manhole
from apps.common.health import Health, sd_notify
from apps.common.settings import SettingsError
from apps.player.agent import Player
from apps.player.media import NullBackend
from apps.player.platform import LinuxPlatform
from apps.player.settings import PlayerSettings

NOTIFY_EVERY = 3.0
"""Seconds; the unit's watchdog waits for more than twice that."""


async def run(settings: PlayerSettings) -> None:
    """Be the player until SIGTERM or SIGINT."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    player = Player(settings, NullBackend(time.monotonic), LinuxPlatform())
    health = Health("player")
    health.part("seat control", lambda: player.server_trouble)
    health.part("multicast", lambda: player.multicast_trouble)
    await player.start()
    manhole.open_if_wanted(player=player, loop=loop)
    sd_notify("READY=1")
    try:
        while not over.is_set():
            health.notify()
            sd_notify("WATCHDOG=1")
            try:
                async with asyncio.timeout(NOTIFY_EVERY):
                    await over.wait()
            except TimeoutError:
                continue
    finally:
        sd_notify("STOPPING=1")
        await player.stop()


def main() -> None:
    """Read the settings, then run."""
    try:
        settings = PlayerSettings.load()
        log.setup(settings.log_level)
        asyncio.run(run(settings))
    except SettingsError as error:
        sys.exit(f"player: {error}")


if __name__ == "__main__":
    main()
