"""Holds the PA's keylines, as the hardware app does: each 100 ms it tells the PA how they stand.

Who speaks connects to its socket, sends the keylines (`apps.common.pa.Keylines`) as a line of JSON,
is answered with a line as soon as the PA was told, and hangs up to release them. Of several who
hold keylines, the last one's count. ``python -m bench.handset PA_SOCKET SOCKET``
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from pathlib import Path

from pydantic import ValidationError

from apps.common import log as logs
from apps.common.pa import KEYLINES_EVERY, Keylines

log = logging.getLogger(__name__)

MAX_LINE = 8192


class Handset:
    """The keylines, and who holds them.

    Args:
        pa: the PA's socket for them.
    """

    def __init__(self, pa: Path) -> None:
        self._pa = pa
        self._held: list[Keylines] = []
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setblocking(False)

    def tell(self) -> None:
        """Tell the PA how they stand. One that is not there hears it after its start."""
        keylines = self._held[-1] if self._held else Keylines()
        with contextlib.suppress(OSError):
            self._sock.sendto(keylines.model_dump_json().encode(), str(self._pa))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hold what somebody wants held, until they hang up."""
        try:
            keylines = Keylines.model_validate_json(await reader.readline())
        except (OSError, ValueError, ValidationError) as error:
            log.warning("not understood", extra={"error": str(error)[:200]})
            writer.close()
            return
        self._held.append(keylines)
        self.tell()
        try:
            writer.write(b"held\n")
            await reader.read()
        finally:
            # By identity: two may hold the same.
            self._held = [held for held in self._held if held is not keylines]
            self.tell()
            writer.close()


async def run(pa: Path, where: Path) -> None:
    """Serve for ever."""
    handset = Handset(pa)
    async with await asyncio.start_unix_server(handset.serve, where, limit=MAX_LINE):
        while True:
            handset.tell()
            await asyncio.sleep(KEYLINES_EVERY)


if __name__ == "__main__":
    logs.setup("info")
    asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2])))
