"""The ground put together: in which order its parts hear of the gate, and logs for the Hangar."""

from __future__ import annotations

import gzip
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from uuid import uuid4

import httpx
import pytest

from apps.common.bus import Bus
from apps.common.gate import Request
from apps.common.testing import wait_until
from apps.content_sync import ground as ground_module
from apps.content_sync import logs
from apps.content_sync.ground import Ground, OnBoard
from apps.content_sync.hangar import HangarClient, HangarError, RefusedError, bounded
from apps.content_sync.link import GateState
from apps.content_sync.settings import ContentSyncSettings


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    """One that is not started, with a Hangar that takes everything."""
    (tmp_path / "usage.key").write_bytes(bytes(32))
    settings = ContentSyncSettings.model_validate(
        {
            "registration": "EC-LAB",
            "airline": "EXA",
            "content_directory": tmp_path,
            "content_root": tmp_path / "root.json",
            "boot_id": "0" * 32,
            "runtime_directory": tmp_path,
            "hangar_address": "192.0.2.1",
            "usage_key": tmp_path / "usage.key",
            "gate_needs_wow": False,
        }
    )
    hangar = SimpleNamespace(close=lambda: None, put_logs=lambda *_: None)
    monkeypatch.setattr(Ground, "connect", lambda _: cast("HangarClient", hangar))
    ground = Ground(
        settings,
        Bus(f"unix://{tmp_path}/no.sock"),
        cast("OnBoard", SimpleNamespace()),
        lambda: pytest.fail("nobody asks for the time"),
        lambda: None,
    )
    monkeypatch.setattr(ground, "_discretes", SimpleNamespace(value=None), raising=False)
    yield ground
    with ground._watch._woken:
        ground._watch._wake.close()


def test_an_answer_is_not_unpacked() -> None:
    """A few bytes could become more than there is of memory."""
    packed = gzip.compress(bytes(20_000_000))
    answer = httpx.Response(
        200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(packed)
    )
    assert bounded(answer) == packed


def test_the_parts_hear_of_the_gate_in_the_order_in_which_it_moved(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bus, the kernel and the clock each have a thread that may be the one to see it move."""
    judged = iter([GateState(open=True), GateState(open=False, why="in flight")])
    told: list[bool] = []
    in_the_middle, go_on = threading.Event(), threading.Event()

    def tell(state: GateState) -> None:
        if state.open:
            in_the_middle.set()
            assert go_on.wait(10)
        told.append(state.open)

    monkeypatch.setattr(ground._gate, "judge", lambda *_: next(judged))
    monkeypatch.setattr(ground.turnaround, "gate", tell)
    first, second = (threading.Thread(target=ground.tick, name=name) for name in ("a", "b"))
    first.start()
    assert in_the_middle.wait(10)
    second.start()
    # Where it need not wait it ends now; where it must it never does, whatever the time.
    second.join(timeout=0.5)
    go_on.set()
    for thread in (first, second):
        thread.join(timeout=10)
    assert told == [True, False]
    assert ground.state.open is False


def test_logs_are_sent_one_at_a_time(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hangar that asks and asks gets refusals, and no thread for each."""
    go_on = threading.Event()

    def collect() -> bytes:
        assert go_on.wait(10)
        return b"logs"

    monkeypatch.setattr(logs, "collect", collect)
    asked = [Request(id=uuid4(), kind="send_logs", asked_at=0) for _ in range(5)]
    before = threading.active_count()
    for request in asked:
        ground._asked(request)
    assert threading.active_count() <= before + 1

    def state(request: Request) -> str:
        return ground._requests._outcomes[request.id].state

    assert [state(request) for request in asked] == ["accepted", *["refused"] * 4]
    go_on.set()
    wait_until(lambda: state(asked[0]) == "done", "they are sent")
    again = Request(id=uuid4(), kind="send_logs", asked_at=0)
    wait_until(lambda: not ground._sending.locked(), "it is over")
    ground._asked(again)
    wait_until(lambda: state(again) == "done", "the next are sent, too")


@pytest.mark.parametrize(
    ("errors", "tries", "state"),
    [
        ([HangarError("it went silent")], 2, "done"),
        ([HangarError("it went silent")] * 99, ground_module.LOG_TRIES, "refused"),
        ([RefusedError(404, "no-request", "no such request")], 1, "refused"),
    ],
    ids=["once", "always", "refused"],
)
def test_logs_that_a_link_cut_off_are_sent_by_the_next(
    ground: Ground,
    monkeypatch: pytest.MonkeyPatch,
    errors: list[HangarError],
    tries: int,
    state: str,
) -> None:
    """As long as it takes the Hangar knows them for accepted; what it refuses is final."""
    tried: list[str] = []
    is_open = True

    def put_logs(*_: object) -> None:
        nonlocal is_open
        tried.append(outcome())
        if errors:
            is_open = False
            ground.tick()
            raise errors.pop()

    def outcome() -> str:
        return ground._requests._outcomes[request.id].state

    def open_again() -> bool:
        nonlocal is_open
        is_open = True
        ground.tick()
        return outcome() != "accepted"

    hangar = SimpleNamespace(close=lambda: None, put_logs=put_logs)
    monkeypatch.setattr(Ground, "connect", lambda _: cast("HangarClient", hangar))
    monkeypatch.setattr(ground._gate, "judge", lambda *_: GateState(open=is_open))
    monkeypatch.setattr(logs, "collect", lambda: b"logs")
    monkeypatch.setattr(ground_module, "RETRY_FIRST", 0.01)
    monkeypatch.setattr(ground_module, "RETRY_MAX", 0.02)
    request = Request(id=uuid4(), kind="send_logs", asked_at=0)
    ground.tick()
    ground._asked(request)
    wait_until(lambda: not is_open, "the link has gone")
    if tries > 1:
        assert outcome() == "accepted"
    wait_until(open_again, "it is over")
    assert outcome() == state
    assert tried == ["accepted"] * tries


@pytest.fixture
def journalctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program by that name, to be written."""
    script = tmp_path / "journalctl"
    script.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return script


def test_of_a_long_journal_the_end_is_kept_and_no_more(
    journalctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has more to say than may be in memory."""
    journalctl.write_text("#!/bin/sh\nseq -f 'line %.0f of the journal' 400000\necho \xff\n")
    monkeypatch.setattr(logs, "MAX_TEXT", 300_000)
    monkeypatch.setattr(logs, "pack", lambda text, _: text)
    tracemalloc.start()
    try:
        text = logs.collect()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000
    assert 200_000 < len(text) <= 300_000
    lines = text.split(b"\n")
    assert lines[-3] == b"line 400000 of the journal"
    assert lines[0].startswith(b"line "), "the first is a whole line"


def test_a_journal_that_cannot_be_read_is_told(journalctl: Path) -> None:
    journalctl.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(logs.LogsError, match="cannot be read"):
        logs.collect()
