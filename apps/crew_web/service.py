"""The crew page's parts put together, without Flask."""

from __future__ import annotations

import logging
import threading
import time

from apps.common import layout as layouts
from apps.common import pa
from apps.common.bus import Bus, Followed
from apps.common.calls import RefusedError, SeatControl, UnavailableError
from apps.common.health import Degraded, Health, sd_notify
from apps.common.settings import SettingsError
from apps.crew_web import cabin_map, crew, languages
from apps.crew_web.lockout import Lockout
from apps.crew_web.sessions import Sessions
from apps.crew_web.settings import CrewWebSettings
from apps.crew_web.store import Store

log = logging.getLogger(__name__)

LOOK_EVERY = 2.0
"""Seconds between two looks at how seat control is."""


class CrewWeb:
    """Make it, `start` it, `close` it.

    Raises:
        LayoutError: the cabin layout is wrong.
        CrewFileError: the crew file is wrong.
        CatalogueError: a language's file is wrong.
        StoreError: sessions cannot be stored.
        SettingsError: the bus cannot have such an address.
    """

    def __init__(self, settings: CrewWebSettings) -> None:
        self.settings = settings
        self.layout = layouts.load(settings.layout)
        self.map = cabin_map.draw(self.layout)
        self.crew = crew.load(settings.crew_file)
        self.languages = languages.load()
        self.store = Store(settings.state_directory)
        self.sessions = Sessions(self.store, idle=60.0 * settings.session_idle_minutes)
        self.lockout = Lockout(self.store)
        self.seat_control = SeatControl(settings.seat_control_socket)
        try:
            self._bus = Bus(settings.redis_url)
        except ValueError as error:
            raise SettingsError(f"IFE_REDIS_URL: {error}") from error
        self.pa = Followed(self._bus, pa.TOPIC, pa.PaState, pa.STATE_GOOD_FOR)
        self._seat_control_trouble: str | None = "not asked yet"
        self._seat_control_degraded: list[Degraded] = []
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="seat-control", daemon=True)
        self.health = Health("crew_web")
        self.health.need(lambda: self.store.trouble)
        self.health.part("redis", lambda: self._bus.trouble)
        self.health.part("seat_control", lambda: self._seat_control_trouble)

    def start(self) -> None:
        """Connect to the bus, and begin to watch seat control."""
        self._bus.start()
        self._watcher.start()
        log.info("the crew's page is up", extra={"seats": len(self.layout.seats)})

    def close(self) -> None:
        """Stop everything."""
        self._closing.set()
        self._watcher.join(timeout=5)
        self._bus.close()
        self.store.close()

    def degraded(self) -> list[Degraded]:
        """What the crew do without right now, each part once; seat control's view first."""
        report = self.health.report()
        parts = [*self._seat_control_degraded, *report.degraded]
        if report.why_not:
            parts.append(Degraded(part="sessions", why=report.why_not))
        return list({part.part: part for part in reversed(parts)}.values())[::-1]

    def _watch(self) -> None:
        while True:
            began = time.monotonic()
            self._look()
            self.health.notify()
            # Each request needs them too. That they cannot be written is no reason to start anew.
            self.store.read("SELECT 1", ())
            sd_notify("WATCHDOG=1")
            if self._closing.wait(max(0.1, LOOK_EVERY - (time.monotonic() - began))):
                return

    def _look(self) -> None:
        try:
            report = self.seat_control.health()
        except (UnavailableError, RefusedError) as error:
            self._seat_control_trouble, self._seat_control_degraded = str(error), []
        else:
            self._seat_control_trouble = report.why_not
            self._seat_control_degraded = report.degraded
