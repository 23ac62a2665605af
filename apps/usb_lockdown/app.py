"""The Flask app: usb_lockdown's API. It tells; there is nothing in it that lets anything in."""

from __future__ import annotations

import sys

from flask import Flask, Response, jsonify

from apps.common import log, manhole, web
from apps.common.settings import SettingsError
from apps.usb_lockdown.openapi import document
from apps.usb_lockdown.service import UsbLockdown
from apps.usb_lockdown.settings import UsbLockdownSettings

CANNOT_LOAD = 4
"""The exit status of a worker that gunicorn does not start again: it ends, too."""


def create_app(service: UsbLockdown | None = None) -> Flask:
    """The app on a service; without one given, on one of the environment's settings, started.

    Where a setting is wrong, the process ends with a line that names it.
    """
    if service is None:
        try:
            settings = UsbLockdownSettings.load()
            log.setup(settings.log_level)
            service = UsbLockdown(settings)
        except SettingsError as error:
            print("usb_lockdown:", error, file=sys.stderr)
            sys.exit(CANNOT_LOAD)
        service.start()
        manhole.open_if_wanted(service=service)
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 0
    app.extensions["usb_lockdown"] = service
    web.answer_problems(app)
    app.register_blueprint(web.health_blueprint(service.health))

    @app.get("/api/v1/usb")
    def usb() -> Response:
        web.crew()
        return web.answer(service.state())

    @app.get("/openapi.json")
    def openapi() -> Response:
        return jsonify(document())

    return app
