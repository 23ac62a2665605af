"""The crew's page in Chromium, on a cabin that runs."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from bench.instance import BenchError
from bench.testing import Cabin
from tests import browser
from tests.browser import PANEL, PHONE, WATCH_POLICY, axe, in_all_looks

SOON = 5_000
"""Milliseconds in which the page has to follow what happens in the cabin."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.chromium() as chromium:
        yield chromium


@dataclass
class Screen:
    """A browser window of one crew member, and what it complained of."""

    page: Page
    cabin: Cabin
    complaints: list[str]

    def open(self, url: str = "/") -> None:
        self.page.goto(self.cabin.crew_url.rstrip("/") + url)

    def log_in(self, number: int = 0) -> None:
        person = self.cabin.crew[number]
        self.open()
        self.page.get_by_label(person.name, exact=True).check()
        self.page.locator("#pin").fill(person.pin)
        self.page.locator(".go").click()
        expect(self.page.locator(".lamp.live")).to_be_visible()
        expect(self.page.locator('.seat[data-look="waiting"]')).to_have_count(0)

    def seat(self, name: str) -> Locator:
        return self.page.locator(f"#seat-{name}")

    def selected(self) -> set[str]:
        names: list[str] = self.page.locator('.seat[aria-selected="true"]').evaluate_all(
            "seats => seats.map(seat => seat.dataset.seat)"
        )
        return set(names)

    def newest_report(self) -> Locator:
        return self.page.locator("#reports > article").first

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)


def new_screen(
    chromium: Browser, cabin: Cabin, size: tuple[int, int] = PANEL, **options: Any
) -> Screen:
    context = chromium.new_context(
        viewport={"width": size[0], "height": size[1]}, ignore_https_errors=True, **options
    )
    context.add_init_script(WATCH_POLICY)
    page = context.new_page()
    complaints: list[str] = []
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return Screen(page, cabin, complaints)


@pytest.fixture
def screen(chromium: Browser, cabin: Cabin) -> Iterator[Screen]:
    """A panel; at the end nothing was complained of, and the policy stopped nothing."""
    screen = new_screen(chromium, cabin, locale="en")
    yield screen
    violations = screen.page.evaluate("window.violations")
    screen.page.context.close()
    assert violations == []
    assert screen.complaints == []


@pytest.fixture
def shaken(chromium: Browser, cabin: Cabin) -> Iterator[Screen]:
    """A panel that may complain: a test takes something away from it."""
    screen = new_screen(chromium, cabin, locale="en")
    yield screen
    screen.page.context.close()


# -- log in -----------------------------------------------------------------------------------


def test_log_in_on_the_pin_pad_and_out_again(screen: Screen) -> None:
    person = screen.cabin.crew[0]
    screen.open()
    screen.page.get_by_label(person.name, exact=True).check()
    for digit in f"{person.pin[:-1]}9":
        screen.page.locator(f'[data-digit="{digit}"]').click()
    screen.page.locator("#erase").click()
    screen.page.locator(f'[data-digit="{person.pin[-1]}"]').click()
    screen.page.locator(".go").click()
    expect(screen.page.locator("#map")).to_be_visible()
    expect(screen.page.locator(".who")).to_contain_text(person.name)
    screen.page.get_by_role("button", name="Log out").click()
    expect(screen.page.locator("#pin")).to_be_visible()
    screen.open()
    expect(screen.page.locator("#map")).to_have_count(0)


def test_a_wrong_pin_says_how_many_tries_are_left(shaken: Screen) -> None:
    """Chromium itself complains of the status 401."""
    person = shaken.cabin.crew[1]
    shaken.open()
    shaken.page.get_by_label(person.name, exact=True).check()
    shaken.page.locator("#pin").fill("0000" if person.pin != "0000" else "0001")
    shaken.page.locator(".go").click()
    expect(shaken.page.get_by_role("alert")).to_contain_text("4 tries left")
    expect(shaken.page.get_by_label(person.name, exact=True)).to_be_checked()
    shaken.log_in(1)


def test_a_session_that_ended_elsewhere_leads_to_the_log_in(shaken: Screen) -> None:
    shaken.log_in()
    other = shaken.page.context.new_page()
    other.goto(shaken.page.url)
    other.get_by_role("button", name="Log out").click()
    expect(shaken.page.locator("#pin")).to_be_visible(timeout=10_000)


# -- select and send --------------------------------------------------------------------------


