"""The demo's real player among simulated seats: the crew command it, and see what it shows."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import expect

from apps.common.cabin import SeatView
from apps.common.pa import Keylines, Line
from apps.common.testing import wait_until
from apps.player.stall import FROZEN_AFTER
from bench import announce, processes, testing
from bench.testing import Cabin
from tests.browser import chromium
from tests.e2e.test_cabin import issue

SEATS = 6
SOON = 20.0
"""Seconds in which it follows; libvlc takes a moment to open what is new."""

KILLED = ["redis", "player", "pa_audio", "vlc_stream"]

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def demo() -> Iterator[Cabin]:
    with testing.cabin(SEATS, player=True) as cabin:
        yield cabin


@pytest.fixture
def crew(demo: Cabin) -> Iterator[httpx.Client]:
    with demo.crew_client() as client:
        yield client


def name(cabin: Cabin) -> str:
    """The seat that is real."""
    assert cabin.instance.real_seat is not None
    return cabin.instance.real_seat


def view(cabin: Cabin) -> SeatView:
    return cabin.view().seats[name(cabin)]


def pid(cabin: Cabin) -> int | None:
    return processes.leader(cabin.instance.paths.pids / "player")


def picture(client: httpx.Client) -> bytes:
    """What the seat sees; empty where that is nothing, or not to be had."""
    answer = client.get("/video/seat")
    return answer.content if answer.status_code == 200 else b""


def wait_until_it_moves(client: httpx.Client) -> None:
    seen: set[bytes] = set()

    def moves() -> bool:
        seen.add(picture(client))
        return len(seen - {b""}) > 3

    wait_until(moves, "the picture moves", SOON)


def play(cabin: Cabin, client: httpx.Client, media: str) -> None:
    issue(client, {"name": "play", "media": media}, seats=[name(cabin)])
    wait_until(lambda: (view(cabin).state, view(cabin).media) == ("playing", media), media, SOON)
    wait_until_it_moves(client)


def impose(cabin: Cabin, client: httpx.Client) -> None:
    form = {"video": "safety", "language": "en", "where": "all", "confirmed": "yes"}

    def is_taken() -> bool:
        return client.post("/video/imposed", data=form).status_code == 200

    # A vlc_stream that has just been started looks at its files first.
    wait_until(is_taken, "it may be imposed", SOON)
    wait_until(lambda: view(cabin).media == "safety", "it is imposed", SOON)
    wait_until_it_moves(client)


def test_all_seats_are_live_and_one_of_them_is_real(demo: Cabin, crew: httpx.Client) -> None:
    demo.wait_until_healthy()
    assert len(demo.seats) == SEATS
    assert not view(demo).claimed_twice
    seq = issue(crew, {"name": "identify"})
    wait_until(
        lambda: crew.get(f"/api/v1/commands/{seq}").json()["applied"] == SEATS, "all have it"
    )
    assert {entry.seat for entry in demo.applied(seq)} == set(demo.seats) - {name(demo)}


def test_a_pa_pauses_what_it_plays(demo: Cabin, crew: httpx.Client) -> None:
    play(demo, crew, "film.ts")
    with announce.keyed(demo.instance.paths, Keylines(crew=Line(all=True))):
        wait_until(lambda: view(demo).state == "announcement", "it is overridden", SOON)
        shown = [b""]

        def stands_still() -> bool:
            shown.append(picture(crew))
            return len(shown) > 4 and shown[-1] != b"" and len(set(shown[-4:])) == 1

        wait_until(stands_still, "only the announcement screen is seen", SOON)
    wait_until(lambda: view(demo).state == "playing", "it goes on", SOON)
    wait_until_it_moves(crew)


def test_the_handset_is_there_while_nobody_speaks(demo: Cabin) -> None:
    socket = demo.instance.paths.run / "ife/pa_audio.sock"
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://pa") as pa:

        def is_missed() -> bool:
            parts = pa.get("/healthz").json()["degraded"]
            return "keylines" in {part["part"] for part in parts}

        wait_until(lambda: not is_missed(), "the PA hears of it", SOON)
        handset = processes.leader(demo.instance.paths.pids / "handset")
        assert handset is not None
        # It hangs, for when it only dies supervisor has it back before anybody misses it.
        os.kill(handset, signal.SIGSTOP)
        wait_until(is_missed, "the PA misses it")
        demo.kill("handset")
        wait_until(lambda: not is_missed(), "it is back", SOON)


def test_it_shows_channels_and_imposed_video(demo: Cabin, crew: httpx.Client) -> None:
    play(demo, crew, "channel-news")
    impose(demo, crew)
    assert crew.post("/video/imposed/safety", data={"action": "stop"}).status_code == 204
    wait_until(lambda: view(demo).media == "channel-news", "it is let go", SOON)


def test_an_imposed_video_may_be_paused(demo: Cabin, crew: httpx.Client) -> None:
    """Then only its clock comes, so that all seats go on in step; no picture is no fault."""
    play(demo, crew, "film.ts")
    impose(demo, crew)
    assert crew.post("/video/imposed/safety", data={"action": "pause"}).status_code == 204
    faults: set[str] = set()
    until = time.monotonic() + 3 * FROZEN_AFTER
    while time.monotonic() < until:
        faults |= set(view(demo).faults)
        time.sleep(0.2)
    assert "media" not in faults
    assert picture(crew)
    assert crew.post("/video/imposed/safety", data={"action": "resume"}).status_code == 204
    wait_until_it_moves(crew)
    assert crew.post("/video/imposed/safety", data={"action": "stop"}).status_code == 204
    wait_until(lambda: view(demo).media == "film.ts", "it is let go", SOON)


def kill(cabin: Cabin, whom: str) -> None:
    """By SIGKILL; afterwards the seat reports."""
    first = pid(cabin)
    cabin.kill(whom)
    if whom == "player":
        wait_until(lambda: pid(cabin) not in (None, first), "another is started")
        wait_until(lambda: view(cabin).presence == "live", "it reports", SOON)


@pytest.mark.parametrize("whom", KILLED)
def test_a_pa_goes_on_where_one_is_killed(demo: Cabin, crew: httpx.Client, whom: str) -> None:
    play(demo, crew, "film.ts")
    with announce.keyed(demo.instance.paths, Keylines(crew=Line(all=True))):
        wait_until(lambda: view(demo).state == "announcement", "it is overridden", SOON)
        kill(demo, whom)
        demo.wait_until_healthy()
        wait_until(lambda: view(demo).state == "announcement", "it still is, or again", SOON)
    wait_until(lambda: view(demo).state == "playing", "it goes on", SOON)
    wait_until_it_moves(crew)
    assert view(demo).media == "film.ts"


@pytest.mark.parametrize("whom", KILLED)
def test_an_imposed_video_goes_on_where_one_is_killed(
    demo: Cabin, crew: httpx.Client, whom: str
) -> None:
    play(demo, crew, "film.ts")
    impose(demo, crew)
    kill(demo, whom)
    wait_until_it_moves(crew)
    assert view(demo).media == "safety"
    demo.wait_until_healthy()
    assert crew.post("/video/imposed/safety", data={"action": "stop"}).status_code == 204
    wait_until(lambda: view(demo).media == "film.ts", "it is let go", SOON)
    wait_until_it_moves(crew)


def test_it_is_started_again_and_goes_on(demo: Cabin, crew: httpx.Client) -> None:
    play(demo, crew, "film.ts")
    first = pid(demo)
    demo.kill("player")
    wait_until(lambda: pid(demo) not in (None, first), "another is started")
    wait_until_it_moves(crew)
    assert view(demo).media == "film.ts"


def test_a_reset_restarts_the_player_and_not_this_machine(demo: Cabin, crew: httpx.Client) -> None:
    play(demo, crew, "film.ts")
    issue(crew, {"name": "reset"}, seats=[name(demo)])
    wait_until(lambda: view(demo).presence == "lost", "it restarts", SOON)
    wait_until(lambda: view(demo).presence == "live", "it is back", SOON)
    assert view(demo).state == "idle"


def test_the_page_says_in_words_that_there_is_no_picture(demo: Cabin, crew: httpx.Client) -> None:
    play(demo, crew, "film.ts")
    with chromium() as browser:
        page = browser.new_page(ignore_https_errors=True, locale="en")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{demo.crew_url}/")
        page.get_by_label(demo.crew[0].name, exact=True).check()
        page.locator("#pin").fill(demo.crew[0].pin)
        page.locator(".go").click()
        expect(page.locator(".lamp.live")).to_be_visible()
        assert not [url for url in asked if "/video/seat" in url], "nobody looks"
        page.locator('[data-place="video"]').click()
        sees = page.get_by_role("img", name=f"What seat {name(demo)} sees")
        expect(sees).to_be_visible(timeout=10_000)
        process = pid(demo)
        assert process is not None
        os.kill(process, signal.SIGSTOP)
        try:
            expect(page.locator("#seat-picture")).to_have_text("no picture", timeout=10_000)
        finally:
            os.kill(process, signal.SIGCONT)
        expect(sees).to_be_visible(timeout=20_000)
