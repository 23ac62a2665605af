"""The Flask app: content_sync's API, for the crew's page and for ``ife-content``."""

from __future__ import annotations

import sys

from flask import Flask, Response, jsonify

from apps.common import log, manhole, web
from apps.common.content import ImportRequest
from apps.common.settings import SettingsError
from apps.content_sync.openapi import document
from apps.content_sync.service import ContentSync
from apps.content_sync.settings import ContentSyncSettings

MAX_BODY = 64 * 1024

CANNOT_LOAD = 4
"""The exit status of a worker that gunicorn does not start again: it ends, too."""


def create_app(service: ContentSync | None = None) -> Flask:
    """The app on a service; without one given, on one of the environment's settings, started.

    Where a setting or a file is wrong, the process ends with a line that names it.
    """
    if service is None:
        try:
            settings = ContentSyncSettings.load()
            log.setup(settings.log_level)
            service = ContentSync(settings)
            service.start()
        except SettingsError as error:
            print("content_sync:", error, file=sys.stderr)
            sys.exit(CANNOT_LOAD)
        manhole.open_if_wanted(service=service)
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.extensions["content_sync"] = service
    web.answer_problems(app)
    app.register_blueprint(web.health_blueprint(service.health))
    _content(app, service)
    _jobs(app, service)

    @app.get("/openapi.json")
    def openapi() -> Response:
        return jsonify(document())

    return app


def _content(app: Flask, service: ContentSync) -> None:
    @app.get("/api/v1/content")
    def content() -> Response:
        return web.answer(service.view())

    @app.post("/api/v1/content/rollback")
    def rollback() -> Response:
        return web.answer(service.rollback(web.crew()))

    @app.post("/api/v1/disks/<port>/import")
    def import_disk(port: str) -> tuple[Response, int]:
        return web.answer(service.import_disk(web.crew(), port)), 202


def _jobs(app: Flask, service: ContentSync) -> None:
    @app.post("/api/v1/imports")
    def import_folder() -> tuple[Response, int]:
        web.crew()
        return web.answer(service.import_folder(web.parsed(ImportRequest))), 202

    @app.post("/api/v1/verifications")
    def verify() -> tuple[Response, int]:
        web.crew()
        return web.answer(service.verify()), 202

    @app.get("/api/v1/jobs/<int:number>")
    def job(number: int) -> Response:
        return web.answer(service.worker.job(number))
