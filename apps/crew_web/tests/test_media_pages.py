"""The views of the PA and of video while both are away, and who may give orders."""

from __future__ import annotations

import re
from pathlib import Path

from flask.testing import FlaskClient

from apps.common import layout as layouts
from apps.crew_web import selection

ROOT = Path(__file__).parents[3]

FRAGMENTS = ["/pa", "/pa/messages", "/pa/messages?language=de", "/pa/announcements", "/video"]

ORDERS = {
    "/pa/messages": {"message": "boarding", "language": "", "area": ""},
    "/pa/messages/stop": {},
    "/pa/messages/7/stop": {},
    "/pa/music": {"area": "economy", "on": "true"},
    "/video/channels/news": {"action": "pause"},
    "/video/imposed": {"video": "safety", "language": "en", "where": "all"},
    "/video/imposed/safety": {"action": "stop"},
    "/video/screens": {"deployed": "true"},
}


def token(browser: FlaskClient) -> dict[str, str]:
    """The headers of the page's own requests."""
    match = re.search(r'"X-CSRF-Token": "([^"]+)"', browser.get("/").text)
    assert match
    return {"X-CSRF-Token": match[1], "HX-Request": "true"}


def test_a_fragment_says_that_nobody_answers(anna: FlaskClient) -> None:
    for path in FRAGMENTS:
        response = anna.get(path)
        assert response.status_code == 200
        assert "does not answer" in response.text or "Not known." in response.text, path


def test_an_order_says_that_nothing_was_done(anna: FlaskClient) -> None:
    headers = token(anna)
    for path, form in ORDERS.items():
        response = anna.post(path, data=form, headers=headers)
        assert response.status_code == 503, path
        assert "Nothing was done" in response.text, path


def test_orders_want_a_session_and_its_token(anna: FlaskClient) -> None:
    for path, form in ORDERS.items():
        assert anna.post(path, data=form).status_code == 403, path
    anna.delete_cookie("__Host-ife-crew")
    asked = [anna.post(path, data=form) for path, form in ORDERS.items()]
    asked += [anna.get(path) for path in FRAGMENTS]
    for response in asked:
        assert response.status_code == 401
        assert response.headers["HX-Redirect"] == "/"


WRONG = [
    ("/video/channels/news", {"action": "explode"}),
    ("/video/channels/news", {}),
    ("/video/channels/news", {"action": "seek", "percent": "far"}),
    ("/video/imposed/safety", {"action": "play"}),
    ("/video/screens", {"deployed": "perhaps"}),
    ("/pa/music", {"area": "economy"}),
    ("/video/imposed", {"video": "safety", "language": "en", "where": "the wing"}),
    ("/video/imposed", {"video": "safety", "language": "en", "where": "selected"}),
    ("/video/imposed", {"where": "selected", "seats": "99Z"}),
]


def test_a_form_that_is_none_of_the_page_is_refused(anna: FlaskClient) -> None:
    headers = token(anna)
    for path, form in WRONG:
        response = anna.post(path, data=form, headers=headers)
        assert response.status_code == 422, (path, form)
        assert 'role="alert"' in response.text


def test_without_a_player_here_no_seat_has_a_picture(anna: FlaskClient) -> None:
    assert "seat-picture" not in anna.get("/").text
    assert anna.get("/video/seat").status_code == 404


def test_the_parts_of_the_cabin_are_offered_once_each() -> None:
    layout = layouts.load(ROOT / "inventory/layouts/a330-300.yml")
    parts = selection.parts(layout)
    # The zone "business" is the class of that name.
    assert list(parts) == ["all", "class-business", "class-economy", "zone-forward", "zone-aft"]
    seats = [layout.resolve(part) for part in parts.values()]
    assert len(set(seats)) == len(seats)
    assert len(seats[0]) == 312
