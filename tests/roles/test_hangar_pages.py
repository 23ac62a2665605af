"""The operators' pages in a real browser: what they show, and that a keyboard is enough."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from nacl.signing import SigningKey
from playwright.sync_api import Browser, Page, expect

from apps.common import gate, usage
from apps.common.gate import Bite, Content, Fault, Loading, Position
from apps.common.testing import wait_until
from apps.common.usage import BatchHead, Play, Sale
from apps.content_sync.hangar import HangarClient
from apps.content_sync.pace import Pace
from apps.hangar.pages import ago, duration, place, size
from apps.hangar.tests.conftest import heartbeat, publish
from bench.gate.hangar import LOOPBACK, Hangar
from tests.browser import chromium
from tests.roles.ground import Ground, HangarDatabase

# The first of them has the certificates made, by three runs of playbooks.
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(
    browser: Browser, ground: Ground, hangar: Hangar, hangar_database: HangarDatabase
) -> Iterator[Page]:
    """The page of an operator, with her certificate, and a fleet with a history."""
    hangar_database.run("TRUNCATE heard, asked, taken, usage")
    publish(hangar.content, 7, films=3, news=12)
    _fly(ground, hangar, hangar_database)
    certificate = ground.hangar / "operators/anna"
    context = browser.new_context(
        base_url=hangar.url,
        ignore_https_errors=True,
        client_certificates=[
            {
                "origin": hangar.url,
                "certPath": certificate.with_suffix(".crt"),
                "keyPath": certificate.with_suffix(".key"),
            }
        ],
        viewport={"width": 1280, "height": 800},
    )
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


def _fly(ground: Ground, hangar: Hangar, database: HangarDatabase) -> None:
    """EC-LAB comes back from a flight."""
    keys = ground.aircraft["EC-LAB"]
    client = HangarClient(
        hangar.url, LOOPBACK, keys / "root.crt", keys / "gate.crt", keys / "gate.key", Pace(None)
    )
    client.send_heartbeat(heartbeat())
    wait_until(lambda: database.run("SELECT count(*) FROM heard") == "1", "it is written down")
    database.run("UPDATE heard SET heard_at = now() - interval '3 hours'")
    client.send_heartbeat(
        heartbeat(
            versions={"image": "2026.11.2", "ife": "0.1.0"},
            position=Position(latitude=41.297, longitude=2.078, at=usage.now()),
            content=Content(
                version=6,
                kinds={"films": 3, "news": 11},
                loading=Loading(version=7, bytes_done=30, bytes_total=100),
            ),
            bite=Bite(
                count=2,
                faults=(
                    Fault(part="seat 12C", why="it is silent since 14:02 <b>"),
                    Fault(part="screen 3", why="it does not answer"),
                ),
            ),
            spool=gate.Spool(records=1200, batches=2, bytes=40_000, dropped=3),
        )
    )
    back = "SELECT count(*) FROM heard WHERE flight_to IS NOT NULL"
    wait_until(lambda: database.run(back) == "1", "it is written down")
    then = usage.now() - 3_600_000
    sold = [
        Sale(item="cola", quantity=1, amount=350, currency="EUR", payment="card", at=then)
        for _ in range(3)
    ]
    played = [Play(media="the-long-way", seconds=5400, at=then) for _ in range(12)]
    key = SigningKey((keys / "usage.key").read_bytes())
    for records in (sold, played):
        head = BatchHead(registration="EC-LAB", spool=uuid4(), number=1, kind=records[0].kind)
        client.put_batch(1, usage.seal(key, head, [usage.line(record) for record in records]))
    client.close()


def test_the_fleet_is_seen_at_a_glance(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_text("2 aircraft: 1 online, 1 with content missing, 1 with")).to_be_visible()
    row = page.get_by_role("row", name="EC-LAB")
    for text in (
        "online",
        "41.30° N, 2.08° E",
        "2026.11.2",
        "set 6",
        "news 11 of 12, loading set 7: 30 %",
        "3 sales, 12 plays",
    ):
        expect(row).to_contain_text(text)
    expect(page.get_by_role("row", name="EC-TWO")).to_contain_text("never heard")


def test_a_request_is_made_and_withdrawn_by_the_keyboard_alone(page: Page) -> None:
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    # The table, which may have to be scrolled; then the first aircraft in it.
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="EC-LAB")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="EC-LAB")).to_be_visible()
    expect(page.get_by_text("it is silent since 14:02 <b>")).to_be_visible()
    expect(page.get_by_text("Sold for 10.50 EUR.")).to_be_visible()
    expect(page.get_by_role("row", name="the-long-way")).to_contain_text("18 h 00")
    for _ in range(30):
        if page.evaluate("document.activeElement.value") == "sync_now":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    row = page.get_by_role("row", name="Synchronise now")
    expect(row).to_contain_text("waiting")
    withdraw = row.get_by_role("button", name="Withdraw: Synchronise now")
    withdraw.focus()
    page.keyboard.press("Enter")
    expect(row).to_contain_text("withdrawn")
    expect(row).to_contain_text("by anna")


def test_what_cannot_be_done_is_told_with_a_way_back(page: Page) -> None:
    page.goto("/aircraft/EC-LAB")
    other = page.context.new_page()
    other.goto("/aircraft/EC-LAB")
    for each in (page, other):
        each.get_by_role("button", name="Send its logs").click()
    expect(other.get_by_text("That did not work")).to_be_visible()
    expect(other.get_by_text("that was asked, and is not done")).to_be_visible()
    other.get_by_role("link", name="Back to the fleet").click()
    expect(other.get_by_role("heading", name="Fleet")).to_be_visible()


def test_the_page_keeps_itself_fresh_and_says_when_it_is_not(
    page: Page, hangar_database: HangarDatabase
) -> None:
    page.clock.install()
    page.goto("/")
    page.get_by_role("link", name="EC-LAB").focus()
    hangar_database.run("UPDATE heard SET heard_at = heard_at - interval '5 minutes'")
    page.clock.fast_forward(16_000)
    expect(page.get_by_role("row", name="EC-LAB")).to_contain_text("offline")
    expect(page.get_by_role("link", name="EC-LAB")).to_be_focused()
    page.route("**/*", lambda route: route.fulfill(status=503, body="away"))
    page.clock.fast_forward(16_000)
    expect(page.get_by_role("status")).to_contain_text("does not answer")
    page.unroute("**/*")
    page.clock.fast_forward(16_000)
    expect(page.get_by_role("status")).to_be_empty()


def test_numbers_are_written_as_people_say_them() -> None:
    now = datetime(2026, 11, 28, tzinfo=UTC)
    spans = ((5, "5 s"), (250, "4 min"), (7200, "2 h"), (90_000, "1 day"), (200_000, "2 days"))
    for seconds, text in spans:
        assert ago(now - timedelta(seconds=seconds), now) == text
    assert place(Position(latitude=-33.95, longitude=-70.786, at=0)) == "33.95° S, 70.79° W"
    assert [size(count) for count in (999, 12_300_000_000)] == ["999 B", "12.3 GB"]
    assert duration(11_100) == "3 h 05"
