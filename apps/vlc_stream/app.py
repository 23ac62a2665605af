"""The Flask app: vlc_stream's API, for the crew's page and for the players."""

from __future__ import annotations

from flask import Flask, Response

from apps.common import log, manhole, web
from apps.common.channels import ChannelControl, ChannelsError, ImposedControl, ImposeRequest
from apps.common.screens import ScreensOrder
from apps.vlc_stream.openapi import document
from apps.vlc_stream.screens.config import ScreensError
from apps.vlc_stream.service import VlcStream
from apps.vlc_stream.settings import VlcStreamSettings


def create_app(service: VlcStream | None = None) -> Flask:
    """The app on a service; without one given, on one of the environment's settings, started.

    Where a setting or a file is wrong, the process ends with a line that names it.
    """
    if service is None:
        with web.loading("vlc_stream", ChannelsError, ScreensError):
            settings = VlcStreamSettings.load()
            log.setup(settings.log_level)
            service = VlcStream(settings)
            service.start()
        manhole.open_if_wanted(service=service)
    app = web.make_app("vlc_stream", service, document)
    _channels(app, service)
    _imposed(app, service)
    _screens(app, service)
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
