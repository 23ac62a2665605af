"""The crew page's view of content in Chromium: a real disk image, the real gate, a real Hangar."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from apps.common.content import ContentState
from apps.common.testing import wait_until
from bench import processes, publisher, testing, up
from bench.testing import Cabin
from tests import browser
from tests.browser import PANEL, PHONE, WATCH_POLICY, axe, in_all_looks

pytestmark = [pytest.mark.bench, pytest.mark.timeout(180)]

SOON = 30_000
"""Milliseconds: each is seconds on a machine with nothing else to do."""


@pytest.fixture(scope="module")
def bench() -> Iterator[Cabin]:
    """A small cabin with crew disks, the gate and a Hangar."""
    with testing.cabin(6, content=True) as found:
        wait_until(lambda: answers(found), "content_sync answers", 60)
        yield found


@pytest.fixture(scope="module")
def chromium(bench: Cabin) -> Iterator[Browser]:
    with browser.chromium() as chromium:
        yield chromium


@pytest.fixture
def page(chromium: Browser, bench: Cabin) -> Iterator[Page]:
    """A panel that shows content; at the end the policy has stopped nothing, no script failed."""
    page = open_page(chromium, bench)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    violations = page.evaluate("window.violations")
    page.context.close()
    assert violations == []
    assert errors == []


def open_page(
    chromium: Browser, bench: Cabin, size: tuple[int, int] = PANEL, locale: str = "en"
) -> Page:
    context = chromium.new_context(
        viewport={"width": size[0], "height": size[1]},
        locale=locale,
        has_touch=size == PHONE,
        ignore_https_errors=True,
    )
    context.add_init_script(WATCH_POLICY)
    page = context.new_page()
    page.goto(bench.crew_url)
    who = bench.crew[0]
    page.get_by_label(who.name, exact=True).check()
    page.locator("#pin").fill(who.pin)
    page.locator(".go").click()
    page.locator('[data-place="content"]').click()
    expect(page.locator("#disk-front")).to_be_visible(timeout=SOON)
    return page


def answers(bench: Cabin) -> bool:
    return up.is_ready(bench.instance.paths, "content_sync")


def state(bench: Cabin) -> ContentState:
    """As content_sync tells it itself."""
    with up.local_client(bench.instance.paths, "content_sync") as client:
        return ContentState.model_validate_json(client.get("/api/v1/content").content)


def version(page: Page, of: str) -> Locator:
    return page.locator(f"#set-{of} dd").first


def button(page: Page | Locator, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


@contextmanager
def held_import(bench: Cabin) -> Iterator[None]:
    """Have the next import stand still in its middle: what reads the disk is stopped there."""
    over = threading.Event()

    def tell(number: signal.Signals) -> None:
        for pid in processes.members(bench.instance.paths.pids / "usb_lockdown-reader"):
            with suppress(OSError):
                if b"apps.usb_lockdown.reader" in Path(f"/proc/{pid}/cmdline").read_bytes()[-40:]:
                    os.kill(pid, number)

    def hold() -> None:
        # Step by step, so that it cannot get to its end between two looks.
        while not over.wait(0.05):
            tell(signal.SIGSTOP)
            progress = state(bench).progress
            if progress is None or progress.bytes_done == 0:
                tell(signal.SIGCONT)
                time.sleep(0.002)
                tell(signal.SIGSTOP)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        tell(signal.SIGCONT)


def test_a_disk_is_loaded_and_the_page_says_when_it_may_go(page: Page, bench: Cabin) -> None:
    front = page.locator("#disk-front")
    expect(front).to_contain_text("No disk is in.")
    expect(page.locator("#set-current")).to_contain_text("no content on board yet")
    number = bench.make_disk()
    bench.plug_disk()
    expect(front).to_contain_text("Do not remove", timeout=SOON)
    wait_until(lambda: bool(state(bench).disks), "content_sync hears of it", 20)
    with held_import(bench):
        expect(front.locator("progress")).to_be_visible(timeout=SOON)
        expect(front).to_contain_text("Do not remove")
        expect(front).to_contain_text(" MB")
        expect(page.locator("#content-now")).to_contain_text("Loading", timeout=SOON)
    expect(front).to_contain_text("Safe to remove", timeout=SOON)
    expect(front).not_to_contain_text("Do not remove")
    expect(version(page, "current")).to_have_text(str(number))
    expect(page.locator("#set-current")).to_contain_text("Good until")
    bench.pull()
    expect(front).to_contain_text("No disk is in.", timeout=SOON)


def test_what_is_no_crew_disk_is_kept_out_and_named(page: Page, bench: Cabin) -> None:
    bench.plug_keyboard()
    kept_out = page.locator(".kept-out")
    expect(kept_out).to_contain_text("USB Keyboard", timeout=SOON)
    bench.pull("side")
    expect(kept_out).to_have_count(0, timeout=SOON)


def test_a_disk_that_nobody_signed_says_what_to_do(
    page: Page, bench: Cabin, tmp_path: Path
) -> None:
    bench.make_disk("aft")
    image = bench.instance.paths.disks / "aft.img"
    data = image.read_bytes()
    # The signatures of its timestamp are another's.
    assert data.count(b'"sig": "') or data.count(b'"sig":"')
    image.write_bytes(data.replace(b'"sig": "', b'"sig": "00').replace(b'"sig":"', b'"sig":"00'))
    bench.plug_disk("aft")
    aft = page.locator("#disk-aft")
    expect(aft).to_contain_text("not accepted", timeout=SOON)
    expect(aft).to_contain_text("Safe to remove")
    expect(aft).to_contain_text("ask the ground for another one")
    expect(page.locator("#content-now")).to_have_text("Disk not accepted", timeout=SOON)
    bench.pull("aft")


def test_the_gate_shows_its_plan_and_brings_the_news(page: Page, bench: Cabin) -> None:
    before = state(bench).current
    assert before is not None
    gate = page.locator("#content-gate")
    expect(gate).to_contain_text("Gate closed")
    title = bench.publish_issue()
    newest = publisher.open_folder(bench.instance.paths.ground).version
    button(page, "Open the gate").click()
    expect(gate).to_contain_text("Gate open", timeout=SOON)
    expect(gate.locator(".plan")).to_contain_text("All of it fits", timeout=SOON)
    expect(version(page, "current")).to_have_text(str(newest), timeout=SOON)
    expect(version(page, "former")).to_have_text(str(before.version))
    expect(gate).to_contain_text("The Hangar last answered at")
    store = bench.instance.paths.state / "ife/content/current/news/catalogue.json"
    assert title in store.read_text()
    button(page, "Close the gate").click()
    expect(gate).to_contain_text("In flight.", timeout=SOON)


def test_going_back_takes_two_steps(page: Page, bench: Cabin) -> None:
    now, former = (int(version(page, which).inner_text()) for which in ("current", "former"))
    back = button(page, "Go back to it …")
    back.click()
    button(page, "Do not").click()
    expect(page.locator("#arm")).to_be_hidden()
    back.click()
    expect(page.locator("#arm")).to_contain_text(f"Go back to set {former}?")
    button(page, f"Go back to set {former} now").click()
    expect(page.locator("#arm")).to_be_hidden()
    expect(version(page, "current")).to_have_text(str(former), timeout=SOON)
    expect(version(page, "former")).to_have_text(str(now))
    found = state(bench)
    assert found.current is not None
    assert found.current.version == former


@in_all_looks
def test_axe_finds_nothing_serious_and_every_target_is_large(
    chromium: Browser, bench: Cabin, language: str, size: tuple[int, int]
) -> None:
    page = open_page(chromium, bench, size, language)
    findings = axe(page, "content")
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= size[0], f"it is {width} px wide"
    targets = page.locator("#place-content :is(button, .chip, summary):visible, .places button")
    boxes = targets.evaluate_all(
        "all => all.map(one => [one.getBoundingClientRect().height, one.innerText, "
        "one.scrollWidth - one.clientWidth])"
    )
    assert [box for box in boxes if box[0] < 48 or box[2] > 1] == []
    page.locator("#set-former button").click()
    expect(page.locator("#arm")).to_be_visible()
    findings += axe(page, "confirm")
    page.context.close()
    assert findings == []
