"""The Hangar's API: heartbeats and their requests; batches, exactly once however they come."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from apps.common import gate, testing, usage
from apps.common.gate import (
    AIRCRAFT_HEADER,
    OPERATOR_HEADER,
    BatchTaken,
    Bite,
    Content,
    Fault,
    HeartbeatAnswer,
    Loading,
    Outcome,
    Position,
)
from apps.common.settings import SettingsError
from apps.common.testing import PostgresServer, wait_until
from apps.common.usage import BatchHead, Play, Sale, Stat
from apps.hangar import aircraft, logs, service
from apps.hangar.app import create_app
from apps.hangar.service import Hangar
from apps.hangar.settings import HangarSettings
from apps.hangar.store import Store, StoreError, Waiting
from apps.hangar.tests.conftest import ANNA, EC_LAB, KEYS, batch, fleet_file, heartbeat, publish

ONE = UUID(int=1)
"""A record's number, the same in each run: tests are named after it."""


def _sale(amount: int = 350) -> Sale:
    return Sale(item="cola", quantity=1, amount=amount, currency="EUR", payment="card")


def _get(client: FlaskClient, path: str) -> Any:
    answer = client.get(path, headers=ANNA)
    assert answer.status_code == 200, answer.text
    return answer.json


def _beat(client: FlaskClient, **more: object) -> HeartbeatAnswer:
    body = heartbeat(**more).model_dump_json()
    answer = client.post(gate.HEARTBEATS_PATH, data=body, headers=EC_LAB)
    assert answer.status_code == 200, answer.text
    # Who looks has what was heard written down before.
    _get(client, "/api/v1/fleet")
    return HeartbeatAnswer.model_validate_json(answer.data)


def _slug(answer: TestResponse) -> str:
    """The kind of problem that an answer is."""
    problem: dict[str, str] = json.loads(answer.data)
    return problem["type"].removeprefix("urn:ife:problem:")


def _put(client: FlaskClient, body: bytes, number: int = 1, **headers: str) -> tuple[int, str]:
    answer = client.put(f"{gate.BATCHES_PATH}/{number}", data=body, headers=headers or {**EC_LAB})
    if answer.status_code in (200, 201):
        assert BatchTaken.model_validate_json(answer.data).number == number
        return answer.status_code, ""
    return answer.status_code, _slug(answer)


def _records(postgres: PostgresServer, database: str) -> list[UUID]:
    return [UUID(line) for line in postgres.run(database, "SELECT id FROM usage").split()]


# -- heartbeats and requests ----------------------------------------------------------------


def test_an_aircraft_that_was_heard_is_shown_with_all_it_said(
    client: FlaskClient, hangar: Hangar, tmp_path: Path
) -> None:
    publish(tmp_path / "content", 7, films=3, news=12)
    _beat(
        client,
        versions={"image": "2026.11", "ife": "0.1.0"},
        position=Position(latitude=41.297, longitude=2.078, at=1),
        content=Content(
            version=6,
            missing=2,
            kinds={"films": 3, "news": 11},
            fresh_until=1_790_000_000_000,
            loading=Loading(version=7, bytes_done=30, bytes_total=100),
        ),
        spool=gate.Spool(records=120, batches=2, bytes=4000, dropped=3),
        bite=Bite(count=2, faults=(Fault(part="seat 12C", why="lost"),)),
    )
    shown = _get(client, "/api/v1/fleet")
    assert shown["published"] == 7
    lab, two = shown["aircraft"]
    assert (lab["registration"], lab["presence"], lab["faults"]) == ("EC-LAB", "online", 2)
    assert lab["missing"] == ["news 11 of 12", "2 files of set 6", "loading set 7: 30 %"]
    assert (lab["usage_waiting"], lab["usage_dropped"]) == (120, 3)
    assert (two["registration"], two["presence"]) == ("EC-TWO", "never heard")
    detail = _get(client, "/api/v1/aircraft/EC-LAB")
    assert detail["faults"] == [{"part": "seat 12C", "why": "lost", "since": None}]
    assert detail["published"]["kinds"] == {"films": 3, "news": 12}
    assert detail["fresh_until"] == "2026-09-21T14:13:20Z"
    page = client.get("/aircraft/EC-LAB", headers=ANNA).text
    assert '<time datetime="2026-09-21T14:13:20+00:00">21 Sep 14:13</time>' in page


