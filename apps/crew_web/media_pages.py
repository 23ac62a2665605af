"""The views of the PA and of video: fragments that tell how they are, and the crew's orders.

An order that was taken is answered by an event; the page then asks for its fragments again.
"""

from __future__ import annotations

import time
from typing import Any

from flask import Blueprint, Response, abort, make_response, render_template, request
from pydantic import ValidationError

from apps.common.announcements import MusicRequest, PramRequest
from apps.common.calls import RefusedError, UnavailableError
from apps.common.channels import ChannelControl, ImposedControl, ImposedView, ImposeRequest
from apps.common.commands import Selector
from apps.common.screens import ScreensOrder
from apps.crew_web import guard, pages, selection, texts
from apps.crew_web.guard import service

CONFIRM_SECONDS = 15.0
"""Within which an imposed video has to be confirmed."""

MOST_RECORDINGS = 20

FLAGS = {"true": True, "false": False}
"""As forms write them."""

media_pages = Blueprint("media", __name__)
media_pages.before_request(pages.let_in)


@media_pages.errorhandler(UnavailableError)
def unavailable(error: UnavailableError) -> Response:
    """Say that the other app did not answer an order."""
    return pages.note(texts.media_unavailable(maybe_done=error.maybe_done), 503)


@media_pages.errorhandler(RefusedError)
def refused(error: RefusedError) -> Response:
    """Say why the other app refused an order."""
    return pages.note(texts.media_refusal(error.slug), error.status, error.detail)


@media_pages.errorhandler(ValidationError)
def malformed(_: ValidationError) -> Response:
    """Say that the form is none of this page's."""
    return pages.note(texts.media_refusal("malformed"), 422)


# -- the PA -----------------------------------------------------------------------------------


@media_pages.get("/pa")
def pa() -> str:
    """Who speaks and how loud, what waits, where music plays."""
    view = service().pa_audio.look(lambda pa: pa.pa(_crew()))
    if view is None:
        return render_template("_pa_live.html", pa=None)
    open_ones = view.state.announcements
    pram = service().pa_audio.look(lambda pa: pa.messages(_crew())) if view.queue else None
    return render_template(
        "_pa_live.html",
        pa=view,
        # They come highest first, and an area hears the highest.
        speaking={area: one for one in reversed(open_ones) for area in one.areas},
        is_played=any(one.source == "pram" for one in open_ones),
        titles=pram.messages if pram else {},
        now=time.time(),
    )


@media_pages.get("/pa/messages")
def messages() -> str:
    """The messages that can be played, in the language that is chosen."""
    view = service().pa_audio.look(lambda pa: pa.messages(_crew()))
    found = view.messages.values() if view else ()
    codes = list(dict.fromkeys(code for message in found for code in message.titles))
    chosen = request.args.get("language")
    return render_template(
        "_pa_messages.html", pram=view, codes=codes, chosen=chosen if chosen in codes else None
    )


@media_pages.get("/pa/announcements")
def announcements() -> str:
    """The last announcements, to be heard again."""
    view = service().pa_audio.look(lambda pa: pa.announcements(_crew()))
    found = view.announcements[:MOST_RECORDINGS] if view else None
    return render_template("_pa_announcements.html", announcements=found)


@media_pages.post("/pa/messages")
def play() -> Response:
    """Let a message wait for its turn."""
    order = PramRequest(
        message=request.form.get("message", ""),
        languages=tuple(filter(None, request.form.getlist("language"))),
        areas=tuple(filter(None, request.form.getlist("area"))),
    )
    service().pa_audio.call(lambda pa: pa.play(_crew(), order))
    return _done("pa-changed")


@media_pages.post("/pa/messages/stop")
def stop_messages() -> Response:
    """Stop all messages."""
    service().pa_audio.call(lambda pa: pa.clear(_crew()))
    return _done("pa-changed")


@media_pages.post("/pa/messages/<int:ident>/stop")
def stop_message(ident: int) -> Response:
    """Stop one message, be it playing or waiting."""
    service().pa_audio.call(lambda pa: pa.remove(_crew(), ident))
    return _done("pa-changed")


@media_pages.post("/pa/music")
def music() -> Response:
    """Let boarding music play in an area, or everywhere, or no longer."""
    order = MusicRequest.model_validate(
        {"on": FLAGS.get(request.form.get("on", "")), "areas": request.form.getlist("area")}
    )
    service().pa_audio.call(lambda pa: pa.switch_music(_crew(), order))
    return _done("pa-changed")


# -- video ------------------------------------------------------------------------------------


