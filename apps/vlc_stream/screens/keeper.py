"""Keeps the screens as they are wanted: a thread a bus, replaced when it hangs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from apps.common.backoff import BackOff
from apps.common.screens import ScreensOrder, ScreensView, ScreenView
from apps.vlc_stream.screens.config import Bus, Screen, ScreensFile
from apps.vlc_stream.screens.drivers import (
    TIMEOUT,
    Driver,
    ScreenError,
    Status,
    Wanted,
    open_driver,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_EVERY = 2.0
"""Seconds between two looks at each screen."""

HUNG_AFTER = 10 * TIMEOUT
"""Seconds in one call of a driver, all of whose waits have time-outs, after which it hangs."""

MAX_HUNG = 4
"""Threads of one bus that may hang; then it is given up until a call of one of them returns."""

SILENT_TOO_OFTEN = 3
"""Looks at all screens of a bus that none answers; then the bus is opened anew."""

UNKNOWN = Status(None, None, None)


@dataclass
class _Kept:
    screen: Screen
    wanted: Wanted
    status: Status = UNKNOWN
    trouble: str | None = "not asked yet"
    told: Wanted | None = None
    back_off: BackOff = field(default_factory=lambda: BackOff(0.5, 10.0))
    not_before: float = 0.0
    silent: int = 0
    """How often it has not answered, in a row."""

    def is_as_wanted(self) -> bool:
        """Whether it was told, and says no other."""
        now, wanted = self.status, self.wanted
        return self.told == wanted and not (
            (now.deployed is not None and now.deployed != wanted.deployed)
            or (now.power is not None and now.power != wanted.power)
            or (now.input is not None and wanted.power and now.input != wanted.input)
        )


class _BusKeeper:
    """One bus. Its thread alone speaks on it."""

    def __init__(self, name: str, bus: Bus, changed: Callable[[], None]) -> None:
        self.name = name
        self.input = bus.input
        self._bus = bus
        self._changed = changed
        stowed = Wanted(deployed=False, power=False, input=bus.input)
        self.kept = {name: _Kept(screen, stowed) for name, screen in bus.screens.items()}
        self._wake = threading.Condition()
        self._generation = 0
        self._in_call: float | None = None
        self._driver: Driver | None = None
        self._thread: threading.Thread | None = None
        self._hung: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to look, in a thread."""
        self._generation += 1
        self._in_call = None
        self._thread = threading.Thread(
            target=self._run,
            args=(self._generation, self._driver),
            name=f"screens {self.name}",
            daemon=True,
        )
        self._thread.start()

    def close(self) -> None:
        """Let the thread end, when it comes back."""
        with self._wake:
            self._generation += 1
            self._thread = None
            self._wake.notify_all()

    def want(self, name: str, wanted: Wanted) -> None:
        """Have a screen be so, soon."""
        with self._wake:
            self.kept[name].wanted = wanted
            self.kept[name].not_before = 0.0
            self._wake.notify_all()

    def tend(self, now: float) -> None:
        """Replace the thread if it hangs in a call, or has died. It ends when the call returns."""
        thread, began = self._thread, self._in_call
        if thread is None:
            return
        if began is not None and now - began > HUNG_AFTER and thread not in self._hung:
            self._hung.append(thread)
            log.warning("the bus of screens hangs", extra={"bus": self.name})
            self._note_all(self._generation, "its bus hangs")
            self._generation += 1
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        is_lost = thread in self._hung or not thread.is_alive()
        if is_lost and len(self._hung) < MAX_HUNG:
            self.start()

    def _run(self, generation: int, before: Driver | None) -> None:
        if before is not None:
            # The thread before this one may hang in it: the device is to be free all the same.
            self._call(generation, before.close)
        driver: Driver | None = None
        while generation == self._generation:
            began = time.monotonic()
            try:
                if driver is None:
                    driver = self._call(generation, lambda: open_driver(self._bus))
                    self._driver = driver
                self._keep_all(generation, driver)
            except Exception as error:
                # Whatever it is: without this thread nobody would speak on the bus. Where another
                # has taken over, the driver was closed meanwhile.
                is_known = isinstance(error, (OSError, ValueError, ScreenError))
                if not is_known and generation == self._generation:
                    log.exception("the bus of screens fails", extra={"bus": self.name})
                if driver is not None:
                    self._call(generation, driver.close)
                    driver = None
                self._note_all(generation, str(error))
            with self._wake:
                has_bus = driver is not None
                self._wake.wait_for(
                    partial(self._is_due, generation, has_bus),
                    timeout=max(0.1, LOOK_EVERY - (time.monotonic() - began)),
                )
        if driver is not None:
            driver.close()

    def _is_due(self, generation: int, has_bus: bool) -> bool:
        now = time.monotonic()
        return generation != self._generation or (
            has_bus
            and any(
                kept.told != kept.wanted and kept.not_before <= now for kept in self.kept.values()
            )
        )

    def _keep_all(self, generation: int, driver: Driver) -> None:
        """Look at all screens and put them right.

        Raises:
            ScreenError: none of them answers; what speaks for all of them may be what hangs.
        """
        # Those that answer first: each that does not takes its time-out.
        for kept in sorted(self.kept.values(), key=lambda kept: kept.silent):
            if generation != self._generation:
                return
            self._keep(generation, driver, kept)
        if all(kept.silent >= SILENT_TOO_OFTEN for kept in self.kept.values()):
            for kept in self.kept.values():
                kept.silent = 0
            raise ScreenError("none of its screens answers")

    def _keep(self, generation: int, driver: Driver, kept: _Kept) -> None:
        """Look at a screen and put it right."""
        if time.monotonic() < kept.not_before:
            return
        address, wanted = kept.screen.address, kept.wanted
        try:
            if not kept.is_as_wanted():
                self._call(generation, lambda: driver.apply(address, wanted))
                kept.told = wanted
            status = self._call(generation, lambda: driver.look(address))
        except ScreenError as error:
            self._note(generation, kept, UNKNOWN, str(error))
            # It may have been off, and have forgotten.
            kept.told = None
            kept.silent += 1
            kept.not_before = time.monotonic() + kept.back_off.delay()
        else:
            kept.back_off.reset()
            kept.silent = 0
            self._note(generation, kept, status, None)

    def _call(self, generation: int, call: Callable[[], T]) -> T:
        if generation == self._generation:
            self._in_call = time.monotonic()
        try:
            return call()
        finally:
            if generation == self._generation:
                self._in_call = None

    def _note_all(self, generation: int, trouble: str) -> None:
        for kept in self.kept.values():
            kept.told = None
            self._note(generation, kept, UNKNOWN, trouble)

    def _note(self, generation: int, kept: _Kept, status: Status, trouble: str | None) -> None:
        if generation == self._generation and (kept.status, kept.trouble) != (status, trouble):
            kept.status, kept.trouble = status, trouble
            self._changed()


