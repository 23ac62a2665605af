"""The Flask app: content_sync's API, for the crew's page and for ``ife-content``."""

from __future__ import annotations

from flask import Flask, Response

from apps.common import log, manhole, web
from apps.common.content import ImportRequest
from apps.content_sync.openapi import document
from apps.content_sync.service import ContentSync
from apps.content_sync.settings import ContentSyncSettings


def create_app(service: ContentSync | None = None) -> Flask:
    """The app on a service; without one given, on one of the environment's settings, started.

    Where a setting or a file is wrong, the process ends with a line that names it.
    """
    if service is None:
        with web.loading("content_sync"):
            settings = ContentSyncSettings.load()
            log.setup(settings.log_level)
            service = ContentSync(settings)
            service.start()
        manhole.open_if_wanted(service=service)
    app = web.make_app("content_sync", service, document)
    _content(app, service)
    _jobs(app, service)
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
