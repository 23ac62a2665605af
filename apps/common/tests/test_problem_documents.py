"""Every error of an app is a problem document (RFC 9457), and its health is told."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from apps.common.health import Health
from apps.common.web import CONTENT_TYPE, Problem, answer_problems, health_blueprint


@pytest.fixture
def health() -> Health:
    return Health("lamp")


@pytest.fixture
def client(health: Health) -> FlaskClient:
    app = Flask("lamp")
    app.config["MAX_CONTENT_LENGTH"] = 100
    answer_problems(app)
    app.register_blueprint(health_blueprint(health))

    @app.post("/lamps/<int:number>")
    def switch(number: int) -> dict[str, Any]:
        request.get_data()
        if number == 1:
            raise Problem(409, "already-on", "lamp 1 is on: switch it off first", retry_after=3)
        if number == 2:
            raise RuntimeError("the secret is hunter2")
        return {}

    return app.test_client()


def problem(response: TestResponse) -> dict[str, Any]:
    assert response.headers["Content-Type"] == CONTENT_TYPE
    document = response.get_json()
    assert document["status"] == response.status_code
    assert set(document) >= {"type", "title", "status", "detail"}
    return dict(document)


def test_a_problem_is_told_in_full(client: FlaskClient) -> None:
    response = client.post("/lamps/1")
    assert response.status_code == 409
    assert problem(response) == {
        "type": "urn:ife:problem:already-on",
        "title": "already on",
        "status": 409,
        "detail": "lamp 1 is on: switch it off first",
    }
    assert response.headers["Retry-After"] == "3"


def test_what_flask_refuses_is_a_problem_too(client: FlaskClient) -> None:
    missing = problem(client.get("/nowhere"))
    assert (missing["status"], missing["type"]) == (404, "urn:ife:problem:not-found")
    method = client.get("/lamps/3")
    assert problem(method)["type"] == "urn:ife:problem:method-not-allowed"
    assert set(method.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}
    assert problem(client.post("/lamps/3", data=b"x" * 101))["status"] == 413
    assert client.post("/lamps/3", data=b"x" * 100).status_code == 200


def test_our_own_mistake_is_a_problem_that_tells_nothing_within(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        response = client.post("/lamps/2")
    assert problem(response)["type"] == "urn:ife:problem:internal-server-error"
    assert b"hunter2" not in response.data
    assert "hunter2" in caplog.text


def test_health_is_200_when_ready_and_503_when_not(client: FlaskClient, health: Health) -> None:
    health.part("redis", lambda: "connection refused")
    response = client.get("/healthz")
    assert response.status_code == 200
    assert response.get_json() == {
        "app": "lamp",
        "ready": True,
        "why_not": None,
        "degraded": [{"part": "redis", "why": "connection refused"}],
    }
    health.need(lambda: "there is no bulb")
    response = client.get("/healthz")
    assert response.status_code == 503
    assert response.get_json()["why_not"] == "there is no bulb"
