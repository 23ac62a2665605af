"""The crew page's views of the PA and of video in Chromium, on the real apps, without seats."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import argon2
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from apps.common.calls import SeatControl
from apps.common.commands import CommandRequest, Mute, Selector
from apps.common.pa import Line
from apps.common.testing import RedisServer, end_group, listens, wait_until
from apps.pa_audio.tests import cabin as pa_cabin
from apps.seat_control import testing as seat_control
from apps.vlc_stream.tests import served as video
from bench.media.clips import Clip, make
from bench.media.screens import SimulatedBus
from tests import browser
from tests.browser import PANEL, PHONE, WATCH_POLICY, axe, in_all_looks

pytestmark = [pytest.mark.bench, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
PIN = "1234"

SOON = 10_000
"""Milliseconds in which the page has to follow what happens."""

CHANNELS = """\
channels:
  news:
    names: {en: News, de: Nachrichten}
    group: 239.192.80.1
    playlist: [news.ts]
  film:
    names: {en: Film, de: Spielfilm, fr: Film}
    group: 239.192.80.2
    playlist: [film.ts]
  sports:
    names: {en: Sports}
    group: 239.192.80.3
    playlist: [missing.ts]
imposed:
  boarding:
    names: {en: Boarding, de: Einsteigen}
    group: 239.192.80.201
    files: {en: safety.ts}
    loop: true
  safety:
    names: {en: Safety, de: Sicherheit}
    group: 239.192.80.202
    files: {en: safety.ts, de: safety.ts}
"""

SCREENS = """\
buses:
  cabin:
    driver: line
    device: {device}
    screens:
      f1: {{label: Forward left, address: 1}}
      f2: {{label: Forward right, address: 2}}
"""

CLIPS = {
    "news.ts": Clip("News", 20, 440, kbits=1000, size="320x180"),
    "film.ts": Clip("Film", 20, 587, kbits=1000, size="320x180"),
    "safety.ts": Clip("Safety", 40, 350, kbits=1000, size="320x180"),
}

MESSAGES = {
    "chimes": {},
    "messages": {
        "boarding": {
            "languages": {
                "en": {"title": "Boarding is complete", "file": "long.wav"},
                "de": {"title": "Das Einsteigen ist beendet", "file": "long.wav"},
            }
        },
        "seat-belts": {
            "languages": {"en": {"title": "Fasten your seat belts", "file": "long.wav"}}
        },
        "chime": {"languages": {"en": {"title": "A chime", "file": "short.wav"}}},
    },
}

GATE = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_buffering off;
        location / {{ proxy_pass http://unix:{folder}/crew_web.sock; }}
        location = /_session {{
            internal;
            proxy_pass http://unix:{folder}/crew_web.sock:/session/check;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header X-Original-Method $request_method;
        }}
        location /api/v1/ {{
            auth_request /_session;
            auth_request_set $crew $upstream_http_ife_crew;
            proxy_set_header Ife-Crew $crew;
            proxy_pass http://unix:{folder}/seat_control.sock;
            location ~ ^/api/v1/(pa/listen|announcements/[0-9]+/audio)$ {{
                proxy_set_header Host $http_host;
                proxy_set_header Ife-Crew $crew;
                proxy_pass http://unix:{folder}/pa.sock;
            }}
            location ~ ^/api/v1/channels/[^/]+/picture$ {{
                proxy_set_header Host $http_host;
                proxy_set_header Ife-Crew $crew;
                proxy_pass http://unix:{folder}/api.sock;
            }}
        }}
    }}
}}
"""


@dataclass
class Stage:
    """Everything that the page talks to, and the page behind a gate on `url`."""

    url: str
    folder: Path
    pa: pa_cabin.Pa
    keys: pa_cabin.Keys
    video: video.Served

    def state(self) -> dict[str, Any]:
        """The PA's, as it is on the bus."""
        state: dict[str, Any] = self.pa.http.get("/api/v1/pa").json()["state"]
        return state

    def seconds_on_air(self) -> float:
        """How long the announcement that wins has been open."""
        state = self.state()
        return time.time() - state["since"] / 1000 if state["since"] else 0.0


