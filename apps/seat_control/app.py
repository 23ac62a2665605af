"""The Flask app: seat control's API for the crew's page, and for seats.

In service the ASGI front (`apps.seat_control.asgi`) answers the seats' status itself, by the
same `SeatControl.receive_status`, and hands everything else to this app.
"""

from __future__ import annotations

import re
from typing import TypeVar

from flask import Flask, Response, jsonify, request
from pydantic import BaseModel, ValidationError

from apps.common.commands import ArmRequest, CommandRequest
from apps.common.protocol import CREW_HEADER, MAX_STATUS_BODY, SEAT_HEADER
from apps.common.web import Problem, answer_problems, health_blueprint
from apps.seat_control.openapi import document
from apps.seat_control.service import SeatControl, malformed
from apps.seat_control.settings import SeatControlSettings

MAX_BODY = 64 * 1024

M = TypeVar("M", bound=BaseModel)

_CREW_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def create_app(settings: SeatControlSettings, service: SeatControl | None = None) -> Flask:
    """The app on a service; without one given, on one that is made from `settings` and started."""
    if service is None:
        service = SeatControl(settings)
        service.start()
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    answer_problems(app)
    app.register_blueprint(health_blueprint(service.health))

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
        crew = _crew()
        return _json(service.arm(crew, _parsed(ArmRequest))), 200

    @app.post("/api/v1/commands")
    def command() -> tuple[Response, int, dict[str, str]]:
        crew = _crew()
        accepted = service.issue(crew, _parsed(CommandRequest))
        return _json(accepted), 202, {"Location": f"/api/v1/commands/{accepted.seq}"}

    @app.get("/api/v1/commands/<int:seq>")
    def report(seq: int) -> Response:
        _crew()
        return _json(service.report(seq))

    @app.get("/api/v1/cabin")
    def cabin() -> Response:
        _crew()
        return _json(service.cabin())

    @app.get("/openapi.json")
    def openapi() -> Response:
        return jsonify(document())

    return app


def check_crew(crew: str) -> str:
    """The id of the crew member who acts, as nginx or crew_web passed it on.

    Raises:
        Problem: there is none.
    """
    if not _CREW_ID.fullmatch(crew):
        raise Problem(401, "no-crew", "log in on the crew's page")
    return crew


def _crew() -> str:
    return check_crew(request.headers.get(CREW_HEADER, ""))


def _parsed(model: type[M]) -> M:
    try:
        return model.model_validate_json(request.get_data(cache=False))
    except ValidationError as error:
        raise malformed(error) from error


def _json(model: BaseModel) -> Response:
    return Response(model.model_dump_json(), mimetype="application/json")
