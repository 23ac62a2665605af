"""The fragments of the PA and of video in every language, from what the apps may say."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from flask import g, render_template

from apps.common.announcements import (
    MessageView,
    PaView,
    PramView,
    QueuedView,
    RecordingView,
    SelfTestView,
)
from apps.common.channels import (
    ChannelState,
    ChannelsView,
    ImposeAnswer,
    ImposedState,
    ImposedView,
    ImposeRequest,
)
from apps.common.commands import Accepted, RowRange, Selector
from apps.common.pa import PaAnnouncement, PaState, Source
from apps.common.screens import ScreensView, ScreenView
from apps.crew_web import texts
from apps.crew_web.service import CrewWeb

EVIL = '<script>alert("x")</script>'

NOW = 1_800_000_000.0


def pa(level: float = -20.0, **changes: Any) -> PaView:
    """The crew speak in economy, music plays in business, a message waits."""
    announcements = (
        PaAnnouncement(source="crew", areas=("economy",), number=8, since=int(NOW * 1000) - 65_000),
        PaAnnouncement(source="music", areas=("business",), number=7, since=int(NOW * 1000)),
    )
    state = PaState(
        state="announcement",
        source="crew",
        areas=("business", "economy"),
        number=8,
        announcements=announcements,
        ent_pause=("business",),
    )
    queue = (QueuedView(id=3, message="boarding", languages=("en",), areas=(), seconds=75.0),)
    self_test = SelfTestView(
        passed=True,
        heard_ago=0.0,
        delay_ms=1.0,
        delay_max_ms=2,
        packets=200,
        lost=0,
        level=level,
    )
    whole: dict[str, Any] = {
        "state": state,
        "level": level,
        "music": ("business",),
        "queue": queue,
        "self_test": self_test,
        "sent": 200,
        "lost": 0,
    }
    return PaView(**(whole | changes))


def live(view: PaView | None, **more: Any) -> str:
    speaking = {one: it for it in view.state.announcements for one in it.areas} if view else {}
    values: dict[str, Any] = {"speaking": speaking, "is_played": False, "titles": {}, "now": NOW}
    return render_template("_pa_live.html", pa=view, **(values | more))


def view(**imposed: Any) -> ChannelsView:
    """A channel in each state, two imposed videos."""
    channels = [
        {
            "id": f"c-{state}",
            "names": {"en": "News <1>", "de": "Nachrichten"},
            "group": "239.192.80.1",
            "port": 5004,
            "live": False,
            "state": state,
            "file": "news/monday.ts",
            "position": 61.0,
            "duration": 3_700.0,
            "trouble": EVIL,
        }
        for state in get_args(ChannelState)
    ]
    video = {
        "id": "safety",
        "names": {"en": "Safety <2>"},
        "group": "239.192.80.200",
        "port": 5004,
        "languages": ["en", "de", "qq"],
        "state": "idle",
    }
    return ChannelsView.model_validate(
        {"source": "10.20.0.1", "channels": channels, "imposed": [video | imposed]}
    )


def screens(locked: bool = False) -> ScreensView:
    return ScreensView(
        locked=locked,
        screens=(
            ScreenView(
                id="f1", bus="b1", label="Forward <3>", deployed=True, power=True, input="1"
            ),
            ScreenView(id="f2", bus="b1", label="Aft", trouble=EVIL),
            ScreenView(id="f3", bus="b1", label="Middle"),
        ),
    )


def test_each_area_says_who_speaks_and_how_loud(web: CrewWeb) -> None:
    page = live(pa())
    assert 'id="area-economy" class="area" data-source="crew"' in page
    assert "1:05" in page
    assert "-20 dB" in page
    assert page.count("<meter") == 1
    assert 'data-source="music"' in page
    assert texts.gettext("Entertainment is paused") in page
    assert "-17 dB" in live(pa(-16.9))
    assert texts.gettext("no sound") in live(pa(-96.0))


def test_the_queue_is_stopped_one_by_one_or_at_once(web: CrewWeb) -> None:
    titles = {"boarding": MessageView(titles={"en": EVIL})}
    page = live(pa(), titles=titles)
    assert 'hx-post="/pa/messages/3/stop"' in page
    assert 'hx-post="/pa/messages/stop"' in page
    assert texts.gettext("interrupted, comes again") in page
    assert EVIL not in page
    assert texts.gettext("interrupted, comes again") not in live(pa(), is_played=True)
    # A title that is not known is no reason to show nothing.
    assert "boarding" in live(pa())
    assert "disabled" in live(pa(queue=()))


def test_music_is_switched_area_by_area(web: CrewWeb) -> None:
    page = live(pa())
    assert page.count('aria-pressed="true"') == 1
    assert texts.gettext("Stop the music") in page
    assert texts.gettext("Play everywhere") in live(pa(music=()))


def test_messages_are_offered_in_the_language_that_is_chosen(web: CrewWeb) -> None:
    pram = PramView(
        messages={
            "boarding": MessageView(titles={"en": "Boarding", "de": "Einsteigen"}),
            "belts": MessageView(titles={"en": EVIL}),
        },
        queue=(),
        trouble=EVIL,
    )
    page = render_template("_pa_messages.html", pram=pram, codes=["en", "de"], chosen="de")
    assert "Einsteigen" in page
    assert page.count(" disabled>") == 1
    assert 'value="de" id="pick-language-de" checked' in page
    assert EVIL not in page
    page = render_template("_pa_messages.html", pram=pram, codes=["en", "de"], chosen=None)
    assert " disabled>" not in page


def test_announcements_can_be_heard_again(web: CrewWeb) -> None:
    one = RecordingView(
        number=9, since=1_800_000_060_000, source="pilot", areas=("business",), seconds=62.0
    )
    page = render_template("_pa_announcements.html", announcements=(one,))
    assert 'data-replay="/api/v1/announcements/9/audio"' in page
    assert "08:01 Z" in page
    assert "1:02" in page
    assert "empty" in render_template("_pa_announcements.html", announcements=())


def test_channels_and_screens_say_how_they_are(web: CrewWeb) -> None:
    page = render_template("_video_live.html", view=view(), screens=screens())
    for text in (EVIL, "<1>", "<2>", "<3>"):
        assert text not in page
    assert "1:01 / 1:01:40" in page
    assert 'data-picture="/api/v1/channels/c-playing/picture"' in page
    assert texts.gettext("deployed") in page
    assert texts.gettext("does not answer") in page
    assert 'id="screens-locked"' not in page
    locked = render_template("_video_live.html", view=view(), screens=screens(locked=True))
    assert 'id="screens-locked"' in locked
    orders = locked.split('id="screens-locked"')[1]
    assert orders.count("<button") == orders.count(" disabled")
    assert 'name="where" value="screens"' in page
    none = render_template(
        "_video_live.html", view=view(), screens=ScreensView(locked=False, screens=())
    )
    assert 'name="where" value="screens"' not in none
    away = render_template("_video_live.html", view=None, screens=None)
    assert texts.gettext("Video does not answer.") in away


@pytest.mark.parametrize(("state", "action"), [("playing", "pause"), ("paused", "resume")])
def test_an_imposed_video_says_what_is_left(web: CrewWeb, state: str, action: str) -> None:
    on = view(state=state, language="de", position=10.0, remaining=125.0, screens=True)
    page = render_template("_video_live.html", view=on, screens=None)
    assert "2:05" in page
    assert f'name="action" value="{action}"' in page
    assert texts.gettext("Screens only") in page
    somewhere = view(state=state, language="de", seats={"rows": [{"first": 3, "last": 5}]})
    page = render_template("_video_live.html", view=somewhere, screens=None)
    assert texts.selector(Selector(rows=(RowRange(first=3, last=5),)), web.layout) in page
    over_and_over = view(state=state, language="de", position=10.0)
    page = render_template("_video_live.html", view=over_and_over, screens=None)
    assert texts.gettext("over and over, until it is stopped") in page


@pytest.mark.parametrize("count", [1, 2])
def test_the_confirming_step_says_what_and_where(web: CrewWeb, count: int) -> None:
    seats = ["12C", "12D"][:count]
    order = ImposeRequest(
        channel="safety", language="de", selector=Selector(seats=tuple(seats)), screens=True
    )
    video: ImposedView = view().imposed[0]
    page = render_template(
        "_confirm.html", video=video, order=order, seats=seats, others=[video], seconds=15.0
    )
    assert f'name="seats" value="{" ".join(seats)}"' in page
    assert 'name="confirmed" value="yes"' in page
    assert 'name="screens" value="yes"' in page
    assert "12C" in page
    assert str(count) in page


def test_what_became_of_it_is_said(web: CrewWeb) -> None:
    video, seats = view().imposed[0], Selector(all=True)
    told = ImposeAnswer(video=video, command=Accepted(seq=4, targets=312))
    page = render_template("_imposed.html", answer=told, selector=seats)
    assert "312" in page
    assert "data-deliveries" in page
    not_told = ImposeAnswer(video=video, command=None)
    page = render_template("_imposed.html", answer=not_told, selector=seats)
    assert "good" not in page
    assert "good" in render_template("_imposed.html", answer=not_told, selector=None)


def test_a_place_is_found_by_time(web: CrewWeb) -> None:
    page = render_template("_seek.html", channel=view().channels[0])
    assert 'value="1" data-duration="3700.0"' in page


def test_there_are_words_for_all_that_may_be_said(web: CrewWeb) -> None:
    for source in Source:
        word = source.name.lower()
        assert texts.source(word) != word
        assert texts.source(word, short=True) != word
    states = (*get_args(ChannelState), *get_args(ImposedState))
    words = {state: texts.channel_state(state) for state in states}
    assert len(set(words.values())) == len(words)
    assert g.language.code == "en" or not set(words) & set(words.values())
    assert texts.language("de")[0].isupper()
    assert texts.language("qq") == "qq"
    assert texts.clock(None) == ""
    assert texts.areas(web.layout.pa_areas, web.layout) == texts.gettext("Everywhere")
    assert texts.media_refusal("queue-full") != texts.media_refusal("new")
