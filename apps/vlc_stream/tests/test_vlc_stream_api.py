"""The API: that it keeps to its OpenAPI document, whatever is asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from schemathesis.specs.openapi.checks import unsupported_method

from apps.common import testing
from apps.common.testing import ask_manhole, listens, wait_until
from apps.vlc_stream.app import create_app
from apps.vlc_stream.openapi import document
from apps.vlc_stream.service import CONTROL_SOCKET, VlcStream
from apps.vlc_stream.settings import VlcStreamSettings
from bench.media.screens import SimulatedBus

CREW = {"Ife-Crew": "anna"}

CHANNELS = """
channels:
  one: {names: {en: One}, group: 239.192.95.1, playlist: [one.ts]}
imposed:
  safety: {names: {en: Safety}, group: 239.192.95.2, files: {en: short.ts}}
"""
SCREENS = """
buses:
  forward: {{driver: line, device: {device}, screens: {{f1: {{label: One, address: 1}}}}}}
"""


def variables(folder: Path, clips: Path) -> dict[str, str]:
    (folder / "channels.yml").write_text(CHANNELS)
    return {
        "registration": "EC-LAB",
        "boot_id": "a" * 32,
        "state_directory": str(folder),
        "channels_file": str(folder / "channels.yml"),
        "media_directory": str(clips),
        "multicast_interface": "lo",
        "multicast_source": "127.0.0.1",
        "redis_url": f"unix://{folder}/redis.sock",
        "seat_control_socket": str(folder / "seat_control.sock"),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@contextmanager
def running(folder: Path, clips: Path, **more: str) -> Iterator[VlcStream]:
    """The service, ready, with an overhead screen; `more` are settings."""
    with SimulatedBus((1,)) as bus:
        (folder / "screens.yml").write_text(SCREENS.format(device=bus.device))
        screens = {"screens_file": str(folder / "screens.yml")}
        settings = VlcStreamSettings.model_validate(variables(folder, clips) | screens | more)
        service = VlcStream(settings)
        service.start()
        try:
            wait_until(lambda: service.health.report().ready, "it is ready", 30)
            yield service
        finally:
            service.close()


@pytest.fixture(scope="module")
def app(clips: Path, folder: Path) -> Iterator[Flask]:
    with running(folder, clips) as service:
        yield create_app(service)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(scope="module")
def url(app: Flask) -> Iterator[str]:
    with testing.served(app) as url:
        yield url


schema = schemathesis.openapi.from_dict(
    document(),
    # What is right by the schema may still contradict itself, or name no channel that there is.
    config=schemathesis.Config.from_dict(
        {
            "checks": {
                "positive_data_acceptance": {
                    "expected-statuses": ["2xx", "400", "404", "409", "422"]
                }
            }
        }
    ),
)
"""Pictures are left out: each takes seconds. test_on_the_wire.py looks at them."""


@schema.exclude(path="/api/v1/channels/{name}/picture").parametrize()
@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_openapi_document_is_true(url: str, case: schemathesis.Case[Any]) -> None:
    case.call_and_validate(
        base_url=url, headers=CREW, excluded_checks=[unsupported_method], timeout=10
    )


def test_every_route_is_documented(app: Flask) -> None:
    documented = {
        (path, method.upper())
        for path, methods in document()["paths"].items()
        for method in methods
        if method != "parameters"
    }
    served = {
        (rule.rule.replace("<", "{").replace(">", "}"), method)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if not rule.rule.startswith("/static") and rule.rule != "/openapi.json"
    }
    assert served == documented


def test_the_crew_must_be_known(client: FlaskClient) -> None:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            if method == "parameters" or not operation.get("security"):
                continue
            for headers in ({}, {"Ife-Crew": ""}, {"Ife-Crew": "A b"}):
                answer = client.open(path, method=method.upper(), headers=headers)
                assert (answer.status_code, answer.get_json()["title"]) == (401, "no crew")


def test_a_body_that_does_not_fit_is_refused(client: FlaskClient) -> None:
    for path in ("/api/v1/imposed", "/api/v1/screens", "/api/v1/channels/one/control"):
        for body in (b"", b"[]", b'{"x": 1}', b"\xff"):
            answer = client.post(path, data=body, headers=CREW)
            assert (answer.status_code, answer.get_json()["title"]) == (400, "malformed")
        answer = client.post(path, data=b" " * 70_000, headers=CREW)
        assert answer.status_code == 413


def test_screens_by_the_api(client: FlaskClient) -> None:
    def screen() -> dict[str, object]:
        answer = client.get("/api/v1/screens", headers=CREW).get_json()
        return dict(answer["screens"][0])

    answer = client.post(
        "/api/v1/screens", json={"deployed": True, "power": True, "input": "1"}, headers=CREW
    )
    assert answer.status_code == 202
    wait_until(lambda: (screen()["deployed"], screen()["power"]) == (True, True), "it is down")
    answer = client.post("/api/v1/screens", json={"screens": ["f9"]}, headers=CREW)
    assert (answer.status_code, answer.get_json()["title"]) == (422, "no such screen")
    client.post("/api/v1/screens", json={"deployed": False}, headers=CREW)
    wait_until(lambda: screen()["deployed"] is False, "it is up")


def test_screens_follow_the_imposed_video(client: FlaskClient) -> None:
    def is_deployed() -> bool:
        answer = client.get("/api/v1/screens", headers=CREW).get_json()
        return bool(answer["screens"][0]["deployed"])

    body = {"channel": "safety", "language": "en", "screens": True}
    assert client.post("/api/v1/imposed", json=body, headers=CREW).status_code == 202
    wait_until(is_deployed, "it is down")
    # It takes a second, and then is over.
    wait_until(lambda: not is_deployed(), "it is up again")


def test_a_video_for_seats_alone_leaves_the_screens_as_they_are(client: FlaskClient) -> None:
    def state() -> tuple[bool, str]:
        screens = client.get("/api/v1/screens", headers=CREW).get_json()
        channels = client.get("/api/v1/channels", headers=CREW).get_json()
        return screens["screens"][0]["deployed"], channels["imposed"][0]["state"]

    client.post("/api/v1/screens", json={"deployed": True}, headers=CREW)
    wait_until(lambda: state() == (True, "idle"), "it is down")
    body = {"channel": "safety", "language": "en", "selector": {"all": True}}
    assert client.post("/api/v1/imposed", json=body, headers=CREW).status_code == 202
    assert state() == (True, "playing")
    wait_until(lambda: state()[1] == "idle", "it is over")
    with pytest.raises(AssertionError):
        wait_until(lambda: not state()[0], "it is up", 1)


def test_the_control_front_is_in_the_state_folder(client: FlaskClient, folder: Path) -> None:
    assert client.get("/healthz").status_code == 200
    assert listens(folder / CONTROL_SOCKET)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("channels_file", "/none.yml", "/none.yml: No such file or directory"),
        ("redis_url", "nonsense", "IFE_REDIS_URL"),
        ("multicast_ttl", "0", "IFE_MULTICAST_TTL"),
        ("control_port", "1", "IFE_CONTROL_PASSWORD: a file with at least 12 characters"),
    ],
)
def test_a_wrong_setting_ends_it_with_its_name(
    tmp_path: Path,
    clips: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
    said: str,
) -> None:
    for key, text in (variables(tmp_path, clips) | {name: value}).items():
        monkeypatch.setenv(f"IFE_{key.upper()}", text)
    with pytest.raises(SystemExit) as ended:
        create_app()
    assert ended.value.code == 4
    assert said in capsys.readouterr().err


def test_the_manhole(tmp_path: Path, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, text in variables(tmp_path, clips).items():
        monkeypatch.setenv(f"IFE_{key.upper()}", text)
    monkeypatch.setenv("IFE_MANHOLE", str(tmp_path / "manhole.sock"))
    app = create_app()
    try:
        said = ask_manhole(tmp_path / "manhole.sock", "service.settings.registration")
        assert "'EC-LAB'" in said
    finally:
        app.extensions["vlc_stream"].close()