@media_pages.get("/video")
def video() -> str:
    """The imposed videos, the channels and the overhead screens."""
    view = service().vlc_stream.look(lambda video: video.channels())
    screens = service().vlc_stream.look(lambda video: video.screens(_crew()))
    return render_template("_video_live.html", view=view, screens=screens)


@media_pages.get("/video/seat")
def seat_picture() -> Response:
    """What one seat sees, as PNG; 204 where its screen shows no picture."""
    seat = service().seat_picture
    if seat is None:
        abort(404)
    picture = seat.look()
    return Response(picture, mimetype="image/png") if picture else Response(status=204)


@media_pages.get("/video/channels/<channel>/seek")
def seek(channel: str) -> Response:
    """The dialog to go to another place in what a channel plays."""
    view = service().vlc_stream.call(lambda video: video.channels())
    found = next((one for one in view.channels if one.id == channel), None)
    if found is None or not found.duration:
        return pages.note(texts.media_refusal("no-such-channel"), 404)
    page = render_template("_seek.html", channel=found)
    return pages.for_htmx(page, "seek", target="#seek", swap="innerHTML")


@media_pages.post("/video/channels/<channel>")
def control_channel(channel: str) -> Response:
    """Play, pause, stop or seek a channel."""
    control = ChannelControl.model_validate(
        {name: request.form[name] for name in ("action", "percent") if name in request.form}
    )
    service().vlc_stream.call(lambda video: video.control(_crew(), channel, control))
    return _done("video-changed")


@media_pages.post("/video/imposed")
def impose() -> Response:
    """Show an imposed video, or begin the two steps of one that interrupts passengers."""
    try:
        selector = _where()
    except selection.SelectionError:
        return pages.note(texts.refusal("empty-selection"), 422)
    order = ImposeRequest(
        channel=request.form.get("video", ""),
        language=request.form.get("language", ""),
        selector=selector,
        screens=request.form.get("screens") == "yes" or selector is None,
    )
    if selector is not None and request.form.get("confirmed") != "yes":
        return _ask_to_confirm(order, service().layout.resolve(selector))
    answer = service().vlc_stream.call(lambda video: video.impose(_crew(), order))
    page = render_template("_imposed.html", answer=answer, selector=selector)
    return pages.for_htmx(page, "video-changed")


@media_pages.post("/video/imposed/<video>")
def control_imposed(video: str) -> Response:
    """Pause, resume or stop an imposed video."""
    control = ImposedControl.model_validate({"action": request.form.get("action")})
    service().vlc_stream.call(lambda stream: stream.control_imposed(_crew(), video, control))
    return _done("video-changed")


@media_pages.post("/video/screens")
def order_screens() -> Response:
    """Deploy, stow or switch one overhead screen, or all."""
    fields: dict[str, Any] = {
        # Anything else the order refuses.
        name: FLAGS.get(request.form[name], request.form[name])
        for name in ("deployed", "power")
        if name in request.form
    }
    fields["screens"] = request.form.getlist("screen") or None
    fields["input"] = request.form.get("input")
    order = ScreensOrder.model_validate(fields)
    service().vlc_stream.call(lambda video: video.order_screens(_crew(), order))
    return _done("video-changed")


def _crew() -> str:
    return guard.current().person


def _where() -> Selector | None:
    """The seats that the form means; None: none, only the overhead screens.

    Raises:
        SelectionError: none is selected on the map, or the form names no part of the cabin.
    """
    where = request.form.get("where", "")
    if where == "screens":
        return None
    if where == "selected":
        return selection.selector(request.form.get("seats", "").split(), service().layout)
    if where not in service().parts:
        raise selection.SelectionError("the cabin has no such part")
    return service().parts[where]


def _ask_to_confirm(order: ImposeRequest, seats: tuple[str, ...]) -> Response:
    view = service().vlc_stream.look(lambda video: video.channels())
    if view is None:
        raise UnavailableError("it does not answer", maybe_done=False)
    found = next((video for video in view.imposed if video.id == order.channel), None)
    if found is None:
        abort(404)
    page = render_template(
        "_confirm.html",
        video=found,
        order=order,
        seats=seats,
        others=_others(found, view.imposed),
        seconds=CONFIRM_SECONDS,
    )
    return pages.for_htmx(page, "armed", target="#arm", swap="innerHTML")


def _others(video: ImposedView, videos: tuple[ImposedView, ...]) -> list[ImposedView]:
    """The other videos that are on."""
    return [other for other in videos if other.id != video.id and other.state != "idle"]


def _done(event: str) -> Response:
    """Nothing to show but what has changed, which the page asks for at this event."""
    response = make_response("", 204)
    response.headers["HX-Trigger"] = event
    return response
