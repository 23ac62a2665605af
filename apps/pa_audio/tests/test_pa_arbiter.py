"""Who is heard where, whatever the keylines and the crew do."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from apps.common.pa import ALL_AREAS, Keylines, Line, Source
from apps.pa_audio.arbiter import (
    MAX_QUEUE,
    MAX_QUEUED,
    NO_CALLS,
    Arbiter,
    Calls,
    DecompressionError,
    Groups,
    OnAir,
    PramItem,
    QueueFullError,
    read_calls,
)

AREAS = 3
ALL = frozenset({ALL_AREAS})
EVERY = frozenset(range(1, AREAS + 1))
PACKETS = tuple(bytes([n]) for n in range(10))

groups = st.frozensets(st.integers(1, AREAS)) | st.just(ALL)


def item(ident: int = 1, **different: Any) -> PramItem:
    values: dict[str, Any] = {
        "id": ident,
        "message": "welcome",
        "languages": ("en",),
        "groups": ALL,
        "packets": PACKETS,
        "sentences": (0, 4, 7),
        "when_interrupted": "restart",
    }
    return PramItem(**values | different)


def sources(heard: tuple[OnAir, ...]) -> dict[Source, Groups]:
    return {on_air.source: on_air.areas for on_air in heard}


def played(arbiter: Arbiter, count: int) -> list[bytes | None]:
    """What is played while nobody interrupts."""
    packets: list[bytes | None] = []
    for _ in range(count):
        assert Source.PRAM in sources(arbiter.decide(NO_CALLS))
        packets.append(arbiter.next_packet())
    return packets


@given(pilot=groups, crew=groups, music=groups, message=groups)
def test_in_each_area_the_highest_that_calls_is_heard(
    pilot: Groups, crew: Groups, music: Groups, message: Groups
) -> None:
    arbiter = Arbiter(AREAS)
    arbiter.switch_music(music, on=True)
    if message:
        arbiter.add(item(groups=message))
    heard = arbiter.decide(Calls(pilot=pilot, crew=crew))
    by_source = sources(heard)
    reached = {source: arbiter.areas_of(areas) for source, areas in by_source.items()}
    for area in EVERY:
        calling = [
            source
            for source, wanted in (
                (Source.PILOT, pilot),
                (Source.CREW, crew),
                (Source.MUSIC, music),
            )
            if area in arbiter.areas_of(wanted)
        ]
        # A message plays where all who are to hear it can.
        if Source.PRAM in by_source and area in arbiter.areas_of(message):
            calling.append(Source.PRAM)
        here = [source for source, areas in reached.items() if area in areas]
        assert here == ([max(calling)] if calling else [])
    free = not (arbiter.areas_of(pilot) | arbiter.areas_of(crew)) & arbiter.areas_of(message)
    assert (Source.PRAM in by_source) == (bool(message) and free)


def test_an_announcement_for_all_goes_to_the_one_group_also_where_a_higher_one_speaks() -> None:
    heard = Arbiter(AREAS).decide(Calls(pilot=frozenset({1}), crew=ALL))
    assert [(it.source, it.groups, it.areas) for it in heard] == [
        (Source.PILOT, frozenset({1}), frozenset({1})),
        (Source.CREW, ALL, frozenset({2, 3})),
    ]


def test_one_for_areas_leaves_those_where_a_higher_one_speaks() -> None:
    heard = Arbiter(AREAS).decide(Calls(pilot=frozenset({1}), crew=frozenset({1, 2})))
    assert [(it.source, it.groups) for it in heard] == [
        (Source.PILOT, frozenset({1})),
        (Source.CREW, frozenset({2})),
    ]


def test_a_message_plays_to_its_end_and_then_the_next() -> None:
    arbiter = Arbiter(AREAS)
    arbiter.add(item(1))
    arbiter.add(item(2))
    assert played(arbiter, 11) == [*PACKETS, None]
    (on_air,) = arbiter.decide(NO_CALLS)
    assert on_air.item is not None
    assert on_air.item.id == 2


@pytest.mark.parametrize(
    ("kind", "at", "again_from"),
    [
        ("restart", 8, 0),
        ("sentence", 8, 7),
        ("sentence", 7, 7),
        ("sentence", 5, 4),
        ("sentence", 2, 0),
    ],
)
@pytest.mark.parametrize("where", [ALL, frozenset({2})])
def test_an_interrupted_message_is_played_again_as_its_kind_says(
    kind: Any, at: int, again_from: int, where: Groups
) -> None:
    arbiter = Arbiter(AREAS)
    arbiter.add(item(when_interrupted=kind))
    played(arbiter, at)
    for _ in range(4):
        assert Source.PRAM not in sources(arbiter.decide(Calls(crew=where)))
    assert played(arbiter, 1) == [PACKETS[again_from]]


def test_a_paused_message_goes_on_where_it_was() -> None:
    arbiter = Arbiter(AREAS)
    arbiter.add(item())
    arbiter.switch_music(ALL, on=True)
    played(arbiter, 5)
    assert sources(arbiter.decide(Calls(pram_pause=True))) == {Source.MUSIC: EVERY}
    assert played(arbiter, 1) == [PACKETS[5]]


@given(st.lists(st.tuples(groups, st.booleans())))
def test_music_is_switched_where_it_is_told_and_nowhere_else(
    orders: list[tuple[Groups, bool]],
) -> None:
    arbiter = Arbiter(AREAS)
    plays: frozenset[int] = frozenset()
    for where, on in orders:
        arbiter.switch_music(where, on=on)
        areas = arbiter.areas_of(where)
        plays = plays | areas if on else plays - areas
        heard = arbiter.decide(NO_CALLS)
        assert sources(heard) == ({Source.MUSIC: plays} if plays else {})
        # Each seat hears one group of it.
        assert all(one.groups in (ALL, plays) for one in heard)


def test_ent_pause_is_nobody_speaking() -> None:
    assert Arbiter(AREAS).decide(Calls(ent_pause=ALL)) == ()


def test_decompression_ends_messages_and_music_but_neither_pilot_nor_crew() -> None:
    arbiter = Arbiter(AREAS)
    arbiter.add(item())
    arbiter.switch_music(ALL, on=True)
    played(arbiter, 3)
    calls = Calls(pilot=frozenset({1}), crew=frozenset({2}), decompression=True)
    assert sources(arbiter.decide(calls)) == {Source.PILOT: {1}, Source.CREW: {2}}
    with pytest.raises(DecompressionError):
        arbiter.add(item())
    with pytest.raises(DecompressionError):
        arbiter.switch_music(ALL, on=True)
    # They do not come back by themselves.
    assert arbiter.decide(NO_CALLS) == ()
    arbiter.add(item())


def test_a_message_that_is_taken_out_while_it_plays_leaves_the_next_whole() -> None:
    arbiter = Arbiter(AREAS)
    arbiter.add(item(1))
    arbiter.add(item(2))
    played(arbiter, 5)
    assert arbiter.remove(1)
    assert not arbiter.remove(1)
    assert played(arbiter, 1) == [PACKETS[0]]
    arbiter.clear()
    assert arbiter.queue == ()


def test_the_queue_has_a_bound() -> None:
    arbiter = Arbiter(AREAS)
    for ident in range(MAX_QUEUE):
        arbiter.add(item(ident))
    with pytest.raises(QueueFullError):
        arbiter.add(item(99))
    arbiter.clear()
    long = PACKETS * (MAX_QUEUED // len(PACKETS) // 2)
    arbiter.add(item(1, packets=long))
    arbiter.add(item(2, packets=long))
    with pytest.raises(QueueFullError):
        arbiter.add(item(3))


def test_keylines_name_areas_and_an_unknown_one_is_all() -> None:
    areas = {"business": 1, "economy": 2}
    calls = read_calls(
        Keylines(pilot=Line(areas=("economy",)), crew=Line(areas=("business", "attic"))), areas
    )
    assert calls.pilot == {2}
    assert calls.crew == ALL
    assert read_calls(Keylines(ent_pause=Line(all=True)), areas).ent_pause == ALL
    assert read_calls(Keylines(), areas) == NO_CALLS


class Cabin(RuleBasedStateMachine):
    """Anything happens, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.arbiter = Arbiter(AREAS)
        self.calls = NO_CALLS
        self.ident = 0
        self.heard_of: dict[int, list[bytes]] = {}

    @rule(where=groups, kind=st.sampled_from(["restart", "sentence"]))
    def add(self, where: Groups, kind: Any) -> None:
        if where and len(self.arbiter.queue) < MAX_QUEUE:
            self.ident += 1
            with contextlib.suppress(DecompressionError):
                self.arbiter.add(item(self.ident, groups=where, when_interrupted=kind))

    @rule(
        pilot=groups,
        crew=groups,
        pram_pause=st.booleans(),
        decompression=st.sampled_from([False, False, False, True]),
    )
    def key(self, **lines: Any) -> None:
        self.calls = Calls(**lines)

    @rule()
    def release(self) -> None:
        self.calls = NO_CALLS

    @rule(where=groups, on=st.booleans())
    def switch_music(self, where: Groups, on: bool) -> None:
        with contextlib.suppress(DecompressionError):
            self.arbiter.switch_music(where, on=on)

    @rule(count=st.integers(1, 12))
    def play(self, count: int) -> None:
        for _ in range(count):
            on_air = sources(self.arbiter.decide(self.calls))
            if Source.PRAM not in on_air:
                return
            head = self.arbiter.queue[0]
            packet = self.arbiter.next_packet()
            if packet is None:
                # Whoever stayed until the end has heard the whole of it, in order, at the end.
                assert self.heard_of.pop(head.id)[-3:] == list(PACKETS[-3:])
            else:
                self.heard_of.setdefault(head.id, []).append(packet)

    @invariant()
    def each_area_hears_one_at_most(self) -> None:
        heard = self.arbiter.decide(self.calls)
        taken: list[int] = [area for on_air in heard for area in on_air.areas]
        assert len(taken) == len(set(taken))
        assert [it.source for it in heard] == sorted((it.source for it in heard), reverse=True)
        for on_air in heard:
            assert on_air.areas
            assert on_air.areas <= self.arbiter.areas_of(on_air.groups)
            assert (on_air.item is not None) == (on_air.source is Source.PRAM)


TestCabin = Cabin.TestCase
