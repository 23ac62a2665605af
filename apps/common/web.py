"""What our Flask apps do alike: loading, who asks, bodies, problem documents (RFC 9457), health."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from flask import Blueprint, Flask, Response, jsonify, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException

from apps.common.health import Health
from apps.common.protocol import ASKED_HEADER, CREW_HEADER
from apps.common.settings import SettingsError

CANNOT_LOAD = 4
"""The exit status of a worker that gunicorn does not start again: it ends, too."""

CONTENT_TYPE = "application/problem+json"

MAX_BODY = 64 * 1024
"""Bytes of a request's body, where an app says nothing else."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""RFC 9110, section 9.2.1, of which TRACE is never let through."""

M = TypeVar("M", bound=BaseModel)

_CREW_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Service(Protocol):
    """What an app serves."""

    @property
    def health(self) -> Health:
        """For ``/healthz``."""


@contextlib.contextmanager
def loading(name: str, *errors: type[Exception]) -> Iterator[None]:
    """While the app `name` loads: a wrong setting ends the process with a line that tells it.

    So does each of `errors`, with which the app's own files are refused.
    """
    refused: tuple[type[Exception], ...] = (SettingsError, *errors)
    try:
        yield
    except refused as error:
        print(f"{name}:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(CANNOT_LOAD)


def make_app(
    name: str,
    service: Service,
    document: Callable[[], Mapping[str, Any]],
    max_body: int = MAX_BODY,
) -> Flask:
    """The Flask app of `apps.<name>`, without its own paths; `document` makes its OpenAPI."""
    app = Flask(f"apps.{name}.app")
    app.config["MAX_CONTENT_LENGTH"] = max_body
    app.extensions[name] = service
    app.before_request(check_in_time)
    answer_problems(app)
    app.register_blueprint(health_blueprint(service.health))

    @app.get("/openapi.json")
    def openapi() -> Response:
        return jsonify(document())

    return app


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


def is_too_late(asked: str) -> bool:
    """Whether whoever made a request has given it up, by its `ASKED_HEADER`; without one: no.

    By the wall clock, for nginx tells no other. If that is set in just these seconds, a request may
    be refused that came in time.
    """
    at, _, waited_for = asked.partition(" ")
    try:
        return time.time() > float(at) + float(waited_for)
    except ValueError:
        return False


def check_in_time() -> None:
    """See that this request is still waited for, where it is to change something.

    It may have waited at our socket while we were away, or for a thread, and whoever made it was
    told that nobody knows: they look, and ask again.

    Raises:
        Problem: it is not. 412, for browsers send anew what is answered by 408.
    """
    if request.method not in SAFE_METHODS and is_too_late(request.headers.get(ASKED_HEADER, "")):
        raise Problem(412, "too-late", "nothing was done, for it was not waited for any more")


def check_crew(crew: str) -> str:
    """The id of the crew member who acts, as nginx or crew_web passed it on.

    Raises:
        Problem: there is none.
    """
    if not _CREW_ID.fullmatch(crew):
        raise Problem(401, "no-crew", "log in on the crew's page")
    return crew


def crew() -> str:
    """The crew member of this request; raises as `check_crew` does."""
    return check_crew(request.headers.get(CREW_HEADER, ""))


def parsed(model: type[M]) -> M:
    """The body of this request.

    Raises:
        Problem: it is not such a model.
    """
    try:
        return model.model_validate_json(request.get_data(cache=False))
    except ValidationError as error:
        raise malformed(error) from error


def malformed(error: ValidationError) -> Problem:
    """The problem document of a body that does not fit its schema."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"])) or "the body"
    return Problem(400, "malformed", f"{where}: {first['msg']}")


def answer(model: BaseModel) -> Response:
    """A model as an answer."""
    return Response(model.model_dump_json(), mimetype="application/json")


def health_blueprint(health: Health) -> Blueprint:
    """``GET /healthz``: 200 when ready, 503 when not; the body says why and what is away."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/healthz")
    def healthz() -> Response:
        report = health.report()
        response = answer(report)
        response.status_code = 200 if report.ready else 503
        return response

    return blueprint
