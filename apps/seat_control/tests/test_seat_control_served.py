"""What gunicorn serves: the fast lane, the events, and the OpenAPI document, over a socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from schemathesis.specs.openapi.checks import unsupported_method

from apps.common.testing import ask_manhole, wait_until
from apps.seat_control import testing
from apps.seat_control.asgi import MAX_STREAMS_OF_ONE
from apps.seat_control.commands import GRACE_MS
from apps.seat_control.openapi import document
from apps.seat_control.tests.served import Served, serving
from apps.seat_control.tests.test_seat_table import status

CREW = {"Ife-Crew": "anna"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served")) as served:
        yield served


def test_the_fast_lane_answers_as_the_app_does(served: Served) -> None:
    body = status().model_dump_json().encode()
    path = "/api/v1/seats/12C/status"
    assert served.ask("POST", path, body, {"Ife-Seat": "12C"}).status_code == 200
    assert served.ask("POST", path, body, {"Ife-Seat": "12D"}).status_code == 403
    assert served.ask("POST", path, body).status_code == 401
    assert served.ask("POST", path, b" " * 5000, {"Ife-Seat": "12C"}).status_code == 413
    assert served.ask("POST", path, b"{", {"Ife-Seat": "12C"}).status_code == 400
    assert served.ask("GET", path, headers={"Ife-Seat": "12C"}).status_code == 405


def request(body: bytes, *headers: bytes, path: bytes = b"seats/12C/status") -> bytes:
    head = b"POST /api/v1/%b HTTP/1.1\r\nHost: cabin\r\nIfe-Seat: 12C\r\n" % path
    lines = (*headers, b"Content-Length: %d" % len(body))
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


REPORT = status().model_dump_json().encode()


@pytest.mark.parametrize(
    ("packets", "answers"),
    [
        ([request(REPORT)[:30], request(REPORT)[30:-5], request(REPORT)[-5:]], [200]),
        ([request(REPORT) * 3], [200, 200, 200]),
        ([request(b"{}", path=b"nothing") + request(REPORT)], [404, 200]),
        ([request(REPORT) + request(b"{}", path=b"nothing") + request(REPORT)], [200, 404, 200]),
        ([request(b" " * 200_000) + request(REPORT)], [413, 200]),
        ([request(REPORT, b"Expect: 100-continue")[: -len(REPORT)], REPORT], [100, 200]),
        ([request(REPORT, b"Connection: close")], [200]),
        ([request(b"")], [400]),
    ],
    ids=["in pieces", "three", "after another", "between", "long", "expect", "close", "empty"],
)
def test_a_report_may_arrive_in_any_way(
    served: Served, packets: list[bytes], answers: list[int]
) -> None:
    with socket.create_connection(("127.0.0.1", served.port), 10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        for packet in packets:
            connection.sendall(packet)
            if packet is not packets[-1]:
                time.sleep(0.05)  # so that they are packets
        while len(found := re.findall(rb"HTTP/1\.1 (\d+)", received)) < len(answers):
            data = connection.recv(65536)
            assert data, received
            received += data
        assert [int(number) for number in found] == answers
        if b"Connection: close" in packets[0]:
            while data := connection.recv(65536):
                received += data
            assert b"connection: close" in received


def test_events_begin_with_a_snapshot_and_resume(served: Served) -> None:
    assert served.ask("GET", "/api/v1/events").status_code == 401
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request("GET", "/api/v1/events", headers=CREW)
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "text/event-stream"
    first = [answer.readline() for _ in range(4)]
    assert first[1] == b"event: snapshot\n"
    assert b'"registration":"EC-LAB"' in first[2]
    body = status(volume=77).model_dump_json().encode()
    path = "/api/v1/seats/14C/status"
    assert served.ask("POST", path, body, {"Ife-Seat": "14C"}).status_code == 200
    while b'"volume": 77' not in (line := answer.readline()):
        assert line
    connection.close()

    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    last = first[0].decode().removeprefix("id: ").strip()
    connection.request("GET", "/api/v1/events", headers=CREW | {"Last-Event-ID": last})
    answer = connection.getresponse()
    lines = []
    while b'"volume": 77' not in (line := answer.readline()):
        assert line
        lines.append(line)
    assert b"event: snapshot\n" not in lines
    connection.close()


def test_one_crew_member_cannot_take_every_stream(served: Served) -> None:
    with contextlib.ExitStack() as streams:

        def ask(crew: str) -> httpx.Response:
            url = f"http://127.0.0.1:{served.port}/api/v1/events"
            headers = {"Ife-Crew": crew}
            return streams.enter_context(httpx.stream("GET", url, headers=headers, timeout=10))

        assert [ask("carla").status_code for _ in range(MAX_STREAMS_OF_ONE)] == [200] * 6
        refused = ask("carla")
        assert refused.status_code == 503
        assert refused.read()
        assert refused.json()["type"] == "urn:ife:problem:too-many-streams"
        assert ask("dora").status_code == 200

    def is_free() -> bool:
        url = f"http://127.0.0.1:{served.port}/api/v1/events"
        with httpx.stream("GET", url, headers={"Ife-Crew": "carla"}, timeout=10) as answer:
            return answer.status_code == 200

    wait_until(is_free, "a page that was closed counts no more")


def test_what_a_seat_was_answered_outlives_a_kill(tmp_path: Path) -> None:
    """Afterwards all that the seats say of these commands is that they are past them."""
    with serving(tmp_path) as served:

        def tell(seat: str, seq: int, **fields: Any) -> httpx.Response:
            body = status(held={"epoch": epoch, "seq": seq}, **fields).model_dump_json().encode()
            return served.ask("POST", f"/api/v1/seats/{seat}/status", body, {"Ife-Seat": seat})

        epoch = 0
        epoch = int(tell("12C", 0).headers["Ife-Epoch"])
        for volume in (10, 20):
            give(served, {"name": "set_volume", "volume": volume})
        give(served, {"name": "identify"})
        time.sleep(GRACE_MS / 1000 + 0.1)  # the cabin's own time has to pass
        refused = [{"seq": 2, "reason": "no audio device"}, {"seq": 3, "reason": "expired"}]
        assert tell("12C", 3, refused=refused).status_code == 204
        assert tell("12D", 0).json()["upto"] == 3
        assert tell("12E", 2, protocol=1).json()["upto"] == 3
        served.kill()
    with serving(tmp_path) as served:
        for seat in ("12C", "12D", "12E"):
            assert tell(seat, 3).status_code == 204
        reports = [served.ask("GET", f"/api/v1/commands/{seq}", headers=CREW) for seq in (1, 2, 3)]
        first, second, third = (answer.json() for answer in reports)
    assert first["superseded"] == ["12D"]
    assert second["refused"] == [{"seat": "12C", "reason": "no audio device"}]
    assert third["expired"] == ["12C"]
    assert third["refused"] == [{"seat": "12E", "reason": "needs protocol 2"}]


def give(served: Served, action: dict[str, Any]) -> None:
    body = json.dumps({"selector": {"seats": ["12C", "12D", "12E"]}, "action": action}).encode()
    assert served.ask("POST", "/api/v1/commands", body, CREW).status_code == 202


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("layout.yml", b"title: [", "layout.yml:1: not YAML"),
        ("journal.db", b"no database" * 1000, "move the file away to begin a new epoch"),
        ("command.key", b"short", "IFE_COMMAND_KEY"),
        ("command.key", None, "IFE_COMMAND_KEY"),
    ],
)
def test_a_start_that_fails_says_why_in_a_line(
    tmp_path: Path, file: str, content: bytes | None, says: str
) -> None:
    environment = {"PATH": os.environ["PATH"], **testing.variables(tmp_path)}
    if file == "layout.yml":
        environment["IFE_LAYOUT"] = str(tmp_path / file)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    done = subprocess.run(
        [*testing.GUNICORN, "--bind", f"unix:{tmp_path}/sock", "apps.seat_control.asgi:app"],
        env=environment,
        cwd=testing.ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    assert len([line for line in done.stderr.splitlines() if says in line]) == 1
    assert "Traceback" not in done.stderr


schema = schemathesis.openapi.from_dict(
    document(),
    # What is right by the schema may still name no seat of this cabin (422), or want arming (428).
    config=schemathesis.Config.from_dict(
        {
            "checks": {
                "positive_data_acceptance": {
                    "expected-statuses": ["2xx", "401", "403", "404", "409", "422", "428", "429"]
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
def test_the_openapi_document_is_true(served: Served, case: schemathesis.Case[Any]) -> None:
    headers = {"Ife-Crew": "anna"}
    if case.operation.path.endswith("/status"):
        headers = {"Ife-Seat": str((case.path_parameters or {}).get("seat", "12C"))}
    case.call_and_validate(
        base_url=f"http://127.0.0.1:{served.port}",
        headers=headers,
        excluded_checks=[unsupported_method],
        timeout=10,
    )


def test_its_manhole_is_in_the_worker_and_knows_the_service(tmp_path: Path) -> None:
    port, path = testing.free_port(), tmp_path / "manhole.sock"
    command = [*testing.GUNICORN, "--bind", f"127.0.0.1:{port}", "apps.seat_control.asgi:app"]
    variables = testing.variables(tmp_path) | {"IFE_MANHOLE": str(path)}
    with testing.server(command, port, variables) as process:
        told = ask_manhole(path, "service.settings.registration", "__import__('os').getppid()")
        assert "'EC-LAB'" in told
        assert f">>> {process.pid}\n" in told
