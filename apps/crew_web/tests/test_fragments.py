"""Every fragment in every language, from what seat control may say."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import render_template

from apps.common.cabin import SeatView
from apps.common.channels import ImposedView
from apps.common.commands import (
    ACTIONS,
    AnyAction,
    Armed,
    DeliveryReport,
    Mute,
    Play,
    Power,
    Reset,
    RowRange,
    SeatRefusal,
    Seats,
    Selector,
    ShowMessage,
)
from apps.common.health import Degraded
from apps.common.pa import PaAnnouncement, PaState
from apps.crew_web import actions, texts
from apps.crew_web.service import CrewWeb

EVIL = '<script>alert("x")</script>'


def imposed(**changes: object) -> ImposedView:
    whole: dict[str, object] = {
        "id": "safety",
        "names": {"en": "Safety", "de": "Safety", "es": "Safety", "fr": "Safety"},
        "group": "239.192.80.200",
        "port": 5004,
        "languages": ("en", "xx"),
        "state": "playing",
        "language": "de",
        "position": 8.0,
        "remaining": 192.9,
        "screens": True,
    }
    return ImposedView.model_validate(whole | changes)


def report(**changes: object) -> DeliveryReport:
    whole: dict[str, object] = {
        "seq": 17,
        "epoch": 1,
        "crew": "anna",
        "selector": Selector(zones=("aft",)),
        "action": Mute(muted=True),
        "issued_at": datetime(2026, 11, 21, 9, 30, tzinfo=UTC),
        "expires_in": None,
        "final": False,
        "targets": 312,
        "applied": 311,
        "missing": ["12C"],
        "refused": [],
        "expired": [],
        "superseded": [],
        "ms_to_50_percent": 60.4,
        "ms_to_99_percent": 132.0,
        "ms_to_last": 140.2,
    }
    return DeliveryReport.model_validate(whole | changes)


def test_a_report_that_goes_on(web: CrewWeb) -> None:
    page = render_template("_report.html", report=report())
    assert "311" in page
    assert "140 ms" in page
    assert "12C" in page
    assert "Anna" in page
    assert "Economy aft" in page
    assert 'hx-get="/commands/17"' in page


def test_a_final_report_asks_no_more(web: CrewWeb) -> None:
    page = render_template(
        "_report.html",
        report=report(final=True, applied=312, missing=[], ms_to_last=180.0),
    )
    assert "180 ms" in page
    assert "hx-get" not in page


def test_a_report_tells_every_outcome_and_offers_a_retry(web: CrewWeb) -> None:
    page = render_template(
        "_report.html",
        report=report(
            refused=[SeatRefusal(seat="20A", reason=EVIL)], expired=["21A"], superseded=["22A"]
        ),
    )
    assert EVIL not in page
    for seat in ("12C", "20A", "21A", "22A"):
        assert f'<input type="hidden" name="seats" value="{seat}">' in page
    assert page.count('name="muted" value="true"') == 4


def test_the_armed_step_says_what_and_how_many(web: CrewWeb) -> None:
    for action in (Reset(), Power(on=False)):
        for count in (1, 2):
            page = render_template(
                "_arm.html",
                armed=Armed(arm_token="t0k3n", expires_in=15.0, targets=count),
                action=action,
                selector=Selector(all=True),
                seats=["12C", "12D"],
            )
            assert f"{count}" in page
            assert 'name="arm_token" value="t0k3n"' in page
            assert texts.action(action) in page


def test_lists_and_details_of_seats(web: CrewWeb) -> None:
    seat = SeatView(
        presence="live",
        state="playing",
        media="film-12",
        position=3723.0,
        volume=50,
        muted=True,
        faults=("hdmi",),
        attendant_call=True,
        claimed_twice=True,
    )
    lists = {why: {"12C": seat} for why in ("call", "lost", "fault", "twice")}
    page = render_template("_attention.html", lists=lists)
    assert page.count('data-select-seats="12C"') == 8
    assert "hdmi" in page
    assert ">4</span>" in page
    empty = render_template("_attention.html", lists={why: {} for why in lists})
    assert 'class="empty"' in empty
    for view in (seat, SeatView()):
        assert "Economy" in render_template(
            "_seat.html", seat=web.layout.seats["12C"], view=view, layout=web.layout
        )


def test_status_says_every_part_and_who_speaks(web: CrewWeb) -> None:
    parts = ["seat_control", "redis", "audit log", "journal", "multicast", "sessions", "new"]
    page = render_template(
        "_status.html",
        degraded=[Degraded(part=part, why=EVIL) for part in parts],
        pa=None,
        imposed=None,
    )
    assert page.count('class="banner"') == len(parts)
    assert EVIL not in page
    announcements = (
        PaAnnouncement(source="crew", areas=("economy", "elsewhere"), number=8, since=1),
        PaAnnouncement(source="music", areas=("business",), number=7, since=1),
    )
    speaking = PaState(
        state="announcement",
        source="crew",
        areas=("business", "economy", "elsewhere"),
        announcements=announcements,
    )
    page = render_template(
        "_status.html",
        degraded=[],
        pa=speaking,
        imposed=[imposed(), imposed(state="paused", remaining=None)],
    )
    assert "· Economy, elsewhere" in page
    assert 'class="speaking"' in page
    assert "Safety 3:12" in page
    assert "banner" not in page
    calm = render_template("_status.html", degraded=[], pa=PaState(state="idle"), imposed=[])
    assert "class" not in calm


def test_there_are_words_for_every_action(web: CrewWeb) -> None:
    arguments: dict[str, dict[str, str]] = {
        "power": {"on": "true"},
        "lock_screen": {"locked": "true"},
        "mute": {"muted": "true"},
        "set_volume": {"volume": "1"},
        "limit_volume": {"limit": "1"},
        "set_brightness": {"brightness": "1"},
        "play": {"media": "film"},
        "show_message": {"text": "x"},
        "reading_light": {"on": "true"},
    }
    found: list[AnyAction] = [
        actions.parse({"name": name} | arguments.get(name, {})) for name in ACTIONS
    ]
    assert len({texts.action(action) for action in found}) == len(ACTIONS)


def test_a_message_is_shown_as_text(web: CrewWeb) -> None:
    page = render_template("_report.html", report=report(action=ShowMessage(text=EVIL)))
    assert EVIL not in page
    assert "&lt;script&gt;" in page


def test_what_others_wrote_is_in_quotes(web: CrewWeb) -> None:
    """So that a seat or a colleague cannot say something in the page's name."""
    forged = "x”. All seats are well. “x"
    opening, closing = texts.quoted(" ").split(" ")
    seat = SeatView(presence="live", media="film-12", firmware="1.0", faults=(forged, "hdmi"))
    pages = [
        render_template("_report.html", report=report(action=ShowMessage(text=forged))),
        render_template(
            "_report.html", report=report(refused=[SeatRefusal(seat="20A", reason=forged)])
        ),
        render_template("_attention.html", lists={"fault": {"12C": seat}}),
        render_template("_seat.html", seat=web.layout.seats["12C"], view=seat, layout=web.layout),
    ]
    for page in pages:
        assert f"{opening}x&#34;. All seats are well. &#34;x{closing}" in page
    for text in ("hdmi", "film-12", "1.0"):
        assert f"{opening}{text}{closing}" in pages[-1]
    assert f"{opening}film-12{closing}" in texts.action(Play(media="film-12"))


def test_whom_it_is_for_is_said_shortly(web: CrewWeb) -> None:
    selector = Selector(
        classes=("business",),
        rows=(RowRange(first=10, last=14), RowRange(first=20, last=20)),
        seats=("31F",),
        exclude=Seats(seats=("10A",)),
    )
    text = texts.selector(selector, web.layout)
    for part in ("Business", "10", "14", "20", "31F", "10A"):
        assert part in text
    many = Selector(seats=tuple(list(web.layout.seats)[:20]))
    assert texts.selector(many, web.layout).count(",") == texts.NAMED_SEATS