def test_presence_follows_the_heartbeats_and_a_long_silence_is_a_flight(
    client: FlaskClient, postgres: PostgresServer, database: str
) -> None:
    def shown() -> dict[str, str]:
        found: dict[str, str] = _get(client, "/api/v1/fleet")["aircraft"][0]
        return found

    def passes(time: str) -> None:
        for column in ("heard_at", "online_since"):
            postgres.run(
                database,
                f"UPDATE heard SET {column} = {column} - interval '{time}'",  # noqa: S608
            )

    _beat(client)
    first = shown()["since"]
    _beat(client)
    assert shown()["since"] == first
    passes("2 minutes")
    assert shown()["presence"] == "offline"
    _beat(client)
    assert shown()["presence"] == "online"
    assert shown()["since"] > first
    assert shown()["flight_from"] is None, "two minutes are no flight"
    passes("3 hours")
    left = shown()["heard_at"]
    _beat(client)
    flight = shown()
    assert flight["flight_from"] == left
    assert flight["flight_to"] == flight["since"]


def test_an_outage_of_the_database_is_no_flight(
    client: FlaskClient, postgres: PostgresServer, database: str
) -> None:
    """What came meanwhile waited, and the newest of it is written after that."""

    def write(came: float, since: float, told: str) -> None:
        body = heartbeat().model_copy(update={"boot_id": told * 32}).model_dump_json()
        now = time.monotonic()
        store = Store(postgres.url(database, "ife-hangar"))
        try:
            store.heard({"EC-LAB": Waiting(body, now - came, now - since)}, gate.OFFLINE_AFTER)
        finally:
            store.close()

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = _get(client, "/api/v1/fleet")["aircraft"][0]
        return found

    _beat(client)
    before = shown()
    past = "heard_at = heard_at - interval '20 minutes', online_since = now() - interval '1 day'"
    postgres.run(database, f"UPDATE heard SET {past}")  # noqa: S608
    write(0, 1180, "a")
    after = shown()
    assert after["flight_from"] is None
    assert after["since"] < before["since"]
    # Another worker's, that is older, takes nothing back.
    write(60, 60, "b")
    assert shown()["heard_at"] == after["heard_at"]
    # Who was silent as long is known to have flown, until its first heartbeat.
    postgres.run(database, "UPDATE heard SET heard_at = heard_at - interval '40 minutes'")
    left = shown()["heard_at"]
    write(0, 600, "c")
    flight = shown()
    assert flight["flight_from"] == left
    assert flight["flight_to"] == flight["since"] < flight["heard_at"]


def test_usage_of_the_last_flight_is_told(
    client: FlaskClient, postgres: PostgresServer, database: str
) -> None:
    _beat(client)
    postgres.run(database, "UPDATE heard SET heard_at = now() - interval '3 hours'")
    _beat(client)
    hour_ago = usage.now() - 3_600_000
    _put(client, batch(*(_sale(n) for n in (100, 250)), spool=uuid4()))
    sales = [_sale(n).model_copy(update={"at": hour_ago}) for n in (500, 250)]
    plays = [Play(media="film", seconds=n, at=hour_ago) for n in (60, 40)]
    # It began at the gate, and ended in flight.
    plays.append(Play(media="song", seconds=30, at=hour_ago - 3 * 3_600_000))
    assert _put(client, batch(*sales)) == (201, "")
    assert _put(client, batch(*plays)) == (201, "")
    assert _get(client, "/api/v1/fleet")["aircraft"][0]["last_flight"] == {
        "sale": 2,
        "play": 3,
    }
    detail = _get(client, "/api/v1/aircraft/EC-LAB")
    assert detail["sales"] == {"EUR": 750}
    assert detail["titles"] == [{"title": "film", "plays": 2, "seconds": 100}]


