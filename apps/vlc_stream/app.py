"""The Flask app: vlc_stream's API, for the crew's page and for the players."""

from __future__ import annotations

import sys

from flask import Flask, Response, jsonify

from apps.common import log, manhole, web
from apps.common.channels import ChannelControl, ChannelsError, ImposedControl, ImposeRequest
from apps.common.screens import ScreensOrder
from apps.common.settings import SettingsError
from apps.vlc_stream.openapi import document
from apps.vlc_stream.screens.config import ScreensError
from apps.vlc_stream.service import VlcStream
from apps.vlc_stream.settings import VlcStreamSettings

MAX_BODY = 64 * 1024

CANNOT_LOAD = 4
"""The exit status of a worker that gunicorn does not start again: it ends, too."""


def create_app(service: VlcStream | None = None) -> Flask:
    """The app on a service; without one given, on one of the environment's settings, started.

    Where a setting or a file is wrong, the process ends with a line that names it.
    """
    if service is None:
        try:
            settings = VlcStreamSettings.load()
            log.setup(settings.log_level)
            service = VlcStream(settings)
            service.start()
        except (SettingsError, ChannelsError, ScreensError) as error:
            print("vlc_stream:", error, file=sys.stderr)
            sys.exit(CANNOT_LOAD)
        manhole.open_if_wanted(service=service)
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.extensions["vlc_stream"] = service
    web.answer_problems(app)
    app.register_blueprint(web.health_blueprint(service.health))
    _channels(app, service)
    _imposed(app, service)
    _screens(app, service)

    @app.get("/openapi.json")
    def openapi() -> Response:
        return jsonify(document())

    return app


def _channels(app: Flask, service: VlcStream) -> None:
    @app.get("/api/v1/channels")
    def channels() -> Response:
        return web.answer(service.view())

    @app.post("/api/v1/channels/<name>/control")
    def control(name: str) -> Response:
        web.crew()
        return web.answer(service.control(name, web.parsed(ChannelControl)))

    @app.get("/api/v1/channels/<name>/picture")
    def picture(name: str) -> Response:
        web.crew()
        answer = Response(service.picture(name), mimetype="image/jpeg")
        answer.headers["Cache-Control"] = "no-store"
        return answer


def _imposed(app: Flask, service: VlcStream) -> None:
    @app.post("/api/v1/imposed")
    def impose() -> tuple[Response, int]:
        crew = web.crew()
        return web.answer(service.impose(crew, web.parsed(ImposeRequest))), 202

    @app.post("/api/v1/imposed/<name>/control")
    def control_imposed(name: str) -> Response:
        crew = web.crew()
        return web.answer(service.control_imposed(crew, name, web.parsed(ImposedControl)))


def _screens(app: Flask, service: VlcStream) -> None:
    @app.get("/api/v1/screens")
    def screens() -> Response:
        web.crew()
        return web.answer(service.screens.view())

    @app.post("/api/v1/screens")
    def order_screens() -> tuple[Response, int]:
        web.crew()
        return web.answer(service.order_screens(web.parsed(ScreensOrder))), 202
