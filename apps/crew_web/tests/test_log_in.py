"""Log-in, log-out, nginx's check, forged requests and the headers, as a browser meets them."""

from __future__ import annotations

import json
import logging
import re
import threading
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from apps.common.testing import wait_until
from apps.crew_web import crew
from apps.crew_web.app import create_app
from apps.crew_web.guard import COOKIE, CSRF_HEADER, DEVICE_COOKIE
from apps.crew_web.lockout import PERSON_TRIES
from apps.crew_web.settings import CrewWebSettings
from apps.crew_web.tests.conftest import CHEAP

PIN = "1234"


def log_in(browser: FlaskClient, person: str = "anna", pin: str = PIN) -> int:
    return browser.post("/session", data={"person": person, "pin": pin}).status_code


def csrf_of(browser: FlaskClient) -> str:
    page = browser.get("/").text
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found
    return found[1]


def test_the_right_pin_opens_the_cabin(browser: FlaskClient) -> None:
    assert "Who are you?" in browser.get("/").text
    response = browser.post("/session", data={"person": "anna", "pin": PIN})
    assert (response.status_code, response.headers["Location"]) == (303, "/")
    cookies = {text.split("=")[0]: text for text in response.headers.getlist("Set-Cookie")}
    assert cookies.keys() == {COOKIE, DEVICE_COOKIE}
    for cookie in cookies.values():
        assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
        assert "Domain" not in cookie
    assert f"Max-Age={30 * 24 * 3600}" in cookies[DEVICE_COOKIE]
    assert "Max-Age" not in cookies[COOKIE]
    page = browser.get("/").text
    assert 'id="seat-12C"' in page
    assert page.count('role="gridcell"') == 312


@pytest.mark.parametrize("path", ["/session", "/session/end", "/language"])
def test_who_reloads_where_a_form_was_sent_comes_back_to_the_page(
    browser: FlaskClient, path: str
) -> None:
    response = browser.get(path)
    assert (response.status_code, response.headers["Location"]) == (303, "/")


@pytest.mark.parametrize(
    ("person", "pin", "status"),
    [
        ("anna", "9999", 401),
        ("nobody", PIN, 401),
        ("bruno", PIN, 401),
        ("", PIN, 422),
        ("anna", "", 422),
        ("anna", "12", 422),
        ("anna", "١٢٣٤", 422),
        ("anna", "123456789", 422),
    ],
)
def test_anything_else_opens_nothing(
    browser: FlaskClient, person: str, pin: str, status: int
) -> None:
    response = browser.post("/session", data={"person": person, "pin": pin})
    assert response.status_code == status
    assert "Set-Cookie" not in response.headers
    assert 'id="map"' not in browser.get("/").text


def test_wrong_pins_lock_even_the_right_one(browser: FlaskClient) -> None:
    for left in reversed(range(PERSON_TRIES)):
        page = browser.post("/session", data={"person": "anna", "pin": "0000"}).text
        assert ("has to wait" if left == 0 else f"{left} tr") in page
    response = browser.post("/session", data={"person": "anna", "pin": PIN})
    assert response.status_code == 429
    assert 1 <= int(response.headers["Retry-After"]) <= 30
    assert log_in(browser, "bruno", "23456789") == 303


def test_a_stranger_cannot_keep_her_out_of_her_own_browser(app: Flask, anna: FlaskClient) -> None:
    anna.post("/session/end", data={"csrf_token": csrf_of(anna)})
    stranger = app.test_client()
    stranger.environ_base |= {"HTTP_X_FORWARDED_FOR": "198.51.100.66"}
    for _ in range(PERSON_TRIES):
        assert log_in(stranger, pin="0000") == 401
    assert log_in(stranger) == 429
    assert log_in(anna, pin="0000") == 401
    assert log_in(anna) == 303