def test_a_zone_is_muted_and_every_seat_confirms(screen: Screen) -> None:
    screen.log_in()
    screen.page.locator('.zone-head [data-select-zone="forward"]').click()
    seats = screen.selected()
    assert seats == {seat for seat in screen.cabin.seats if 10 <= int(seat[:-1]) <= 28}
    for action in ("Mute", "Unmute"):
        screen.page.get_by_role("button", name=action, exact=True).click()
        report = screen.newest_report()
        expect(report.locator("h3")).to_have_text(action)
        expect(report).to_contain_text(f"{len(seats)} of {len(seats)}", timeout=SOON)
        expect(report).to_contain_text(re.compile(r"in \d+ ms"))
        muted = screen.page.locator('.seat:has(use[href$="#muted"])')
        expect(muted).to_have_count(len(seats) if action == "Mute" else 0, timeout=SOON)


def test_levels_and_messages_carry_what_was_set(screen: Screen) -> None:
    screen.log_in()
    seat = screen.cabin.seats[0]
    screen.seat(seat).click()
    slider = screen.page.get_by_label("Brightness", exact=True)
    slider.fill("35")
    screen.page.get_by_role("button", name="Set: Brightness").click()
    expect(screen.newest_report()).to_contain_text("Brightness 35 %")
    expect(screen.newest_report()).to_contain_text("1 of 1", timeout=SOON)
    screen.page.locator("#tab-seat").click()
    expect(screen.page.locator("#seat-details")).to_contain_text("35 %", timeout=2 * SOON)
    screen.page.get_by_label("Message on the screens").fill("Dinner & drinks <now>")
    screen.page.get_by_role("button", name="Show", exact=True).click()
    expect(screen.newest_report()).to_contain_text("Message “Dinner & drinks <now>”")
    slider.fill("80")
    screen.page.get_by_role("button", name="Set: Brightness").click()
    expect(screen.newest_report()).to_contain_text("Brightness 80 %")


def test_a_drag_selects_and_a_second_one_takes_back(screen: Screen) -> None:
    screen.log_in()
    first, last = screen.seat("10A"), screen.seat("12D")
    for expected in (True, False):
        for seat, action in ((first, screen.page.mouse.down), (last, screen.page.mouse.up)):
            box = seat.bounding_box()
            assert box
            screen.page.mouse.move(box["x"] + 8, box["y"] + 8, steps=5)
            action()
        wanted = {f"{row}{letter}" for row in (10, 11, 12) for letter in "ACD"}
        assert screen.selected() == (wanted if expected else set())


def test_rows_classes_and_states_select_and_clear(screen: Screen) -> None:
    screen.log_in()
    screen.page.locator('[data-select-row="12"]').click()
    assert screen.selected() == {seat for seat in screen.cabin.seats if seat[:-1] == "12"}
    screen.page.locator("[data-select-none]").click()
    screen.page.locator('.chips [data-select-class="business"]').click()
    assert len(screen.selected()) == 36
    screen.page.locator("[data-select-all]").click()
    assert screen.selected() == set(screen.cabin.seats)
    screen.page.locator("[data-select-none]").click()
    assert screen.selected() == set()
    expect(screen.page.get_by_role("button", name="Mute", exact=True)).to_be_disabled()


def test_a_reset_is_armed_first(screen: Screen) -> None:
    screen.log_in()
    before = screen.cabin.view().seq
    seats = screen.cabin.seats[-2:]
    for seat in seats:
        screen.seat(seat).click()
    screen.page.get_by_role("button", name="Reset …").click()
    arm = screen.page.locator("#arm")
    expect(arm).to_contain_text("Reset: 2 seats")
    expect(arm.get_by_role("button", name="Do not")).to_be_focused()
    screen.press("Enter")
    expect(arm).to_be_hidden()
    assert screen.cabin.view().seq == before
    screen.page.get_by_role("button", name="Reset …").click()
    arm.get_by_role("button", name="Reset 2 seats now").click()
    expect(arm).to_be_hidden()
    expect(screen.newest_report().locator("h3")).to_have_text("Reset")
    assert screen.cabin.view().seq == before + 1
    expect(screen.newest_report()).to_contain_text("2 of 2", timeout=20_000)
    screen.cabin.wait_until_healthy()


