"""What every Flask app of ours answers alike: problem documents (RFC 9457) and its health."""

from __future__ import annotations

import json

from flask import Blueprint, Flask, Response
from werkzeug.exceptions import HTTPException

from apps.common.health import Health

CONTENT_TYPE = "application/problem+json"


class Problem(Exception):  # noqa: N818 - it is the RFC's word for it
    """A request that is refused: `slug` names the kind, `detail` says what to do about it.

    `retry_after`: after how many seconds another try makes sense, where that is known.
    """

    def __init__(self, status: int, slug: str, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.detail = detail
        self.retry_after = retry_after

    def body(self) -> bytes:
        """The document, encoded."""
        return json.dumps(
            {
                "type": f"urn:ife:problem:{self.slug}",
                "title": self.slug.replace("-", " "),
                "status": self.status,
                "detail": self.detail,
            }
        ).encode()

    def response(self) -> Response:
        """The document as Flask's answer."""
        response = Response(self.body(), status=self.status, content_type=CONTENT_TYPE)
        if self.retry_after is not None:
            response.headers["Retry-After"] = str(self.retry_after)
        return response


def answer_problems(app: Flask) -> None:
    """Make every error that `app` answers a problem document."""

    @app.errorhandler(Problem)
    def _problem(problem: Problem) -> Response:
        return problem.response()

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response:
        slug = (error.name or "error").lower().replace(" ", "-")
        response = Problem(error.code or 500, slug, error.description or "").response()
        for name, value in error.get_headers():
            if name.lower() not in {"content-type", "content-length"}:
                response.headers[name] = value
        return response


def health_blueprint(health: Health) -> Blueprint:
    """``GET /healthz``: 200 when ready, 503 when not; the body says why and what is away."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/healthz")
    def healthz() -> Response:
        report = health.report()
        return Response(
            report.model_dump_json(),
            status=200 if report.ready else 503,
            mimetype="application/json",
        )

    return blueprint
