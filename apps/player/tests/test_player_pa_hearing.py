"""Which announcement a seat hears, and for how long the PA has it."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from apps.common.pa import SAMPLES, Audio, Beacon, Source
from apps.player.announcement import Announcement
from apps.player.pa_hearing import HEARD_WITHIN, Ear, Override
from apps.player.pa_report import PaReport
from apps.player.screen_messages import Running
from apps.player.stall import FROZEN_AFTER, START_FIRST, Silence, StallWatch

AREA = 2
GROUPS = (0, AREA)
LOUD = np.full(SAMPLES, 9000, ">i2").tobytes()


def audio(number: int, source: Source = Source.CREW, index: int = 0, **changes: Any) -> Audio:
    values: dict[str, Any] = {
        "area": 0,
        "source": source,
        "number": number,
        "time": 0,
        "ssrc": number,
        "sequence": index,
        "timestamp": index * SAMPLES,
        "samples": LOUD,
    }
    return Audio(**values | changes)


def beacon(area: int = 0, *, ent_pause: bool = False) -> Beacon:
    return Beacon(area, None, 0, 0, 1, "pa_audio@EC-LAB", ent_pause)


def number_of(ear: Ear) -> int | None:
    return None if ear.override is None else ear.override.number


def test_it_is_taken_over_by_the_first_packet_and_given_back_by_the_flag() -> None:
    ear = Ear(GROUPS, 0.01)
    ear.hear(beacon(AREA), 0.9)
    ear.hear(audio(7), 1.0)
    assert ear.override == Override(Source.CREW, 7, 0)
    ear.hear(audio(7, index=1, ended=True), 1.005)
    # What is in the buffer is still played, what comes late opens nothing.
    assert number_of(ear) == 7
    assert ear.pull(240, 1.01) is not None
    assert ear.next_at == 1.015
    ear.tick(1.015)
    assert number_of(ear) is None
    assert ear.relied_on(1.015)
    ear.hear(audio(7, index=2, ended=True), 1.05)
    ear.hear(audio(7, index=0), 1.06)
    assert ear.override is None


def test_it_is_given_back_300_ms_after_the_last_packet() -> None:
    ear = Ear(GROUPS, 0.01)
    ear.hear(beacon(AREA), 0.9)
    for index in range(10):
        ear.hear(audio(7, index=index), 1.0 + index * 0.005)
    assert abs(ear.next_at - 1.345) < 1e-9
    ear.tick(1.344)
    assert number_of(ear) == 7
    ear.tick(1.346)
    assert ear.override is None
    assert not ear.relied_on(1.346), "it broke off, so who knows"
    ear.hear(beacon(AREA), 1.35)
    assert not ear.relied_on(1.35), "that is another group"
    ear.hear(beacon(), 1.4)
    assert ear.relied_on(1.4)
    assert not ear.relied_on(1.35 + HEARD_WITHIN), "one of the two groups is silent"
    ear.hear(beacon(AREA), 1.5)
    assert not ear.relied_on(1.4 + HEARD_WITHIN)


def test_an_announcement_that_was_elsewhere_meanwhile_is_heard_again() -> None:
    """It is the same, so it has its number; but its packets are another stream."""
    ear = Ear(GROUPS, 0.01)
    ear.hear(audio(7, area=AREA, ssrc=1), 1.0)
    ear.hear(audio(7, index=1, area=AREA, ssrc=1, ended=True), 1.1)
    ear.tick(1.2)
    ear.hear(audio(7, index=100, area=AREA, ssrc=2, first=True), 5.0)
    assert ear.override == Override(Source.CREW, 7, AREA)
    ear.hear(audio(7, index=2, area=AREA, ssrc=1), 5.1)
    ear.hear(audio(7, index=101, area=AREA, ssrc=2, ended=True), 5.2)
    ear.tick(5.21)
    assert ear.override is None


def test_the_higher_source_is_heard_and_then_the_other_if_it_still_goes_on() -> None:
    ear = Ear(GROUPS, 0.01)
    ear.hear(audio(1, Source.PRAM, area=AREA), 1.0)
    ear.hear(audio(2, Source.PILOT), 1.1)
    assert number_of(ear) == 2
    ear.hear(audio(1, Source.PRAM, 1, area=AREA), 1.2)
    assert number_of(ear) == 2
    ear.hear(audio(2, Source.PILOT, 1, ended=True), 1.25)
    assert number_of(ear) == 1
    ear.hear(audio(3, Source.MUSIC), 1.3)
    assert number_of(ear) == 1


def test_between_two_that_follow_each_other_entertainment_does_not_come_up() -> None:
    """The next one's first packet is sent up to one packet's time after the last of the former."""
    ear = Ear(GROUPS, 0.01)
    ear.hear(audio(1, Source.PRAM), 1.0)
    ear.hear(audio(1, Source.PRAM, 1, ended=True), 1.005)
    ear.tick(1.0099)
    assert number_of(ear) == 1
    ear.hear(audio(2, Source.PRAM), 1.01)
    assert number_of(ear) == 2
    ear.tick(1.02)
    assert number_of(ear) == 2


def test_of_the_same_source_the_later_is_heard() -> None:
    ear = Ear(GROUPS, 0.01)
    ear.hear(audio(1, area=AREA), 1.0)
    ear.hear(audio(2), 1.1)
    ear.hear(audio(1, index=1, area=AREA), 1.2)
    assert number_of(ear) == 2


def test_a_pause_without_audio_lasts_as_long_as_it_is_told() -> None:
    ear = Ear(GROUPS, 0.01)
    ear.hear(beacon(AREA, ent_pause=True), 1.0)
    assert number_of(ear) == 0
    ear.hear(beacon(0), 1.1)
    assert number_of(ear) == 0, "the other group says nothing of this one"
    ear.hear(beacon(AREA), 1.2)
    assert number_of(ear) is None
    # And goes on after an announcement that carries it.
    ear.hear(audio(7, ent_pause=True), 2.0)
    ear.hear(audio(7, index=1, ended=True, ent_pause=True), 2.1)
    ear.tick(2.11)
    assert ear.override == Override(None, 0, 0)
    ear.tick(2.5)
    assert number_of(ear) is None


def test_one_that_was_not_heard_goes_on_where_it_is_by_then() -> None:
    ear = Ear(GROUPS, 0.01)
    for index in range(40):
        now = 1.0 + index * 0.005
        low = np.full(SAMPLES, 100 * index, ">i2").tobytes()
        ear.hear(audio(1, Source.PRAM, index, area=AREA, samples=low), now)
        if index < 30:
            ear.hear(audio(2, Source.PILOT, index, ended=index == 29), now)
        samples = ear.pull(240, now)
    assert samples is not None
    assert abs(samples.mean() - 3700) < 150


@given(
    st.lists(
        st.tuples(
            st.sampled_from(Source),
            st.integers(1, 4),
            st.sampled_from([0, AREA]),
            st.booleans(),
            st.booleans(),
            st.floats(0, 0.4),
        ),
        max_size=60,
    )
)
def test_whatever_is_said_the_seat_comes_free_again(said: list[Any]) -> None:
    ear, now = Ear(GROUPS, 0.01), 1.0
    for index, (source, number, area, ended, ent_pause, passed) in enumerate(said):
        now += passed
        ear.hear(audio(number, source, index, area=area, ended=ended, ent_pause=ent_pause), now)
        samples = ear.pull(120, now)
        assert samples is None or samples.shape == (120,)
        assert ear.next_at > now
    ear.tick(now + 0.301)
    assert ear.override is None
    assert ear.begins_at is None


# -- with the command channel -----------------------------------------------------------------


def report(*, on: bool = False, relied_on: bool = True) -> PaReport:
    return PaReport(on=on, relied_on=relied_on)


def test_the_command_channel_counts_where_the_pa_cannot_tell() -> None:
    announcement = Announcement(AREA)
    announcement.beacon((AREA,), 1.0)
    assert announcement.told(1.0), "there is no PA child"
    announcement.report(report(relied_on=False), 1.1)
    assert announcement.told(1.1), "it hears nothing"
    announcement.report(report(), 1.2)
    assert not announcement.told(1.2), "it knows better"
    announcement.report(report(on=True), 1.3)
    assert announcement.heard(1.3)
    assert not announcement.told(1.3), "the screen knows that from the PA child"
    announcement.beacon((AREA,), 4.0)
    assert announcement.told(4.4), "the PA child ended"
    assert announcement.faults(4.4) == ("pa",)
    assert not announcement.told(7.1), "no beacon followed"


def test_a_beacon_says_so_for_this_area_or_all() -> None:
    for areas, told in [((AREA,), True), ((0,), True), ((1, 3), False), ((), False), (None, False)]:
        announcement = Announcement(AREA)
        announcement.beacon((0,), 0.9)
        announcement.beacon(areas, 1.0)
        assert announcement.told(1.0) == told


# -- the watch over the screen ------------------------------------------------------------------


def running(shown: int, *, moving: bool = True) -> Running:
    return Running(position=1.0, shown=shown, moving=moving)


def test_a_picture_that_stands_still_has_the_screen_started_anew_but_not_again_and_again() -> None:
    watch, restarts, now = StallWatch(), [], 0.0
    watch.started(now)
    while now < 60:
        now += 0.2
        watch.running(running(5), now)
        if watch.must_restart(now):
            restarts.append(now)
            watch.started(now)
    assert FROZEN_AFTER < restarts[0] < FROZEN_AFTER + 0.5
    assert 3 <= len(restarts) <= 8
    assert watch.trouble == "the picture stands still"
    for shown in range(20):
        now += 0.2
        watch.running(running(shown), now)
        assert not watch.must_restart(now)
    assert watch.trouble is None


def test_a_picture_that_need_not_move_is_well() -> None:
    watch, now = StallWatch(), 0.0
    watch.started(now)
    for _ in range(100):
        now += 0.2
        watch.running(running(5, moving=False), now)
        assert not watch.must_restart(now)


def test_a_child_that_says_nothing_hangs() -> None:
    watch = StallWatch()
    assert not watch.must_restart(100.0), "there is none yet"
    watch.started(100.0)
    watch.running(running(1), 101.0)
    assert not watch.must_restart(102.9)
    assert watch.must_restart(103.1)
    assert not watch.must_restart(103.2), "once"
    assert watch.trouble == "the screen hangs"


def test_a_child_that_is_slow_to_start_is_given_more_time_each_time() -> None:
    silence, now, given = Silence(3.0), 0.0, []
    assert not silence.is_too_long(1e9), "there is none yet"
    for _ in range(5):
        silence.started(now)
        began = now
        while not silence.is_too_long(now):
            now += 1.0
        given.append(now - began - 1.0)
    assert given == [10.0, 20.0, 40.0, 80.0, 80.0]
    silence.started(now)
    silence.broken(now + 70)
    assert not silence.is_too_long(now + 73)
    assert silence.is_too_long(now + 73.1)
    silence.started(now)
    assert silence.is_too_long(now + START_FIRST + 0.1), "this one had begun"


def test_a_child_that_starts_slowly_is_not_frozen() -> None:
    watch = StallWatch()
    watch.started(100.0)
    assert not watch.must_restart(100.0 + FROZEN_AFTER + 1)
    watch.running(running(0), 106.0)
    assert not watch.must_restart(107.0)
