"""Seat control's API (docs/protocols/cabin.md, apps/common/commands.py), as the page uses it."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from apps.common.cabin import CabinView
from apps.common.commands import Accepted, Armed, ArmRequest, CommandRequest, Report
from apps.common.health import HealthReport
from apps.common.protocol import CREW_HEADER

TIMEOUT = httpx.Timeout(2.0, connect=0.5)
"""Seconds. It answers within milliseconds, and a person waits."""

LIMITS = httpx.Limits(max_connections=16, max_keepalive_connections=0)
"""No connection is kept: one that seat control's restart cut would fail the next command."""

M = TypeVar("M", bound=BaseModel)


class UnavailableError(Exception):
    """Seat control did not answer, or not in words of ours.

    `maybe_done`: the request may have reached it all the same.
    """

    def __init__(self, why: str, *, maybe_done: bool) -> None:
        super().__init__(why)
        self.maybe_done = maybe_done


class RefusedError(Exception):
    """Seat control refused, by a problem document (RFC 9457) of kind `slug`."""

    def __init__(self, status: int, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.detail = detail


class _ProblemDocument(BaseModel):
    type: str = ""
    detail: str = ""


class SeatControl:
    """The other end of seat control's Unix socket. May be used from many threads."""

    def __init__(self, path: Path) -> None:
        self._client = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path), limits=LIMITS),
            base_url="http://seat_control",
            timeout=TIMEOUT,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def cabin(self, crew: str) -> CabinView:
        """The whole cabin. This and the others raise UnavailableError or RefusedError."""
        return self._ask(CabinView, "GET", "/api/v1/cabin", crew)

    def arm(self, crew: str, request: ArmRequest) -> Armed:
        """The first step of a destructive command."""
        return self._ask(Armed, "POST", "/api/v1/commands/arm", crew, request)

    def issue(self, crew: str, request: CommandRequest) -> Accepted:
        """Issue a command. It is never sent twice: whether to try again is for a person."""
        return self._ask(Accepted, "POST", "/api/v1/commands", crew, request)

    def report(self, crew: str, seq: int) -> Report:
        """How far a command has come."""
        return self._ask(Report, "GET", f"/api/v1/commands/{seq}", crew)

    def health(self) -> HealthReport:
        """How seat control is."""
        return self._ask(HealthReport, "GET", "/healthz", None)

    def _ask(
        self,
        model: type[M],
        method: str,
        path: str,
        crew: str | None,
        body: BaseModel | None = None,
    ) -> M:
        headers = {"Content-Type": "application/json"} if body else {}
        if crew is not None:
            headers[CREW_HEADER] = crew
        try:
            response = self._client.request(
                method,
                path,
                headers=headers,
                content=body.model_dump_json(exclude_none=True) if body else None,
            )
        except httpx.ConnectError as error:
            raise UnavailableError(f"it does not run ({error})", maybe_done=False) from error
        except httpx.ConnectTimeout as error:
            raise UnavailableError("it takes no connection", maybe_done=False) from error
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise UnavailableError(why, maybe_done=True) from error
        if response.status_code >= 500 and model is not HealthReport:
            raise UnavailableError(f"it answers {response.status_code}", maybe_done=True)
        if 400 <= response.status_code < 500:
            raise _refusal(response)
        try:
            return model.model_validate_json(response.content)
        except ValidationError as error:
            raise UnavailableError("its answer is not understood", maybe_done=True) from error


def _refusal(response: httpx.Response) -> RefusedError:
    try:
        document = _ProblemDocument.model_validate_json(response.content)
    except ValidationError:
        document = _ProblemDocument()
    slug = document.type.removeprefix("urn:ife:problem:")
    return RefusedError(response.status_code, slug, document.detail)
