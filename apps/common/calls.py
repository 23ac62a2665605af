"""Calls from app to app: HTTP over the Unix socket of the other, with its refusals understood."""

from __future__ import annotations

import http.client
import socket
import time
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from apps.common.cabin import CabinView
from apps.common.commands import Accepted, Armed, ArmRequest, CommandRequest, DeliveryReport
from apps.common.health import HealthReport
from apps.common.protocol import ASKED_HEADER, CREW_HEADER

CONNECT_TIMEOUT = 0.5
TIMEOUT = 2.0
"""Seconds. It answers within milliseconds, and a person waits."""

MAX_ANSWER = 4 * 1024 * 1024
"""Bytes; a cabin of 1,000 seats is a tenth of it."""

M = TypeVar("M", bound=BaseModel)


class UnavailableError(Exception):
    """The other app did not answer, or not in words of ours.

    `maybe_done`: the request may have reached it all the same.
    """

    def __init__(self, why: str, *, maybe_done: bool) -> None:
        super().__init__(why)
        self.maybe_done = maybe_done


class RefusedError(Exception):
    """The other app refused, by a problem document (RFC 9457) of kind `slug`."""

    def __init__(self, status: int, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.detail = detail


class _ProblemDocument(BaseModel):
    type: str = ""
    detail: str = ""


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect, or leave nothing behind."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self.sock.settimeout(CONNECT_TIMEOUT)
            self.sock.connect(str(self._path))
            self.sock.settimeout(self.timeout)
        except OSError:
            self.close()
            raise


class Client:
    """The other end of an app's Unix socket. May be used from many threads.

    Each call has a connection of its own: on a kept one, the restart of the other app would
    fail the next call. A subclass has a method for each request that is made of that app.

    Args:
        path: of the socket.
        timeout: seconds for an answer.
    """

    def __init__(self, path: Path, timeout: float = TIMEOUT) -> None:
        self._path = path
        self._timeout = timeout

    def health(self) -> HealthReport:
        """How the app is."""
        return self.ask(HealthReport, "GET", "/healthz", None)

    def ask(
        self,
        model: type[M],
        method: str,
        path: str,
        crew: str | None,
        body: BaseModel | None = None,
    ) -> M:
        """Make one request in the name of a crew member, never twice: to try again is for people.

        Raises:
            UnavailableError: there is no answer, or none that is understood.
            RefusedError: the app says no.
        """
        headers = {ASKED_HEADER: f"{time.time():.3f} {self._timeout:g}"}
        if body:
            headers["Content-Type"] = "application/json"
        if crew is not None:
            headers[CREW_HEADER] = crew
        content = body.model_dump_json(exclude_none=True).encode() if body else None
        status, answer = self._exchange(method, path, headers, content)
        if status >= 500 and model is not HealthReport:
            raise UnavailableError(f"it answers {status}", maybe_done=True)
        if 400 <= status < 500:
            raise _refusal(status, answer)
        try:
            return model.model_validate_json(answer)
        except ValidationError as error:
            raise UnavailableError("its answer is not understood", maybe_done=True) from error

    def _exchange(
        self, method: str, path: str, headers: dict[str, str], content: bytes | None
    ) -> tuple[int, bytes]:
        with closing(_Connection(self._path, self._timeout)) as connection:
            try:
                connection.connect()
            except OSError as error:
                why = f"it takes no connection: {error.strerror or error}"
                raise UnavailableError(why, maybe_done=False) from error
            try:
                connection.request(method, path, content, headers)
                response = connection.getresponse()
                # Of a 204 there is nothing to read.
                return response.status, response.read(MAX_ANSWER) or b"{}"
            except (OSError, http.client.HTTPException) as error:
                why = f"it broke off ({error or type(error).__name__})"
                raise UnavailableError(why, maybe_done=True) from error


class SeatControl(Client):
    """Seat control's API (docs/protocols/cabin.md, apps/common/commands.py).

    Each call raises UnavailableError or RefusedError.
    """

    def cabin(self, crew: str) -> CabinView:
        """The whole cabin."""
        return self.ask(CabinView, "GET", "/api/v1/cabin", crew)

    def arm(self, crew: str, request: ArmRequest) -> Armed:
        """The first step of a destructive command."""
        return self.ask(Armed, "POST", "/api/v1/commands/arm", crew, request)

    def issue(self, crew: str, request: CommandRequest) -> Accepted:
        """Issue a command."""
        return self.ask(Accepted, "POST", "/api/v1/commands", crew, request)

    def report(self, crew: str, seq: int) -> DeliveryReport:
        """How far a command has come."""
        return self.ask(DeliveryReport, "GET", f"/api/v1/commands/{seq}", crew)


def _refusal(status: int, answer: bytes) -> RefusedError:
    try:
        document = _ProblemDocument.model_validate_json(answer)
    except ValidationError:
        document = _ProblemDocument()
    return RefusedError(status, document.type.removeprefix("urn:ife:problem:"), document.detail)
