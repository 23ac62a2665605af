"""The fragment of content in every language, from what content_sync and usb_lockdown may say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from flask import g, render_template

from apps.common.content import ContentState, DiskView, Freshness, GateView, Progress, SetView
from apps.common.disks import Blocked, Disk, Disks
from apps.crew_web import onboard, texts
from apps.crew_web.service import CrewWeb

EVIL = '<script>alert("x")</script>'
DAY = datetime(2026, 11, 28, 12, tzinfo=UTC)
DISK_STATES = get_args(DiskView.model_fields["state"].annotation)


def content_set(version: int, **changes: Any) -> SetView:
    values: dict[str, Any] = {
        "kinds": {"news": version},
        "missing": 0,
        "files": 12,
        "bytes": 3_400_000_000,
        "made": DAY,
        "expires": DAY,
    }
    return SetView(version=version, **(values | changes))


def disk(
    state: Any = "done", *, safe: bool = True, port: str = "front", again: bool = False
) -> DiskView:
    return DiskView(
        port=port, name=EVIL, state=state, says=EVIL, safe_to_remove=safe, tried_again=again
    )


def content(*disks: DiskView, **changes: Any) -> ContentState:
    values: dict[str, Any] = {
        "current": content_set(12),
        "former": content_set(11),
        "coming": None,
        "freshness": Freshness(state="fresh", until=DAY, clock_is_sure=True, says="good"),
        "progress": None,
        "gate": None,
        "trouble": None,
        "free": 10**10,
    }
    return ContentState(disks=disks, **(values | changes))


PROGRESS = Progress(
    job="import",
    source="disk front",
    title=EVIL,
    files=40,
    files_done=4,
    bytes=3_400_000_000,
    bytes_done=340_000_000,
    rate=45e6,
    seconds_left=68.0,
)

READY = Disk(port="front", name="Stick", state="ready", socket="/run/x.sock")
PORTS = Disks(ports=("front", "aft"), disks=(READY,))


def keyboard(**changes: Any) -> Blocked:
    values: dict[str, Any] = {
        "path": "pci-0000:00:14.0-usbv2-0:3",
        "name": EVIL,
        "ids": "046d:c31c",
        "interfaces": ("03/01/01",),
        "why": "it is a keyboard",
        "descriptors": "",
    }
    return Blocked(**(values | changes))


def live(state: ContentState | None, disks: Disks | None = PORTS, *, demo: bool = False) -> str:
    page = render_template(
        "_content_live.html",
        state=state,
        disks=disks,
        ports=onboard.ports(state, disks) if state else [],
        kept_out=onboard.kept_out(disks),
        demo=demo,
    )
    assert EVIL not in page
    return page


def card(page: str, port: str) -> str:
    """What the page says of one port."""
    return page.partition(f'id="disk-{port}"')[2].partition("</li>")[0]


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("state", DISK_STATES)
def test_a_disk_may_go_when_content_sync_says_so_and_at_no_other_time(
    web: CrewWeb, state: str, safe: bool
) -> None:
    page = card(live(content(disk(state, safe=safe))), "front")
    assert ('class="verdict safe"' in page) is safe
    assert ('class="verdict keep"' in page) is not safe
    assert texts.disk_state(disk(state, safe=safe)) in page
    assert texts.disk_state(disk(state)) != state or g.language.code == "en"


def test_progress_is_told_where_the_disk_is(web: CrewWeb) -> None:
    state = content(
        disk("importing", safe=False),
        disk("queued", safe=False, port="aft"),
        progress=PROGRESS,
    )
    page = live(state)
    front, aft = card(page, "front"), card(page, "aft")
    assert "10 %" in front
    assert 'value="340000000"' in front
    assert "<progress" not in aft
    assert texts.time_left(68.0) in front
    assert "&lt;script&gt;" in front
    assert "1" in texts.gettext("number %(place)s in the queue") % {"place": 1}


def test_an_empty_port_and_one_that_only_a_disk_tells_of_are_both_there(web: CrewWeb) -> None:
    page = live(content(disk()), Disks(ports=("aft",)))
    assert 'id="disk-aft" class="disk" data-state="empty"' in page
    assert 'id="disk-front" class="disk" data-state="done"' in page
    assert "id=" not in card(live(content(), Disks()), "front")


@pytest.mark.parametrize("state", ["refused", "failed"])
def test_what_failed_says_what_to_do_and_why(web: CrewWeb, state: Any) -> None:
    page = card(live(content(disk(state))), "front")
    assert texts.disk_advice(disk(state)) in page.replace("&#39;", "'")
    assert '<small lang="en">' in page
    assert 'hx-post="/content/disks/front/import"' in page


def test_only_of_a_disk_that_is_tried_again_it_says_so(web: CrewWeb) -> None:
    stays, goes = disk("failed", again=True), disk("failed")
    for one, other in ((stays, goes), (goes, stays)):
        page = card(live(content(one), Disks()), "front").replace("&#39;", "'")
        assert texts.disk_advice(one) in page
        assert texts.disk_advice(other) not in page


def test_a_disk_is_imported_by_hand_only_when_that_makes_sense(web: CrewWeb) -> None:
    for state, safe, may in (
        ("waits", True, True),
        ("waits", False, False),
        ("queued", False, False),
        ("importing", False, False),
        ("done", True, False),
        ("refused", True, True),
        ("failed", True, True),
    ):
        page = card(live(content(disk(state, safe=safe))), "front")
        assert ("hx-post" in page) is may, state
        unreadable = Disks(disks=(READY.model_copy(update={"state": "unreadable"}),))
        assert "hx-post" not in card(live(content(disk(state, safe=safe)), unreadable), "front")


@pytest.mark.parametrize("kind", ["fresh", "expired", "none"])
def test_freshness_is_told_with_what_to_do(web: CrewWeb, kind: Any) -> None:
    until = None if kind == "none" else DAY
    fresh = Freshness(state=kind, until=until, clock_is_sure=False, says="")
    page = live(content(freshness=fresh))
    assert texts.freshness(fresh) in page
    hint = texts.gettext("The clock was not told the time, so it may be over.")
    assert (hint in page) is (kind == "fresh")
    assert ("2026" in texts.freshness(fresh)) is (kind != "none")


def test_what_is_kept_out_is_named_while_it_is_plugged_in(web: CrewWeb) -> None:
    gone = keyboard(present=False, why="gone")
    page = live(content(), Disks(ports=("front",), blocked=(keyboard(), gone), blocked_ever=2))
    assert "it is a keyboard (046d:c31c, pci-0000:00:14.0-usbv2-0:3)" in page
    assert "gone" not in page
    assert texts.gettext("Kept out") not in live(content(), Disks(blocked=(gone,)))
    assert texts.gettext("The USB ports are not watched now: no disk is let in.") in live(
        content(), None
    )


def test_without_content_sync_nothing_is_said_to_be_safe(web: CrewWeb) -> None:
    page = live(None)
    assert "verdict" not in page
    assert texts.gettext("If a disk is in, leave it in.") in page


def test_there_is_no_way_back_without_a_former_set(web: CrewWeb) -> None:
    assert 'hx-post="/content/rollback"' in live(content())
    assert 'hx-post="/content/rollback"' not in live(content(former=None))


def test_what_is_coming_is_told_beside_what_is_in_force(web: CrewWeb) -> None:
    assert "set-coming" in live(content(coming=content_set(13, missing=5)))
    assert "set-coming" not in live(content(coming=content_set(12)))


def gate(**changes: Any) -> GateView:
    values: dict[str, Any] = {"open": True, "says": "42 min at the gate", "last_heartbeat": DAY}
    return GateView(**(values | changes))


def test_the_gate_tells_its_plan_and_how_far_it_is(web: CrewWeb) -> None:
    told = gate(
        title=EVIL, bytes=3_400_000_000, bytes_fit=2_100_000_000, bytes_done=340_000_000, rate=5e5
    )
    page = live(content(gate=told))
    assert texts.gate_plan(told) in page
    assert texts.size(2_100_000_000) in texts.gate_plan(told)
    assert "42 min at the gate" in page
    assert "12:00 Z" in page
    assert "10 %" in page


@pytest.mark.parametrize("why", ["in flight", "there is no link to the ground", "something new"])
def test_a_closed_gate_says_why(web: CrewWeb, why: str) -> None:
    page = live(content(gate=gate(open=False, says=why, last_heartbeat=None)))
    assert texts.gate_closed(why) in page
    assert texts.gettext("Gate closed") in page
    assert texts.gettext("The Hangar has not answered since the start.") in page


def test_an_aircraft_without_a_gate_says_so(web: CrewWeb) -> None:
    assert texts.gettext("This aircraft has no gate: content comes by disk.") in live(content())


def test_the_demo_control_is_there_for_a_bench_alone(web: CrewWeb) -> None:
    assert "/content/gate" in live(content(gate=gate()), demo=True)
    assert "/content/gate" not in live(content(gate=gate()))


def test_the_tab_says_what_matters_most(web: CrewWeb) -> None:
    blocked = Disks(blocked=(keyboard(),))
    assert onboard.headline(content(disk(), disk("importing")), blocked) == "importing"
    assert onboard.headline(content(disk(), disk("refused")), blocked) == "refused"
    assert onboard.headline(content(disk()), blocked) == "kept-out"
    assert onboard.headline(content(gate=gate(title="x")), PORTS) == "gate"
    assert onboard.headline(content(disk()), PORTS) == "done"
    assert onboard.headline(content(), None) == "fresh"
    words = [*DISK_STATES, "kept-out", "gate", "fresh", "expired", "none"]
    said = {texts.content_now(word, None) for word in words}
    assert len(said) == len(words)
    assert texts.gettext("not known") not in said
    assert "42" in texts.content_now("importing", 42)


def test_percent_is_100_only_when_all_is_there() -> None:
    assert onboard.percent(999_999, 1_000_000) == 99
    assert onboard.percent(0, 0) == 100
    assert onboard.percent(5, 4) == 100


def test_sizes_and_times_are_in_units_that_people_use(web: CrewWeb) -> None:
    comma = "." if g.language.code == "en" else ","
    assert texts.size(3_440_000_000) == f"3{comma}4 GB"
    assert texts.size(999) == "999 B"
    assert texts.size(45e6) == "45 MB"
    assert texts.time_left(None) == ""
    assert "2" in texts.time_left(125)
    assert "1 h 5 min" in texts.time_left(3900)


def test_the_rollback_is_confirmed_by_the_number_of_the_set(web: CrewWeb) -> None:
    page = render_template("_rollback.html", state=content(), seconds=15.0)
    assert 'name="set" value="11"' in page
    assert "data-disarm" in page
