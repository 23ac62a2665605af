"""usb_lockdown put together, without Flask: one thread looks after all devices."""

from __future__ import annotations

import logging
import re
import threading
import time

from apps.common import disks
from apps.common.bus import Bus
from apps.common.disks import Blocked, Disks
from apps.common.health import Health
from apps.common.outbox import Outbox
from apps.common.settings import SettingsError
from apps.common.usage import Bite
from apps.usb_lockdown.keeper import Keeper
from apps.usb_lockdown.monitor import Monitor
from apps.usb_lockdown.reading import DiskReader
from apps.usb_lockdown.settings import UsbLockdownSettings
from apps.usb_lockdown.sysfs import Sysfs, Unit

log = logging.getLogger(__name__)

STUCK_AFTER = 20.0
"""Seconds without a look, after which it is not ready."""

MAX_AN_HOUR = 20
"""Refusals in an hour that the ground is told of: a device that comes again and again must not
crowd out other records."""

HOUR = 3600.0


class UsbLockdown:
    """The service. Make it, `start` it, `close` it.

    Raises:
        SettingsError: the bus cannot have such an address.
    """

    def __init__(self, settings: UsbLockdownSettings) -> None:
        self.settings = settings
        self._usb = Sysfs(settings.sysfs)
        self._keeper = Keeper(self._usb, settings.ports, self._start_reader, self._tell_ground)
        self._outbox = Outbox(settings.usage_database_url, "ife-usb_lockdown")
        self._hour_began = time.monotonic()
        self._told = 0
        self._wake = threading.Event()
        self._monitor = Monitor(self._wake.set)
        self._closing = False
        self._looked = time.monotonic()
        self._open_buses: list[str] = []
        self._state = Disks(ports=tuple(dict.fromkeys(settings.ports.values())))
        self._publish_at = 0.0
        self._thread = threading.Thread(target=self._look_until_closed, name="look", daemon=True)
        try:
            self._bus = Bus(settings.redis_url)
        except ValueError as error:
            raise SettingsError(f"IFE_REDIS_URL: {error}") from error
        self.health = self._make_health()

    def start(self) -> None:
        """Begin with what is plugged in already."""
        self._bus.start()
        self._outbox.start()
        self._monitor.start()
        self._thread.start()
        log.info("usb_lockdown is up", extra={"ports": self.settings.crew_disk_ports})

    def close(self) -> None:
        """Stop; no disk is read any more."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout=5)
        self._monitor.close()
        self._keeper.close()
        self._outbox.close()
        self._bus.close()

    def state(self) -> Disks:
        """How all is, as of the last look."""
        return self._state

    def _start_reader(self, port: str, unit: Unit) -> DiskReader:
        assert unit.disk is not None  # noqa: S101 - the keeper waits for it
        settings = self.settings
        return DiskReader(
            settings.reader_socket,
            settings.devices / unit.disk,
            unit,
            settings.runtime_directory / f"{port}.sock",
            self._wake.set,
        )

    def _tell_ground(self, blocked: Blocked) -> None:
        """Of what is pulled out again soon nobody else would ever hear."""
        now = time.monotonic()
        if now - self._hour_began >= HOUR:
            self._hour_began, self._told = now, 0
        self._told += 1
        if self._told <= MAX_AN_HOUR:
            self._outbox.append(
                Bite(
                    part=re.sub(r"[^A-Za-z0-9._-]", "-", f"usb-{blocked.path}")[:64],
                    fault="not-let-in",
                    detail=f"{blocked.name} ({blocked.ids}): {blocked.why}"[:200],
                )
            )

    def _look_until_closed(self) -> None:
        while not self._closing:
            try:
                self._look()
            except Exception:
                # Without this thread nothing would be let in, or shut out, any more.
                log.exception("a look at the devices failed")
            # udev says when there is something new; this is for what it could not say.
            self._wake.wait(disks.SENT_EVERY)
            self._wake.clear()

    def _look(self) -> None:
        self._keeper.look(time.monotonic())
        self._open_buses = self._usb.open_buses()
        self._looked = now = time.monotonic()
        state = self._keeper.state()
        if state != self._state or now >= self._publish_at:
            self._state = state
            self._publish_at = now + disks.SENT_EVERY
            self._bus.publish(disks.TOPIC, state)
            self.health.notify()
        self.health.alive()

    def _make_health(self) -> Health:
        health = Health("usb_lockdown")
        health.need(self._stuck)
        health.part("lockdown", self._lockdown_trouble)
        health.part("devices", lambda: self._keeper.trouble)
        health.part("blocked", self._blocked)
        health.part("udev", lambda: self._monitor.trouble)
        health.part("redis", lambda: self._bus.trouble)
        health.part("usage", lambda: self._outbox.trouble)
        return health

    def _stuck(self) -> str | None:
        if self._thread.is_alive() and time.monotonic() - self._looked > STUCK_AFTER:
            return "USB devices are not looked at any more: restart usb_lockdown"
        return None

    def _lockdown_trouble(self) -> str | None:
        if not self._open_buses:
            return None
        return (
            f"{', '.join(self._open_buses)} lets in whatever is plugged in: "
            "the kernel was not started with usbcore.authorized_default=0"
        )

    def _blocked(self) -> str | None:
        present = [device for device in self._state.blocked if device.present]
        if not present:
            return None
        first = present[0]
        more = f", and {len(present) - 1} more" if len(present) > 1 else ""
        return f"{first.name} at {first.port or first.path} is not let in: {first.why}{more}"