@contextmanager
def program(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a process group of its own."""
    process = subprocess.Popen(
        command,
        env={"PATH": os.environ["PATH"], **environment},
        cwd=ROOT,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        end_group(process)


def gunicorn(app: str, path: Path, *more: str) -> list[str]:
    """An app under gunicorn on a Unix socket."""
    return [
        *(sys.executable, "-m", "gunicorn", "--no-control-socket", "--workers", "1"),
        *(*more, "--bind", f"unix:{path}", app),
    ]


@contextmanager
def stage() -> Iterator[Stage]:
    """The real pa_audio, vlc_stream, seat_control, Redis, crew_web and nginx."""
    with ExitStack() as stack:
        # Short: paths of Unix sockets have 107 bytes at most.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ife-media-")))
        folder.chmod(0o755)
        redis = stack.enter_context(RedisServer(folder))
        layout = str(ROOT / "inventory/layouts/a330-300.yml")

        for name, clip in CLIPS.items():
            make(folder / "media" / name, clip)
        cabin = stack.enter_context(video.cabin())
        bus = stack.enter_context(SimulatedBus((1, 2)))
        (folder / "screens.yml").write_text(SCREENS.format(device=bus.device))
        more = {"IFE_SCREENS_FILE": str(folder / "screens.yml")}
        stream = stack.enter_context(video.serving(cabin, folder, CHANNELS, **more))

        (folder / "pram").mkdir()
        (folder / "music").mkdir()
        pa_cabin.write_wav(folder / "pram/long.wav", pa_cabin.tone(12))
        pa_cabin.write_wav(folder / "pram/short.wav", pa_cabin.tone(0.5))
        pa_cabin.write_wav(folder / "music/one.wav", pa_cabin.tone(5, 300))
        (folder / "pram/announcements.json").write_text(json.dumps(MESSAGES))
        network = stack.enter_context(pa_cabin.Network())
        pa = stack.enter_context(
            pa_cabin.Pa(folder, network, {"IFE_REDIS_URL": redis.url, "IFE_LAYOUT": layout})
        )
        keys = stack.enter_context(pa_cabin.Keys(folder / "keylines.sock"))

        (folder / "seats").mkdir()
        variables = seat_control.variables(folder / "seats")
        stack.enter_context(
            program(
                [
                    *seat_control.GUNICORN,
                    *("--bind", f"unix:{folder}/seat_control.sock", "apps.seat_control.asgi:app"),
                ],
                variables | {"IFE_LAYOUT": layout, "IFE_REDIS_URL": redis.url},
            )
        )
        (folder / "page").mkdir()
        cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        crew = [{"id": "anna", "name": "Anna", "pin_hash": cheap.hash(PIN)}]
        (folder / "crew.json").write_text(json.dumps(crew))
        stack.enter_context(
            program(
                gunicorn(
                    "apps.crew_web.app:create_app()",
                    folder / "crew_web.sock",
                    *("--worker-class", "gthread", "--threads", "8", "--keep-alive", "75"),
                ),
                {
                    "IFE_REGISTRATION": "EC-LAB",
                    "IFE_LAYOUT": layout,
                    "IFE_CREW_FILE": str(folder / "crew.json"),
                    "IFE_BOOT_ID": "a" * 32,
                    "IFE_STATE_DIRECTORY": str(folder / "page"),
                    "IFE_REDIS_URL": redis.url,
                    "IFE_SEAT_CONTROL_SOCKET": str(folder / "seat_control.sock"),
                    "IFE_PA_AUDIO_SOCKET": str(folder / "pa.sock"),
                    "IFE_VLC_STREAM_SOCKET": str(folder / "api.sock"),
                },
            )
        )
        port = seat_control.free_port()
        (folder / "nginx.conf").write_text(GATE.format(folder=folder, port=port))
        stack.enter_context(
            program(["/usr/sbin/nginx", "-p", str(folder), "-c", f"{folder}/nginx.conf"], {})
        )
        for name in ("crew_web", "seat_control"):
            wait_until(partial(listens, folder / f"{name}.sock"), f"{name} listens", 30)
        yield Stage(f"http://localhost:{port}", folder, pa, keys, stream)


@pytest.fixture(scope="module")
def on_stage() -> Iterator[Stage]:
    """One for all tests here. Leave it quiet."""
    with stage() as found:
        yield found


@pytest.fixture(scope="module")
def chromium(on_stage: Stage) -> Iterator[Browser]:
    """After the stage: network namespaces are made and removed in a loop of their own."""
    with browser.chromium() as chromium:
        yield chromium


def open_page(
    chromium: Browser, stage: Stage, size: tuple[int, int] = PANEL, locale: str = "en"
) -> Page:
    """A browser window of Anna's, logged in."""
    context = chromium.new_context(
        viewport={"width": size[0], "height": size[1]}, locale=locale, has_touch=size == PHONE
    )
    context.add_init_script(WATCH_POLICY)
    page = context.new_page()
    page.goto(stage.url)
    page.get_by_label("Anna", exact=True).check()
    page.locator("#pin").fill(PIN)
    page.locator(".go").click()
    expect(page.locator("body[data-at=cabin]")).to_be_visible()
    return page


@pytest.fixture
def page(chromium: Browser, on_stage: Stage) -> Iterator[Page]:
    """A panel; at the end the policy has stopped nothing and no script has failed."""
    page = open_page(chromium, on_stage)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    violations = page.evaluate("window.violations")
    page.context.close()
    on_stage.keys.set()
    on_stage.pa.http.delete("/api/v1/pram")
    on_stage.pa.http.post("/api/v1/music", json={"on": False})
    assert violations == []
    assert errors == []


def go(page: Page, place: str) -> None:
    page.locator(f'[data-place="{place}"]').click()
    expect(page.locator(f"#place-{place}")).to_be_visible()


def button(page: Page | Locator, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


# -- the PA -----------------------------------------------------------------------------------


def test_a_message_plays_by_one_tap_and_is_stopped(page: Page, on_stage: Stage) -> None:
    go(page, "pa")
    page.locator("#pa-where").get_by_label("Economy").check()
    page.get_by_label("German").check()
    expect(button(page, "Fasten your seat belts")).to_be_disabled()
    button(page, "Das Einsteigen ist beendet").click()
    economy, business = page.locator("#area-economy"), page.locator("#area-business")
    expect(economy).to_contain_text("Recorded message", timeout=SOON)
    expect(economy.locator("meter")).to_be_visible()
    expect(business).to_contain_text("quiet")
    (item,) = on_stage.pa.http.get("/api/v1/pa").json()["queue"]
    assert (item["languages"], item["areas"]) == (["de"], ["economy"])
    go(page, "cabin")
    expect(page.locator("#pa-now")).to_have_text("Message · Economy", timeout=SOON)
    go(page, "pa")
    button(page, "Stop all messages").click()
    expect(economy).to_contain_text("quiet", timeout=SOON)
    expect(button(page, "Stop all messages")).to_be_disabled()


def test_one_of_some_messages_is_stopped(page: Page, on_stage: Stage) -> None:
    go(page, "pa")
    for title in ("Boarding is complete", "Fasten your seat belts"):
        button(page, title).click()
    expect(page.locator(".queue > li")).to_have_count(2, timeout=SOON)
    expect(page.locator(".queue > li").first).to_contain_text("now", timeout=SOON)
    button(page, "Stop: Boarding is complete").click()
    expect(page.locator(".queue > li")).to_have_count(1, timeout=SOON)
    (item,) = on_stage.pa.http.get("/api/v1/pa").json()["queue"]
    assert item["message"] == "seat-belts"


def test_a_handset_is_shown_and_comes_first(page: Page, on_stage: Stage) -> None:
    """Whatever was chosen on the page; and what it interrupted is not lost."""
    go(page, "pa")
    button(page, "Play everywhere").click()
    button(page, "Boarding is complete").click()
    expect(page.locator("#area-business")).to_contain_text("Recorded message", timeout=SOON)
    on_stage.keys.set(crew=Line(areas=("business",)))
    expect(page.locator("#area-business")).to_contain_text("Crew handset", timeout=SOON)
    expect(page.locator("#area-economy")).to_contain_text("Boarding music", timeout=SOON)
    expect(page.locator("#area-business")).to_contain_text("no sound")
    expect(page.locator(".queue")).to_contain_text("interrupted, comes again", timeout=SOON)
    expect(page.locator("#pa-now")).to_have_text("Crew · Business", timeout=SOON)
    on_stage.keys.set()
    expect(page.locator("#area-business")).to_contain_text("Recorded message", timeout=SOON)


def test_a_queue_that_is_full_says_what_to_do(page: Page, on_stage: Stage) -> None:
    go(page, "pa")
    message = button(page, "A chime")
    expect(message).to_be_visible(timeout=SOON)
    on_stage.keys.set(pram_pause=True)

    def full() -> bool:
        return on_stage.pa.http.post("/api/v1/pram", json={"message": "chime"}).status_code == 429

    wait_until(full, "it is full", 60)
    message.click()
    expect(page.locator("#media-notes")).to_contain_text("Too many messages wait already")


def test_music_plays_where_it_is_wanted(page: Page, on_stage: Stage) -> None:
    go(page, "pa")
    music = page.locator("#pa-music")

    def playing() -> list[str]:
        found: list[str] = on_stage.pa.http.get("/api/v1/pa").json()["music"]
        return found

    button(music, "Play everywhere").click()
    expect(button(music, "Stop the music")).to_be_visible(timeout=SOON)
    assert playing() == ["business", "economy"]
    button(music, "Economy").click()
    expect(button(music, "Economy")).to_have_attribute("aria-pressed", "false", timeout=SOON)
    assert playing() == ["business"]
    button(music, "Business").click()
    expect(button(music, "Play everywhere")).to_be_visible(timeout=SOON)
    assert playing() == []


def test_two_panels_do_not_undo_each_others_music(
    page: Page, chromium: Browser, on_stage: Stage
) -> None:
    other = open_page(chromium, on_stage)
    for panel in (page, other):
        go(panel, "pa")
        expect(button(panel.locator("#pa-music"), "Economy")).to_be_visible(timeout=SOON)
    # It does not see what the first one does.
    other.route("**/pa", lambda _: None)
    button(page.locator("#pa-music"), "Business").click()
    expect(button(page, "Stop the music")).to_be_visible(timeout=SOON)
    with other.expect_response("**/pa/music"):
        button(other.locator("#pa-music"), "Economy").click()
    assert on_stage.pa.http.get("/api/v1/pa").json()["music"] == ["business", "economy"]
    other.context.close()


def test_listening_in_ends_by_itself_and_with_the_view(page: Page) -> None:
    page.clock.install()
    go(page, "pa")
    audio, toggle = page.locator("#listen"), page.locator("#listen-toggle")

    def is_heard() -> None:
        wait_for(page, "document.getElementById('listen').currentTime > 0.5")
        expect(toggle).to_have_text("Stop listening")

    toggle.click()
    is_heard()
    toggle.click()
    expect(audio).not_to_have_attribute("src", re.compile("."))
    expect(toggle).to_have_text("Listen in")
    toggle.click()
    is_heard()
    page.clock.fast_forward(301_000)
    expect(audio).not_to_have_attribute("src", re.compile("."))
    toggle.click()
    is_heard()
    go(page, "video")
    expect(audio).not_to_have_attribute("src", re.compile("."))


def test_an_announcement_is_heard_again(page: Page, on_stage: Stage) -> None:
    go(page, "pa")
    expect(page.locator("ul.announcements")).to_be_visible()  # it is not there from the start
    before = page.locator("[data-replay]").count()
    with pa_cabin.Speaker(on_stage.folder / "crew", pa_cabin.tone(5)):
        on_stage.keys.set(crew=Line(areas=("economy",)))
        expect(page.locator("#area-economy")).to_contain_text("-17 dB", timeout=SOON)
        wait_until(lambda: on_stage.seconds_on_air() > 3, "it was three seconds long")
        number = on_stage.state()["number"]
        on_stage.keys.set()
    expect(page.locator("[data-replay]")).to_have_count(before + 1, timeout=SOON)
    newest = page.locator("[data-replay]").first
    audio = f"/api/v1/announcements/{number}/audio"
    expect(newest).to_have_attribute("data-replay", audio)
    expect(newest).to_contain_text("Crew handset")
    newest.click()
    wait_for(page, "document.getElementById('replay').currentTime > 0.5")
    expect(newest).to_have_attribute("aria-pressed", "true")
    newest.click()
    expect(newest).to_have_attribute("aria-pressed", "false")
    newest.click()
    # At its end.
    expect(newest).to_have_attribute("aria-pressed", "true")
    expect(newest).to_have_attribute("aria-pressed", "false", timeout=SOON)


# -- video ------------------------------------------------------------------------------------


def test_pictures_are_of_the_wire_and_only_while_they_are_seen(page: Page) -> None:
    page.clock.install()
    asked: list[str] = []
    page.on("request", lambda it: asked.append(it.url) if "/picture" in it.url else None)
    go(page, "video")
    for channel in ("news", "film"):
        expect(page.locator(f"#picture-{channel} img")).to_be_visible(timeout=3 * SOON)
    assert page.locator("#picture-news img").evaluate("img => img.naturalWidth") == 320
    first = page.locator("#picture-news img").get_attribute("src")
    expect(page.locator("#picture-news img")).not_to_have_attribute(
        "src", first or "", timeout=3 * SOON
    )
    # Nothing is on the wire of this one.
    expect(page.locator("#channel-sports")).to_contain_text("nothing is sent")
    expect(page.locator("#channel-sports")).to_contain_text("missing.ts")
    assert not any("sports" in url for url in asked)
    go(page, "cabin")
    counts = []
    for _ in range(2):
        # The first time one may be under way still.
        page.clock.fast_forward(60_000)
        with page.expect_response("**/status"):
            pass
        counts.append(len(asked))
    assert counts[0] == counts[1]


def test_a_channel_is_paused_goes_on_elsewhere_and_stops(page: Page, on_stage: Stage) -> None:
    go(page, "video")
    news = page.locator("#channel-news")
    button(page, "Pause: News").click()
    expect(news).to_contain_text("paused", timeout=SOON)
    assert on_stage.video.channel("news").state == "paused"
    button(page, "Play: News").click()
    expect(news).to_contain_text("playing", timeout=SOON)
    button(page, "Go to …: News").click()
    dialog = page.locator("#seek")
    dialog.get_by_label("Place in what plays").fill("50")
    expect(dialog.locator("output")).to_have_text("0:10")
    button(dialog, "Go").click()
    expect(dialog).to_be_hidden()
    wait_until(lambda: 9 < (on_stage.video.channel("news").position or 0) < 15, "it is there")
    button(page, "Stop: News").click()
    expect(news).to_contain_text("stopped", timeout=SOON)
    expect(button(page, "Stop: News")).to_be_disabled()
    button(page, "Play: News").click()
    expect(news).to_contain_text("playing", timeout=SOON)


def test_an_imposed_video_is_confirmed_shown_everywhere_and_stopped(
    page: Page, on_stage: Stage
) -> None:
    go(page, "video")
    page.locator("#impose-where").get_by_label("Economy aft").check()
    expect(page.get_by_label("Screens too")).to_be_checked()
    button(page, "German …: Safety").click()
    arm = page.locator("#arm")
    expect(arm).to_contain_text("Safety: 132 seats")
    expect(arm).to_contain_text("Economy aft · German · on the screens, too")
    expect(button(arm, "Do not")).to_be_focused()
    page.keyboard.press("Enter")
    expect(arm).to_be_hidden()
    assert on_stage.video.video("safety").state == "idle"
    button(page, "German …: Safety").click()
    button(arm, "Show at 132 seats now").click()
    expect(arm).to_be_hidden()
    expect(page.locator("#media-notes")).to_contain_text("Safety: sent to 132 seats")
    shown = on_stage.video.video("safety")
    assert (shown.state, shown.language, shown.screens) == ("playing", "de", True)
    expect(page.locator("#video-safety")).to_contain_text(re.compile(r"0:\d\d left"))
    for place in ("cabin", "pa"):
        go(page, place)
        expect(page.locator("#video-now")).to_contain_text(
            re.compile(r"Safety 0:\d\d"), timeout=SOON
        )
    for screen in ("f1", "f2"):
        go(page, "video")
        expect(page.locator(f"#screen-{screen}")).to_contain_text("deployed", timeout=SOON)
    button(page, "Pause: Safety").click()
    expect(page.locator("#video-safety")).to_contain_text("paused", timeout=SOON)
    button(page, "Go on: Safety").click()
    expect(page.locator("#video-safety")).to_contain_text("playing", timeout=SOON)
    button(page, "Stop: Safety").click()
    expect(button(page, "German …: Safety")).to_be_visible(timeout=SOON)
    expect(page.locator("#screen-f1")).to_contain_text("stowed", timeout=SOON)
    # The seats were told, and let go.
    go(page, "cabin")
    expect(page.locator("#reports h3").first).to_have_text("Back to entertainment", timeout=SOON)
    expect(page.locator("#reports h3").nth(1)).to_have_text("Show “safety”")


def test_selected_seats_or_the_screens_alone(page: Page, on_stage: Stage) -> None:
    go(page, "video")
    where = page.locator("#impose-where")
    expect(where.get_by_label("Selected seats")).to_be_disabled()
    go(page, "cabin")
    page.locator('[data-select-row="12"]').click()
    go(page, "video")
    where.get_by_label("Selected seats 8").check()
    button(page, "English …: Boarding").click()
    expect(page.locator("#arm")).to_contain_text("Boarding: 8 seats")
    expect(page.locator("#arm")).to_contain_text("row 12")
    page.keyboard.press("Escape")
    # Nobody is interrupted: it needs no second step.
    where.get_by_label("Screens only").check()
    button(page, "English …: Boarding").click()
    expect(page.locator("#media-notes")).to_contain_text("plays on the overhead screens")
    expect(page.locator("#video-boarding")).to_contain_text("over and over", timeout=SOON)
    button(page, "Stop: Boarding").click()
    expect(button(page, "English …: Boarding")).to_be_visible(timeout=SOON)
    assert on_stage.video.video("boarding").state == "idle"


def test_the_time_to_confirm_runs_out(page: Page, on_stage: Stage) -> None:
    page.clock.install()
    go(page, "video")
    button(page, "English …: Safety").click()
    expect(page.locator("#arm")).to_be_visible()
    page.clock.fast_forward(14_000)
    expect(page.locator("#arm .seconds")).to_have_text("1")
    page.clock.fast_forward(1_000)
    expect(page.locator("#arm")).to_be_hidden()
    expect(page.locator("#media-notes")).to_contain_text("Nothing was sent")
    assert on_stage.video.video("safety").state == "idle"


def test_a_step_that_is_on_its_way_is_not_disarmed(page: Page, on_stage: Stage) -> None:
    page.clock.install()
    go(page, "video")
    button(page, "English …: Safety").click()
    arm = page.locator("#arm")
    expect(arm).to_be_visible()
    page.clock.fast_forward(11_000)
    held: list[Route] = []
    page.route("**/video/imposed", lambda route: held.append(route))
    with page.expect_request("**/video/imposed"):
        button(arm, "Show at 312 seats now").click()
    page.clock.fast_forward(4_000)
    expect(arm).to_be_visible()
    held[0].continue_()
    expect(arm).to_be_hidden()
    expect(page.locator("#media-notes")).to_contain_text("Safety: sent to 312 seats")
    button(page, "Stop: Safety").click()
    expect(button(page, "English …: Safety")).to_be_visible(timeout=SOON)


def test_screens_one_by_one_and_all(page: Page) -> None:
    go(page, "video")
    one, other = page.locator("#screen-f1"), page.locator("#screen-f2")
    one.locator("summary").click()
    button(one, "Deploy: Forward left").click()
    expect(one).to_contain_text("deployed", timeout=SOON)
    button(one, "On: Forward left").click()
    button(one, "2: Forward left").click()
    expect(one).to_contain_text("deployed · on · input 2", timeout=SOON)
    expect(other).to_contain_text("stowed")
    button(page, "Deploy all").click()
    expect(other).to_contain_text("deployed · on", timeout=SOON)
    button(page, "Stow all").click()
    for screen in (one, other):
        expect(screen).to_contain_text("stowed · off", timeout=SOON)
    button(one, "1: Forward left").click()


# -- deliveries -------------------------------------------------------------------------------


def test_a_page_that_only_watches_keeps_few_deliveries_and_asks_seldom(
    page: Page, on_stage: Stage
) -> None:
    asked: list[str] = []
    page.on("request", lambda it: asked.append(it.url) if "/commands/" in it.url else None)
    # No seat is there to confirm them.
    numbers = [mute(on_stage, f"crew-{n}") for n in range(16)]
    expect(page.locator(f"#command-{numbers[-1]}")).to_be_visible(timeout=3 * SOON)
    expect(page.locator("#reports > article")).to_have_count(12)
    asked.clear()
    page.wait_for_timeout(6_000)
    assert len(asked) <= 12


def test_what_comes_while_a_delivery_is_asked_for_is_not_missed(
    page: Page, on_stage: Stage
) -> None:
    number = mute(on_stage, "crew-x")
    expect(page.locator(f"#command-{number}")).to_be_visible(timeout=SOON)
    page.wait_for_timeout(500)
    held: list[Route] = []
    page.route(f"**/commands/{number}", lambda route: held.append(route))
    progress = f"new CustomEvent('command-progress', {{detail: {{seq: {number}}}}})"
    for _ in range(2):
        page.evaluate(f"document.body.dispatchEvent({progress})")
        page.wait_for_timeout(500)
    assert len(held) == 1
    with page.expect_request(f"**/commands/{number}", timeout=5_000):
        held[0].continue_()


def mute(stage: Stage, crew: str) -> int:
    """Have a seat muted, not by the page: the number of the command."""
    client = SeatControl(stage.folder / "seat_control.sock")
    order = CommandRequest(selector=Selector(seats=("12C",)), action=Mute(name="mute", muted=True))
    return client.issue(crew, order).seq


# -- when something is wrong ------------------------------------------------------------------


def test_a_pa_that_hangs_slows_nothing_and_comes_back(page: Page, on_stage: Stage) -> None:
    go(page, "pa")
    expect(page.locator("#area-economy")).to_be_visible(timeout=SOON)
    os.kill(on_stage.pa.worker(), signal.SIGSTOP)
    try:
        expect(page.locator("#degraded-pa_audio")).to_be_visible(timeout=2 * SOON)
        expect(page.locator("#pa-away")).to_be_visible(timeout=SOON)
        go(page, "video")
        expect(page.locator("#channel-news")).to_be_visible(timeout=SOON)
        for path in ("/status", "/pa", "/pa/messages", "/video"):
            # What waits for the PA does so each time; the machine is busy now and then.
            assert min(page.evaluate(TIMED, path) for _ in range(3)) < 1_000
    finally:
        os.kill(on_stage.pa.worker(), signal.SIGCONT)
    expect(page.locator("#degraded-pa_audio")).to_be_hidden(timeout=2 * SOON)
    go(page, "pa")
    expect(page.locator("#area-economy")).to_be_visible(timeout=SOON)


TIMED = """async (path) => {
  const began = performance.now();
  await (await fetch(path)).text();
  return performance.now() - began;
}"""


def test_an_order_to_video_that_hangs_says_that_nobody_knows(page: Page, on_stage: Stage) -> None:
    go(page, "video")
    expect(button(page, "Pause: News")).to_be_visible(timeout=SOON)
    os.kill(on_stage.video.supervisor(), signal.SIGSTOP)
    try:
        button(page, "Pause: News").click()
        note = page.locator("#media-notes")
        expect(note).to_contain_text(re.compile("may or may not|Nothing was done"), timeout=SOON)
        expect(page.locator("#degraded-vlc_stream")).to_be_visible(timeout=2 * SOON)
        expect(page.locator("#video-now")).to_have_text("not known", timeout=SOON)
    finally:
        os.kill(on_stage.video.supervisor(), signal.SIGCONT)
    expect(page.locator("#degraded-vlc_stream")).to_be_hidden(timeout=2 * SOON)
    expect(page.locator("#channel-news")).to_be_visible(timeout=SOON)
    on_stage.video.control("news", "play")


# -- for everybody ----------------------------------------------------------------------------


def test_everything_goes_by_keyboard(page: Page, on_stage: Stage) -> None:
    page.locator('[data-place="cabin"]').focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#place-pa")).to_be_visible()
    message = button(page, "Boarding is complete")
    expect(message).to_be_visible(timeout=SOON)
    tab_to(page, message)
    page.keyboard.press("Enter")
    stop = button(page, "Stop all messages")
    expect(stop).to_be_enabled(timeout=SOON)
    tab_to(page, stop)
    # Fragments come each second; they must not take the focus away.
    for _ in range(3):
        with page.expect_response("**/pa"):
            pass
    expect(stop).to_be_focused()
    page.keyboard.press("Enter")
    expect(stop).to_be_disabled(timeout=SOON)
    assert on_stage.pa.http.get("/api/v1/pa").json()["queue"] == []


def tab_to(page: Page, wanted: Locator) -> None:
    """Press Tab until the focus is there."""
    for _ in range(80):
        if wanted.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {wanted}")


@in_all_looks
def test_axe_finds_nothing_serious_and_every_target_is_large(
    chromium: Browser, on_stage: Stage, language: str, size: tuple[int, int]
) -> None:
    page = open_page(chromium, on_stage, size, language)
    findings = []
    for place, there in (("pa", "#message-boarding"), ("video", "#screen-f1")):
        go(page, place)
        expect(page.locator(there)).to_be_visible(timeout=SOON)
        if place == "video":
            page.locator(f"{there} summary").click()
        findings += axe(page, place)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= size[0], f"{place} is {width} px wide"
        targets = page.locator(f"#place-{place} :is(button, .chip, summary):visible")
        boxes = targets.evaluate_all(
            "all => all.map(one => [one.getBoundingClientRect().height, one.innerText, "
            "one.scrollWidth - one.clientWidth])"
        )
        assert [box for box in boxes if box[0] < 48 or box[2] > 1] == []
    page.locator("#video-safety button").first.click()
    expect(page.locator("#arm")).to_be_visible()
    findings += axe(page, "confirm")
    page.context.close()
    assert findings == []


def test_the_address_keeps_the_view(page: Page) -> None:
    go(page, "video")
    page.reload()
    expect(page.locator("#place-video")).to_be_visible()
    expect(page.locator('[data-place="video"]')).to_have_attribute("aria-current", "page")


def wait_for(page: Page, condition: str) -> None:
    """Wait until an expression holds in the page, past its own timers."""
    wait_until(lambda: page.evaluate(condition), condition)
