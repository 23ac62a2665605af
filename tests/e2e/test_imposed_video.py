"""An imposed video: the pictures on their group, and the seats told by a real seat control."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from apps.common.calls import RefusedError, SeatControl
from apps.common.channels import ImposedControl, ImposeRequest
from apps.common.commands import CommandRequest, Impose, Selector
from apps.common.testing import wait_until
from apps.common.web import Problem
from apps.seat_control import testing
from apps.vlc_stream.service import VlcStream
from apps.vlc_stream.settings import VlcStreamSettings
from bench.media.clips import Clip, make

CHANNELS = """
imposed:
  safety: {names: {en: Safety}, group: 239.192.94.1, files: {en: safety.ts}}
  boarding: {names: {en: Boarding}, group: 239.192.94.2, files: {en: safety.ts}, loop: true}
"""
AFT = Selector(zones=("aft",))


@pytest.fixture(scope="module")
def seats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SeatControl, Path]]:
    folder = tmp_path_factory.mktemp("seats")
    port, path = testing.free_port(), folder / "api.sock"
    binds = ("--bind", f"127.0.0.1:{port}", "--bind", f"unix:{path}")
    command = [*testing.GUNICORN, *binds, "apps.seat_control.asgi:app"]
    with testing.server(command, port, testing.variables(folder)):
        yield SeatControl(path), path


@pytest.fixture
def stream(seats: tuple[SeatControl, Path], tmp_path: Path) -> Iterator[VlcStream]:
    make(tmp_path / "safety.ts", Clip("Safety", 2, 330, 1000, "320x180"))
    (tmp_path / "channels.yml").write_text(CHANNELS)
    service = VlcStream(
        VlcStreamSettings.model_validate(
            {
                "registration": "EC-LAB",
                "boot_id": "a" * 32,
                "state_directory": tmp_path,
                "channels_file": tmp_path / "channels.yml",
                "media_directory": tmp_path,
                "multicast_interface": "lo",
                "multicast_source": "127.0.0.1",
                "redis_url": f"unix://{tmp_path}/redis.sock",
                "seat_control_socket": seats[1],
            }
        )
    )
    service.start()
    try:
        wait_until(lambda: service.health.report().ready, "it is ready", 30)
        yield service
    finally:
        service.close()


def said(control: SeatControl, after: int) -> list[tuple[str | None, int]]:
    """What seats were told to show after a command: which video, and how many seats."""
    told: list[tuple[str | None, int]] = []
    for seq in range(after + 1, after + 100):
        try:
            report = control.report("anna", seq)
        except RefusedError:
            return told
        assert isinstance(report.action, Impose)
        assert report.crew == "anna"
        told.append((report.action.channel, report.targets))
    return told


def impose(stream: VlcStream, video: str, selector: Selector) -> int:
    """Impose a video; the number of the command."""
    answer = stream.impose("anna", ImposeRequest(channel=video, language="en", selector=selector))
    assert answer.video.state == "playing"
    assert answer.command is not None
    return answer.command.seq


def test_seats_are_told_at_its_begin_and_at_its_end(
    seats: tuple[SeatControl, Path], stream: VlcStream
) -> None:
    began = time.monotonic()
    first = impose(stream, "safety", AFT)
    assert time.monotonic() - began < 2
    (safety,) = (video for video in stream.view().imposed if video.id == "safety")
    assert safety.seats == AFT
    wait_until(lambda: len(said(seats[0], first - 1)) == 2, "they are let go")
    (video, count), (none, as_many) = said(seats[0], first - 1)
    assert (video, none) == ("safety", None)
    assert 0 < count == as_many < 180


def test_what_is_imposed_last_stays_where_two_overlap(
    seats: tuple[SeatControl, Path], stream: VlcStream
) -> None:
    first = impose(stream, "boarding", Selector(all=True))
    impose(stream, "safety", AFT)
    # It is over after two seconds; its seats go back to the other, and none to entertainment.
    wait_until(lambda: len(said(seats[0], first)) == 2, "they are told")
    assert said(seats[0], first - 1)[2] == ("boarding", 180)
    impose(stream, "safety", AFT)
    stream.control_imposed("anna", "boarding", ImposedControl(action="stop"))
    wait_until(lambda: (None, 180) not in said(seats[0], first), "all are not let go")
    wait_until(lambda: len(said(seats[0], first + 2)) >= 3, "they are told")
    told = said(seats[0], first + 2)
    aft = told[0][1]
    # Those in front alone are let go, and then, at its end, those of the other.
    assert told[1] == (None, 180 - aft)
    assert ("safety", aft) in told[2:]
    wait_until(lambda: said(seats[0], first)[-1] == (None, aft), "the rest is let go")


def test_seats_that_there_are_not_have_nothing_started(stream: VlcStream) -> None:
    with pytest.raises(Problem, match="no zone nowhere"):
        impose(stream, "safety", Selector(zones=("nowhere",)))
    assert stream.imposed.view("safety").state == "idle"


def test_seats_that_there_are_not_leave_on_what_is_on(
    seats: tuple[SeatControl, Path], stream: VlcStream
) -> None:
    first = impose(stream, "boarding", AFT)
    wait_until(lambda: (stream.imposed.view("boarding").position or 0) > 0.5, "it plays")
    with pytest.raises(Problem, match="no zone nowhere"):
        impose(stream, "boarding", Selector(zones=("nowhere",)))
    boarding = stream.imposed.view("boarding")
    assert (boarding.state, boarding.seats) == ("playing", AFT)
    assert (boarding.position or 0) > 0.5, "where it was"
    assert said(seats[0], first) == []
    stream.control_imposed("anna", "boarding", ImposedControl(action="stop"))
    wait_until(lambda: [video for video, _ in said(seats[0], first)] == [None], "they are let go")


@contextmanager
def too_many(control: SeatControl) -> Iterator[None]:
    """Anna gives more commands than a thumb can, and goes on so."""
    nothing = CommandRequest(selector=AFT, action=Impose(channel=None))
    refused, over = threading.Event(), threading.Event()

    def hammer() -> None:
        while not over.is_set():
            try:
                control.issue("anna", nothing)
            except RefusedError as error:
                if error.status == 429:
                    refused.set()

    with ThreadPoolExecutor() as pool:
        hammering = pool.submit(hammer)
        assert refused.wait(10)
        yield
        over.set()
        hammering.result(timeout=10)


def test_who_gives_too_many_commands_still_has_the_seats_told_and_let_go(
    seats: tuple[SeatControl, Path], stream: VlcStream
) -> None:
    request = ImposeRequest(channel="boarding", language="en", selector=AFT)
    with too_many(seats[0]):
        # Now and then it is one of hers that is not refused.
        wait_until(lambda: stream.impose("anna", request).command is None, "it is one too many")
        assert stream.imposed.view("boarding").state == "playing"
    wait_until(lambda: stream.imposed.view("boarding").trouble is None, "they are told", 30)
    with too_many(seats[0]):
        stream.control_imposed("anna", "boarding", ImposedControl(action="stop"))
        time.sleep(0.2)
    wait_until(lambda: not stream.imposed.letting_go, "they are let go", 30)
