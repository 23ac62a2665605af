"""Run the player of this seat: ``python -m apps.player``."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from apps.common import log, manhole
from apps.common.health import Health, sd_notify
from apps.common.settings import SettingsError
from apps.player.agent import Player
from apps.player.channel_list import ChannelList
from apps.player.keys import read_keys
from apps.player.pa_link import PaLink
from apps.player.platform import LinuxPlatform, Platform
from apps.player.screen_backend import ScreenBackend
from apps.player.settings import PaSettings, PlayerSettings, ScreenSettings

NOTIFY_EVERY = 3.0
"""Seconds; the unit's watchdog waits for more than twice that."""


async def run(settings: PlayerSettings, platform: Platform) -> None:
    """Be the player until SIGTERM or SIGINT."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    pa = PaLink()
    channels = ChannelList(settings.state_directory)
    media = ScreenBackend(settings.media_url, channels, pa.for_screen)
    player = Player(settings, media, platform, pa=pa, channels=channels)
    health = Health("player")
    health.part("seat control", lambda: player.server_trouble)
    health.part("multicast", lambda: player.multicast_trouble)
    await player.start()
    manhole.open_if_wanted(player=player, loop=loop)
    sd_notify("READY=1")
    try:
        async with _stills(settings.still_socket, media):
            while not over.is_set():
                health.notify()
                sd_notify("WATCHDOG=1")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(NOTIFY_EVERY):
                        await over.wait()
    finally:
        sd_notify("STOPPING=1")
        await player.stop()


@contextlib.asynccontextmanager
async def _stills(path: Path | None, media: ScreenBackend) -> AsyncIterator[None]:
    """Give whoever connects a picture of the screen, or nothing where there is none."""

    async def give(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(await media.still() or b"")
            await writer.drain()
        except OSError:
            return
        finally:
            writer.close()

    if path is None:
        yield
        return
    await asyncio.to_thread(path.unlink, missing_ok=True)
    async with await asyncio.start_unix_server(give, path):
        yield


def main(platform: Platform) -> None:
    """Read the settings, those of the children too, then run."""
    try:
        settings = PlayerSettings.load()
        ScreenSettings.load()
        read_keys(PaSettings.load().pa_public_keys_file)
        log.setup(settings.log_level)
        asyncio.run(run(settings, platform))
    except SettingsError as error:
        sys.exit(f"player: {error}")


if __name__ == "__main__":
    main(LinuxPlatform())
