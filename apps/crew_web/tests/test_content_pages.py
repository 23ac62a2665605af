"""The view of content: who may give orders, its two steps, and the PIN."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from apps.common.content import TOPIC
from apps.common.testing import RedisServer, wait_until
from apps.crew_web.app import create_app
from apps.crew_web.settings import CrewWebSettings
from apps.crew_web.tests.conftest import PINS
from apps.crew_web.tests.test_content_fragments import content, disk
from apps.crew_web.tests.test_media_pages import token

ORDERS = {
    "/content/disks/front/import": {},
    "/content/rollback": {},
    "/content/gate": {"open": "true"},
}


class Neighbour(socketserver.ThreadingUnixStreamServer):
    """Somebody who answers at a Unix socket as content_sync does, and notes what is asked."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Answers)
        self.asked: list[tuple[str, str, str]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answers(BaseHTTPRequestHandler):
    """Says yes to everything."""

    server: Neighbour

    def do_GET(self) -> None:
        self._answer({"app": "content_sync", "ready": True, "why_not": None, "degraded": []})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length).decode()
        self.server.asked.append((self.path, self.headers["Ife-Crew"], body))
        self._answer(content().model_dump(mode="json"))

    def do_PUT(self) -> None:
        self.do_POST()

    def _answer(self, value: object) -> None:
        text = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def address_string(self) -> str:
        return "local"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing."""


@pytest.fixture
def wants_pin() -> bool:
    return False


@pytest.fixture
def settings(settings: CrewWebSettings, tmp_path: Path, wants_pin: bool) -> CrewWebSettings:
    return settings.model_copy(
        update={
            "content_sync_socket": tmp_path / "content.sock",
            "demo_gate_socket": tmp_path / "content.sock",
            "imports_want_pin": wants_pin,
        }
    )


@pytest.fixture
def neighbour(tmp_path: Path) -> Iterator[Neighbour]:
    with Neighbour(tmp_path / "content.sock") as server:
        yield server
        server.shutdown()


@pytest.fixture
def app(settings: CrewWebSettings, neighbour: Neighbour, tmp_path: Path) -> Iterator[Flask]:
    """With a bus that has said how content is."""
    with RedisServer(tmp_path) as redis:
        redis.client().set(f"ife:{TOPIC}", content(disk("waits")).model_dump_json())
        app = create_app(settings.model_copy(update={"redis_url": redis.url}))
        web = app.extensions["crew_web"]
        wait_until(lambda: web.content() is not None, "content is known")
        yield app
        web.close()


def test_an_order_reaches_content_sync_in_the_name_of_who_gave_it(
    anna: FlaskClient, neighbour: Neighbour
) -> None:
    response = anna.post("/content/disks/front/import", headers=token(anna))
    assert (response.status_code, response.headers["HX-Trigger"]) == (204, "content-changed")
    assert neighbour.asked == [("/api/v1/disks/front/import", "anna", "")]


def test_a_press_that_the_page_gave_up_is_not_carried_out(
    anna: FlaskClient, neighbour: Neighbour
) -> None:
    late = {"Ife-Asked": f"{time.time() - 5:.3f} 4", "HX-Request": "true"}
    response = anna.post("/content/disks/front/import", headers=token(anna) | late)
    assert response.status_code == 412
    assert "That came too late, and nothing was done" in response.text
    assert neighbour.asked == []


def test_going_back_takes_two_steps_and_the_number_that_was_shown(
    anna: FlaskClient, neighbour: Neighbour
) -> None:
    headers = token(anna)
    asked = anna.post("/content/rollback", headers=headers)
    assert (asked.headers["HX-Trigger"], asked.headers["HX-Retarget"]) == ("armed", "#arm")
    assert neighbour.asked == []
    stale = anna.post("/content/rollback", data={"set": "10"}, headers=headers)
    assert stale.status_code == 409
    assert neighbour.asked == []
    done = anna.post("/content/rollback", data={"set": "11"}, headers=headers)
    assert done.status_code == 204
    assert [path for path, _, _ in neighbour.asked] == ["/api/v1/content/rollback"]


def test_the_demo_gate_gets_its_order(anna: FlaskClient, neighbour: Neighbour) -> None:
    assert anna.post("/content/gate", data={"open": "true"}, headers=token(anna)).status_code == 204
    assert neighbour.asked == [("/gate", "anna", '{"open":true}')]


def test_orders_want_a_session_and_its_token(anna: FlaskClient, neighbour: Neighbour) -> None:
    for path, form in ORDERS.items():
        assert anna.post(path, data=form).status_code == 403, path
    anna.delete_cookie("__Host-ife-crew")
    for path, form in ORDERS.items():
        assert anna.post(path, data=form).status_code == 401, path
    assert anna.get("/content").status_code == 401
    assert neighbour.asked == []


@pytest.mark.parametrize("wants_pin", [True])
def test_a_pin_is_asked_for_checked_and_guarded_as_at_the_log_in(
    anna: FlaskClient, neighbour: Neighbour, wants_pin: bool
) -> None:
    path, headers = "/content/disks/front/import", token(anna)
    asked = anna.post(path, headers=headers)
    assert 'name="pin"' in asked.text
    for pin, status in (("12", 422), ("4321", 403), ("23456789", 403)):
        assert anna.post(path, data={"pin": pin}, headers=headers).status_code == status, pin
    assert neighbour.asked == []
    right = anna.post(path, data={"pin": PINS["anna"]}, headers=headers)
    assert right.status_code == 204
    assert len(neighbour.asked) == 1
    tries = [anna.post(path, data={"pin": "0000"}, headers=headers).status_code for _ in range(12)]
    assert tries[-1] == 429
    assert len(neighbour.asked) == 1


@pytest.mark.parametrize("wants_pin", [True])
def test_a_browser_whose_pin_was_right_is_known_also_when_the_order_fails(
    anna: FlaskClient, neighbour: Neighbour, tmp_path: Path, wants_pin: bool
) -> None:
    known = anna.get_cookie("__Host-ife-device")
    (tmp_path / "content.sock").unlink()
    path, headers = "/content/disks/front/import", token(anna)
    failed = anna.post(path, data={"pin": PINS["anna"]}, headers=headers)
    assert failed.status_code == 503
    assert anna.get_cookie("__Host-ife-device") != known
