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
    DEVICE_AGE,
    LONGEST_WAIT,
    MAX_DEVICES,
    PERSON_TRIES,
    LockedOutError,
    Lockout,
    wait_after,
)
from apps.crew_web.store import Store

if TYPE_CHECKING:
    from apps.crew_web.tests.conftest import Clock

HOME = "198.51.100.7"
AWAY = "198.51.100.8"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.close()


def wait_of(
    lockout: Lockout, person: str | None = "anna", address: str = HOME, device: str = ""
) -> float:
    with pytest.raises(LockedOutError) as caught:
        lockout.begin_try(person, address, device)
    return caught.value.seconds


def log_in(lockout: Lockout, person: str = "anna", device: str = "", address: str = HOME) -> str:
    """Try the right PIN; returns the device's new cookie."""
    return lockout.was_right(lockout.begin_try(person, address, device))


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
    left = [lockout.begin_try("anna", HOME).left for _ in range(PERSON_TRIES)]
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
    assert lockout.begin_try("bruno", HOME).left > 0


def test_an_address_that_tries_everybody_is_locked(store: Store, clock: Clock) -> None:
    lockout = Lockout(store, clock)
    for number in range(ADDRESS_TRIES):
        lockout.begin_try(f"person{number}" if number % 2 else None, HOME)
    assert wait_of(lockout, "anna") == 30
    assert lockout.begin_try("anna", AWAY).left == PERSON_TRIES - 1


def test_the_right_pin_begins_anew(store: Store, clock: Clock) -> None:
    lockout = Lockout(store, clock)
    for _ in range(PERSON_TRIES - 1):
        lockout.begin_try("anna", HOME)
    log_in(lockout)
    assert lockout.begin_try("anna", HOME).left == PERSON_TRIES - 1


def test_a_right_pin_takes_back_no_try_of_others_at_its_address(store: Store, clock: Clock) -> None:
    lockout = Lockout(store, clock)
    for number in range(ADDRESS_TRIES - 1):
        lockout.begin_try(f"person{number}", HOME)
    for _ in range(3):
        log_in(lockout)
    assert lockout.begin_try("bruno", HOME).left == 0
    assert wait_of(lockout) == 30


def test_a_right_pin_begins_no_wait_for_others_at_its_address(store: Store, clock: Clock) -> None:
    lockout = Lockout(store, clock)
    for number in range(ADDRESS_TRIES):
        lockout.begin_try(f"person{number}", HOME)
    clock.now += 31
    log_in(lockout)
    assert lockout.begin_try("bruno", HOME).left == 0


def test_a_right_pin_leaves_no_trace_of_itself(store: Store, clock: Clock) -> None:
    log_in(Lockout(store, clock))
    assert store.read("SELECT * FROM failure", ()) is None


# -- devices --------------------------------------------------------------------------------


def test_nobody_locks_a_person_out_of_a_device_of_theirs(store: Store, clock: Clock) -> None:
    lockout = Lockout(store, clock)
    device = log_in(lockout)
    for number in range(ADDRESS_TRIES - 1):
        lockout.begin_try("anna" if number < PERSON_TRIES else None, HOME)
    assert wait_of(lockout) > 0
    device = log_in(lockout, device=device)
    # It did not open the door to whoever guesses, either.
    assert wait_of(lockout) > 0
    assert lockout.begin_try(None, HOME).left == 0
    assert log_in(lockout, device=device)


def test_tries_on_a_device_count_for_it_alone(store: Store, clock: Clock) -> None:
    lockout = Lockout(store, clock)
    device = log_in(lockout)
    left = [lockout.begin_try("anna", HOME, device).left for _ in range(PERSON_TRIES - 1)]
    assert left == [4, 3, 2, 1]
    assert store.read("SELECT * FROM failure", ()) is None


