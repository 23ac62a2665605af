"""What one seat sees: a player's real socket, and one that is away, floods or hangs."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from apps.common.testing import wait_until
from apps.crew_web import seat_picture
from apps.crew_web.settings import CrewWebSettings

PATH = "/video/seat"
PICTURE = seat_picture.PNG + b"\0" * 300_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "still.sock"


@pytest.fixture
def settings(settings: CrewWebSettings, path: Path) -> CrewWebSettings:
    """With the picture of a seat."""
    return CrewWebSettings.model_validate(settings.model_dump() | {"seat_picture": f"12A:{path}"})


@dataclass
class Screen:
    """A player's socket, which gives `shows`, after `let_go` is set."""

    shows: bytes
    asked: int = 0
    let_go: threading.Event = field(default_factory=threading.Event)


@contextmanager
def player(path: Path, shows: bytes, *, hangs: bool = False) -> Iterator[Screen]:
    screen = Screen(shows)
    if not hangs:
        screen.let_go.set()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            screen.asked += 1
            screen.let_go.wait(30)
            try:
                self.request.sendall(screen.shows)
            except OSError:
                return

    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield screen
        finally:
            screen.let_go.set()
            server.shutdown()
            thread.join()


def test_the_page_shows_what_the_seat_sees(anna: FlaskClient, path: Path) -> None:
    assert 'id="seat-picture"' in anna.get("/").text
    assert "What seat 12A sees" in anna.get("/").text
    with player(path, PICTURE) as screen:
        response = anna.get(PATH)
        assert response.status_code == 200
        assert response.data == PICTURE
        assert response.mimetype == "image/png"
        assert response.headers["Cache-Control"] == "no-store"
        screen.shows = b""
        assert anna.get(PATH).status_code == 204


@pytest.mark.parametrize(
    "shows",
    [seat_picture.PNG + b"\0" * seat_picture.MAX_PICTURE, b"<script>alert(1)</script>"],
    ids=["too large", "no PNG"],
)
def test_what_is_no_picture_is_not_passed_on(anna: FlaskClient, path: Path, shows: bytes) -> None:
    with player(path, shows):
        assert anna.get(PATH).status_code == 503


def test_a_player_that_is_away_is_told(anna: FlaskClient, path: Path) -> None:
    assert anna.get(PATH).status_code == 503
    with player(path, PICTURE):
        assert anna.get(PATH).status_code == 200


def test_a_player_that_hangs_holds_up_one_at_most(
    anna: FlaskClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seat_picture, "TIMEOUT", 2.0)
    with player(path, PICTURE) as screen:
        assert anna.get(PATH).status_code == 200
        screen.let_go.clear()
        status: list[int] = []
        held = threading.Thread(target=lambda: status.append(anna.get(PATH).status_code))
        held.start()
        wait_until(lambda: screen.asked == 2, "the first one waits")
        # The next has the last picture at once.
        assert anna.get(PATH).status_code == 200
        assert held.is_alive()
        assert screen.asked == 2
        held.join(10)
        assert status == [503]


def test_it_is_for_the_crew_alone(browser: FlaskClient, path: Path) -> None:
    with player(path, PICTURE) as screen:
        assert browser.get(PATH).status_code == 401
        assert screen.asked == 0


@pytest.mark.parametrize("wrong", ["12I:/run/still.sock", "12A", "12A:still.sock", ""])
def test_a_setting_that_names_no_seat_or_socket_is_refused(
    settings: CrewWebSettings, wrong: str
) -> None:
    with pytest.raises(ValueError, match="seat_picture"):
        CrewWebSettings.model_validate(settings.model_dump() | {"seat_picture": wrong})
