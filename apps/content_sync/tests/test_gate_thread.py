"""The thread that works while the gate is open outlives whatever happens to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from apps.common.backoff import BackOff
from apps.common.content import Entry
from apps.common.testing import wait_until
from apps.content_sync.carry import Account, Line, LinkError, StalledError, Wanted
from apps.content_sync.importer import Outcome
from apps.content_sync.link import GateState
from apps.content_sync.trust import RefusedError
from apps.content_sync.turnaround import NEXT_STOP, Turnaround, _Coming


@pytest.fixture
def turnaround(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Turnaround:
    """One that finds nothing new."""
    account = Account(IPv4Address("192.0.2.1"), 22, "x", tmp_path, tmp_path, "lo")
    found = Turnaround(
        account,
        tmp_path / "gate",
        tmp_path,
        cast("Any", None),
        lambda _: None,
        60.0,
        lambda: datetime.now(UTC),
    )
    monkeypatch.setattr(found, "_sync", lambda: None)
    return found


def test_an_answer_that_fails_ends_nothing(turnaround: Turnaround) -> None:
    def fails() -> None:
        raise ValueError("it cannot be told")

    turnaround.start()
    try:
        turnaround.gate(GateState(open=True, address=IPv4Address("192.0.2.2")))
        turnaround.sync_now(fails)
        wait_until(lambda: turnaround.trouble == "it cannot be told", "it is told")
        done = threading.Event()
        turnaround.sync_now(done.set)
        assert done.wait(10)
        assert turnaround.why_not() is None
    finally:
        turnaround.close()


def test_a_thread_that_has_ended_is_told(
    turnaround: Turnaround, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert turnaround.why_not() is None, "it was not to begin yet"
    monkeypatch.setattr(turnaround, "_wait", lambda _: False)
    turnaround.start()
    wait_until(turnaround.why_not, "it is told")


def test_a_link_that_flaps_does_not_make_the_stop_longer(turnaround: Turnaround) -> None:
    is_open = GateState(open=True, address=IPv4Address("192.0.2.2"))
    turnaround.gate(is_open)
    opened = turnaround._opened
    assert opened > 0
    turnaround.gate(GateState(open=False))
    turnaround.gate(is_open)
    assert turnaround._opened == opened
    turnaround.gate(GateState(open=False))
    turnaround._closed -= NEXT_STOP
    turnaround.gate(is_open)
    assert turnaround._opened > opened


def test_what_is_on_board_by_a_disk_is_neither_missed_nor_kept_half(
    turnaround: Turnaround, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = turnaround._staging / "incoming/objects/ab/abcd"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half of a film")
    monkeypatch.undo()
    monkeypatch.setattr(turnaround, "_lost", "the Hangar does not give a film as it is signed")
    monkeypatch.setattr(turnaround._carrier, "connected", lambda *_: nullcontext())
    monkeypatch.setattr(turnaround, "_look", lambda _: None)
    monkeypatch.setattr(turnaround, "_plan", lambda: None)
    turnaround._board = cast("Any", SimpleNamespace(store=SimpleNamespace(wants=lambda _: False)))
    turnaround._sync()
    assert turnaround._lost is None
    assert not half.exists()


def test_of_a_set_that_was_refused_no_half_catalogue_stays(turnaround: Turnaround) -> None:
    wanted = Wanted("ab" * 32, 1000)
    halves = [turnaround._staging / name / wanted.path for name in ("incoming", "partial", "basis")]
    for half in halves:
        half.parent.mkdir(parents=True)
        half.write_bytes(b"half of a catalogue")
    assert turnaround.halves.size() > 0
    turnaround._forget(set(), [wanted])
    assert not any(half.exists() for half in halves)
    assert turnaround.halves.size() == 0


def _fails(times: list[float]) -> Callable[[], None]:
    def sync() -> None:
        times.append(time.monotonic())
        raise LinkError("the line is gone")

    return sync


def test_a_gate_that_opens_is_tried_anew(
    turnaround: Turnaround, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed at the airport before says nothing of this one."""
    tries: list[float] = []
    monkeypatch.setattr(turnaround, "_sync", _fails(tries))
    turnaround._back_off = BackOff(0.01, 3600)
    is_open = GateState(open=True, address=IPv4Address("192.0.2.2"))
    for _ in range(16):
        turnaround._back_off.delay()
    turnaround.start()
    try:
        turnaround.gate(is_open)
        wait_until(lambda: len(tries) > 2, "it is tried, and tried again")
    finally:
        turnaround.close()


