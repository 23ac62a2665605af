"""The Flask app: the Hangar's API for aircraft and for operators, and the operators' pages."""

from __future__ import annotations

from uuid import UUID

from flask import Flask, Response, request

from apps.common import gate, log, manhole, usage, web
from apps.common.gate import AIRCRAFT_HEADER
from apps.hangar import pages
from apps.hangar.guard import operator
from apps.hangar.lane import Lane
from apps.hangar.openapi import document
from apps.hangar.service import AskRequest, Hangar
from apps.hangar.settings import HangarSettings


def create_app(service: Hangar | None = None) -> Flask:
    """The app on a service; without one given, on one of the environment's settings, started.

    Where a setting or the fleet file is wrong, the process ends with a line that names it.
    """
    if service is None:
        with web.loading("hangar"):
            settings = HangarSettings.load()
            log.setup(settings.log_level)
            service = Hangar(settings)
            service.start()
        manhole.open_if_wanted(service=service)
    app = web.make_app("hangar", service, document, max_body=usage.MAX_BATCH)
    app.register_blueprint(pages.pages)
    _for_aircraft(app, service)
    _for_operators(app, service)
    app.wsgi_app = Lane(app.wsgi_app, service)  # type: ignore[method-assign]
    return app


def _for_aircraft(app: Flask, service: Hangar) -> None:
    @app.put("/api/v1/batches/<int:number>")
    def batch(number: int) -> tuple[Response, int]:
        certificate = request.headers.get(AIRCRAFT_HEADER, "")
        taken = service.take(certificate, number, request.get_data(cache=False))
        return web.answer(taken), 200 if taken.again else 201

    @app.put("/api/v1/logs/<uuid:identifier>")
    def logs(identifier: UUID) -> Response:
        request.max_content_length = gate.MAX_LOGS
        certificate = request.headers.get(AIRCRAFT_HEADER, "")
        service.take_logs(certificate, identifier, request.get_data(cache=False))
        return Response(status=204)


def _for_operators(app: Flask, service: Hangar) -> None:
    @app.get("/api/v1/fleet")
    def fleet() -> Response:
        operator()
        return web.answer(service.view())

    @app.get("/api/v1/aircraft/<registration>")
    def aircraft(registration: str) -> Response:
        operator()
        return web.answer(service.detail(registration))

    @app.post("/api/v1/aircraft/<registration>/requests")
    def ask(registration: str) -> Response:
        who = operator()
        service.ask(who, registration, web.parsed(AskRequest))
        return Response(status=202)
