"""What gunicorn serves: the fast lane, the events, and the OpenAPI document, over a socket."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from schemathesis.specs.openapi.checks import unsupported_method

from apps.seat_control.openapi import document
from apps.seat_control.tests.test_seat_table import status

CREW = {"Ife-Crew": "anna"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a seat control under gunicorn, as its unit runs it."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "command.key").write_bytes(os.urandom(32))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    environment = {
        "PATH": os.environ["PATH"],
        "IFE_REGISTRATION": "EC-LAB",
        "IFE_LAYOUT": str(Path(__file__).parents[3] / "inventory/layouts/a320.yml"),
        "IFE_STATE_DIRECTORY": str(folder),
        "IFE_COMMAND_KEY": str(folder / "command.key"),
        "IFE_BOOT_ID": "a" * 32,
        "IFE_REDIS_URL": f"unix://{folder}/no-redis.sock",
        "IFE_DATABASE_URL": f"postgresql+psycopg:///ife?host={folder}/no-postgresql",
        "IFE_MULTICAST_INTERFACE": "lo",
        "IFE_MULTICAST_TTL": "0",
    }
    worker = "apps.seat_control.worker.Worker"
    command = ["-m", "gunicorn", "--worker-class", worker, "--bind", f"127.0.0.1:{port}"]
    with subprocess.Popen(
        [sys.executable, *command, "apps.seat_control.asgi:app"], env=environment
    ) as process:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                assert _ask(port, "GET", "/healthz")[0] == 200
                break
            except OSError:
                assert process.poll() is None, "gunicorn ended"
                time.sleep(0.1)
        yield port
        process.terminate()
        assert process.wait(timeout=15) == 0


def _ask(
    port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_the_fast_lane_answers_as_the_app_does(served: int) -> None:
    body = status().model_dump_json().encode()
    path = "/api/v1/seats/12C/status"
    assert _ask(served, "POST", path, body, {"Ife-Seat": "12C"})[0] == 200
    assert _ask(served, "POST", path, body, {"Ife-Seat": "12D"})[0] == 403
    assert _ask(served, "POST", path, body)[0] == 401
    assert _ask(served, "POST", path, b" " * 5000, {"Ife-Seat": "12C"})[0] == 413
    assert _ask(served, "POST", path, b"{", {"Ife-Seat": "12C"})[0] == 400
    assert _ask(served, "GET", path, headers={"Ife-Seat": "12C"})[0] == 405


def test_events_begin_with_a_snapshot_and_resume(served: int) -> None:
    assert _ask(served, "GET", "/api/v1/events")[0] == 401
    connection = http.client.HTTPConnection("127.0.0.1", served, timeout=10)
    connection.request("GET", "/api/v1/events", headers=CREW)
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "text/event-stream"
    first = [answer.readline() for _ in range(4)]
    assert first[1] == b"event: snapshot\n"
    assert b'"registration":"EC-LAB"' in first[2]
    body = status(volume=77).model_dump_json().encode()
    assert _ask(served, "POST", "/api/v1/seats/14C/status", body, {"Ife-Seat": "14C"})[0] == 200
    while b'"volume": 77' not in (line := answer.readline()):
        assert line
    connection.close()

    connection = http.client.HTTPConnection("127.0.0.1", served, timeout=10)
    last = first[0].decode().removeprefix("id: ").strip()
    connection.request("GET", "/api/v1/events", headers=CREW | {"Last-Event-ID": last})
    answer = connection.getresponse()
    lines = []
    while b'"volume": 77' not in (line := answer.readline()):
        assert line
        lines.append(line)
    assert b"event: snapshot\n" not in lines
    connection.close()


schema = schemathesis.openapi.from_dict(
    document(),
    # What is right by the schema may still name no seat of this cabin (422), or want arming (428).
    config=schemathesis.Config.from_dict(
        {
            "checks": {
                "positive_data_acceptance": {
                    "expected-statuses": ["2xx", "401", "403", "404", "409", "422", "428"]
                }
            }
        }
    ),
)
"""Events are left out: the stream goes on for minutes."""


@schema.hook
def map_body(_: object, body: Any) -> Any:
    """Integers as integers: to JSON Schema 1.0 is one too, to us it is not."""
    if isinstance(body, dict):
        return {key: map_body(_, value) for key, value in body.items()}
    if isinstance(body, list):
        return [map_body(_, value) for value in body]
    return int(body) if isinstance(body, float) and body.is_integer() else body


@schema.exclude(path="/api/v1/events").parametrize()
@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_openapi_document_is_true(served: int, case: schemathesis.Case[Any]) -> None:
    headers = {"Ife-Crew": "anna"}
    if case.operation.path.endswith("/status"):
        headers = {"Ife-Seat": str((case.path_parameters or {}).get("seat", "12C"))}
    case.call_and_validate(
        base_url=f"http://127.0.0.1:{served}",
        headers=headers,
        excluded_checks=[unsupported_method],
        timeout=10,
    )
