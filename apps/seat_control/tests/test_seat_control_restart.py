"""A restart in order, as `systemctl restart` does it: the socket stays open meanwhile."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from apps.common.protocol import LOST_AFTER
from apps.common.testing import end_group, wait_until
from apps.seat_control import testing

CREW = {"Ife-Crew": "anna"}

A_PAGE = b"GET /api/v1/events HTTP/1.1\r\nIfe-Crew: anna\r\n\r\n"
A_PRESS = (
    b"POST /api/v1/commands HTTP/1.1\r\nIfe-Crew: anna\r\nContent-Length: 9\r\n"
    b"Expect: 100-continue\r\n\r\n"
)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [(A_PAGE, b"event: snapshot"), (A_PRESS, b"100 Continue")],
    ids=["a page", "half a press"],
)
def test_it_ends_in_order_whatever_is_open_and_what_comes_meanwhile_waits(
    tmp_path: Path, asked: bytes, answered: bytes
) -> None:
    """Before a seat would be called lost."""
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as running:
        port = listener.getsockname()[1]
        first = running.enter_context(running_on(listener, tmp_path))
        health = functools.partial(httpx.get, f"http://127.0.0.1:{port}/healthz", timeout=60)
        wait_until(lambda: "audit log" in health().text, "all of it is loaded", 60)
        open_one = running.enter_context(socket.create_connection(("127.0.0.1", port), 10))
        open_one.sendall(asked)
        received = b""
        while answered not in received:
            received += (data := open_one.recv(65536))
            assert data, received
        began = time.monotonic()
        first.terminate()
        first.wait(10)
        assert time.monotonic() - began < LOST_AFTER
        # SQLite takes it away when the journal is closed.
        assert not (tmp_path / "journal.db-wal").exists()
        press = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        body = json.dumps({"selector": {"seats": ["12C"]}, "action": {"name": "identify"}})
        press.request("POST", "/api/v1/commands", body, CREW)
        running.enter_context(running_on(listener, tmp_path))
        assert press.getresponse().status == 202
        press.close()


@contextlib.contextmanager
def running_on(listener: socket.socket, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """As its unit runs it, on a socket that another holds."""
    descriptor = listener.fileno()
    command = [*testing.GUNICORN, "--graceful-timeout", "5", "--bind", f"fd://{descriptor}"]
    process = subprocess.Popen(
        [*command, "apps.seat_control.asgi:app"],
        env={"PATH": os.environ["PATH"], **testing.variables(folder)},
        cwd=testing.ROOT,
        pass_fds=[descriptor],
        start_new_session=True,
    )
    try:
        yield process
    finally:
        end_group(process)
