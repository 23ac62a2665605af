"""A picture of what is on the wire of a channel, for the crew's page."""

from __future__ import annotations

import select
import socket
import subprocess
import threading
import time
from contextlib import suppress
from ipaddress import IPv4Address
from typing import IO, cast

from apps.common.rtp import payload
from apps.common.web import Problem
from apps.vlc_stream.orders import Output
from apps.vlc_stream.wire import MAX_DATAGRAM, open_receiver

GOOD_FOR = 10.0
"""Seconds for which a picture is given again, before another is made."""

LISTEN = 6.0
"""Seconds of the stream at most; a key frame comes each second or two."""

TIMEOUT = 10.0
MEMORY = 512 * 1024 * 1024
MAX_PICTURE = 256 * 1024

WIDTH = 320
"""Pixels."""


class Pictures:
    """Makes one at a time, at low priority; who asks meanwhile is asked to come again."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._lock = threading.Lock()
        self._made: dict[tuple[IPv4Address, int], tuple[float, bytes]] = {}

    def of(self, group: IPv4Address, port: int) -> bytes:
        """A JPEG of what is on a group.

        Raises:
            Problem: there is nothing, or another picture is being made.
        """
        made = self._made.get((group, port))
        if made is not None and time.monotonic() - made[0] < GOOD_FOR:
            return made[1]
        if not self._lock.acquire(blocking=False):
            raise Problem(503, "busy", "another picture is being made", retry_after=2)
        try:
            picture = self._make(group, port)
        finally:
            self._lock.release()
        self._made[group, port] = (time.monotonic(), picture)
        return picture

    def _make(self, group: IPv4Address, port: int) -> bytes:
        out = self._output
        try:
            with (
                open_receiver(out.interface, group, port, out.source) as sock,
                subprocess.Popen(
                    [
                        *("nice", "-n", "19", "prlimit", f"--as={MEMORY}"),
                        *("ffmpeg", "-v", "quiet", "-threads", "1", "-f", "mpegts"),
                        *("-probesize", "1M", "-analyzeduration", "1M", "-i", "pipe:0"),
                        # Else the encoder takes a thread a processor, and there is room for none.
                        *("-an", "-frames:v", "1", "-threads", "1", "-vf", f"scale={WIDTH}:-2"),
                        *("-f", "mjpeg", "-q:v", "5", "pipe:1"),
                    ],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                ) as ffmpeg,
            ):
                killer = threading.Timer(TIMEOUT, ffmpeg.kill)
                killer.start()
                try:
                    picture = _through(ffmpeg, sock)
                finally:
                    killer.cancel()
                    ffmpeg.kill()
        except OSError as error:
            raise Problem(503, "no-picture", error.strerror or str(error), retry_after=5) from error
        if not picture:
            raise Problem(503, "no-picture", "there is no picture on its group", retry_after=5)
        return picture


def _through(ffmpeg: subprocess.Popen[bytes], sock: socket.socket) -> bytes:
    """Hand over what is on the wire, until ffmpeg has its picture."""
    into, out = cast("IO[bytes]", ffmpeg.stdin), cast("IO[bytes]", ffmpeg.stdout)
    deadline = time.monotonic() + LISTEN
    with suppress(BrokenPipeError):
        while (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([sock.fileno(), out.fileno()], [], [], left)
            if out.fileno() in ready:
                break
            if ready and (data := payload(sock.recv(MAX_DATAGRAM))) is not None:
                into.write(data)
                into.flush()
        into.close()
    return out.read(MAX_PICTURE)