class Screens:
    """All screens of the aircraft.

    Args:
        file: which there are.
        on_change: called, in a thread of a bus, when what screens say has changed.
    """

    def __init__(self, file: ScreensFile | None, on_change: Callable[[], None]) -> None:
        buses = file.buses if file is not None else {}
        self._buses = {name: _BusKeeper(name, bus, on_change) for name, bus in buses.items()}
        self._lock = threading.Lock()
        self._locked = False

    def start(self) -> None:
        """Begin: every screen is looked at, and stowed."""
        for bus in self._buses.values():
            bus.start()

    def close(self) -> None:
        """Stop; screens stay as they are."""
        for bus in self._buses.values():
            bus.close()

    def tend(self) -> None:
        """To be called now and then: it finds what hangs."""
        for bus in self._buses.values():
            bus.tend(time.monotonic())

    def names(self) -> list[str]:
        """All screens."""
        return [name for bus in self._buses.values() for name in bus.kept]

    def order(self, order: ScreensOrder) -> None:
        """Have some screens, or all, be as said. While they are locked nothing happens.

        Raises:
            KeyError: there is no such screen.
        """
        chosen = set(self.names() if order.screens is None else order.screens)
        if unknown := chosen - set(self.names()):
            raise KeyError(min(unknown))
        changes = order.model_dump(exclude={"screens"}, exclude_none=True)
        with self._lock:
            if self._locked:
                return
            for bus in self._buses.values():
                for name in chosen & bus.kept.keys():
                    bus.want(name, bus.kept[name].wanted._replace(**changes))

    def show_video(self, shown: bool) -> None:
        """Deploy all for an imposed video, or stow them after it."""
        with self._lock:
            self._show_all(shown and not self._locked)

    def lock(self, locked: bool) -> None:
        """In a decompression: stow all, and take no order until it is over."""
        with self._lock:
            if locked and not self._locked:
                log.warning("decompression: the screens are stowed")
                self._show_all(False)
            self._locked = locked

    def _show_all(self, shown: bool) -> None:
        for bus in self._buses.values():
            for name in bus.kept:
                bus.want(name, Wanted(deployed=shown, power=shown, input=bus.input))

    def trouble(self) -> str | None:
        """Which screens do not answer."""
        away = [
            f"{name}: {kept.trouble}"
            for bus in self._buses.values()
            for name, kept in bus.kept.items()
            if kept.trouble
        ]
        return "; ".join(away[:3]) or None

    def view(self) -> ScreensView:
        """How they are."""
        return ScreensView(
            locked=self._locked,
            screens=tuple(
                ScreenView(
                    id=name,
                    bus=bus.name,
                    label=kept.screen.label,
                    deployed=kept.status.deployed,
                    power=kept.status.power,
                    input=kept.status.input,
                    trouble=kept.trouble,
                )
                for bus in self._buses.values()
                for name, kept in bus.kept.items()
            ),
        )
