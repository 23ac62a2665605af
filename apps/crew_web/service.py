"""The crew page's parts put together, without Flask."""

from __future__ import annotations

import logging
import threading

from apps.common import content, disks, pa
from apps.common import layout as layouts
from apps.common.bus import Bus, Followed
from apps.common.calls import SeatControl
from apps.common.channels import ImposedView
from apps.common.content import ContentState
from apps.common.disks import Disks
from apps.common.health import Degraded, Health
from apps.common.settings import SettingsError
from apps.crew_web import cabin_map, crew, languages, pins, selection
from apps.crew_web.clock import CrewTime
from apps.crew_web.lockout import Lockout
from apps.crew_web.media import ContentSync, DemoGate, PaAudio, VlcStream
from apps.crew_web.seat_picture import SeatPicture
from apps.crew_web.sessions import Sessions
from apps.crew_web.settings import CrewWebSettings
from apps.crew_web.store import Store
from apps.crew_web.watched import Watched

log = logging.getLogger(__name__)

LOOK_EVERY = 2.0
"""Seconds between two looks at whether sessions answer."""


class CrewWeb:
    """Make it, `start` it, `close` it.

    Raises:
        LayoutError: the cabin layout is wrong.
        CrewFileError: the crew file is wrong.
        CatalogueError: a language's file is wrong.
        StoreError: sessions cannot be stored, or those of a PIN that has changed not ended.
        SettingsError: the bus cannot have such an address.
    """

    def __init__(self, settings: CrewWebSettings) -> None:
        self.settings = settings
        self.layout = layouts.load(settings.layout)
        self.map = cabin_map.draw(self.layout)
        self.parts = selection.parts(self.layout)
        self.crew = crew.load(settings.crew_file)
        self.languages = languages.load()
        self.store = Store(settings.state_directory)
        pins.end_of_changed(self.store, self.crew.members)
        crew_time = CrewTime(self.store, settings.boot_id)
        idle = 60.0 * settings.session_idle_minutes
        self.sessions = Sessions(self.store, idle, crew_time.now)
        self.lockout = Lockout(self.store, crew_time.now)
        try:
            self._bus = Bus(settings.redis_url)
        except ValueError as error:
            raise SettingsError(f"IFE_REDIS_URL: {error}") from error
        self.pa = Followed(self._bus, pa.TOPIC, pa.PaState, pa.STATE_GOOD_FOR)
        self.seat_control = Watched("seat_control", SeatControl(settings.seat_control_socket))
        self.pa_audio = Watched("pa_audio", PaAudio(settings.pa_audio_socket))
        video = VlcStream(settings.vlc_stream_socket)
        self.vlc_stream = Watched("vlc_stream", video, lambda: self._look_at_video(video))
        self._imposed: tuple[ImposedView, ...] = ()
        self.content_sync = Watched("content_sync", ContentSync(settings.content_sync_socket))
        self._content = Followed(self._bus, content.TOPIC, ContentState)
        self._disks = Followed(self._bus, disks.TOPIC, Disks, disks.GOOD_FOR)
        self.demo_gate = (
            None if settings.demo_gate_socket is None else DemoGate(settings.demo_gate_socket)
        )
        self.seat_picture = (
            None if settings.seat_picture is None else SeatPicture(settings.seat_picture)
        )
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="sessions", daemon=True)
        self.health = Health("crew_web")
        self.health.need(lambda: self.store.trouble)
        self.health.part("redis", lambda: self._bus.trouble)
        for app in (self.seat_control, self.pa_audio, self.vlc_stream, self.content_sync):
            self.health.part(app.name, app.trouble)

    def start(self) -> None:
        """Connect to the bus, and begin to watch the other apps."""
        self._bus.start()
        for app in (self.seat_control, self.pa_audio, self.vlc_stream, self.content_sync):
            app.start()
        self._watcher.start()
        log.info("the crew's page is up", extra={"seats": len(self.layout.seats)})

    def close(self) -> None:
        """Stop everything."""
        self._closing.set()
        self._watcher.join(timeout=5)
        for app in (self.seat_control, self.pa_audio, self.vlc_stream, self.content_sync):
            app.close()
        self._bus.close()
        self.store.close()

    def degraded(self) -> list[Degraded]:
        """What the crew do without right now, each part once; seat control's view first.

        The parts of pa_audio and vlc_stream have the app's name before their own.
        """
        report = self.health.report()
        parts = [*self.seat_control.degraded, *report.degraded]
        for app in (self.pa_audio, self.vlc_stream):
            parts += [
                Degraded(part=f"{app.name} {part.part}", why=part.why) for part in app.degraded
            ]
        if report.why_not:
            parts.append(Degraded(part="sessions", why=report.why_not))
        return list({part.part: part for part in reversed(parts)}.values())[::-1]

    def imposed(self) -> list[ImposedView] | None:
        """The imposed videos that are on, as vlc_stream said within the last seconds.

        None while it is away.
        """
        if self.vlc_stream.trouble():
            return None
        return [video for video in self._imposed if video.state != "idle"]

    def content(self) -> ContentState | None:
        """What content_sync said last; None while it is away, as what it said is old then."""
        return None if self.content_sync.trouble() else self._content.value

    def disks(self) -> Disks | None:
        """What usb_lockdown said within the last seconds; None: nothing."""
        return self._disks.value

    def _look_at_video(self, client: VlcStream) -> None:
        self._imposed = client.channels().imposed

    def _watch(self) -> None:
        while True:
            self.health.notify()
            # Each request needs them too. That they cannot be written is no reason to start anew.
            if self.store.is_sound():
                self.health.alive()
            if self._closing.wait(LOOK_EVERY):
                return