def test_a_request_comes_with_each_answer_until_its_outcome(client: FlaskClient) -> None:
    assert _beat(client).requests == ()
    path = "/api/v1/aircraft/EC-LAB/requests"
    assert client.post(path, json={"kind": "sync_now"}, headers=ANNA).status_code == 202
    (asked,) = _beat(client).requests
    assert asked.kind == "sync_now"
    assert _beat(client).requests == (asked,)
    assert client.post(path, json={"kind": "sync_now"}, headers=ANNA).status_code == 409
    accepted = Outcome(id=asked.id, state="accepted")
    assert _beat(client, outcomes=(accepted,)).requests == (asked,)
    done = Outcome(id=asked.id, state="refused", why="not at night")
    assert _beat(client, outcomes=(done,)).requests == ()
    # What comes late changes nothing.
    assert _beat(client, outcomes=(accepted,)).requests == ()
    (shown,) = _get(client, "/api/v1/aircraft/EC-LAB")["requests"]
    assert (shown["state"], shown["why"], shown["asked_by"]) == ("refused", "not at night", "anna")


def test_an_aircraft_answers_for_itself_only(client: FlaskClient, hangar: Hangar) -> None:
    identifier = hangar._store.ask("EC-TWO", "send_logs", "anna")
    assert _beat(client, outcomes=(Outcome(id=identifier, state="done"),)).requests == ()
    shown = _get(client, "/api/v1/aircraft/EC-TWO")["requests"]
    assert shown[0]["state"] == "waiting"


