"""Clients resume where they left, or learn that they must begin anew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apps.seat_control.events import KEPT, EventStream


def ids(chunk: bytes) -> list[str]:
    return [line[4:] for line in chunk.decode().splitlines() if line.startswith("id: ")]


def test_a_client_resumes_after_the_last_event_that_it_had() -> None:
    stream = EventStream()
    for number in range(5):
        stream.publish("seats", f'{{"n": {number}}}')
    since = stream.since(0)
    assert since is not None
    third = ids(since[1])[2]
    assert stream.resume(third) == 3
    position, chunk = stream.since(3) or (0, b"")
    assert position == 5
    assert chunk.count(b"event: seats\n") == 2
    assert b'data: {"n": 3}\n\n' in chunk


def test_a_client_of_another_stream_or_of_long_ago_begins_anew() -> None:
    stream = EventStream()
    for _ in range(KEPT + 10):
        stream.publish("seats", "{}")
    position = stream.position()
    own = ids((stream.since(position - 1) or (0, b""))[1])[0].partition("-")[0]
    assert stream.resume(f"{own}-{position}") == position
    assert stream.resume(f"{own}-{position + 1}") is None
    assert stream.resume(f"{own}-5") is None
    assert stream.resume("00000000-5") is None


@given(st.text() | st.none())
def test_nonsense_begins_anew(last_event_id: str | None) -> None:
    assert EventStream().resume(last_event_id) is None


def test_listeners_hear_until_they_stop() -> None:
    stream = EventStream()
    heard: list[int] = []
    stop = stream.listen(lambda: heard.append(1))
    stream.publish("ping", "{}")
    stop()
    stream.publish("ping", "{}")
    assert heard == [1]
