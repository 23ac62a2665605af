"""Fixtures: the app as it runs, with files of its own. The other apps and Redis are away."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import argon2
import pytest
from flask import Flask, g
from flask.testing import FlaskClient

from apps.crew_web.app import create_app
from apps.crew_web.service import CrewWeb
from apps.crew_web.settings import CrewWebSettings

ROOT = Path(__file__).parents[3]

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""The file says what a hash costs; tests need not pay the price of a real one."""

PINS = {"anna": "1234", "bruno": "23456789"}


@dataclass
class Clock:
    """Crew time that a test moves, in seconds."""

    now: float = field(default=1_800_000_000.0)

    def __call__(self) -> float:
        return self.now


def damage_table(file: Path, table: str) -> None:
    """Write zeros where a table of a SQLite file begins, as a disk may."""
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((size,),) = database.execute("PRAGMA page_size")
        ((page,),) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,))
    with file.open("r+b") as data:
        data.seek((page - 1) * size)
        data.write(bytes(size))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def crew_file(tmp_path: Path) -> Path:
    path = tmp_path / "crew.json"
    people = [
        {"id": person, "name": person.title(), "pin_hash": CHEAP.hash(pin)}
        for person, pin in PINS.items()
    ]
    path.write_text(json.dumps(people))
    return path


@pytest.fixture
def settings(tmp_path: Path, crew_file: Path) -> CrewWebSettings:
    return CrewWebSettings(
        registration="EC-LAB",
        layout=ROOT / "inventory/layouts/a330-300.yml",
        crew_file=crew_file,
        boot_id="a" * 32,
        state_directory=tmp_path,
        seat_control_socket=tmp_path / "seat_control.sock",
        pa_audio_socket=tmp_path / "pa_audio.sock",
        vlc_stream_socket=tmp_path / "vlc_stream.sock",
        redis_url=f"unix://{tmp_path}/redis.sock",
    )


@pytest.fixture
def app(settings: CrewWebSettings) -> Iterator[Flask]:
    app = create_app(settings)
    yield app
    app.extensions["crew_web"].close()


@pytest.fixture(params=["en", "de", "es", "fr"])
def web(app: Flask, request: pytest.FixtureRequest) -> Iterator[CrewWeb]:
    """A request in each language."""
    web: CrewWeb = app.extensions["crew_web"]
    with app.test_request_context():
        g.language = web.languages[request.param]
        yield web


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    """A browser that nobody is logged in with."""
    app.config["PREFERRED_URL_SCHEME"] = "https"
    client = app.test_client()
    client.environ_base |= {"HTTP_X_FORWARDED_FOR": "198.51.100.7", "wsgi.url_scheme": "https"}
    return client


@pytest.fixture
def anna(browser: FlaskClient) -> FlaskClient:
    """Anna's browser, logged in."""
    response = browser.post("/session", data={"person": "anna", "pin": PINS["anna"]})
    assert response.status_code == 303
    return browser