def test_a_heartbeat_is_heard_though_its_outcomes_have_to_come_again(
    client: FlaskClient, hangar: Hangar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an outage of the database would look like a flight."""

    def fail(*_: object) -> None:
        raise StoreError("it is away")

    monkeypatch.setattr(hangar._store, "take_outcomes", fail)
    done = Outcome(id=uuid4(), state="done")
    answer = client.post(
        gate.HEARTBEATS_PATH, data=heartbeat(outcomes=(done,)).model_dump_json(), headers=EC_LAB
    )
    assert answer.status_code == 503

    def is_online() -> bool:
        fleet = client.get("/api/v1/fleet", headers=ANNA).get_json()["aircraft"]
        return any((one["registration"], one["presence"]) == ("EC-LAB", "online") for one in fleet)

    wait_until(is_online, "it was heard")


def test_logs_come_when_they_were_asked_for_and_an_operator_gets_them(
    client: FlaskClient, hangar: Hangar, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = hangar._store.ask("EC-LAB", "send_logs", "anna")
    path = f"{gate.LOGS_PATH}/{asked}"
    two = {AIRCRAFT_HEADER: "EC-TWO"}
    assert client.put(path, data=b"logs", headers=two).status_code == 404
    assert client.put(path, data=bytes(gate.MAX_LOGS), headers=EC_LAB).status_code == 204
    assert client.put(path, data=b"logs", headers=EC_LAB).status_code == 204
    page = f"/aircraft/EC-LAB/logs/{asked}"
    assert client.get(page, headers=ANNA).data == b"logs"
    assert client.get(page, headers=EC_LAB).status_code == 403
    assert f'href="{page}"' in client.get("/aircraft/EC-LAB", headers=ANNA).text
    assert client.put(path, data=bytes(gate.MAX_LOGS + 1), headers=EC_LAB).status_code == 413
    _beat(client, outcomes=(Outcome(id=asked, state="done"),))
    assert client.put(path, data=b"more", headers=EC_LAB).status_code == 404
    monkeypatch.setattr(logs, "KEPT", 2)
    for _ in range(3):
        asked = hangar._store.ask("EC-LAB", "send_logs", "anna")
        assert client.put(f"{gate.LOGS_PATH}/{asked}", data=b"x", headers=EC_LAB).status_code == 204
        _beat(client, outcomes=(Outcome(id=asked, state="done"),))
    assert client.get(page, headers=ANNA).status_code == 404


def test_logs_that_the_disk_refuses_come_again_later(
    client: FlaskClient, hangar: Hangar, tmp_path: Path
) -> None:
    path = f"{gate.LOGS_PATH}/{hangar._store.ask('EC-LAB', 'send_logs', 'anna')}"
    in_the_way = tmp_path / "state/logs/EC-LAB"
    in_the_way.parent.mkdir(parents=True, exist_ok=True)
    in_the_way.touch()
    answer = client.put(path, data=b"logs", headers=EC_LAB)
    assert (answer.status_code, _slug(answer)) == (503, "no-room")
    assert int(answer.headers["Retry-After"]) > 0
    in_the_way.unlink()
    assert client.put(path, data=b"logs", headers=EC_LAB).status_code == 204


@pytest.mark.parametrize(
    ("headers", "slug"),
    [
        ({}, "no-aircraft"),
        ({AIRCRAFT_HEADER: "EC-XXX"}, "unknown-aircraft"),
        ({AIRCRAFT_HEADER: "EC-TWO"}, "other-aircraft"),
        ({OPERATOR_HEADER: "anna"}, "no-aircraft"),
    ],
)
def test_a_heartbeat_of_nobody_or_of_another_is_refused(
    client: FlaskClient, headers: dict[str, str], slug: str
) -> None:
    answer = client.post(gate.HEARTBEATS_PATH, data=heartbeat().model_dump_json(), headers=headers)
    assert (answer.status_code, _slug(answer)) == (403, slug)


@pytest.mark.parametrize(
    "more",
    [
        {"registration": "ec-lab"},
        {"boot_id": "x"},
        {"bite": {"faults": [{"part": "p", "why": "w"}] * 33}},
        {"position": {"latitude": 91, "longitude": 0, "at": 1}},
        {"space": {"free": -1, "total": 1}},
        {"versions": {"image": "<script>"}},
    ],
)
def test_a_heartbeat_out_of_bounds_is_refused(client: FlaskClient, more: dict[str, object]) -> None:
    body = heartbeat().model_dump(mode="json") | more
    answer = client.post(gate.HEARTBEATS_PATH, json=body, headers=EC_LAB)
    assert answer.status_code == 400
    body = heartbeat().model_dump(mode="json") | {"future": "x" * gate.MAX_HEARTBEAT}
    assert client.post(gate.HEARTBEATS_PATH, json=body, headers=EC_LAB).status_code == 413


# -- batches --------------------------------------------------------------------------------


def test_a_batch_is_taken_once_however_often_it_comes(
    client: FlaskClient, postgres: PostgresServer, database: str
) -> None:
    sales = [_sale(), _sale()]
    raw = batch(*sales)
    assert _put(client, raw) == (201, "")
    assert _put(client, raw) == (200, "")
    assert sorted(_records(postgres, database)) == sorted(sale.id for sale in sales)


def test_the_same_batch_at_the_same_time_is_taken_once(
    hangar: Hangar, postgres: PostgresServer, database: str
) -> None:
    raw = batch(*(_sale() for _ in range(500)))
    answers: list[BatchTaken] = []
    threads = [
        threading.Thread(target=lambda: answers.append(hangar.take("EC-LAB", 1, raw)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert sorted(answer.again for answer in answers) == [False, *[True] * 7]
    assert len(_records(postgres, database)) == 500


def test_an_aircraft_that_sends_without_end_is_told_to_keep_it(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose key is stolen cannot fill the disk on which all of the fleet's usage is."""
    first, second = batch(_sale(), number=1), batch(_sale(), number=2)
    monkeypatch.setattr(service, "MAX_USAGE_A_DAY", len(first))
    assert _put(client, first, 1) == (201, "")
    answer = client.put(f"{gate.BATCHES_PATH}/2", data=second, headers=EC_LAB)
    assert answer.status_code == 429
    assert _slug(answer) == "too-much-usage"
    assert 86000 < int(answer.headers["Retry-After"]) <= 86401
    # The others are not hindered, and it goes on the next day.
    two = {AIRCRAFT_HEADER: "EC-TWO"}
    assert _put(client, batch(_sale(), registration="EC-TWO"), 1, **two) == (201, "")
    monkeypatch.setattr(service, "DAY", 0.0)
    assert _put(client, second, 2) == (201, "")


def test_batches_come_in_any_order_and_with_gaps(
    client: FlaskClient, postgres: PostgresServer, database: str
) -> None:
    spool = uuid4()
    for number in (9, 2, 7):
        assert _put(client, batch(_sale(), number=number, spool=spool), number) == (201, "")
    assert len(_records(postgres, database)) == 3


def test_another_batch_by_the_same_number_is_refused_but_not_in_another_spool(
    client: FlaskClient, postgres: PostgresServer, database: str
) -> None:
    spool = uuid4()
    assert _put(client, batch(_sale(), spool=spool)) == (201, "")
    assert _put(client, batch(_sale(), spool=spool)) == (409, "other-batch")
    assert _put(client, batch(_sale(), spool=uuid4())) == (201, "")
    assert len(_records(postgres, database)) == 2


def test_a_record_that_comes_in_two_batches_is_taken_once(
    client: FlaskClient, postgres: PostgresServer, database: str
) -> None:
    """An app that does not know whether it has written a record writes it again."""
    sale = _sale()
    assert _put(client, batch(sale, _sale(), sale, number=1), 1) == (201, "")
    assert _put(client, batch(sale, number=2), 2) == (201, "")
    assert len(_records(postgres, database)) == 2
    # Another aircraft cannot take its place by giving a record the same id.
    body = batch(sale, registration="EC-TWO")
    assert _put(client, body, 1, **{AIRCRAFT_HEADER: "EC-TWO"}) == (201, "")
    assert len(_records(postgres, database)) == 3


def test_a_batch_of_another_aircraft_is_refused(
    client: FlaskClient, postgres: PostgresServer, database: str
) -> None:
    raw = batch(_sale(), registration="EC-TWO")
    assert _put(client, raw) == (403, "forged"), "it is signed by EC-TWO's key"
    head = BatchHead(registration="EC-TWO", spool=uuid4(), number=1, kind="sale")
    raw = usage.seal(KEYS["EC-LAB"], head, [usage.line(_sale())])
    assert _put(client, raw) == (403, "other-aircraft")
    raw = usage.seal(
        KEYS["EC-TWO"], head.model_copy(update={"registration": "EC-LAB"}), [usage.line(_sale())]
    )
    assert _put(client, raw) == (403, "forged")
    assert _put(client, batch(_sale(), number=3), 4) == (400, "other-number")
    assert _records(postgres, database) == []


_TWO_SALES = batch(_sale(), _sale())


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_batch_that_was_cut_off_or_changed_is_refused(
    client: FlaskClient, data: st.DataObject
) -> None:
    raw = _TWO_SALES
    at = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        wrong = raw[:at]
    else:
        wrong = raw[:at] + bytes([raw[at] ^ data.draw(st.integers(1, 255))]) + raw[at + 1 :]
    assert _put(client, wrong)[0] in (400, 403)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("member", b"{}"),
        ("sale", b"{}"),
        ("stat", b'{"id": "1", "at": 1, "name": "n", "value": 1}'),
        ("stat", b'{"at": 1, "name": "n", "value": 1}'),
        ("stat", b'{"id": "00000000-0000-4000-8000-000000000000", "name": "n", "value": 1}'),
        # What one reads as a UUID the other may not.
        (
            "stat",
            usage.line(Stat(id=ONE, name="n", value=1)).replace(b'"id":"', b'"id":"urn:uuid:'),
        ),
        # PostgreSQL has no null character, and no number as large as that.
        ("stat", usage.line(Stat(id=ONE, name="n", value=1))[:-1] + b',"new":"\\u0000"}'),
        # Nor has Python a year 10000.
        (
            "stat",
            usage.line(Stat(id=ONE, name="n", value=1, at=7)).replace(b":7,", b":253402300800000,"),
        ),
        ("stat", usage.line(Stat(id=ONE, name="n", value=1))[:-1] + b',"new":1e999999}'),
    ],
)
def test_a_wrong_record_keeps_its_batch_out_and_nothing_else(
    client: FlaskClient, postgres: PostgresServer, database: str, kind: str, line: bytes
) -> None:
    spool = uuid4()
    head = BatchHead(registration="EC-LAB", spool=spool, number=1, kind=kind)
    assert _put(client, usage.seal(KEYS["EC-LAB"], head, [line])) == (422, "wrong-record")
    assert _put(client, batch(_sale(), number=2, spool=spool), 2) == (201, "")
    assert len(_records(postgres, database)) == 1


