"""Apps that are dead, hang or come back, at the other end of a real socket."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from apps.common.calls import TIMEOUT, Client, UnavailableError
from apps.common.health import Health
from apps.common.testing import listens, wait_until
from apps.common.web import health_blueprint
from apps.crew_web import watched
from apps.crew_web.settings import CrewWebSettings
from apps.crew_web.watched import MOST_CALLS, Watched


@contextmanager
def hung(path: Path) -> Iterator[None]:
    """An app that takes connections and never answers."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen(100)
        yield
    path.unlink()


@contextmanager
def served(path: Path, health: Health) -> Iterator[None]:
    """An app that tells its health."""
    app = Flask(__name__)
    app.register_blueprint(health_blueprint(health))
    server = make_server(f"unix://{path}", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    wait_until(lambda: listens(path), "it listens")
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        path.unlink(missing_ok=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.sock"


@pytest.fixture
def app_watched(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched[Client]]:
    """Looks each 50 ms."""
    monkeypatch.setattr(watched, "LOOK_EVERY", 0.05)
    found = Watched("app", Client(path))
    yield found
    found.close()


def test_only_a_few_wait_for_an_app_that_hangs(path: Path) -> None:
    """The page has 8 threads for all that the crew do."""
    app = Watched("app", Client(path))
    with hung(path), ThreadPoolExecutor(2 * MOST_CALLS) as pool:

        def ask(_: int) -> float:
            began = time.monotonic()
            with pytest.raises(UnavailableError):
                app.call(lambda client: client.health())
            return time.monotonic() - began

        took = sorted(pool.map(ask, range(2 * MOST_CALLS)))
    assert took[MOST_CALLS - 1] < TIMEOUT / 2
    assert took[MOST_CALLS] >= TIMEOUT


def test_an_app_that_is_well_answers_all(path: Path) -> None:
    """Each panel asks at the same event."""
    health = Health("app")
    health.need(lambda: time.sleep(0.02))
    app = Watched("app", Client(path))
    with served(path, health), ThreadPoolExecutor(2 * MOST_CALLS) as pool:
        assert all(pool.map(lambda _: app.call(lambda client: client.health()), range(20)))


def test_nobody_waits_for_an_app_that_did_not_answer(
    path: Path, app_watched: Watched[Client]
) -> None:
    with hung(path):
        app_watched.start()
        wait_until(lambda: "broke off" in (app_watched.trouble() or ""), "it is noticed")
        began = time.monotonic()
        with pytest.raises(UnavailableError) as caught:
            app_watched.call(lambda client: client.health())
        assert time.monotonic() - began < TIMEOUT / 4
        assert not caught.value.maybe_done
        assert app_watched.look(lambda client: client.health()) is None


def test_an_app_comes_goes_and_says_what_it_does_without(
    path: Path, app_watched: Watched[Client]
) -> None:
    health = Health("app")
    health.part("microphone", lambda: "pulled out")
    app_watched.start()
    wait_until(lambda: "connection" in (app_watched.trouble() or ""), "it is away")
    with served(path, health):
        wait_until(lambda: app_watched.trouble() is None, "it is there")
        assert [part.part for part in app_watched.degraded] == ["microphone"]
        assert app_watched.call(lambda client: client.health()).ready
        health.need(lambda: "still looking at files")
        wait_until(lambda: app_watched.trouble() == "still looking at files", "it is not ready")
        assert app_watched.look(lambda client: client.health()) is not None
    wait_until(lambda: "connection" in (app_watched.trouble() or ""), "it has gone")
    assert app_watched.degraded == []


def test_a_seat_control_that_hangs_takes_no_threads(
    settings: CrewWebSettings,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watched, "LOOK_EVERY", 0.05)
    with hung(settings.seat_control_socket):
        anna: FlaskClient = request.getfixturevalue("anna")
        wait_until(lambda: "broke off" in anna.get("/status").text, "it is told")
        for path in ("/attention", "/reports", "/seats/12C", "/commands/7"):
            began = time.monotonic()
            answer = anna.get(path)
            assert time.monotonic() - began < TIMEOUT / 2, path
            assert answer.status_code == 503
            assert "Nothing was sent" in answer.text


def test_the_page_says_what_pa_and_video_do_without(
    settings: CrewWebSettings,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of their parts only those that mean something to the crew."""
    monkeypatch.setattr(watched, "LOOK_EVERY", 0.05)
    health = Health("pa_audio")
    health.part("crew input", lambda: "no such device")
    health.part("PA time", lambda: "the disk is full")
    with served(settings.pa_audio_socket, health):
        anna: FlaskClient = request.getfixturevalue("anna")
        wait_until(lambda: "handset is away" in anna.get("/status").text, "it is told")
        page = anna.get("/status").text
        assert 'id="degraded-pa_audio-crew-input"' in page
        assert "PA time" not in page
        assert "Video does not answer" in page
        assert "PA does not answer" not in page
