"""What one seat's screen shows, asked of its player, where that runs on this machine."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

from apps.common.calls import UnavailableError

TIMEOUT = 3.0
"""Seconds for all of it; the player gives its screen 2."""

MAX_PICTURE = 4 * 1024 * 1024
"""Bytes; at 640 pixels across a picture has a tenth of it."""

PNG = b"\x89PNG\r\n\x1a\n"
"""What each begins with (ISO/IEC 15948, section 5.2)."""


class SeatPicture:
    """The other end of a player's `still_socket`. May be used from many threads.

    One request at a time asks, and meanwhile the others get what came last: so a player that hangs
    holds one of the page's threads, however many look.

    Args:
        setting: the seat and the socket, ``12A:/run/ife/player/still.sock``.
    """

    def __init__(self, setting: str) -> None:
        self.seat, _, path = setting.partition(":")
        self._path = Path(path)
        self._asking = threading.Lock()
        self._last: bytes | UnavailableError = UnavailableError("not asked yet", maybe_done=False)

    def look(self) -> bytes:
        """A picture as PNG; empty where the screen shows none.

        Raises:
            UnavailableError: the player did not answer, or with no picture.
        """
        if self._asking.acquire(blocking=False):
            try:
                self._last = self._ask()
            except (OSError, ValueError) as error:
                self._last = UnavailableError(str(error), maybe_done=False)
            finally:
                self._asking.release()
        last = self._last
        if isinstance(last, UnavailableError):
            raise last
        return last

    def _ask(self) -> bytes:
        end = time.monotonic() + TIMEOUT
        picture = bytearray()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(TIMEOUT)
            sock.connect(str(self._path))
            while piece := sock.recv(64 * 1024):
                picture += piece
                if len(picture) > MAX_PICTURE:
                    raise ValueError(f"more than {MAX_PICTURE} bytes")
                sock.settimeout(max(0.001, end - time.monotonic()))
        if picture and not picture.startswith(PNG):
            raise ValueError("no PNG")
        return bytes(picture)