def test_fields_of_a_newer_aircraft_are_kept(
    client: FlaskClient, postgres: PostgresServer, database: str
) -> None:
    head = BatchHead(registration="EC-LAB", spool=uuid4(), number=1, kind="stat")
    line = usage.line(Stat(name="n", value=1))[:-1] + b',"new":"field"}'
    assert _put(client, usage.seal(KEYS["EC-LAB"], head, [line])) == (201, "")
    assert postgres.run(database, "SELECT record->>'new' FROM usage") == "field"


# -- operators, and what is away ------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/aircraft/EC-LAB", "/api/v1/fleet"])
@pytest.mark.parametrize("headers", [{}, EC_LAB, {OPERATOR_HEADER: "Anna!"}])
def test_only_an_operator_sees_the_fleet(
    client: FlaskClient, path: str, headers: dict[str, str]
) -> None:
    assert client.get(path, headers=headers).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_a_page_of_another_site_asks_nothing(client: FlaskClient, headers: dict[str, str]) -> None:
    for path in ("/api/v1/aircraft/EC-LAB/requests", "/aircraft/EC-LAB/requests"):
        answer = client.post(path, data={"kind": "sync_now"}, headers=ANNA | headers)
        assert answer.status_code == 403
    assert _beat(client).requests == ()


