"""The operators' pages: the fleet, and one aircraft."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast, get_args
from uuid import UUID

from flask import Blueprint, Response, current_app, redirect, render_template, request, url_for
from pydantic import ValidationError
from werkzeug.wrappers import Response as AnyResponse

from apps.common.gate import LOGS_TYPE, Position, RequestKind
from apps.common.web import Problem, malformed
from apps.hangar.fleet import FleetView
from apps.hangar.guard import operator
from apps.hangar.service import AskRequest, Hangar

pages = Blueprint("pages", __name__)

REQUESTS = {
    "sync_now": "Synchronise now",
    "send_logs": "Send its logs",
    "open_tunnel": "Open a tunnel for engineers",
}
"""What each request is called."""

KINDS = {
    "sale": ("sale", "sales"),
    "user": ("sign-up", "sign-ups"),
    "survey": ("survey", "surveys"),
    "bite": ("fault report", "fault reports"),
    "play": ("play", "plays"),
    "stat": ("figure", "figures"),
}
"""What records of a kind are called, one and many."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def service() -> Hangar:
    """The service of this app."""
    return cast("Hangar", current_app.extensions["hangar"])


@pages.get("/")
def fleet() -> str:
    """All aircraft."""
    operator()
    view = service().view()
    return render_template("fleet.html", fleet=view, summary=summary(view), now=view.at)


@pages.get("/aircraft/<registration>")
def aircraft(registration: str) -> str:
    """One aircraft."""
    operator()
    detail = service().detail(registration)
    return render_template(
        "aircraft.html", detail=detail, shown=detail.aircraft, now=datetime.now(UTC)
    )


@pages.post("/aircraft/<registration>/requests")
def ask(registration: str) -> AnyResponse:
    """Ask something of an aircraft."""
    who = operator()
    try:
        asked = AskRequest.model_validate(request.form.to_dict())
    except ValidationError as error:
        raise malformed(error) from error
    service().ask(who, registration, asked)
    return _to(registration)


@pages.post("/aircraft/<registration>/requests/<uuid:identifier>/withdraw")
def withdraw(registration: str, identifier: UUID) -> AnyResponse:
    """Take a request back."""
    service().withdraw(operator(), registration, identifier)
    return _to(registration)


@pages.get("/aircraft/<registration>/logs/<uuid:identifier>")
def logs(registration: str, identifier: UUID) -> Response:
    """The logs that an aircraft sent, as a file."""
    operator()
    answer = Response(service().logs(registration, identifier), mimetype=LOGS_TYPE)
    answer.headers["Content-Disposition"] = (
        f'attachment; filename="{registration.lower()}-{identifier}.zst"'
    )
    return answer


def _to(registration: str) -> AnyResponse:
    return redirect(url_for("pages.aircraft", registration=registration) + "#requests", 303)


@pages.errorhandler(Problem)
def _problem(problem: Problem) -> tuple[str, int]:
    return render_template("error.html", problem=problem), problem.status


@pages.after_request
def _headers(response: Response) -> Response:
    response.headers.update(HEADERS)
    return response


@pages.context_processor
def _texts() -> dict[str, object]:
    return {"REQUESTS": {kind: REQUESTS[kind] for kind in get_args(RequestKind)}}


def summary(view: FleetView) -> str:
    """The fleet in a sentence."""
    online = sum(each.presence == "online" for each in view.aircraft)
    behind = sum(bool(each.missing) for each in view.aircraft)
    faulty = sum(bool(each.faults) for each in view.aircraft)
    return (
        f"{len(view.aircraft)} aircraft: {online} online, {behind} with content missing, "
        f"{faulty} with faults."
    )


@pages.app_template_filter("moment")
def moment(time: datetime | None) -> str:
    """A time as it is written: ``28 Nov 03:06``, UTC."""
    return f"{time.astimezone(UTC):%-d %b %H:%M}" if time else ""


@pages.app_template_filter("ago")
def ago(time: datetime | None, now: datetime) -> str:
    """How long ago: ``4 min``."""
    if time is None:
        return ""
    seconds = max(0, int((now - time).total_seconds()))
    for unit, size in (("day", 86_400), ("h", 3600), ("min", 60)):
        count = seconds // size
        if count:
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}"
    return f"{seconds} s"


@pages.app_template_filter("place")
def place(position: Position | None) -> str:
    """A position as it is written: ``41.30° N, 2.08° E``."""
    if position is None:
        return ""
    north = "N" if position.latitude >= 0 else "S"
    east = "E" if position.longitude >= 0 else "W"
    return f"{abs(position.latitude):.2f}° {north}, {abs(position.longitude):.2f}° {east}"


@pages.app_template_filter("counted")
def counted(counts: dict[str, int]) -> str:
    """Records by kind: ``3 sales, 120 plays``."""
    return ", ".join(
        f"{counts[kind]:,} {names[counts[kind] != 1]}"
        for kind, names in KINDS.items()
        if counts.get(kind)
    )


@pages.app_template_filter("money")
def money(amount: int) -> str:
    """An amount in a currency's hundredths: ``1,234.50``."""
    return f"{amount / 100:,.2f}"


@pages.app_template_filter("size")
def size(count: int) -> str:
    """Bytes as people say them: ``12.3 GB``."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


@pages.app_template_filter("duration")
def duration(seconds: int) -> str:
    """Seconds as hours and minutes: ``3 h 05``."""
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d}"
