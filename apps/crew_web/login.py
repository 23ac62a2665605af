"""Log in, log out, and nginx's question whether a request comes from the crew."""

from __future__ import annotations

import logging
import re

from flask import Blueprint, Response, g, make_response, render_template, request, url_for

from apps.common.protocol import CREW_HEADER
from apps.common.web import SAFE_METHODS
from apps.crew_web import guard
from apps.crew_web.crew import PIN_PATTERN, BusyError
from apps.crew_web.guard import service
from apps.crew_web.lockout import LockedOutError, Try

LANGUAGE_COOKIE = "__Host-ife-language"
LANGUAGE_AGE = 365 * 24 * 3600

log = logging.getLogger(__name__)

pages = Blueprint("login", __name__)


def login_page(status: int = 200, chosen: str | None = None, **why: object) -> Response:
    """The page to log in; `why` tells what was wrong with the last try."""
    return make_response(
        render_template("login.html", people=service().crew.members, chosen=chosen, **why), status
    )


@pages.post("/session")
def log_in() -> Response:
    """Check a PIN; a right one gives the browser a session and the cabin."""
    if guard.is_forged(None):
        return login_page(403)
    person, pin = request.form.get("person", ""), request.form.get("pin", "")
    if not person:
        return login_page(422, problem="person")
    if not re.fullmatch(PIN_PATTERN, pin):
        return login_page(422, problem="pin", chosen=person)
    try:
        this_try, is_right = check_pin(person, pin)
    except BusyError:
        response = login_page(503, problem="busy", chosen=person)
        response.headers["Retry-After"] = "1"
        return response
    except LockedOutError as error:
        response = login_page(429, wait=int(error.seconds) + 1, chosen=person)
        response.headers["Retry-After"] = str(int(error.seconds) + 1)
        return response
    if not is_right:
        return login_page(401, tries_left=this_try.left, problem="wrong", chosen=person)
    response = go_home()
    guard.set_device_cookie(response, service().lockout.was_right(this_try))
    guard.set_cookie(response, service().sessions.begin(person))
    log.info("logged in", extra=_who(person))
    return response


def check_pin(person: str, pin: str) -> tuple[Try, bool]:
    """Try a PIN, which counts: whether it is right.

    Raises:
        BusyError: others wait for theirs already; this was no try.
        LockedOutError: too many were wrong; neither was this.
    """
    known = person if service().crew.get(person) else None
    device = request.cookies.get(guard.DEVICE_COOKIE, "")
    # In this order: whom the page has no time for has not tried.
    with service().crew.turn():
        this_try = service().lockout.begin_try(known, _address(), device)
        is_right = service().crew.pin_is_right(person, pin)
    if not is_right:
        what = "wrong PIN" if this_try.left else "wrong PIN, locked out"
        log.warning(what, extra=_who(known or "(unknown)"))
    return this_try, is_right


def _address() -> str:
    return request.remote_addr or "unknown"


def _who(person: str) -> dict[str, str]:
    """The fields of a line of the log."""
    return {"person": person, "address": _address()}


@pages.post("/session/end")
def log_out() -> Response:
    """End the session, and go to the log-in."""
    session = guard.session_of_request(active=False)
    if session is not None:
        if guard.is_forged(session):
            return Response(status=403)
        service().sessions.end(request.cookies[guard.COOKIE])
        log.info("logged out", extra=_who(session.person))
    response = go_home()
    guard.delete_cookie(response)
    return response


@pages.get("/session/check")
def check() -> Response:
    """For nginx's auth_request: who asks, if somebody does who may.

    It is about another request, of which the method is in `X-Original-Method`. Nobody is
    thought active for it: an open page asks by itself.
    """
    session = guard.session_of_request(active=False)
    if session is None:
        return Response(status=401)
    unsafe = request.headers.get("X-Original-Method", "GET") not in SAFE_METHODS
    if unsafe and not session.csrf_token_is(request.headers.get(guard.CSRF_HEADER, "")):
        return Response(status=403)
    return Response(status=204, headers={CREW_HEADER: session.person})


@pages.post("/session/active")
def active() -> Response:
    """The crew member touched the page, though nothing came of it that we would see."""
    session = guard.session_of_request(active=False)
    if session is None:
        return Response(status=401)
    if guard.is_forged(session):
        return Response(status=403)
    guard.session_of_request(active=True)
    return Response(status=204)


@pages.post("/language")
def language() -> Response:
    """Remember the language that was picked."""
    code = request.form.get("language", "")
    response = go_home()
    if code in service().languages and not guard.is_forged(None):
        response.set_cookie(
            LANGUAGE_COOKIE,
            code,
            max_age=LANGUAGE_AGE,
            secure=True,
            httponly=True,
            samesite="Lax",
        )
    return response


def go_home() -> Response:
    """To the cabin, or to the log-in for who is nobody yet."""
    return Response(status=303, headers={"Location": url_for("pages.home")})


def choose_language() -> None:
    """Set the request's language: by cookie, else by what the browser wants, else English."""
    code = request.cookies.get(LANGUAGE_COOKIE)
    if code not in service().languages:
        code = request.accept_languages.best_match(list(service().languages)) or "en"
    g.language = service().languages[code]
