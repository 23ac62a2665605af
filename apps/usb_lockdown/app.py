"""The Flask app: usb_lockdown's API. It tells; there is nothing in it that lets anything in."""

from __future__ import annotations

from flask import Flask, Response

from apps.common import log, manhole, web
from apps.usb_lockdown.openapi import document
from apps.usb_lockdown.service import UsbLockdown
from apps.usb_lockdown.settings import UsbLockdownSettings


def create_app(service: UsbLockdown | None = None) -> Flask:
    """The app on a service; without one given, on one of the environment's settings, started.

    Where a setting is wrong, the process ends with a line that names it.
    """
    if service is None:
        with web.loading("usb_lockdown"):
            settings = UsbLockdownSettings.load()
            log.setup(settings.log_level)
            service = UsbLockdown(settings)
        service.start()
        manhole.open_if_wanted(service=service)
    app = web.make_app("usb_lockdown", service, document, max_body=0)

    @app.get("/api/v1/usb")
    def usb() -> Response:
        web.crew()
        return web.answer(service.state())

    return app
