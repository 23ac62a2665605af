"""The API through Flask: what is accepted, what is refused, and that refusing disturbs nothing."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from apps.common.protocol import (
    BEACON_EVERY,
    LOST_AFTER,
    PROTOCOL,
    Command,
    FrameSigner,
    FrameVerifier,
)
from apps.common.testing import wait_until
from apps.seat_control import service as services
from apps.seat_control.app import create_app
from apps.seat_control.commands import BURST
from apps.seat_control.service import SeatControl
from apps.seat_control.settings import SeatControlSettings
from apps.seat_control.tests.test_seat_table import ONE, OTHER, status

CREW = {"Ife-Crew": "anna"}


@pytest.fixture
def client(service: SeatControl) -> FlaskClient:
    return create_app(service).test_client()


def report(
    client: FlaskClient, seat: str, certificate: str | None = None, **fields: Any
) -> tuple[int, Any, Any]:
    body = status(**fields).model_dump_json()
    answer = client.post(
        f"/api/v1/seats/{seat}/status",
        data=body,
        headers={"Ife-Seat": seat if certificate is None else certificate},
    )
    return answer.status_code, answer.headers, answer.get_json(silent=True)


def command(client: FlaskClient, selector: Any, action: Any, **more: Any) -> tuple[int, Any]:
    answer = client.post(
        "/api/v1/commands",
        json={"selector": selector, "action": action, **more},
        headers=CREW,
    )
    return answer.status_code, answer.get_json()


def held(headers: Any, seq: int) -> dict[str, int]:
    return {"epoch": int(headers["Ife-Epoch"]), "seq": seq}


def test_a_status_is_shown_and_answered(client: FlaskClient) -> None:
    code, headers, _ = report(client, "12C", volume=33)
    assert code == 200  # of no epoch yet, so it begins anew
    code, headers, _ = report(client, "12C", volume=33, held=held(headers, 0))
    assert code == 204
    assert abs(int(headers["Ife-Time"]) - time.time() * 1000) < 60_000
    cabin = client.get("/api/v1/cabin", headers=CREW).get_json()
    assert cabin["seats"]["12C"]["volume"] == 33
    assert cabin["seats"]["12C"]["presence"] == "live"
    assert len(cabin["seats"]) == 180
    wait_until(lambda: degraded(client) == {"redis", "audit log"}, "what is away is told")


def degraded(client: FlaskClient) -> set[str]:
    cabin = client.get("/api/v1/cabin", headers=CREW).get_json()
    return {part["part"] for part in cabin["degraded"]}


@pytest.mark.parametrize(
    ("seats", "spoken"), [(1, 1), (2, 2), (PROTOCOL, PROTOCOL), (99, PROTOCOL)]
)
def test_the_older_of_two_protocols_is_spoken(client: FlaskClient, seats: int, spoken: int) -> None:
    assert report(client, "12C", protocol=seats)[1]["Ife-Protocol"] == str(spoken)


def test_a_command_reaches_a_seat_by_its_status_and_is_confirmed(
    client: FlaskClient, service: SeatControl
) -> None:
    _, headers, _ = report(client, "12C")
    code, accepted = command(client, {"seats": ["12C"]}, {"name": "set_volume", "volume": 30})
    assert (code, accepted) == (202, {"seq": 1, "targets": 1})
    code, _, answer = report(client, "12C", held=held(headers, 0))
    assert code == 200
    key = FrameSigner(service.settings.command_key.read_bytes()).public_key
    frame = FrameVerifier([key]).verify(answer["frames"][0].encode())
    assert isinstance(frame, Command)
    assert frame.is_for("12C")
    assert report(client, "12C", held=held(headers, 1))[0] == 204
    told = client.get("/api/v1/commands/1", headers=CREW).get_json()
    assert (told["applied"], told["missing"], told["final"]) == (1, [], True)
    assert told["crew"] == "anna"


@pytest.mark.parametrize(
    ("seat", "certificate", "code", "slug"),
    [
        ("12C", "", 401, "no-certificate"),
        ("12C", "12D", 403, "wrong-certificate"),
        ("99A", "99A", 404, "unknown-seat"),
        ("nonsense", "12C", 404, "unknown-seat"),
    ],
)
def test_the_wrong_seat_is_refused(
    client: FlaskClient, seat: str, certificate: str, code: int, slug: str
) -> None:
    got, headers, problem = report(client, seat, certificate)
    assert (got, problem["type"]) == (code, f"urn:ife:problem:{slug}")
    assert headers["Content-Type"] == "application/problem+json"
    assert problem["detail"]
    cabin = client.get("/api/v1/cabin", headers=CREW).get_json()
    assert cabin["refused"] == {slug: 1}
    assert not any(seat["presence"] == "live" for seat in cabin["seats"].values())


def test_two_players_on_one_seat(client: FlaskClient) -> None:
    report(client, "12C", boot_id=ONE, volume=10)
    code, _, problem = report(client, "12C", boot_id=OTHER, volume=90)
    assert (code, problem["type"]) == (409, "urn:ife:problem:seat-claimed-twice")
    seat = client.get("/api/v1/cabin", headers=CREW).get_json()["seats"]["12C"]
    assert (seat["volume"], seat["claimed_twice"]) == (10, True)


def test_a_body_that_is_too_large_is_refused(client: FlaskClient) -> None:
    answer = client.post("/api/v1/seats/12C/status", data=b" " * 4097, headers={"Ife-Seat": "12C"})
    assert (answer.status_code, answer.get_json()["title"]) == (413, "too large")


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=20,
)
GOOD = status().model_dump(mode="json")


def bodies(good: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """Bytes, JSON, and what is nearly a good body."""
    return (
        st.binary(max_size=300)
        | json_values.map(lambda value: json.dumps(value).encode())
        | st.tuples(st.sampled_from(sorted(good)), json_values).map(
            lambda change: json.dumps(good | {change[0]: change[1]}).encode()
        )
    )


@hypothesis_settings(
    max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(bodies(GOOD))
def test_no_status_breaks_anything(client: FlaskClient, body: bytes) -> None:
    answer = client.post("/api/v1/seats/12C/status", data=body, headers={"Ife-Seat": "12C"})
    assert answer.status_code in {200, 204, 400, 409}
    if answer.status_code == 400:
        assert answer.get_json()["type"] == "urn:ife:problem:malformed"
    assert report(client, "12D")[0] in {200, 204}


@hypothesis_settings(
    max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(bodies({"selector": {"all": True}, "action": {"name": "pause"}, "expires_in": 5.0}))
def test_no_command_breaks_anything(client: FlaskClient, body: bytes) -> None:
    answer = client.post("/api/v1/commands", data=body, headers=CREW)
    assert answer.status_code in {202, 400, 422, 428, 429}
    assert report(client, "12D")[0] in {200, 204}


def test_a_crew_member_who_cannot_stop_is_asked_to_wait(client: FlaskClient) -> None:
    pause = {"name": "pause"}
    for _ in range(BURST):
        assert command(client, {"seats": ["12C"]}, pause)[0] == 202
    body = {"selector": {"seats": ["12C"]}, "action": pause}

    def is_refused() -> bool:  # a slow machine lets some more through
        answer = client.post("/api/v1/commands", json=body, headers=CREW)
        if answer.status_code == 202:
            return False
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
        assert answer.get_json()["type"] == "urn:ife:problem:too-many-commands"
        return True

    wait_until(is_refused, "it is too much")
    assert (
        client.post("/api/v1/commands", json=body, headers={"Ife-Crew": "bruno"}).status_code == 202
    )


@pytest.fixture
def service_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What systemd would hear, from an app that is made after this."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


def test_without_a_thread_it_is_not_ready_and_the_watchdog_hears_nothing(
    service_manager: socket.socket,
    service: SeatControl,
    client: FlaskClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wait_until(lambda: service_manager.recv(4096) == b"WATCHDOG=1", "the watchdog is told")
    assert client.get("/healthz").status_code == 200
    monkeypatch.setattr(services, "STUCK_AFTER", 2 * BEACON_EVERY)
    service._multicast.close()
    silent = b"STATUS=no beacons go out any more: restart seat control"
    wait_until(lambda: service_manager.recv(4096) == silent, "it says so")
    # The ticker goes on, and says so, but asks for no more time.
    for _ in range(2):
        assert service_manager.recv(4096) == silent
    service._closing.set()
    watched = "seats are not watched any more: restart seat control"
    wait_until(lambda: client.get("/healthz").get_json()["why_not"] == watched, "it says that too")
    assert client.get("/healthz").status_code == 503


def test_the_crew_must_be_known(client: FlaskClient) -> None:
    for method, path in [
        ("POST", "/api/v1/commands"),
        ("POST", "/api/v1/commands/arm"),
        ("GET", "/api/v1/commands/1"),
        ("GET", "/api/v1/cabin"),
    ]:
        for headers in ({}, {"Ife-Crew": ""}, {"Ife-Crew": "A b"}):
            answer = client.open(path, method=method, headers=headers)
            assert answer.status_code == 401
            assert answer.get_json()["type"] == "urn:ife:problem:no-crew"


@pytest.mark.parametrize(
    ("selector", "action", "code", "slug"),
    [
        ({"seats": ["99A"]}, {"name": "pause"}, 422, "unknown-selection"),
        ({"zones": ["nowhere"]}, {"name": "pause"}, 422, "unknown-selection"),
        ({}, {"name": "pause"}, 422, "empty-selection"),
        ({"all": True, "exclude": {"all": True}}, {"name": "pause"}, 422, "empty-selection"),
        ({"all": True}, {"name": "explode"}, 400, "malformed"),
        ({"all": True}, {"name": "set_volume", "volume": 101}, 400, "malformed"),
        ({"all": True}, {"name": "set_volume", "volume": True}, 400, "malformed"),
        ({"all": True}, {"name": "set_volume", "volume": 1, "x": 1}, 400, "malformed"),
        ({"all": True}, {"name": "reset"}, 428, "not-armed"),
        ({"all": True}, {"name": "power", "on": False}, 428, "not-armed"),
        ({"all": True}, {"name": "show_message", "text": "\U0001f6eb" * 200}, 422, None),
        ({"all": True}, {"name": "show_message", "text": "nul \0"}, 400, "malformed"),
    ],
)
def test_commands_that_are_refused(
    client: FlaskClient, selector: Any, action: Any, code: int, slug: str | None
) -> None:
    got, problem = command(client, selector, action)
    assert got == code
    assert problem["type"] == f"urn:ife:problem:{slug or 'too-large-for-multicast'}"
    assert client.get("/api/v1/cabin", headers=CREW).get_json()["seq"] == 0


def test_a_setting_does_not_expire(client: FlaskClient) -> None:
    code, problem = command(client, {"all": True}, {"name": "mute", "muted": True}, expires_in=5)
    assert (code, problem["type"]) == (422, "urn:ife:problem:does-not-expire")


def test_a_destructive_command_goes_in_two_steps(client: FlaskClient) -> None:
    armed = client.post(
        "/api/v1/commands/arm",
        json={"selector": {"all": True}, "action": {"name": "reset"}},
        headers=CREW,
    ).get_json()
    assert armed["targets"] == 180
    token = armed["arm_token"]
    assert command(client, {"all": True}, {"name": "reset"}, arm_token=token)[0] == 202
    assert command(client, {"all": True}, {"name": "reset"}, arm_token=token)[0] == 428
    # One seat, and switching on, need no arming.
    assert command(client, {"seats": ["12C"]}, {"name": "reset"})[0] == 202
    assert command(client, {"all": True}, {"name": "power", "on": True})[0] == 202


def test_an_unknown_command_and_an_unknown_path(client: FlaskClient) -> None:
    for path in ("/api/v1/commands/99", "/api/v2/anything"):
        answer = client.get(path, headers=CREW)
        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_commands_survive_a_restart(settings: SeatControlSettings) -> None:
    service = SeatControl(settings)
    service.start()
    client = create_app(service).test_client()
    _, headers, _ = report(client, "12C")
    command(client, {"all": True}, {"name": "lock_screen", "locked": True})
    report(client, "12C", held=held(headers, 1))
    service.close()
    again = SeatControl(settings)
    again.start()
    try:
        client = create_app(again).test_client()
        told = client.get("/api/v1/commands/1", headers=CREW).get_json()
        assert (told["applied"], len(told["missing"])) == (1, 179)
        assert command(client, {"all": True}, {"name": "pause"})[1]["seq"] == 2
        _, _, answer = report(client, "12D", held=held(headers, 0))
        assert len(answer["frames"]) == 2
    finally:
        again.close()


def test_what_was_given_up_meanwhile_is_not_done(service: SeatControl, client: FlaskClient) -> None:
    body = {"selector": {"seats": ["12C"]}, "action": {"name": "mute", "muted": True}}

    def press(asked: str) -> tuple[int, str]:
        answer = client.post("/api/v1/commands", json=body, headers=CREW | {"Ife-Asked": asked})
        return answer.status_code, answer.get_json().get("type", "")

    too_late = (412, "urn:ife:problem:too-late")
    assert press(f"{time.time() - 3:.3f} 2") == too_late
    assert press(f"{time.time():.3f} 60")[0] == 202
    with ThreadPoolExecutor() as threads:
        with service._issuing:  # as while another one's command waits for the disk
            waiting = threads.submit(press, f"{time.time():.3f} 1")
            time.sleep(1.5)
        assert waiting.result(10) == too_late
    assert service.cabin().seq == 1
    asked = client.get("/api/v1/cabin", headers=CREW | {"Ife-Asked": "1.000 2"})
    assert asked.status_code == 200  # to look does no harm


def test_seats_have_their_time_from_the_start_however_long_the_journal_took(
    settings: SeatControlSettings,
) -> None:
    service = SeatControl(settings)
    time.sleep(LOST_AFTER)  # as a thousand commands may take where the processor is slow
    service.start()
    try:
        began = service.events.position()
        report(create_app(service).test_client(), "12C")
        wait_until(lambda: (service.events.since(began) or (0, b""))[1], "something is told")
        shown = {seat.presence for seat in service.cabin().seats.values()}
        assert shown == {"waiting", "live"}
    finally:
        service.close()


def test_events_tell_what_happened(service: SeatControl, client: FlaskClient) -> None:
    _, headers, _ = report(client, "12C")
    command(client, {"seats": ["12C"]}, {"name": "pause"})
    report(client, "12C", held=held(headers, 1))
    kinds: list[bytes] = []
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and b'"final":true' not in b"".join(kinds):
        kinds = (service.events.since(0) or (0, b""))[1].split(b"\n\n")
        time.sleep(0.02)
    events = b"\n\n".join(kinds)
    assert b'event: seats\ndata: {"12C": {"presence": "live"' in events
    assert b"event: command\n" in events
    assert b'"applied":1' in events
    assert b'"final":true' in events