def test_what_one_sends_the_other_sees(screen: Screen, chromium: Browser) -> None:
    screen.log_in(0)
    other = new_screen(chromium, screen.cabin, locale="en")
    other.log_in(1)
    screen.seat(screen.cabin.seats[0]).click()
    screen.page.get_by_role("button", name="Identify").click()
    expect(other.newest_report()).to_contain_text("Identify", timeout=SOON)
    expect(other.newest_report()).to_contain_text(screen.cabin.crew[0].name)
    other.page.context.close()


def test_on_a_phone_the_report_comes_into_view(chromium: Browser, cabin: Cabin) -> None:
    screen = new_screen(chromium, cabin, PHONE, locale="en", has_touch=True, is_mobile=True)
    screen.log_in()
    screen.page.locator('[data-select-row="10"]').tap()
    expect(screen.page.get_by_role("button", name="Identify")).to_be_hidden()
    screen.page.locator("#deck-toggle").tap()
    screen.page.get_by_role("button", name="Identify").tap()
    expect(screen.newest_report()).to_contain_text("8 of 8", timeout=SOON)
    expect(screen.newest_report().locator(".figure")).to_be_in_viewport()
    assert screen.complaints == []
    screen.page.context.close()


# -- by keyboard ------------------------------------------------------------------------------


def test_everything_goes_by_keyboard(screen: Screen) -> None:
    person = screen.cabin.crew[0]
    screen.open()
    screen.page.locator('[name="person"]').first.focus()
    screen.press("Space", "Tab")
    screen.page.keyboard.type(person.pin)
    screen.press("Enter")
    expect(screen.page.locator(".lamp.live")).to_be_visible()

    tab_to(screen, ".seat")
    screen.press("End", "Home")
    assert focused_seat(screen) == "1A"
    screen.press("ArrowRight", "ArrowUp", "Space")
    assert screen.selected() == {"2C"}
    screen.press("Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowUp")
    assert screen.selected() == {f"{row}{letter}" for row in (2, 3, 4) for letter in "CD"}
    screen.press("Escape", "r")
    assert screen.selected() == {seat for seat in screen.cabin.seats if seat[:-1] == "4"}
    screen.press("Escape", "c")
    assert len(screen.selected()) == 36
    screen.press("3")
    expect(screen.page.locator("#map.zoomed")).to_be_visible()
    screen.press("0", "?")
    expect(screen.page.locator("#help")).to_be_visible()
    screen.press("Escape")
    expect(screen.page.locator("#help")).to_be_hidden()
    tab_to(screen, "button:has-text('Identify')")
    screen.press("Enter")
    expect(screen.newest_report()).to_contain_text("36 of 36", timeout=SOON)


def tab_to(screen: Screen, selector: str) -> None:
    """Press Tab until the focus is on what `selector` means."""
    for _ in range(60):
        if screen.page.evaluate("wanted => document.activeElement.matches(wanted)", ".seat") and (
            selector == ".seat"
        ):
            return
        if selector != ".seat" and screen.page.locator(selector).first.evaluate(
            "element => element === document.activeElement"
        ):
            return
        screen.press("Tab")
    raise AssertionError(f"Tab does not reach {selector}")


def focused_seat(screen: Screen) -> str:
    name: str = screen.page.evaluate("document.activeElement.dataset.seat")
    return name


# -- when something is wrong ------------------------------------------------------------------


def test_a_lost_seat_appears_is_missed_and_heals(screen: Screen) -> None:
    screen.log_in()
    screen.cabin.cut_seat("12C")
    try:
        expect(screen.seat("12C")).to_have_attribute("data-look", "lost", timeout=2 * SOON)
        expect(screen.seat("12C")).to_have_attribute("aria-label", re.compile("12C, lost"))
        screen.page.locator("#tab-attention").click()
        expect(screen.page.locator("#attention-lost-12C")).to_be_visible(timeout=SOON)
        screen.page.locator('[data-select-row="12"]').click()
        screen.page.get_by_role("button", name="Light on").click()
        report = screen.newest_report()
        expect(report).to_contain_text("7 of 8", timeout=SOON)
        expect(report).to_contain_text("1 missing 12C")
        report.locator("summary").click()
        report.get_by_role("button", name="Select").click()
        assert screen.selected() == {"12C"}
        report.get_by_role("button", name="Try again for these").click()
        expect(screen.newest_report()).to_contain_text("0 of 1")
    finally:
        screen.cabin.restore_seat("12C")
    expect(screen.seat("12C")).not_to_have_attribute("data-look", "lost", timeout=2 * SOON)
    expect(screen.newest_report()).to_contain_text("1 of 1", timeout=2 * SOON)
    screen.page.locator('[data-select-row="12"]').click()
    screen.page.get_by_role("button", name="Light off").click()
    expect(screen.newest_report()).to_contain_text("8 of 8", timeout=SOON)