def test_whoever_comes_while_others_are_checked_is_not_kept_waiting(
    app: Flask, browser: FlaskClient
) -> None:
    people = app.extensions["crew_web"].crew
    others = [threading.Thread(target=take_turn, args=(people,)) for _ in range(crew.MAX_WAITING)]
    with people.turn():
        for other in others:
            other.start()
        wait_until(lambda: people._turns._value == 0, "the others wait")
        response = browser.post(
            "/session",
            data={"person": "anna", "pin": PIN},
            headers={"Accept-Language": "de"},
        )
        # Whoever is in goes on, and so does all else.
        assert browser.get("/").status_code == 200
    for other in others:
        other.join(timeout=10)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert "Gerade melden sich andere an" in response.text
    # That was no try.
    assert app.extensions["crew_web"].store.read("SELECT * FROM failure", ()) is None
    assert log_in(browser) == 303


def take_turn(people: crew.Crew) -> None:
    with people.turn():
        pass


def test_the_log_tells_who_came_and_who_tried(
    browser: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="apps.crew_web.login")
    for pin in ["9876"] * PERSON_TRIES + [PIN]:
        log_in(browser, pin=pin)
    log_in(browser, "made up\nby somebody", "9876")
    log_in(browser, "bruno", "23456789")
    browser.post("/session/end", data={"csrf_token": csrf_of(browser)})
    lines = [vars(record) for record in caplog.records]
    told = [(line["levelname"], line["message"], line["person"]) for line in lines]
    assert told == [
        *[("WARNING", "wrong PIN", "anna")] * (PERSON_TRIES - 1),
        ("WARNING", "wrong PIN, locked out", "anna"),
        ("WARNING", "wrong PIN", "(unknown)"),
        ("INFO", "logged in", "bruno"),
        ("INFO", "logged out", "bruno"),
    ]
    assert {line["address"] for line in lines} == {"198.51.100.7"}
    # Times and numbers of processes hold such digits by chance.
    texts = [
        str(value) for line in lines for value in line.values() if type(value) not in (int, float)
    ]
    assert not any(pin in text for text in texts for pin in ("9876", "made up", "23456789"))


def test_log_out_ends_the_session_on_the_server(anna: FlaskClient) -> None:
    cookie = anna.get_cookie(COOKIE)
    assert cookie
    token = csrf_of(anna)
    assert anna.post("/session/end").status_code == 403
    assert anna.post("/session/end", data={"csrf_token": token}).status_code == 303
    anna.set_cookie(COOKIE, cookie.value, secure=True)
    assert anna.get("/session/check").status_code == 401


def test_nginx_hears_who_it_is(browser: FlaskClient) -> None:
    assert browser.get("/session/check").status_code == 401
    log_in(browser)
    response = browser.get("/session/check", headers={"X-Original-Method": "GET"})
    assert (response.status_code, response.headers["Ife-Crew"]) == (204, "anna")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "odd"])
def test_nginx_hears_of_a_forged_request(anna: FlaskClient, method: str) -> None:
    headers = {"X-Original-Method": method}
    assert anna.get("/session/check", headers=headers).status_code == 403
    headers[CSRF_HEADER] = "wrong"
    assert anna.get("/session/check", headers=headers).status_code == 403
    headers[CSRF_HEADER] = csrf_of(anna)
    assert anna.get("/session/check", headers=headers).status_code == 204


def test_nginxs_check_is_no_activity(app: Flask, anna: FlaskClient) -> None:
    store = app.extensions["crew_web"].store
    with store.transaction() as database:
        database.execute("UPDATE session SET seen = seen - 600")
    before = store.read("SELECT seen FROM session", ())
    for path in ("/session/check", "/status", "/reports", "/attention"):
        anna.get(path)
    assert store.read("SELECT seen FROM session", ()) == before
    anna.post("/session/active", headers={CSRF_HEADER: csrf_of(anna)})
    assert store.read("SELECT seen FROM session", ()) > before


def test_activity_and_commands_want_the_token(anna: FlaskClient) -> None:
    form = {"name": "mute", "muted": "true", "seats": "12C"}
    assert anna.post("/commands", data=form).status_code == 403
    assert anna.post("/session/active").status_code == 403
    assert anna.post("/session/active", headers={CSRF_HEADER: csrf_of(anna)}).status_code == 204
    # With the token it gets as far as seat control, which is away.
    response = anna.post("/commands", data=form, headers={CSRF_HEADER: csrf_of(anna)})
    assert response.status_code == 503
    assert "Nothing was sent" in response.text


