"""A child of a seat's player, by itself."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def child(
    namespace: str, module: str, arguments: list[str], ends: list[socket.socket], **settings: str
) -> Iterator[None]:
    """`module` of the player, in a network namespace, with these ends of sockets and settings."""
    process = subprocess.Popen(
        [
            *("ip", "netns", "exec", namespace, sys.executable, "-m", f"apps.player.{module}"),
            *("--parent", str(os.getpid()), *arguments),
        ],
        pass_fds=[end.fileno() for end in ends],
        env=os.environ
        | {"IFE_REGISTRATION": "EC-LAB"}
        | {f"IFE_{name.upper()}": value for name, value in settings.items()},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def screen(
    namespace: str, interface: str, video_output: str, pa: socket.socket | None = None
) -> Iterator[socket.socket]:
    """The child with libvlc; the agent's end of its socket. `pa`: where it hears the PA's child."""
    agent, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    folder = tempfile.TemporaryDirectory(prefix="ife-screen-", ignore_cleanup_errors=True)
    arguments, ends = ["--agent", str(theirs.fileno()), "--folder", folder.name], [theirs]
    if pa is not None:
        arguments, ends = [*arguments, "--pa", str(pa.fileno())], [*ends, pa]
    with (
        folder,
        agent,
        theirs,
        child(
            namespace,
            "screen",
            arguments,
            ends,
            multicast_interface=interface,
            video_output=video_output,
            audio_output="dummy",
        ),
    ):
        yield agent
