"""The backend that plays nothing keeps its position by the clock."""

from __future__ import annotations

import asyncio

import pytest

from apps.player.media import MediaError, NullBackend


def test_its_position_goes_with_the_clock_but_not_while_paused() -> None:
    now = 100.0
    backend = NullBackend(lambda: now)
    backend.start(lambda _: None)
    assert backend.position() is None
    backend.play("film-1", 60.0)
    now = 110.0
    assert backend.position() == 70.0
    backend.pause()
    now = 120.0
    assert backend.position() == 70.0
    backend.resume()
    now = 125.0
    assert backend.position() == 75.0
    asyncio.run(backend.close())
    assert backend.position() is None


def test_a_title_that_it_does_not_have_changes_nothing() -> None:
    backend = NullBackend(lambda: 5.0, missing={"film-99"})
    backend.play("film-1", 3.0)
    with pytest.raises(MediaError, match="no title film-99"):
        backend.play("film-99", 0.0)
    assert backend.position() == 3.0


def test_what_is_put_aside_does_not_count() -> None:
    now = 100.0
    backend = NullBackend(lambda: now, missing={"nothing"})
    backend.play("film-1", 0.0)
    with pytest.raises(MediaError, match="no channel nothing"):
        backend.impose("nothing")
    backend.impose("safety")
    now = 105.0
    assert backend.position() == 0.0
    backend.hold(True)
    now = 110.0
    backend.impose(None)
    now = 120.0
    backend.pause()
    backend.hold(False)
    now = 130.0
    assert backend.position() == 0.0
    backend.resume()
    now = 135.0
    assert backend.position() == 5.0
