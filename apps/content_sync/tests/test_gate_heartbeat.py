"""Heartbeats: when they are sent, what becomes of what the Hangar asks for, and logs for it."""

from __future__ import annotations

import contextlib
import queue
import random
import time
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from apps.common.gate import Heartbeat, HeartbeatAnswer, Outcome, Request, Space
from apps.common.testing import wait_until
from apps.content_sync.heartbeat import REMEMBERED, Heartbeats, Requests
from apps.content_sync.logs import pack


def request(kind: str = "sync_now") -> Request:
    return Request(id=uuid4(), kind=kind, asked_at=0)


def outcome(of: Request, state: str) -> Outcome:
    return Outcome.model_validate({"id": of.id, "state": state})


def test_a_request_is_decided_once_and_told_until_it_was_heard() -> None:
    requests, asked = Requests(), request()
    assert requests.new((asked,)) == [asked]
    requests.decide(outcome(asked, "accepted"))
    accepted = requests.untold()
    assert [told.state for told in accepted] == ["accepted"]
    # Before the answer comes it is done: the Hangar has heard of the former only.
    requests.decide(outcome(asked, "done"))
    requests.told(accepted)
    done = requests.untold()
    assert [told.state for told in done] == ["done"]
    requests.told(done)
    assert requests.untold() == ()
    # An answer was lost, so the Hangar asks again: it is told again, and not done again.
    assert requests.new((asked,)) == []
    assert requests.untold() == done


@given(st.lists(st.integers(0, 200), max_size=300))
def test_it_remembers_some_requests_and_no_more(numbers: list[int]) -> None:
    requests = Requests()
    for number in numbers:
        asked = Request(id=UUID(int=number), kind="sync_now", asked_at=0)
        for fresh in requests.new((asked,)):
            requests.decide(outcome(fresh, "refused"))
    assert len(requests._outcomes) <= REMEMBERED
    assert requests._untold <= set(requests._outcomes)
    assert len(requests.untold()) <= 16


class Hangar:
    """Takes heartbeats, and says what it was told to."""

    def __init__(self) -> None:
        self.taken: queue.Queue[Heartbeat] = queue.Queue()
        self.answers: queue.Queue[HeartbeatAnswer | Exception] = queue.Queue()
        self.connections = 0
        self.closed = 0

    def connect(self) -> Hangar:
        self.connections += 1
        return self

    def close(self) -> None:
        self.closed += 1

    def send_heartbeat(self, heartbeat: Heartbeat) -> HeartbeatAnswer:
        self.taken.put(heartbeat)
        answer = HeartbeatAnswer(at=0) if self.answers.empty() else self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


def heartbeat(outcomes: tuple[Outcome, ...]) -> Heartbeat:
    return Heartbeat(
        registration="EC-LAB",
        at=0,
        boot_id="0" * 32,
        space=Space(free=1, total=2),
        outcomes=outcomes,
    )


@pytest.fixture
def hangar() -> Hangar:
    return Hangar()


@pytest.fixture
def asked() -> queue.Queue[Request]:
    return queue.Queue()


@pytest.fixture
def heartbeats(
    hangar: Hangar, asked: queue.Queue[Request], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Heartbeats]:
    monkeypatch.setattr("apps.content_sync.heartbeat.RETRY_FIRST", 0.01)
    heartbeats = Heartbeats(hangar.connect, heartbeat, Requests(), asked.put)
    heartbeats.start()
    yield heartbeats
    heartbeats.close()


def test_one_is_sent_as_soon_as_there_is_a_link_and_none_without(
    hangar: Hangar, heartbeats: Heartbeats
) -> None:
    assert hangar.taken.empty()
    heartbeats.link(True)
    hangar.taken.get(timeout=5)
    wait_until(lambda: heartbeats.last, "it was answered")
    heartbeats.link(False)
    wait_until(lambda: hangar.closed == 1, "it hangs up")
    heartbeats.send_soon()
    heartbeats.link(True)
    hangar.taken.get(timeout=5)
    assert hangar.connections == 2


def test_what_the_hangar_asks_for_is_handed_on_and_its_outcome_told_at_once(
    hangar: Hangar, heartbeats: Heartbeats, asked: queue.Queue[Request]
) -> None:
    wish = request()
    hangar.answers.put(HeartbeatAnswer(at=0, requests=(wish,)))
    heartbeats.link(True)
    assert asked.get(timeout=5) == wish
    assert hangar.taken.get(timeout=5).outcomes == ()
    heartbeats._requests.decide(outcome(wish, "done"))
    heartbeats.send_soon()
    assert hangar.taken.get(timeout=5).outcomes == (outcome(wish, "done"),)
    wait_until(lambda: not heartbeats._requests.untold(), "the Hangar has heard it")


def test_a_hangar_that_asks_without_end_gets_no_more_of_them(
    hangar: Hangar, heartbeats: Heartbeats, asked: queue.Queue[Request]
) -> None:
    for _ in range(100):
        hangar.answers.put(HeartbeatAnswer(at=0, requests=(request(),)))
    heartbeats.link(True)
    began = time.monotonic()
    while time.monotonic() < began + 1:
        with contextlib.suppress(queue.Empty):
            heartbeats._requests.decide(outcome(asked.get(timeout=0.1), "refused"))
            heartbeats.send_soon()
    assert hangar.taken.qsize() == 1
    heartbeats.link(False)
    wait_until(lambda: hangar.closed == 1, "it does not wait for the next to be due")


def test_one_that_is_not_answered_is_sent_again_and_told_of(
    hangar: Hangar, heartbeats: Heartbeats
) -> None:
    hangar.answers.put(OSError("no route"))
    heartbeats.link(True)
    hangar.taken.get(timeout=5)
    wait_until(lambda: heartbeats.trouble == "no route" or heartbeats.last, "it is told")
    hangar.taken.get(timeout=5)
    wait_until(lambda: heartbeats.trouble is None and heartbeats.last, "it is over")
    assert hangar.connections == 2


def test_of_logs_that_are_too_long_the_end_is_sent_in_whole_lines() -> None:
    random_ = random.Random(0)  # noqa: S311 - the same at each run
    lines = [f"{number:06} {random_.randbytes(30).hex()}" for number in range(3000)]
    text = "\n".join(lines).encode()
    packed = pack(text, 40_000)
    assert 20_000 < len(packed) <= 40_000
    unpacked = zstandard.ZstdDecompressor().decompress(packed).decode().split("\n")
    assert unpacked == lines[-len(unpacked) :]
    assert zstandard.ZstdDecompressor().decompress(pack(b"short\n", 40_000)) == b"short\n"
