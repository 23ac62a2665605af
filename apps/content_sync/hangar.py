"""The Hangar as the aircraft reaches it: HTTPS, with the aircraft's client certificate."""

from __future__ import annotations

import logging
import ssl
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import httpx
from pydantic import BaseModel, ValidationError

from apps.common import gate, usage
from apps.common.gate import BatchTaken, Heartbeat, HeartbeatAnswer
from apps.content_sync.pace import Pace

M = TypeVar("M", bound=BaseModel)

# It tells of every request.
logging.getLogger("httpx").setLevel(logging.WARNING)

CONNECT_TIMEOUT = 10.0
TIMEOUT = 30.0
"""Seconds without a byte, either way. Links at the gate are poor: 300 ms, and packets vanish."""


class HangarError(OSError):
    """The Hangar does not answer, or not as it should: another try may help."""


class RefusedError(HangarError):
    """The Hangar will not have it: `status` is HTTP's, `slug` the kind of problem (RFC 9457)."""

    def __init__(self, status: int, slug: str, detail: str) -> None:
        super().__init__(f"the Hangar refuses: {detail or slug}")
        self.status = status
        self.slug = slug


class _Problem(BaseModel):
    """The body of a refusal."""

    type: str = ""
    detail: str = ""


class HangarClient:
    """Speaks to one Hangar. Threads may share it.

    Args:
        url: the Hangar's, ``https://hangar.example``: who must answer.
        address: where it is. No name is looked up: at a gate there may be nobody to ask, and the
            unit may speak to nobody else.
        authority: the root that its certificate must lead to.
        certificate: the aircraft's, followed by that of its issuer.
        key: of that certificate.
        pace: what all that is sent keeps to.

    Raises:
        OSError: a file cannot be read, or is none.
    """

    def __init__(
        self,
        url: str,
        address: IPv4Address,
        authority: Path,
        certificate: Path,
        key: Path,
        pace: Pace,
    ) -> None:
        self._pace = pace
        hangar = httpx.URL(url)
        self._extensions = {"sni_hostname": hangar.host}
        trust = ssl.create_default_context(cafile=authority)
        trust.load_cert_chain(certificate, key)
        # A proxy, or a certificate, of the environment has no say in it.
        self._client = httpx.Client(
            base_url=hangar.copy_with(host=str(address)),
            # Nothing is unpacked: a few bytes could become more than there is of memory.
            headers={"Host": hangar.netloc.decode(), "Accept-Encoding": "identity"},
            verify=trust,
            trust_env=False,
            timeout=httpx.Timeout(TIMEOUT, connect=CONNECT_TIMEOUT),
            limits=httpx.Limits(max_connections=2, keepalive_expiry=60),
        )

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def send_heartbeat(self, heartbeat: Heartbeat) -> HeartbeatAnswer:
        """Tell the Hangar how we are.

        Raises:
            HangarError: it did not answer, or refused.
        """
        body = heartbeat.model_dump_json().encode()
        return self._ask("POST", gate.HEARTBEATS_PATH, body, "application/json", HeartbeatAnswer)

    def put_batch(self, number: int, batch: bytes) -> BatchTaken:
        """Hand over a batch of usage; what comes back is only what the Hangar says.

        Raises:
            HangarError: it did not answer, or refused.
        """
        path = f"{gate.BATCHES_PATH}/{number}"
        return self._ask("PUT", path, batch, usage.CONTENT_TYPE, BatchTaken)

    def put_logs(self, request: UUID, logs: bytes) -> None:
        """Hand over the logs that were asked for.

        Raises:
            HangarError: it did not answer, or refused.
        """
        self._exchange("PUT", f"{gate.LOGS_PATH}/{request}", logs, gate.LOGS_TYPE)

    def _ask(self, method: str, path: str, body: bytes, kind: str, model: type[M]) -> M:
        text = self._exchange(method, path, body, kind)
        try:
            return model.model_validate_json(text)
        except ValidationError as error:
            raise HangarError("the Hangar's answer is not one that we understand") from error

    def _exchange(self, method: str, path: str, body: bytes, kind: str) -> bytes:
        headers = {"Content-Type": kind, "Content-Length": str(len(body))}
        try:
            with self._client.stream(
                method,
                path,
                content=self._pace.parts(body),
                headers=headers,
                extensions=self._extensions,
            ) as answer:
                text = bounded(answer)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            said = str(error) or type(error).__name__
            raise HangarError(f"the Hangar does not answer: {said}") from error
        # With 500 it stumbles over what we sent; behind that there may be something it takes.
        if answer.is_client_error or answer.status_code == 500:
            raise _refusal(answer.status_code, text)
        if not answer.is_success:
            raise HangarError(f"the Hangar answers with status {answer.status_code}")
        return text


def bounded(answer: httpx.Response) -> bytes:
    """The body as it came, if it is not too long.

    Raises:
        HangarError: it is.
    """
    text = b""
    for chunk in answer.iter_raw():
        text += chunk
        if len(text) > gate.MAX_ANSWER:
            raise HangarError(f"the Hangar's answer has over {gate.MAX_ANSWER} bytes")
    return text


def _refusal(status: int, text: bytes) -> HangarError:
    try:
        problem = _Problem.model_validate_json(text)
    except ValidationError:
        problem = _Problem()
    slug = problem.type.rpartition(":")[2] or f"status {status}"
    # Too many requests, or too slow: that passes.
    if status in (408, 429):
        return HangarError(f"the Hangar has no time: {problem.detail or slug}")
    return RefusedError(status, slug, problem.detail)