def test_a_banner_says_that_redis_is_away_and_goes(shaken: Screen) -> None:
    shaken.log_in()
    banner = shaken.page.locator("#degraded-redis")
    kill_until(shaken, banner, "redis")
    expect(banner).to_contain_text("commands work")
    expect(banner).to_have_count(0, timeout=4 * SOON)


def test_the_page_outlives_its_server(shaken: Screen) -> None:
    shaken.log_in()
    banner = shaken.page.locator("#page-unreachable")
    kill_until(shaken, banner, "crew_web")
    expect(banner).to_be_hidden(timeout=6 * SOON)
    shaken.seat("20A").click()
    shaken.page.get_by_role("button", name="Identify").click()
    expect(shaken.newest_report()).to_contain_text("1 of 1", timeout=2 * SOON)


def test_the_map_comes_back_after_seat_control(shaken: Screen) -> None:
    shaken.log_in()
    shaken.cabin.kill("seat_control")
    shaken.cabin.wait_until_healthy(30)
    shaken.seat("20A").click()
    shaken.page.get_by_role("button", name="Identify").click()
    expect(shaken.newest_report()).to_contain_text("1 of 1", timeout=2 * SOON)
    expect(shaken.page.locator(".lamp.live")).to_be_visible(timeout=4 * SOON)
    expect(shaken.page.locator('.seat[data-look="waiting"]')).to_have_count(0, timeout=4 * SOON)


def kill_until(screen: Screen, sign: Locator, program: str) -> None:
    """Kill a program, which is started again each time, until the page shows a sign of it."""
    deadline = time.monotonic() + 40
    while not sign.is_visible():
        assert time.monotonic() < deadline, f"no sign of {program} being away"
        with contextlib.suppress(BenchError):  # It is being started just now.
            screen.cabin.kill(program)
        screen.page.wait_for_timeout(200)


# -- for everybody ----------------------------------------------------------------------------


@in_all_looks
def test_axe_finds_nothing_serious(
    chromium: Browser, cabin: Cabin, language: str, size: tuple[int, int]
) -> None:
    screen = new_screen(chromium, cabin, size, locale=language)
    screen.open()
    expect(screen.page.locator("html")).to_have_attribute("lang", language)
    findings = axe(screen.page, "log-in")
    screen.log_in()
    findings += axe(screen.page, "cabin")
    screen.page.locator("[data-select-all]").click()
    if size == PHONE:
        screen.page.locator("#deck-toggle").click()
    findings += axe(screen.page, "all selected")
    screen.page.locator(".destructive").last.click()
    expect(screen.page.locator("#arm")).to_be_visible()
    findings += axe(screen.page, "armed")
    screen.page.locator("[data-disarm]").click()
    screen.page.locator("[data-help]").click()
    findings += axe(screen.page, "help")
    screen.page.context.close()
    assert findings == []


@pytest.mark.parametrize("language", ["en", "de", "es", "fr"])
def test_the_panel_shows_all_at_once(chromium: Browser, cabin: Cabin, language: str) -> None:
    """Nothing scrolls, a seat is 24 px at least (WCAG 2.2, 2.5.8), an action 48 px high."""
    screen = new_screen(chromium, cabin, locale=language)
    screen.log_in()
    assert screen.page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    ) == list(PANEL)
    sizes = screen.page.locator(".seat").evaluate_all(
        "all => all.map(seat => seat.getBoundingClientRect()).map(box => [box.width, box.height])"
    )
    assert len(sizes) == len(cabin.seats)
    # A seat's own place, with half of the gap around it on either side.
    assert min(width for width, _ in sizes) + 3 >= 24
    assert min(height for _, height in sizes) + 3 >= 24
    heights = screen.page.locator(".deck button:visible, .chips button:visible").evaluate_all(
        "all => all.map(button => button.getBoundingClientRect().height)"
    )
    assert min(heights) >= 48
    cut = screen.page.locator(".actions button, .chips button, .views button").evaluate_all(
        "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.innerText)"
    )
    assert cut == []
    screen.page.context.close()
