"""The Flask app: seat control's API for the crew's page, and for seats.

In service the ASGI front (`apps.seat_control.asgi`) answers the seats' status itself, by the
same `SeatControl.receive_status`, and hands everything else to this app.
"""

from __future__ import annotations

from flask import Flask, Response, request

from apps.common import web
from apps.common.commands import ArmRequest, CommandRequest
from apps.common.protocol import MAX_STATUS_BODY, SEAT_HEADER
from apps.seat_control.openapi import document
from apps.seat_control.service import SeatControl


def create_app(service: SeatControl) -> Flask:
    """The app on a service."""
    app = web.make_app("seat_control", service, document)

    @app.post("/api/v1/seats/<seat>/status")
    def status(seat: str) -> Response:
        body = request.stream.read(MAX_STATUS_BODY + 1)
        answer = service.receive_status(seat, request.headers.get(SEAT_HEADER, ""), body)
        if answer.after_writing:
            service.write_outcomes()
        headers = [(name.decode(), value.decode()) for name, value in answer.headers]
        return Response(answer.body, answer.status, headers)

    @app.post("/api/v1/commands/arm")
    def arm() -> tuple[Response, int]:
        crew = web.crew()
        return web.answer(service.arm(crew, web.parsed(ArmRequest))), 200

    @app.post("/api/v1/commands")
    def command() -> tuple[Response, int, dict[str, str]]:
        crew = web.crew()
        accepted = service.issue(crew, web.parsed(CommandRequest), web.check_in_time)
        return web.answer(accepted), 202, {"Location": f"/api/v1/commands/{accepted.seq}"}

    @app.get("/api/v1/commands/<int:seq>")
    def report(seq: int) -> Response:
        web.crew()
        return web.answer(service.report(seq))

    @app.get("/api/v1/cabin")
    def cabin() -> Response:
        web.crew()
        return web.answer(service.cabin())

    return app
