"""The ramp: has the bench's aircraft stand at the gate, or fly.

It tells of weight on wheels each second on the bus, as the hardware app does. Orders come by HTTP
at a Unix socket, from the crew's page or from ``python -m bench gate``: ``PUT /gate`` with
``{"open": true}``. ``python -m bench.ramp REDIS_URL SOCKET``
"""

from __future__ import annotations

import logging
import socketserver
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from apps.common import discretes
from apps.common import log as logs
from apps.common.bus import Bus
from apps.common.discretes import Discretes
from bench.instance import BenchError

log = logging.getLogger(__name__)

MAX_BODY = 1024
TIMEOUT = 5.0


class GateOrder(BaseModel):
    """Land, or take off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    open: bool


def order(path: Path, is_open: bool) -> None:
    """Open or close the gate.

    Raises:
        BenchError: there is none at `path`.
    """
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=TIMEOUT) as client:
            body = GateOrder(open=is_open).model_dump()
            client.put("http://localhost/gate", json=body).raise_for_status()
    except httpx.HTTPError as error:
        raise BenchError(f"the bench's gate does not answer ({error}): is the bench up?") from error


class Ramp:
    """Weight on wheels. It begins in flight."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._wow = False
        self._wake = threading.Event()

    def set(self, order: GateOrder) -> None:
        """Land or take off."""
        self._wow = order.open
        log.info("the gate is to be %s", "open" if order.open else "closed")
        self._wake.set()

    def tell_for_ever(self) -> None:
        """Tell how the discretes stand."""
        while True:
            self._bus.publish(discretes.TOPIC, Discretes(wow=self._wow))
            self._wake.wait(discretes.EVERY)
            self._wake.clear()


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, where: Path, ramp: Ramp) -> None:
        super().__init__(str(where), _Handler)
        self.ramp = ramp


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 5

    def do_PUT(self) -> None:
        """Take an order."""
        try:
            length = min(int(self.headers.get("Content-Length", "0")), MAX_BODY)
            order = GateOrder.model_validate_json(self.rfile.read(length))
        except (ValueError, ValidationError):
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        if self.path != "/gate":
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.server.ramp.set(order)
        self.send_response(HTTPStatus.NO_CONTENT)
        self.end_headers()

    def address_string(self) -> str:
        """A Unix socket's client has none."""
        return "local"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """What matters is logged by the ramp."""


def serve(redis_url: str, where: Path) -> None:
    """Serve for ever."""
    bus = Bus(redis_url)
    bus.start()
    ramp = Ramp(bus)
    threading.Thread(target=ramp.tell_for_ever, daemon=True).start()
    with _Server(where, ramp) as server:
        server.serve_forever()


if __name__ == "__main__":
    logs.setup("info")
    serve(sys.argv[1], Path(sys.argv[2]))