def test_the_document_tells_every_path(client: FlaskClient) -> None:
    document = json.loads(client.get("/openapi.json").data)
    rules = {
        re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for rule in client.application.url_map.iter_rules()
        if rule.rule.startswith("/api/")
    }
    rules.add(gate.HEARTBEATS_PATH)  # which does not come as far as Flask
    assert rules == {path for path in document["paths"] if path.startswith("/api/")}


def test_without_its_database_the_hangar_says_so_and_comes_back(tmp_path: Path) -> None:
    with testing.postgres() as server:
        url = server.url(server.create("ife-hangar"), "ife-hangar")
        hangar = Hangar(
            HangarSettings(
                database_url=url, fleet_file=fleet_file(tmp_path), state_directory=tmp_path
            )
        )
        hangar.start()
        client = create_app(hangar).test_client()
        try:
            wait_until(lambda: client.get("/healthz").status_code == 200, "ready", 20)
            raw = batch(_sale())
            server.kill()
            assert _put(client, raw) == (503, "no-database")
            # What an aircraft says of itself waits in memory.
            body = heartbeat().model_dump_json()
            assert client.post(gate.HEARTBEATS_PATH, data=body, headers=EC_LAB).status_code == 200
            assert client.get("/healthz").status_code == 503
            server.start()
            wait_until(lambda: client.get("/healthz").status_code == 200, "ready again", 20)
            assert _put(client, raw) == (201, "")
            assert _get(client, "/api/v1/fleet")["aircraft"][0]["presence"] == "online"
        finally:
            hangar.close()


def test_connections_that_postgresql_has_ended_are_made_anew(
    client: FlaskClient, postgres: PostgresServer, database: str
) -> None:
    """As each does when it is restarted between two requests."""
    spool = uuid4()
    _beat(client)
    assert _put(client, batch(_sale(), spool=spool)) == (201, "")
    for number in (2, 3):
        ended = postgres.run(
            database,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        assert int(ended) >= 1
        assert _put(client, batch(_sale(), number=number, spool=spool), number) == (201, "")
        _beat(client, content=Content(version=number))
        (lab, _) = _get(client, "/api/v1/fleet")["aircraft"]
        assert (lab["presence"], lab["content"]) == ("online", number)
    assert len(_records(postgres, database)) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"aircraft": [{"registration": "ec-lab", "usage_keys": []}]}', "registration"),
        ('{"aircraft": [{"registration": "EC-LAB", "usage_keys": ["short"]}]}', "usage_keys"),
        ("[]", "wrong"),
    ],
)
def test_a_wrong_fleet_file_is_told_with_where(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "fleet.json"
    path.write_text(text)
    with pytest.raises(SettingsError, match=said):
        aircraft.load(path)
    with pytest.raises(SettingsError, match="cannot be read"):
        aircraft.load(tmp_path / "none.json")
