"""From the crew's click to the first picture on the screen of a seat with the project's player."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from functools import partial

import xcffib
from xcffib.xproto import ImageFormat

from apps.common.testing import wait_until
from apps.player.screen import SETTLE
from apps.player.screen_messages import Expect, Impose, Order
from bench.media.player_child import child

WIDTH, HEIGHT = 1024, 576
_ALL_PLANES = 0xFFFFFFFF


class Screen:
    """An X server's screen, and the player's screen child on it."""

    def __init__(self, display: str, agent: socket.socket) -> None:
        self._connection = xcffib.connect(display)
        self._root = self._connection.get_setup().roots[0].root
        self._agent = agent

    def tell(self, order: Order) -> None:
        """As the agent does."""
        self._agent.send(order.model_dump_json().encode())

    def is_dark(self) -> bool:
        """Whether nothing is on it: looked at is a line through its middle."""
        line = self._connection.core.GetImage(
            ImageFormat.ZPixmap, self._root, 0, HEIGHT // 2, WIDTH, 1, _ALL_PLANES
        ).reply()
        return max(bytes(line.data.buf())[:: 4 * 8]) < 16

    def reported(self) -> bool:
        """Whether the child has said something."""
        with contextlib.suppress(BlockingIOError):
            return bool(self._agent.recv(4096))
        return False


@contextlib.contextmanager
def x_server() -> Iterator[str]:
    """Its display's name."""
    read, write = os.pipe()
    screen = ["-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-nolisten", "tcp"]
    server = subprocess.Popen(["Xvfb", "-displayfd", str(write), *screen], pass_fds=[write])
    os.close(write)
    try:
        with os.fdopen(read) as number:
            yield f":{number.readline().strip()}"
    finally:
        server.terminate()
        server.wait(10)


@contextlib.contextmanager
def seat(namespace: str, interface: str, url: str) -> Iterator[Screen]:
    """A seat that may have a video imposed, and shows nothing."""
    agent, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    with x_server() as display:
        os.environ["DISPLAY"] = display
        with (
            agent,
            theirs,
            child(
                namespace,
                "screen",
                ["--agent", str(theirs.fileno())],
                [theirs],
                multicast_interface=interface,
                video_output="window",
                audio_output="dummy",
            ),
        ):
            screen = Screen(display, agent)
            wait_until(screen.reported, "the screen is there", 30)
            screen.tell(Expect(urls=(url,)))
            time.sleep(SETTLE)
            yield screen


def shown(screen: Screen, url: str) -> float:
    """Impose a video that has just begun; the time when it is seen, in seconds since 1970."""
    screen.tell(Impose(url=url))
    wait_until(partial(_seen, screen), "there is a picture")
    return time.time()


def _seen(screen: Screen) -> bool:
    return not screen.is_dark()


def gone(screen: Screen) -> None:
    """Let go of it, until nothing is seen any more."""
    screen.tell(Impose(url=None))
    wait_until(screen.is_dark, "it is let go")
