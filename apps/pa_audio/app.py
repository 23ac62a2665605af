"""The Flask app: the PA's API for the crew's page, and for passengers who missed one."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import cast

from flask import Flask, Response, send_file
from werkzeug.wsgi import ClosingIterator

from apps.common import log, manhole, web
from apps.common.announcements import MusicRequest, PramRequest, RecordingsView
from apps.common.layout import LayoutError
from apps.common.web import Problem
from apps.pa_audio.arbiter import DecompressionError, QueueFullError
from apps.pa_audio.engine import StuckError
from apps.pa_audio.listening import MOST_LISTENERS
from apps.pa_audio.openapi import document
from apps.pa_audio.pram import PramError
from apps.pa_audio.service import Disk, HungDiskError, PaAudio, UnknownAreaError
from apps.pa_audio.settings import PaAudioSettings

MAX_BODY = 16 * 1024

MOST_RECORDINGS = 2
"""Given at once: each takes a thread for as long as its reader takes."""


def create_app(pa: PaAudio | None = None) -> Flask:
    """The app on a service; without one given, on one of the environment's settings, started.

    Where a setting or a file is wrong, the process ends with a line that names it.
    """
    if pa is None:
        with web.loading("pa_audio", LayoutError, OSError):
            settings = PaAudioSettings.load()
            log.setup(settings.log_level)
            pa = PaAudio(settings)
        pa.start()
        manhole.open_if_wanted(pa=pa)
    app = web.make_app("pa_audio", pa, document, max_body=MAX_BODY)
    _answer_errors(app)
    _show_to_the_crew(app, pa)
    _take_orders_of_the_crew(app, pa)
    _give_recordings(app, pa)
    return app


def _answer_errors(app: Flask) -> None:
    @app.errorhandler(StuckError)
    def stuck(error: StuckError) -> Response:
        return Problem(503, "stuck", str(error), retry_after=2).response()

    @app.errorhandler(HungDiskError)
    def disk_hangs(error: HungDiskError) -> Response:
        return Problem(503, "disk-hangs", str(error), retry_after=10).response()

    @app.errorhandler(UnknownAreaError)
    def unknown_area(error: UnknownAreaError) -> Response:
        return Problem(422, "unknown-area", str(error)).response()

    @app.errorhandler(PramError)
    def cannot_play(error: PramError) -> Response:
        return Problem(422, "cannot-play", str(error)).response()

    @app.errorhandler(DecompressionError)
    def not_now(_: DecompressionError) -> Response:
        return Problem(
            409, "pa-decompression", "neither messages nor music are played now"
        ).response()

    @app.errorhandler(QueueFullError)
    def queue_full(_: QueueFullError) -> Response:
        return Problem(429, "queue-full", "too many messages wait already", 10).response()


def _show_to_the_crew(app: Flask, pa: PaAudio) -> None:
    @app.get("/api/v1/pa")
    def view() -> Response:
        web.crew()
        return web.answer(pa.view())

    @app.get("/api/v1/pa/listen")
    def listen() -> Response:
        web.crew()
        stream = pa.listening.listen()
        if stream is None:
            raise Problem(503, "too-many-listeners", f"{MOST_LISTENERS} listen already", 10)
        response = Response(stream, mimetype="audio/wav")
        response.headers |= {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return response

    @app.get("/api/v1/pram")
    def pram() -> Response:
        web.crew()
        return web.answer(pa.pram())


def _take_orders_of_the_crew(app: Flask, pa: PaAudio) -> None:
    @app.post("/api/v1/pram")
    def play() -> tuple[Response, int]:
        web.crew()
        return web.answer(pa.play(web.parsed(PramRequest), web.check_in_time)), 202

    @app.delete("/api/v1/pram")
    def clear() -> Response:
        web.crew()
        pa.engine.do(lambda arbiter: arbiter.clear())
        return Response(status=204)

    @app.delete("/api/v1/pram/<int:ident>")
    def remove(ident: int) -> Response:
        web.crew()
        if not pa.engine.do(lambda arbiter: arbiter.remove(ident)):
            raise Problem(404, "not-queued", f"no message {ident} waits")
        return Response(status=204)

    @app.post("/api/v1/music")
    def switch_music() -> Response:
        web.crew()
        pa.switch_music(web.parsed(MusicRequest))
        return Response(status=204)


def _give_recordings(app: Flask, pa: PaAudio) -> None:
    places = threading.Semaphore(MOST_RECORDINGS)
    disk = Disk("recordings")

    @app.get("/api/v1/announcements")
    def announcements() -> Response:
        with disk.alone():
            return web.answer(RecordingsView(announcements=tuple(pa.recorder.all())))

    @app.get("/api/v1/announcements/<int:number>/audio")
    def audio(number: int) -> Response:
        with disk.alone():
            path = pa.recorder.path_of(number)
        if path is None:
            raise Problem(404, "not-recorded", f"there is no recording of announcement {number}")
        if not places.acquire(blocking=False):
            detail = f"{MOST_RECORDINGS} recordings are being read already"
            raise Problem(503, "too-many-readers", detail, 10)
        try:
            response = send_file(path, mimetype="audio/wav", conditional=True)
        except BaseException:
            places.release()
            raise
        # Not by call_on_close, which nobody calls where a file is passed on as it is.
        content = cast("Iterable[bytes]", response.response)
        response.response = ClosingIterator(content, places.release)
        return response