@pytest.mark.parametrize(
    ("error", "least", "most"),
    [
        (LinkError("the line is gone"), 30, 60),
        # Its metadata would be fetched anew each minute of a night.
        (RefusedError("expired", "it is too old"), 450, 900),
    ],
)
def test_a_set_that_is_not_believed_is_asked_for_ever_less_often(
    turnaround: Turnaround,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    least: float,
    most: float,
) -> None:
    waited: list[float] = []

    def wait(delay: float) -> bool:
        waited.append(delay)
        return len(waited) < 16

    def sync() -> None:
        raise error

    monkeypatch.setattr(turnaround, "_wait", wait)
    monkeypatch.setattr(turnaround, "_sync", sync)
    turnaround._run()
    assert waited[1] <= 1
    assert least <= waited[-1] <= most
    assert turnaround.trouble == str(error)


def test_a_link_that_brings_something_is_tried_again_at_once(
    turnaround: Turnaround, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it breaks; one that brings nothing is given more and more time."""
    wanted = Wanted("ab" * 32, 1000)
    half = turnaround._staging / "incoming" / wanted.path
    half.parent.mkdir(parents=True)

    def fetch(_: Line, batch: list[Wanted], *, comes: bytes) -> list[str]:
        with half.open("ab") as file:
            file.write(comes)
        raise LinkError("the line is gone")

    for comes, least, most in ((b"", 20, 60), (b"some", 0, 1)):
        for _ in range(16):
            turnaround._back_off.delay()
        monkeypatch.setattr(turnaround._carrier, "fetch", partial(fetch, comes=comes))
        with pytest.raises(LinkError):
            turnaround._fetch(cast("Any", None), [wanted])
        assert least <= turnaround._back_off.delay() <= most


def test_usage_has_a_minute_of_a_stop_and_not_of_each_try(
    turnaround: Turnaround, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    waited: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: clock[-1])
    monkeypatch.setattr(turnaround, "_usage_out", waited.append)
    is_open = GateState(open=True, address=IPv4Address("192.0.2.2"))
    turnaround.gate(is_open)
    for moment in (1020.0, 1050.0, 1090.0, 1300.0):
        clock.append(moment)
        turnaround._usage_first()
    turnaround.gate(GateState(open=False))
    clock.append(1301.0 + NEXT_STOP)
    turnaround.gate(is_open)
    turnaround._usage_first()
    assert waited == [60.0, 30.0, 60.0]


def test_an_object_over_which_the_hangar_stumbles_does_not_take_the_whole_stop(
    turnaround: Turnaround, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two runs that it ended, what comes behind it comes; each is a try of its own."""
    bad, good = (Wanted(digits * 32, 1000) for digits in ("ab", "cd"))
    coming = [
        _Coming("films", Entry(id=name, titles={"en": name}), {one.digest: one}, 1000)
        for name, one in (("bad", bad), ("good", good))
    ]
    store = SimpleNamespace(has=lambda _: False, free=lambda: 10_000)
    turnaround._board = cast(
        "Any", SimpleNamespace(store=store, take=lambda _source, _kinds: Outcome(1))
    )
    came: list[str] = []

    def fetch(_: Line, batch: list[Wanted]) -> list[str]:
        if bad in batch:
            raise StalledError("it hangs")
        for one in batch:
            path = turnaround._staging / one.path
            path.parent.mkdir(parents=True)
            path.write_bytes(b"a" * one.length)
            came.append(one.digest)
        return came

    monkeypatch.setattr(turnaround._carrier, "fetch", fetch)
    for _ in range(2):
        turnaround._coming = list(coming)
        with pytest.raises(StalledError):
            turnaround._bring(cast("Any", None))
    turnaround._coming = list(coming)
    turnaround._bring(cast("Any", None))
    assert came == [good.digest]
    assert turnaround._lost == "the Hangar does not give bad as it is signed"
