"""From the crew's click to the first picture on the screen of a seat with the project's player."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator

import xcffib
from xcffib.xproto import ImageFormat

from apps.common.testing import wait_until
from apps.player.screen import SETTLE
from apps.player.screen_messages import MAX_MESSAGE, Expect, Impose, Order
from apps.player.testing import x_server
from bench.media import player_child

WIDTH, HEIGHT = 1024, 576
_ALL_PLANES = 0xFFFFFFFF


class Screen:
    """An X server's screen, and the player's screen child on it."""

    def __init__(self, display: str, agent: socket.socket) -> None:
        self._connection = xcffib.connect(display)
        self._root = self._connection.get_setup().roots[0].root
        self._agent = agent
        wait_until(self._has_reported, "the screen is there", 30)

    def tell(self, order: Order) -> None:
        """As the agent does."""
        self._agent.send(order.model_dump_json().encode())

    def shown(self, url: str) -> float:
        """Impose a video that has just begun; when it is seen, in seconds since 1970."""
        self.tell(Impose(url=url))
        wait_until(lambda: not self._is_dark(), "there is a picture")
        return time.time()

    def let_go(self) -> None:
        """Of what is imposed, until nothing is seen any more."""
        self.tell(Impose(url=None))
        wait_until(self._is_dark, "it is let go")

    def _is_dark(self) -> bool:
        """Whether nothing is on it: looked at is a line through its middle."""
        line = self._connection.core.GetImage(
            ImageFormat.ZPixmap, self._root, 0, HEIGHT // 2, WIDTH, 1, _ALL_PLANES
        ).reply()
        return max(bytes(line.data.buf())[:: 4 * 8]) < 16

    def _has_reported(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            return bool(self._agent.recv(MAX_MESSAGE))
        return False


@contextlib.contextmanager
def seat(namespace: str, interface: str, url: str) -> Iterator[Screen]:
    """A seat that may have a video imposed, and shows nothing."""
    with x_server(WIDTH, HEIGHT) as display:
        os.environ["DISPLAY"] = display
        with player_child.screen(namespace, interface, "window") as agent:
            screen = Screen(display, agent)
            screen.tell(Expect(urls=(url,)))
            time.sleep(SETTLE)
            yield screen
