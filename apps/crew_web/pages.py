"""The cabin page and its fragments; htmx asks for the latter (templates/_*.html)."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, abort, make_response, render_template, request, url_for

from apps.common.cabin import CabinView, SeatView
from apps.common.calls import RefusedError, UnavailableError
from apps.common.commands import ArmRequest, CommandRequest
from apps.common.web import SAFE_METHODS
from apps.crew_web import actions, guard, onboard, selection, texts
from apps.crew_web.guard import service
from apps.crew_web.login import login_page

LAST_REPORTS = 5

pages = Blueprint("pages", __name__)


@pages.before_request
def let_in() -> Response | None:
    """All but the first page want a session; what changes something wants its CSRF token."""
    # What the page asks by itself must not keep a session alive that nobody uses.
    by_hand = request.endpoint == "pages.home" or request.method == "POST"
    session = guard.session_of_request(active=by_hand)
    if session is None:
        if request.endpoint == "pages.home":
            return login_page()
        # htmx follows it, so the page becomes the log-in.
        return Response(status=401, headers={"HX-Redirect": url_for("pages.home")})
    if request.method not in SAFE_METHODS and guard.is_forged(session):
        return note(texts.gettext("The page is out of date: reload it."), 403)
    guard.enter(session)
    return None


@pages.errorhandler(UnavailableError)
def unavailable(error: UnavailableError) -> Response:
    """Say that seat control did not answer."""
    return note(texts.unavailable(maybe_done=error.maybe_done), 503)


@pages.errorhandler(RefusedError)
def refused(error: RefusedError) -> Response:
    """Say why seat control refused."""
    return note(texts.refusal(error.slug), error.status, error.detail)


@pages.get("/")
def home() -> str:
    """The page: the cabin, the PA, video."""
    return render_template(
        "cabin.html",
        zones=service().map,
        person=service().crew.name(_crew()),
    )


@pages.post("/commands")
def command() -> Response:
    """Issue a command, or begin the two steps of a destructive one."""
    try:
        chosen = selection.selector(request.form.get("seats", "").split(), service().layout)
        action = actions.parse(request.form)
    except selection.SelectionError:
        return note(texts.refusal("empty-selection"), 422)
    except actions.ActionError as error:
        return note(texts.field_error(error.field), 422, str(error))
    token = request.form.get("arm_token") or None
    seats = service().layout.resolve(chosen)
    if action.destructive and len(seats) > 1 and token is None:
        wanted = ArmRequest(selector=chosen, action=action)
        armed = service().seat_control.call(lambda seats: seats.arm(_crew(), wanted))
        page = render_template(
            "_arm.html", armed=armed, action=action, selector=chosen, seats=seats
        )
        return for_htmx(page, "armed", target="#arm", swap="innerHTML")
    order = CommandRequest(selector=chosen, action=action, arm_token=token)
    accepted = service().seat_control.call(lambda seats: seats.issue(_crew(), order))
    try:
        report = _report(accepted.seq)
    except UnavailableError as error:
        # The command itself was accepted.
        raise UnavailableError(str(error), maybe_done=True) from error
    return for_htmx(report, "sent")


@pages.get("/commands/<int:seq>")
def command_report(seq: int) -> str:
    """A delivery report; while it is not final it asks for itself again."""
    return _report(seq)


@pages.get("/reports")
def reports() -> str:
    """The last few delivery reports, newest first: for a page that was just opened."""
    last = _cabin().seq
    found = []
    for seq in range(last, max(0, last - LAST_REPORTS), -1):
        try:
            found.append(_report(seq))
        except RefusedError:
            break
    return "".join(found)


@pages.get("/attention")
def attention() -> str:
    """The seats that want someone to look."""
    return render_template("_attention.html", lists=_attention())


@pages.get("/seats/<seat>")
def seat(seat: str) -> str:
    """All that is known of one seat."""
    place = service().layout.seats.get(seat)
    if place is None:
        abort(404)
    view = _cabin().seats.get(seat, SeatView())
    return render_template("_seat.html", seat=place, view=view, layout=service().layout)


@pages.get("/status")
def status() -> str:
    """What is degraded, who speaks, which imposed videos are on, and how content is."""
    content, disks = service().content(), service().disks()
    return render_template(
        "_status.html",
        degraded=texts.known_parts(service().degraded()),
        pa=service().pa.value,
        imposed=service().imposed(),
        content=onboard.headline(content, disks) if content else None,
        progress=content.progress if content else None,
    )


def _crew() -> str:
    return guard.current().person


def _cabin() -> CabinView:
    return service().seat_control.call(lambda seats: seats.cabin(_crew()))


def _report(seq: int) -> str:
    report = service().seat_control.call(lambda seats: seats.report(_crew(), seq))
    return render_template("_report.html", report=report)


def note(text: str, status: int, detail: str = "") -> Response:
    """A card which says what went wrong."""
    return make_response(render_template("_note.html", text=text, detail=detail), status)


def for_htmx(
    page: str, event: str, *, target: str | None = None, swap: str | None = None
) -> Response:
    """A fragment, and the event that tells the page's scripts that it is there."""
    response = make_response(page)
    response.headers["HX-Trigger"] = event
    if target and swap:
        response.headers["HX-Retarget"] = target
        response.headers["HX-Reswap"] = swap
    return response


def _attention() -> dict[str, dict[str, SeatView]]:
    """Seats that want someone to look, by why; a seat may be there more than once."""
    seats = _cabin().seats
    wanted: dict[str, Callable[[SeatView], bool]] = {
        "call": lambda seat: bool(seat.attendant_call),
        "lost": lambda seat: seat.presence == "lost",
        "fault": lambda seat: bool(seat.faults) or seat.state == "fault",
        "twice": lambda seat: seat.claimed_twice,
    }
    return {
        why: {name: seat for name, seat in seats.items() if is_wanted(seat)}
        for why, is_wanted in wanted.items()
    }