def test_another_site_cannot_log_anybody_in(browser: FlaskClient) -> None:
    response = browser.post(
        "/session",
        data={"person": "anna", "pin": PIN},
        headers={"Sec-Fetch-Site": "cross-site"},
    )
    assert response.status_code == 403
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("path", ["/commands/1", "/reports", "/attention", "/seats/12C", "/status"])
def test_fragments_send_a_stranger_to_the_log_in(browser: FlaskClient, path: str) -> None:
    response = browser.get(path)
    assert (response.status_code, response.headers["HX-Redirect"]) == (401, "/")


def test_who_left_the_crew_file_is_out(
    settings: CrewWebSettings, app: Flask, anna: FlaskClient
) -> None:
    text = settings.crew_file.read_text().replace('"anna"', '"anton"')
    settings.crew_file.write_text(text)
    app.extensions["crew_web"].crew = crew.load(settings.crew_file)
    assert anna.get("/session/check").status_code == 401


def test_a_pin_that_is_changed_ends_what_was_begun_with_it(
    settings: CrewWebSettings, app: Flask, anna: FlaskClient
) -> None:
    bruno = app.test_client()
    log_in(bruno, "bruno", "23456789")
    app.extensions["crew_web"].close()
    # A change takes a restart; one without a change ends nothing.
    assert [status_after_restart(settings, browser) for browser in (anna, bruno)] == [204, 204]
    people = json.loads(settings.crew_file.read_text())
    people[0]["pin_hash"] = CHEAP.hash("8642")
    settings.crew_file.write_text(json.dumps(people))
    assert [status_after_restart(settings, browser) for browser in (anna, bruno)] == [401, 204]
    # Nor do tries from her old browser count apart.
    device = anna.get_cookie(DEVICE_COOKIE)
    assert device
    web = create_app(settings).extensions["crew_web"]
    assert not web.lockout.begin_try("anna", "198.51.100.7", device.value).trusted
    web.close()


def status_after_restart(settings: CrewWebSettings, browser: FlaskClient) -> int:
    """What nginx hears of a browser from an app that is started anew."""
    app = create_app(settings)
    browser.application = app
    status = browser.get("/session/check").status_code
    app.extensions["crew_web"].close()
    return status


@pytest.mark.parametrize("path", ["/", "/nowhere", "/session/check", "/static/style.css"])
def test_every_answer_binds_the_browser(browser: FlaskClient, path: str) -> None:
    with browser.get(path) as response:
        headers = response.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "media-src 'self'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "camera=()" in headers["Permissions-Policy"]
    assert ("no-cache" if path.startswith("/static") else "no-store") in headers["Cache-Control"]


def test_pages_have_nothing_inline(anna: FlaskClient, app: Flask) -> None:
    """The policy would stop it; here it is seen before a browser does."""
    templates = Path(app.root_path, "templates").glob("*.html")
    for text in [anna.get("/").text, *(path.read_text() for path in templates)]:
        assert not re.search(r"\sstyle=|<style|\son\w+=|javascript:|hx-on|<script>", text)
        assert "https://" not in text


def test_a_flood_of_form_is_refused(browser: FlaskClient) -> None:
    response = browser.post("/session", data={"person": "anna", "pin": "1" * 100_000})
    assert response.status_code == 413


def test_health_says_what_is_away(browser: FlaskClient) -> None:
    report = browser.get("/healthz").get_json()
    assert report["ready"] is True
    away = {"redis", "seat_control", "pa_audio", "vlc_stream", "content_sync"}
    assert {part["part"] for part in report["degraded"]} == away


def test_log_in_works_without_redis_and_the_other_apps(anna: FlaskClient) -> None:
    """All are away in these tests; the page says so and goes on."""
    assert 'id="map"' in anna.get("/").text
    status = anna.get("/status").text
    assert "Seat control does not answer" in status
    assert "The PA does not answer" in status
    assert "Video does not answer" in status
    assert '<small id="pa-now">not known</small>' in status
    assert "nothing imposed" not in status
