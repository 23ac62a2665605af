"""The control front for engineers: VLC's own words (VLM), line by line.

On a Unix socket in the state folder, for root, and if the settings say so on the loopback
interface, with a password. Telnet's own negotiation (RFC 854) is skipped.
"""

from __future__ import annotations

import hmac
import logging
import re
import socketserver
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from apps.common.channels import ChannelControl, ChannelView
from apps.common.web import Problem

log = logging.getLogger(__name__)

MAX_LINE = 256
MAX_CLIENTS = 4
IDLE = 300.0
"""Seconds without a line, after which a client is let go."""

MAX_TRIES = 3
TRY_EVERY = 1.0
"""Passwords in a session, and seconds after a wrong one."""

HELP = """\
show                            all channels
show CHANNEL                    one of them
control CHANNEL play            have it played, or go on after a pause
control CHANNEL pause           hold it
control CHANNEL stop            end it
control CHANNEL seek PERCENT    go to a place in the file that plays
help                            this
quit, logout                    leave
"""

_TELNET = re.compile(rb"\xff(?:[\xfb-\xfe].|\xfa.*?\xff\xf0|[^\xff])", re.DOTALL)
"""Commands of RFC 854: three bytes to agree on an option, a sub-negotiation, two bytes else."""

_HIDE = b"\xff\xfb\x01"
_SHOW = b"\xff\xfc\x01"
"""The server echoes, so the client does not; and no longer (RFC 857). For the password."""


class Words:
    """Answers a line. Logic without sockets.

    Args:
        channels: how all channels are.
        control: does something to one; raises Problem.
    """

    def __init__(
        self,
        channels: Callable[[], tuple[ChannelView, ...]],
        control: Callable[[str, ChannelControl], object],
    ) -> None:
        self._channels = channels
        self._control = control

    def answer(self, line: str) -> str | None:
        """What to say to a line; None: the client leaves."""
        match line.split():
            case []:
                return ""
            case ["quit" | "logout" | "exit"]:
                return None
            case ["help"]:
                return HELP
            case ["show"]:
                return "show\n    media\n" + "".join(map(_describe, self._channels()))
            case ["show", name]:
                return "".join(_describe(c) for c in self._channels() if c.id == name) or (
                    f"Error: {name}: no such channel\n"
                )
            case ["control", name, "play" | "pause" | "stop" as action]:
                return self._do(name, {"action": action})
            case ["control", name, "seek", percent]:
                return self._do(name, {"action": "seek", "percent": percent.removesuffix("%")})
            case _:
                return "Error: not understood, try help\n"

    def _do(self, name: str, fields: dict[str, str]) -> str:
        try:
            self._control(name, ChannelControl.model_validate(fields))
        except Problem as problem:
            return f"Error: {problem.detail}\n"
        except ValueError:
            return "Error: seek wants a number from 0 to 100\n"
        return ""


def _describe(channel: ChannelView) -> str:
    lines = [
        f"        {channel.id}",
        "            type : broadcast",
        f"            output : rtp://{channel.group}:{channel.port}",
        f"            state : {channel.state}",
    ]
    if channel.file is not None:
        lines.append(f"            input : {channel.file}")
        lines.append(f"            time : {channel.position} of {channel.duration} s")
    if channel.restarts:
        lines.append(f"            restarts : {channel.restarts}")
    if channel.trouble:
        lines.append(f"            trouble : {channel.trouble}")
    return "\n".join(lines) + "\n"


class Front:
    """The front on one socket.

    Args:
        words: what answers.
        where: a path for a Unix socket, or a port of the loopback interface.
        password: without it nobody is asked.

    Raises:
        OSError: the socket cannot be made.
    """

    def __init__(self, words: Words, where: Path | int, password: bytes | None) -> None:
        self._server: Any
        if isinstance(where, Path):
            where.unlink(missing_ok=True)
            self._server = _UnixServer(str(where), _Session)
            where.chmod(0o600)
        else:
            self._server = _TcpServer(("127.0.0.1", where), _Session)
        self._server.words = words
        self._server.password = password
        self._server.places = threading.BoundedSemaphore(MAX_CLIENTS)
        threading.Thread(target=self._server.serve_forever, name="front", daemon=True).start()

    @property
    def port(self) -> int:
        """The port, of one on the loopback interface."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Take nobody any more."""
        self._server.shutdown()
        self._server.server_close()


class _Places(socketserver.ThreadingMixIn):
    daemon_threads = True
    block_on_close = False
    places: threading.BoundedSemaphore

    def process_request(self, request: Any, client_address: Any) -> None:
        """One more client, if there is a place."""
        if not self.places.acquire(blocking=False):
            self.shutdown_request(request)  # type: ignore[attr-defined]  # of the other base
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """In the client's own thread, to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """A client that went, or fell silent, is no error of ours."""
        log.debug("a client of the front is gone")


class _UnixServer(_Places, socketserver.UnixStreamServer):
    pass


class _TcpServer(_Places, socketserver.TCPServer):
    allow_reuse_address = True


class _Session(socketserver.StreamRequestHandler):
    timeout = IDLE
    server: Any

    def handle(self) -> None:
        """Talk with one client."""
        if self.server.password is not None and not self._knows_password():
            return
        while True:
            self.wfile.write(b"> ")
            line = self._line()
            if line is None:
                return
            answer = self.server.words.answer(line.decode(errors="replace"))
            if answer is None:
                return
            self.wfile.write(answer.replace("\n", "\r\n").encode())

    def _knows_password(self) -> bool:
        self.wfile.write(b"ife vlc_stream\r\n" + _HIDE)
        for _ in range(MAX_TRIES):
            self.wfile.write(b"Password: ")
            line = self._line()
            if line is None:
                return False
            if hmac.compare_digest(line, self.server.password):
                self.wfile.write(_SHOW + b"\r\nWelcome, Master\r\n")
                return True
            log.warning("a wrong password at the control front")
            time.sleep(TRY_EVERY)
            self.wfile.write(b"\r\nWrong password\r\n")
        return False

    def _line(self) -> bytes | None:
        """The next line; None: there is none, or it is too long."""
        line = self.rfile.readline(MAX_LINE)
        if not line.endswith(b"\n"):
            return None
        return _TELNET.sub(b"", line).rstrip(b"\r\n\0")
