"""Who may do what: the session cookie, the CSRF token, and headers that bind the browser."""

from __future__ import annotations

from flask import Response, current_app, g, request

from apps.crew_web.lockout import DEVICE_AGE
from apps.crew_web.service import CrewWeb
from apps.crew_web.sessions import Session

COOKIE = "__Host-ife-crew"
"""The prefix makes browsers insist on Secure, Path=/ and no Domain (RFC 6265bis)."""

DEVICE_COOKIE = "__Host-ife-device"
"""Of a browser in which somebody has logged in (`apps.crew_web.lockout`)."""

CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf_token"

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; media-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "accelerometer=(), camera=(), display-capture=(), geolocation=(), "
    "gyroscope=(), magnetometer=(), microphone=(), midi=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def service() -> CrewWeb:
    """The service behind the app that answers."""
    web: CrewWeb = current_app.extensions["crew_web"]
    return web


def session_of_request(*, active: bool) -> Session | None:
    """The session that the request's cookie names, unless it has ended."""
    session_id = request.cookies.get(COOKIE, "")
    session = service().sessions.get(session_id, active=active) if session_id else None
    # Who was taken out of the crew file is out.
    return session if session and service().crew.get(session.person) else None


def is_forged(session: Session | None) -> bool:
    """Whether another site may have made the browser send this unsafe request.

    Before log-in there is no token; then the browser's word on who made it has to do (Fetch
    Metadata, which every browser of these years sends over HTTPS).
    """
    if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        return True
    if session is None:
        return False
    token = request.headers.get(CSRF_HEADER) or request.form.get(CSRF_FIELD, "")
    return not session.csrf_token_is(token)


def set_cookie(response: Response, session_id: str) -> None:
    """Give the browser its session; without an age it ends with the browser at the latest."""
    response.set_cookie(COOKIE, session_id, secure=True, httponly=True, samesite="Strict")


def set_device_cookie(response: Response, device: str) -> None:
    """Let the browser be known at the next log-in."""
    response.set_cookie(
        DEVICE_COOKIE,
        device,
        max_age=DEVICE_AGE,
        secure=True,
        httponly=True,
        samesite="Strict",
    )


def delete_cookie(response: Response) -> None:
    """Take the session from the browser."""
    response.delete_cookie(COOKIE, secure=True, httponly=True, samesite="Strict")


def harden(response: Response) -> Response:
    """The headers of every answer. Static files may be kept and asked for again, pages not."""
    response.headers.update(_HEADERS)
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response


def current() -> Session:
    """The session of a request that was let through."""
    session: Session = g.session
    return session


def enter(session: Session) -> None:
    """Let the request through as this session's."""
    g.session = session
