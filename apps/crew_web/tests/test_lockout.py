"""The lock-out after wrong PINs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.crew_web.lockout import (
    ADDRESS_TRIES,
    LONGEST_WAIT,
    PERSON_TRIES,
    LockedOutError,
    Lockout,
    wait_after,
)
from apps.crew_web.store import Store

if TYPE_CHECKING:
    from apps.crew_web.tests.conftest import Clock

HOME = "198.51.100.7"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.close()


def wait_of(lockout: Lockout, person: str | None = "anna", address: str = HOME) -> float:
    with pytest.raises(LockedOutError) as caught:
        lockout.begin_try(person, address)
    return caught.value.seconds


def test_waits_double_from_30_seconds_to_15_minutes() -> None:
    waits = [wait_after(failures, 5) for failures in range(12)]
    assert waits == [0, 0, 0, 0, 0, 30, 60, 120, 240, 480, 900, 900]


@given(st.integers(0, 10_000), st.integers(1, 100))
def test_a_wait_never_shrinks_and_has_an_end(failures: int, tries: int) -> None:
    assert 0 <= wait_after(failures, tries) <= wait_after(failures + 1, tries) <= LONGEST_WAIT


def test_five_wrong_pins_make_one_wait_and_each_further_one_longer(
    store: Store, clock: Clock
) -> None:
    lockout = Lockout(store, clock)
    left = [lockout.begin_try("anna", HOME) for _ in range(PERSON_TRIES)]
    assert left == [4, 3, 2, 1, 0]
    assert wait_of(lockout) == 30
    clock.now += 31
    lockout.begin_try("anna", HOME)
    assert wait_of(lockout) == 60


def test_trying_while_locked_makes_the_wait_no_longer(store: Store, clock: Clock) -> None:
    lockout = Lockout(store, clock)
    for _ in range(PERSON_TRIES):
        lockout.begin_try("anna", HOME)
    for _ in range(10):
        wait_of(lockout)
    clock.now += 10
    assert wait_of(lockout) == 20


def test_others_are_not_locked_with_her(store: Store, clock: Clock) -> None:
    lockout = Lockout(store, clock)
    for _ in range(PERSON_TRIES):
        lockout.begin_try("anna", HOME)
    assert lockout.begin_try("bruno", HOME) > 0


def test_an_address_that_tries_everybody_is_locked(store: Store, clock: Clock) -> None:
    lockout = Lockout(store, clock)
    for number in range(ADDRESS_TRIES):
        lockout.begin_try(f"person{number}" if number % 2 else None, HOME)
    assert wait_of(lockout, "anna") == 30
    assert lockout.begin_try("anna", "198.51.100.8") == PERSON_TRIES - 1


def test_the_right_pin_begins_anew(store: Store, clock: Clock) -> None:
    lockout = Lockout(store, clock)
    for _ in range(PERSON_TRIES - 1):
        lockout.begin_try("anna", HOME)
    lockout.was_right("anna", HOME)
    assert lockout.begin_try("anna", HOME) == PERSON_TRIES - 1


def test_a_lock_outlives_a_restart(tmp_path: Path, clock: Clock) -> None:
    store = Store(tmp_path)
    for _ in range(PERSON_TRIES):
        Lockout(store, clock).begin_try("anna", HOME)
    store.close()
    store = Store(tmp_path)
    assert wait_of(Lockout(store, clock)) == 30
    store.close()


def test_a_clock_set_back_makes_no_wait_longer(store: Store, clock: Clock) -> None:
    lockout = Lockout(store, clock)
    for _ in range(PERSON_TRIES):
        lockout.begin_try("anna", HOME)
    clock.now -= 3600
    assert wait_of(lockout) == 30


def test_tries_at_the_same_moment_are_all_counted(store: Store, clock: Clock) -> None:
    """A try counts before its PIN is checked, so nobody gets twenty at once for five."""
    lockout = Lockout(store, clock)
    admitted: list[int] = []

    def guess() -> None:
        with contextlib.suppress(LockedOutError):
            admitted.append(lockout.begin_try("anna", HOME))

    threads = [threading.Thread(target=guess) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert len(admitted) == PERSON_TRIES
