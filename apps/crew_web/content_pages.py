"""The view of content: crew disks, what is in force, the gate; and the crew's orders."""

from __future__ import annotations

import re
import time

from flask import (
    Blueprint,
    Response,
    abort,
    after_this_request,
    make_response,
    render_template,
    request,
)

from apps.common.calls import RefusedError, UnavailableError
from apps.crew_web import guard, login, onboard, pages, texts
from apps.crew_web.crew import PIN_PATTERN, BusyError
from apps.crew_web.guard import service
from apps.crew_web.lockout import LockedOutError
from apps.crew_web.media import GateOrder

CONFIRM_SECONDS = 15.0
"""Within which a rollback has to be confirmed."""

PIN_SECONDS = 60.0
"""Within which a PIN has to be given."""

content_pages = Blueprint("content", __name__)
content_pages.before_request(pages.let_in)


@content_pages.errorhandler(UnavailableError)
def unavailable(error: UnavailableError) -> Response:
    """Say that content_sync did not answer an order."""
    return pages.note(texts.media_unavailable(maybe_done=error.maybe_done), 503)


@content_pages.errorhandler(RefusedError)
def refused(error: RefusedError) -> Response:
    """Say why content_sync refused an order."""
    return pages.note(texts.content_refusal(error.slug), error.status, error.detail)


@content_pages.get("/content")
def content() -> str:
    """The ports with their disks, what is kept out, what is in force, the gate."""
    state, disks = service().content(), service().disks()
    return render_template(
        "_content_live.html",
        state=state,
        disks=disks,
        ports=onboard.ports(state, disks) if state else [],
        kept_out=onboard.kept_out(disks),
        demo=service().demo_gate is not None,
        now=time.time(),
    )


@content_pages.post("/content/disks/<port>/import")
def import_disk(port: str) -> Response:
    """Import a disk, or try it once more; with a PIN, if that is wanted."""
    if service().settings.imports_want_pin:
        pin = request.form.get("pin")
        if pin is None:
            page = render_template("_import.html", port=port, seconds=PIN_SECONDS)
            return pages.for_htmx(page, "armed", target="#arm", swap="innerHTML")
        if (problem := _wrong_pin(pin)) is not None:
            return problem
    service().content_sync.call(lambda content: content.import_disk(_crew(), port))
    return _done()


@content_pages.post("/content/rollback")
def roll_back() -> Response:
    """Ask to confirm a rollback, or put the former set in force if it is the one that was shown."""
    state = service().content()
    if state is None:
        raise UnavailableError("it does not answer", maybe_done=False)
    if state.former is None:
        return pages.note(texts.content_refusal("no-former-set"), 409)
    confirmed = request.form.get("set")
    if confirmed is None:
        page = render_template("_rollback.html", state=state, seconds=CONFIRM_SECONDS)
        return pages.for_htmx(page, "armed", target="#arm", swap="innerHTML")
    if confirmed != str(state.former.version):
        return pages.note(texts.content_refusal("another-set"), 409)
    service().content_sync.call(lambda content: content.roll_back(_crew()))
    return _done()


@content_pages.post("/content/gate")
def demo_gate() -> Response:
    """Open or close the gate of a bench."""
    gate = service().demo_gate
    if gate is None:
        abort(404)
    gate.set(_crew(), GateOrder(open=request.form.get("open") == "true"))
    return _done()


def _wrong_pin(pin: str) -> Response | None:
    """What is wrong with it; None, and the browser is known from then on."""
    if not re.fullmatch(PIN_PATTERN, pin):
        return pages.note(texts.gettext("A PIN has 4 to 8 digits."), 422)
    try:
        this_try, is_right = login.check_pin(_crew(), pin)
    except BusyError:
        return pages.note(
            texts.gettext("Others are logging in just now. Try again in a moment."), 503
        )
    except LockedOutError as error:
        return pages.note(texts.locked_out(error.seconds), 429)
    if not is_right:
        return pages.note(texts.gettext("That PIN is wrong. Nothing was imported."), 403)
    device = service().lockout.was_right(this_try)

    # Whatever becomes of the order: the cookie before this one is known no longer.
    @after_this_request
    def remember(response: Response) -> Response:
        guard.set_device_cookie(response, device)
        return response

    return None


def _crew() -> str:
    return guard.current().person


def _done() -> Response:
    """Nothing to show but what has changed, which the page asks for at this event."""
    response = make_response("", 204)
    response.headers["HX-Trigger"] = "content-changed"
    return response