def test_after_too_many_wrong_pins_a_device_is_as_any_other(store: Store, clock: Clock) -> None:
    lockout = Lockout(store, clock)
    device = log_in(lockout)
    lockout.begin_try("anna", AWAY)
    left = [lockout.begin_try("anna", HOME, device).left for _ in range(PERSON_TRIES + 4)]
    # The fifth was the last that was its own; the person has four tries elsewhere, of five.
    assert left == [4, 3, 2, 1, 4, 3, 2, 1, 0]
    assert wait_of(lockout, device=device) == 30


def test_the_last_try_on_a_device_may_be_the_right_one(store: Store, clock: Clock) -> None:
    lockout = Lockout(store, clock)
    device = log_in(lockout)
    for _ in range(PERSON_TRIES - 1):
        lockout.begin_try("anna", HOME, device)
    device = log_in(lockout, device=device)
    anew = lockout.begin_try("anna", HOME, device)
    assert (anew.trusted, anew.left) == (True, PERSON_TRIES - 1)


def test_a_device_is_known_for_each_who_logged_in_there(store: Store, clock: Clock) -> None:
    lockout = Lockout(store, clock)
    of_anna = log_in(lockout)
    assert not lockout.begin_try("bruno", HOME, of_anna).trusted
    of_both = log_in(lockout, "bruno", of_anna)
    assert lockout.begin_try("anna", HOME, of_both).trusted
    assert lockout.begin_try("bruno", HOME, of_both).trusted
    # A cookie is good until the next log-in.
    assert not lockout.begin_try("anna", HOME, of_anna).trusted


@pytest.mark.parametrize("device", ["", "made up", "x" * 4000])
def test_a_cookie_of_nobody_is_none(store: Store, clock: Clock, device: str) -> None:
    lockout = Lockout(store, clock)
    log_in(lockout)
    assert not lockout.begin_try("anna", HOME, device).trusted
    assert log_in(lockout, device=device) != device


def test_a_device_is_forgotten_after_30_days(store: Store, clock: Clock) -> None:
    lockout = Lockout(store, clock)
    device = log_in(lockout)
    clock.now += DEVICE_AGE - 1
    device = log_in(lockout, device=device)
    clock.now += DEVICE_AGE + 1
    assert not lockout.begin_try("anna", HOME, device).trusted
    assert store.read("SELECT * FROM device", ()) is None


def test_a_person_has_no_more_than_some_devices(store: Store, clock: Clock) -> None:
    lockout = Lockout(store, clock)
    of_bruno = log_in(lockout, "bruno")
    devices = []
    for _ in range(MAX_DEVICES + 1):
        clock.now += 1
        devices.append(log_in(lockout))
    assert not lockout.begin_try("anna", HOME, devices[0]).trusted
    assert all(lockout.begin_try("anna", HOME, device).trusted for device in devices[1:])
    assert lockout.begin_try("bruno", HOME, of_bruno).trusted


def test_the_file_does_not_tell_a_devices_cookie(
    store: Store, clock: Clock, tmp_path: Path
) -> None:
    device = log_in(Lockout(store, clock))
    assert len(device) >= 43  # 256 bits in base64
    for path in tmp_path.iterdir():
        assert device.encode() not in path.read_bytes()


# -- over restarts, and at once -------------------------------------------------------------


def test_a_lock_outlives_a_restart(tmp_path: Path, clock: Clock) -> None:
    store = Store(tmp_path)
    for _ in range(PERSON_TRIES):
        Lockout(store, clock).begin_try("anna", HOME)
    store.close()
    store = Store(tmp_path)
    assert wait_of(Lockout(store, clock)) == 30
    store.close()


def test_tries_at_the_same_moment_are_all_counted(store: Store, clock: Clock) -> None:
    """A try counts before its PIN is checked, so nobody gets twenty at once for five."""
    lockout = Lockout(store, clock)
    admitted: list[int] = []

    def guess() -> None:
        with contextlib.suppress(LockedOutError):
            admitted.append(lockout.begin_try("anna", HOME).left)

    threads = [threading.Thread(target=guess) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert len(admitted) == PERSON_TRIES
