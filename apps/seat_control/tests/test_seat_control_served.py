"""What gunicorn serves: the fast lane, the events, and the OpenAPI document, over a socket."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from schemathesis.specs.openapi.checks import unsupported_method

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
    assert served.ask("POST", path, body, {"Ife-Seat": "12C"}).status == 200
    assert served.ask("POST", path, body, {"Ife-Seat": "12D"}).status == 403
    assert served.ask("POST", path, body).status == 401
    assert served.ask("POST", path, b" " * 5000, {"Ife-Seat": "12C"}).status == 413
    assert served.ask("POST", path, b"{", {"Ife-Seat": "12C"}).status == 400
    assert served.ask("GET", path, headers={"Ife-Seat": "12C"}).status == 405


def test_events_begin_with_a_snapshot_and_resume(served: Served) -> None:
    assert served.ask("GET", "/api/v1/events").status == 401
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request("GET", "/api/v1/events", headers=CREW)
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "text/event-stream"
    first = [answer.readline() for _ in range(4)]
    assert first[1] == b"event: snapshot\n"
    assert b'"registration":"EC-LAB"' in first[2]
    body = status(volume=77).model_dump_json().encode()
    assert served.ask("POST", "/api/v1/seats/14C/status", body, {"Ife-Seat": "14C"}).status == 200
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
