"""Who is let go, and whom seat control is told so of."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from apps.common.calls import SeatControl, UnavailableError
from apps.common.channels import ImposedControl, ImposedVideo, ImposeRequest
from apps.common.commands import Accepted, CommandRequest, Impose
from apps.common.testing import wait_until
from apps.vlc_stream import ts
from apps.vlc_stream.imposed import FILE, ImposedVideos
from apps.vlc_stream.library import Library
from apps.vlc_stream.orders import Output, Report
from apps.vlc_stream.process import SendingProcess

BOOT = "a" * 32

SAFETY = ImposeRequest.model_validate(
    {"channel": "safety", "language": "en", "selector": {"all": True}}
)


class Cabin(socketserver.ThreadingUnixStreamServer):
    """A seat control whose cabin has the zones `zones`, and notes what it was told.

    `not_now`: what it answers first.
    """

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.zones = {"fore", "aft"}
        self.told: list[tuple[str, dict[str, Any], str | None]] = []
        self.not_now: list[int] = []

    def knows(self, selector: dict[str, Any]) -> bool:
        """Whether all that a selector names is there."""
        named = {*selector["zones"], *(selector.get("exclude") or {"zones": []})["zones"]}
        return named <= self.zones


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        cabin = self.server
        assert isinstance(cabin, Cabin)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        selector = body["selector"]
        if cabin.not_now:
            self._answer(cabin.not_now.pop(0), {"type": "urn:ife:problem:x", "detail": "not now"})
        elif cabin.knows(selector):
            cabin.told.append((self.headers["Ife-Crew"], selector, body["action"].get("channel")))
            self._answer(202, {"seq": len(cabin.told), "targets": 1})
        else:
            self._answer(422, {"type": "urn:ife:problem:unknown-selection", "detail": "a zone"})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def cabin(tmp_path: Path) -> Iterator[Cabin]:
    with Cabin(tmp_path / "seat_control.sock") as cabin:
        thread = threading.Thread(target=cabin.serve_forever, args=(0.01,))
        thread.start()
        yield cabin
        cabin.shutdown()
        thread.join()


@pytest.fixture
def playable(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is a clip of four seconds."""
    clip = ts.examine(clips / "one.ts")
    monkeypatch.setattr(Library, "clip", lambda *_: clip)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The file with what was imposed: a video for each zone."""
    path = tmp_path / FILE
    entry = {"crew": "anna", "language": "en", "screens": False}
    on = {
        "safety": entry | {"selector": {"zones": ["aft"]}},
        "boarding": entry | {"crew": "ben", "selector": {"zones": ["fore"]}},
    }
    path.write_text(json.dumps({"boot_id": BOOT, "on": on}))
    return path


def begin(
    folder: Path, *videos: str, screens: Callable[[bool], None] = lambda _: None
) -> ImposedVideos:
    """Begin with a channels file that has these videos."""
    specs = {
        name: ImposedVideo.model_validate(
            {"names": {"en": name}, "group": "239.192.95.1", "files": {"en": f"{name}.ts"}}
        )
        for name in videos
    }
    output = Output("lo", IPv4Address("127.0.0.1"), 1)
    imposed = ImposedVideos(
        specs,
        SendingProcess("none", output, lambda _: None, lambda: None, "INFO"),
        Library(folder, [], [], lambda: None),
        SeatControl(folder / "seat_control.sock"),
        screens,
        lambda: None,
        folder,
        BOOT,
    )
    imposed.start()
    return imposed


def seats(*zones: str, but: tuple[str, ...] = (), everyone: bool = False) -> dict[str, Any]:
    """A selector as it is on its way."""
    chosen = {"all": everyone, "seats": [], "rows": [], "classes": [], "zones": list(zones)}
    if but:
        chosen["exclude"] = seats(*but)
    return chosen


def test_the_screens_of_a_video_that_was_on_show_it_from_the_start(
    kept: Path, tmp_path: Path
) -> None:
    """It goes on only once its file was looked at: meanwhile they would be stowed."""
    told: list[bool] = []
    text = kept.read_text()
    imposed = begin(tmp_path, "boarding", "safety", screens=told.append)
    imposed.show_on_screens()
    imposed.close()
    assert told == []
    kept.write_text(text.replace('"screens": false', '"screens": true', 1))
    imposed = begin(tmp_path, "boarding", "safety", screens=told.append)
    imposed.show_on_screens()
    imposed.close()
    assert told == [True]


@pytest.mark.usefixtures("kept")
def test_a_disk_that_hangs_holds_up_nobody_who_watches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, goes_on = threading.Event(), threading.Event()

    def write(*_: object, **__: object) -> None:
        hangs.set()
        goes_on.wait(30)

    monkeypatch.setattr("apps.vlc_stream.imposed.write_whole", write)
    imposed = begin(tmp_path, "boarding", "safety")
    try:
        imposed._saved = 0.0
        imposed.tend()
        assert hangs.wait(5)
        began = time.monotonic()
        for _ in range(20):
            imposed._saved = 0.0
            imposed.tend()
            assert len(imposed.views()) == 2
        assert time.monotonic() - began < 1.0
        monkeypatch.setattr("apps.vlc_stream.imposed.DISK_TIMEOUT", 0.2)
        stop = ImposedControl(action="stop")
        assert imposed.control("boarding", stop).state == "idle"
        goes_on.set()
    finally:
        goes_on.set()
        imposed.close()


@pytest.mark.usefixtures("kept")
def test_the_seats_of_a_video_that_is_no_more_are_let_go(cabin: Cabin, tmp_path: Path) -> None:
    imposed = begin(tmp_path, "boarding")
    try:
        wait_until(lambda: len(cabin.told) == 2, "both are told")
        assert cabin.told[0] == ("anna", seats("aft", but=("fore",)), None)
        assert cabin.told[1] == ("ben", seats("fore"), "boarding")
        wait_until(lambda: not imposed.letting_go, "that is done")
    finally:
        imposed.close()
    again = begin(tmp_path, "boarding")
    again.close()
    assert not again.letting_go


@pytest.mark.usefixtures("kept")
def test_seats_that_are_unknown_by_now_are_let_go_with_all_that_have_no_video(
    cabin: Cabin, tmp_path: Path
) -> None:
    cabin.zones = {"fore"}
    imposed = begin(tmp_path, "boarding")
    try:
        wait_until(lambda: len(cabin.told) == 2, "all are told")
        assert cabin.told[0] == ("anna", seats(but=("fore",), everyone=True), None)
        assert cabin.told[1] == ("ben", seats("fore"), "boarding")
    finally:
        imposed.close()


@pytest.mark.usefixtures("kept")
def test_where_no_zone_is_known_any_more_all_are_let_go(cabin: Cabin, tmp_path: Path) -> None:
    cabin.zones = set()
    imposed = begin(tmp_path, "boarding")
    try:
        wait_until(lambda: not imposed.letting_go, "that is done")
        assert cabin.told == [("anna", seats(everyone=True), None)]
    finally:
        imposed.close()


@pytest.mark.parametrize("content", [b"", b"{", b'{"boot_id": "' + BOOT.encode(), b'{"on": {}}'])
def test_where_it_is_not_known_what_was_imposed_all_are_let_go(
    cabin: Cabin, kept: Path, content: bytes
) -> None:
    kept.write_bytes(content)
    imposed = begin(kept.parent, "boarding")
    try:
        wait_until(lambda: not imposed.letting_go, "that is done")
        assert cabin.told == [("vlc_stream", seats(everyone=True), None)]
    finally:
        imposed.close()
    assert json.loads(kept.read_bytes())["boot_id"] == BOOT


@pytest.mark.usefixtures("playable")
def test_the_crew_see_why_a_video_ended_before_its_time(cabin: Cabin, tmp_path: Path) -> None:
    imposed = begin(tmp_path, "safety")
    try:
        imposed.impose("anna", SAFETY)
        why = "safety.ts: it cannot be sent on"
        imposed.take(Report(id="safety", run=1, state="ended", trouble=why))
        assert (imposed.view("safety").state, imposed.view("safety").trouble) == ("idle", why)
        wait_until(lambda: not imposed.letting_go, "its seats are let go")
        assert cabin.told[-1] == ("anna", seats(everyone=True), None)
        imposed.impose("anna", SAFETY)
        assert imposed.view("safety").trouble is None
    finally:
        imposed.close()


@pytest.mark.usefixtures("playable")
def test_seats_that_cannot_be_told_just_now_are_told_later(cabin: Cabin, tmp_path: Path) -> None:
    cabin.not_now = [412, 429, 412]
    imposed = begin(tmp_path, "safety")
    try:
        answer = imposed.impose("anna", SAFETY)
        assert "were not told" in (answer.video.trouble or "")
        wait_until(lambda: cabin.told, "they are told")
        assert cabin.told == [("anna", seats(everyone=True), "safety")]
        wait_until(lambda: imposed.view("safety").trouble is None, "nothing is wrong any more")
        cabin.not_now = [412]
        imposed.control("safety", ImposedControl(action="stop"))
        wait_until(lambda: len(cabin.told) == 2, "they are let go")
    finally:
        imposed.close()


@pytest.mark.usefixtures("playable")
def test_a_video_that_is_stopped_while_seat_control_is_tried_is_not_told_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def issue(_: SeatControl, crew: str, request: CommandRequest) -> Accepted:
        if isinstance(request.action, Impose) and request.action.channel == "safety":
            imposed.control("safety", ImposedControl(action="stop"))
            raise UnavailableError("seat control does not answer", maybe_done=True)
        return Accepted(seq=1, targets=1)

    monkeypatch.setattr(SeatControl, "issue", issue)
    imposed = begin(tmp_path, "safety")
    try:
        imposed.impose("anna", SAFETY)
        assert (imposed.view("safety").state, imposed.view("safety").trouble) == ("idle", None)
        wait_until(lambda: not imposed.letting_go, "its seats are let go")
    finally:
        imposed.close()


def test_a_video_whose_file_is_gone_when_it_is_to_go_on_has_ended(
    cabin: Cabin, kept: Path, tmp_path: Path
) -> None:
    imposed = begin(tmp_path, "boarding", "safety")
    try:
        imposed.tend()
        assert {view.state for view in imposed.views()} == {"playing"}
        imposed._library._look(clip=True, name="boarding.ts")
        imposed.tend()
        why = "boarding.ts: No such file or directory"
        assert (imposed.view("boarding").state, imposed.view("boarding").trouble) == ("idle", why)
        assert imposed.view("safety").state == "playing"
        wait_until(lambda: not imposed.letting_go, "its seats are let go")
        assert ("ben", seats("fore", but=("aft",)), None) in cabin.told
    finally:
        imposed.close()
    assert list(json.loads(kept.read_bytes())["on"]) == ["safety"]


@pytest.mark.usefixtures("playable")
def test_whoever_begins_anew_tells_the_seats_of_what_is_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before may have been killed before seat control was there."""
    told: list[object] = []
    away = True

    def issue(_: SeatControl, crew: str, request: CommandRequest) -> Accepted:
        noted = json.loads((tmp_path / FILE).read_bytes())["on"]
        assert list(noted) == ["safety"], "who is told is on the disk first"
        if away:
            raise UnavailableError("seat control is away", maybe_done=False)
        told.append(request.action)
        return Accepted(seq=1, targets=1)

    monkeypatch.setattr(SeatControl, "issue", issue)
    imposed = begin(tmp_path, "safety")
    try:
        imposed.impose("anna", SAFETY)
    finally:
        imposed.close()
    away = False
    imposed = begin(tmp_path, "safety")
    try:
        wait_until(lambda: told == [Impose(channel="safety")], "the seats are told")
    finally:
        imposed.close()


@pytest.mark.usefixtures("playable")
def test_a_video_that_nothing_is_heard_of_is_not_taken_to_go_on(tmp_path: Path) -> None:
    """A pacer that hangs shows nothing; the next goes on from where it was seen."""
    imposed = begin(tmp_path, "safety")
    try:
        imposed.impose("anna", SAFETY)
        imposed.take(Report(id="safety", run=1, state="playing", position=0.2, trouble=None))
        time.sleep(1.6)
        imposed.process_is_new()
        noted = imposed._on["safety"].position
        assert 1.1 < noted < 1.3
    finally:
        imposed.close()
