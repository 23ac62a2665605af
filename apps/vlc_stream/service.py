"""vlc_stream put together, without Flask: the processes that send, and what watches them.

One lock guards the channels' state; nothing waits for a disk or a network while it is held.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel

from apps.common import channels as channels_files
from apps.common import pa
from apps.common.bus import Bus, Followed
from apps.common.calls import SeatControl
from apps.common.channels import (
    ChannelControl,
    ChannelsView,
    ChannelView,
    ImposeAnswer,
    ImposedControl,
    ImposedView,
    ImposeRequest,
)
from apps.common.health import Health
from apps.common.multicast import is_up
from apps.common.screens import ScreensOrder, ScreensView
from apps.common.settings import SettingsError
from apps.common.web import Problem
from apps.vlc_stream.channel import ManagedChannel
from apps.vlc_stream.front import Front, Words
from apps.vlc_stream.imposed import ImposedVideos
from apps.vlc_stream.keeper import Company
from apps.vlc_stream.library import Library
from apps.vlc_stream.orders import Output, Report
from apps.vlc_stream.pictures import Pictures
from apps.vlc_stream.process import SendingProcess
from apps.vlc_stream.screens import config as screens_config
from apps.vlc_stream.screens.keeper import Screens
from apps.vlc_stream.settings import VlcStreamSettings

log = logging.getLogger(__name__)

CHANNELS_A_PROCESS = 12
"""A crash costs so many; fewer a process take more memory each."""

KNOWS_WITHIN = 3.0
"""Seconds after the start within which the PA has told whether there is a decompression."""

TICK = 0.1
"""Seconds between two looks at everything."""

STARTS_A_TICK = 4
"""Channels that begin at the same time want the processor at the same time."""

PUBLISH_EVERY = 1.0
STUCK_AFTER = 5.0
"""Seconds without a look, after which vlc_stream is not ready."""

LIBRARY_STUCK_AFTER = 120.0
"""Seconds without a look at a file; one takes `probe.TIMEOUT` at most, unless the disk hangs."""

CONTROL_SOCKET = "control.sock"


class VlcStream:
    """The service. Make it, `start` it, `close` it.

    Raises:
        ChannelsError: the channels file is wrong.
        ScreensError: the screens file is wrong.
        SettingsError: the bus cannot have such an address, or the control front no socket.
    """

    def __init__(self, settings: VlcStreamSettings) -> None:
        self.settings = settings
        file = channels_files.load(settings.channels_file)
        screens = settings.screens_file and screens_config.load(settings.screens_file)
        self._output = Output(
            interface=settings.multicast_interface,
            source=settings.multicast_source,
            ttl=settings.multicast_ttl,
        )
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self.library = Library(
            settings.media_directory,
            (channel.playlist for channel in file.channels.values()),
            (name for video in file.imposed.values() for name in video.files.values()),
            self._files_changed,
        )
        self.pictures = Pictures(self._output)
        self.screens = Screens(screens or None, self._publish_soon)
        self._workers: list[SendingProcess] = []
        self._channels = self._make_channels(file)
        self._pacer = self._process("pacer", self._take_imposed)
        self.imposed = ImposedVideos(
            file.imposed,
            self._pacer,
            self.library,
            SeatControl(settings.seat_control_socket),
            self.screens.show_video,
            self._publish_soon,
            settings.state_directory,
            settings.boot_id,
        )
        try:
            self._bus = Bus(settings.redis_url)
        except ValueError as error:
            raise SettingsError(f"IFE_REDIS_URL: {error}") from error
        self._pa: Followed[pa.PaState] | None = None
        self._published: dict[str, BaseModel] = {}
        self._publish_at = 0.0
        self._ticked = time.monotonic()
        self._knows_by = self._ticked + KNOWS_WITHIN
        self._screens_told = False
        self._closing = False
        self._ticker = threading.Thread(target=self._tick_until_closed, name="tick", daemon=True)
        self._fronts: list[Front] = []
        self._wire = True
        self.health = self._make_health()

    def start(self) -> None:
        """Begin to send."""
        self._bus.start()
        self._pa = Followed(self._bus, pa.TOPIC, pa.PaState, pa.STATE_GOOD_FOR)
        self._open_fronts()
        self.library.start()
        self.imposed.start()
        self._ticker.start()
        log.info("vlc_stream is up", extra={"channels": len(self._channels)})

    def close(self) -> None:
        """Stop everything."""
        self._closing = True
        self._wake.set()
        self._ticker.join(timeout=5)
        self.imposed.close()
        for front in self._fronts:
            front.close()
        for process in (*self._workers, self._pacer):
            process.close()
        self.library.close()
        self.screens.close()
        self._bus.close()
        for channel in self._channels.values():
            channel.close()

    # -- what is asked of it ------------------------------------------------------------------

    def view(self) -> ChannelsView:
        """How all channels and imposed videos are."""
        return ChannelsView(
            source=self._output.source, channels=self.channels(), imposed=self.imposed.views()
        )

    def channels(self) -> tuple[ChannelView, ...]:
        """How all channels are."""
        with self._lock:
            return tuple(channel.view() for channel in self._channels.values())

    def control(self, name: str, control: ChannelControl) -> ChannelView:
        """Play, pause, stop or seek a channel.

        Raises:
            Problem: there is none of that name, or it cannot.
        """
        channel = self._channel(name)
        with self._lock:
            if control.action != "seek":
                channel.control(control.action)
            elif channel.spec.live is not None:
                raise Problem(409, "live", f"{name} is live, there is no place to go to")
            else:
                channel.seek((control.percent or 0.0) / 100)
            self._tend(channel)
            return channel.view()

    def impose(self, crew: str, request: ImposeRequest) -> ImposeAnswer:
        """Show an imposed video. Raises Problem."""
        answer = self.imposed.impose(crew, request)
        log.info("imposed", extra={"video": request.channel, "crew": crew})
        return answer

    def control_imposed(self, crew: str, video: str, control: ImposedControl) -> ImposedView:
        """Pause, resume or stop an imposed video. Raises Problem."""
        view = self.imposed.control(video, control)
        log.info(control.action, extra={"video": video, "crew": crew})
        return view

    def order_screens(self, order: ScreensOrder) -> ScreensView:
        """Have screens be as said.

        Raises:
            Problem: there is no such screen, or the cabin is decompressed.
        """
        view = self.screens.view()
        if view.locked:
            raise Problem(409, "decompression", "the screens stay stowed in a decompression")
        try:
            self.screens.order(order)
        except KeyError as error:
            raise Problem(422, "no-such-screen", f"there is no screen {error.args[0]}") from error
        return self.screens.view()

    def picture(self, name: str) -> bytes:
        """A JPEG of what is on the wire of a channel, or of an imposed video. Raises Problem."""
        views: tuple[ChannelView | ImposedView, ...] = (*self.channels(), *self.imposed.views())
        for view in views:
            if view.id == name:
                return self.pictures.of(view.group, view.port)
        raise Problem(404, "no-such-channel", f"there is no channel {name}")

    # -- how ----------------------------------------------------------------------------------

    def _make_channels(self, file: channels_files.ChannelsFile) -> dict[str, ManagedChannel]:
        made: dict[str, ManagedChannel] = {}
        companies: dict[SendingProcess, Company] = defaultdict(Company)
        relay: SendingProcess | None = None
        with_files = 0
        for name, spec in file.channels.items():
            if spec.live is not None:
                if relay is None:
                    relay = self._process("relay", self._take)
                    self._workers.append(relay)
                process = relay
            else:
                if with_files % CHANNELS_A_PROCESS == 0:
                    worker = self._process("channel_worker", self._take)
                    self._workers.append(worker)
                with_files += 1
                process = worker
            company = companies[process]
            made[name] = ManagedChannel(name, spec, process, company, self.library, self._output)
        return made

    def _process(self, module: str, on_report: Callable[[Report], None]) -> SendingProcess:
        return SendingProcess(
            f"apps.vlc_stream.{module}",
            self._output,
            on_report,
            self._wake.set,
            self.settings.log_level,
        )

    def _make_health(self) -> Health:
        health = Health("vlc_stream")
        health.need(self._why_not)
        health.part("redis", lambda: self._bus.trouble)
        health.part("interface", self._interface_trouble)
        health.part("files", self._files_trouble)
        health.part("channels", self._channels_trouble)
        health.part("screens", self.screens.trouble)
        return health

    def _open_fronts(self) -> None:
        words = Words(self.channels, self.control)
        settings = self.settings
        try:
            self._fronts.append(Front(words, settings.state_directory / CONTROL_SOCKET, None))
            if settings.control_port is not None:
                password = _password(settings.control_password)
                self._fronts.append(Front(words, settings.control_port, password))
        except OSError as error:
            raise SettingsError(f"the control front: {error}") from error

    def _channel(self, name: str) -> ManagedChannel:
        channel = self._channels.get(name)
        if channel is None:
            raise Problem(404, "no-such-channel", f"there is no channel {name}")
        return channel

    def _take(self, report: Report) -> None:
        channel = self._channels.get(report.id)
        if channel is not None:
            with self._lock:
                channel.take(report)

    def _take_imposed(self, report: Report) -> None:
        self.imposed.take(report)

    def _files_changed(self) -> None:
        with self._lock:
            for channel in self._channels.values():
                channel.refresh()
        self._publish_soon()

    def _tick_until_closed(self) -> None:
        while not self._closing:
            self._wake.wait(TICK)
            self._wake.clear()
            try:
                self._tick()
            except Exception:
                # Without this thread nothing would be started again.
                log.exception("a look at the channels failed")

    def _tick(self) -> None:
        if self._pacer.tend():
            self.imposed.process_is_new()
        for process in self._workers:
            if process.tend():
                with self._lock:
                    for channel in self._channels.values():
                        if channel.process is process:
                            channel.process_is_new()
        self._wire = is_up(self.settings.multicast_interface)
        starts = 0
        with self._lock:
            for channel in self._channels.values():
                starts += self._tend(channel, starts < STARTS_A_TICK)
        self.imposed.tend()
        value = self._pa.value if self._pa is not None else None
        # As long as nobody knows, the screens stay as they are.
        if value is not None:
            self.screens.lock(value.decompression)
        if not self._screens_told and (value is not None or time.monotonic() > self._knows_by):
            # Not before: they would be stowed and deployed again, or deployed in a decompression.
            self._screens_told = True
            self.imposed.show_on_screens()
            self.screens.start()
        self.screens.tend()
        self._ticked = time.monotonic()
        if self._ticked >= self._publish_at:
            self._publish()

    def _tend(self, channel: ManagedChannel, may_start: bool = True) -> bool:
        return channel.tend(self._wire, may_start)

    def _publish_soon(self) -> None:
        self._publish_at = 0.0

    def _publish(self) -> None:
        self._publish_at = time.monotonic() + PUBLISH_EVERY
        # First: a topic that is too long for the bus is no reason to end all video.
        self.health.notify()
        self.health.alive()
        views = self.view()
        for topic, value in (
            ("vlc_stream/channels", _Channels(channels=views.channels)),
            ("vlc_stream/imposed", _Imposed(imposed=views.imposed)),
            ("vlc_stream/screens", self.screens.view()),
        ):
            if self._published.get(topic) != value:
                self._published[topic] = value
                self._bus.publish(topic, value)

    def _why_not(self) -> str | None:
        if self._ticker.is_alive() and time.monotonic() - self._ticked > STUCK_AFTER:
            return "the channels are not watched any more: restart vlc_stream"
        return None if self.library.looked_at else "the files are being looked at"

    def _files_trouble(self) -> str | None:
        # A new start would not help where the disk hangs; live sources and screens go on.
        if time.monotonic() - self.library.looked > LIBRARY_STUCK_AFTER:
            return "they are not looked at any more"
        return None

    def _interface_trouble(self) -> str | None:
        return None if self._wire else f"{self.settings.multicast_interface} is down"

    def _channels_trouble(self) -> str | None:
        views: tuple[ChannelView | ImposedView, ...] = (*self.channels(), *self.imposed.views())
        wrong = [
            f"{view.id}: {view.trouble or view.state}"
            for view in views
            if view.trouble or view.state == "silent"
        ]
        return "; ".join(wrong[:3]) or None


class _Channels(BaseModel):
    """The value of ``vlc_stream/channels``."""

    channels: tuple[ChannelView, ...]


class _Imposed(BaseModel):
    """The value of ``vlc_stream/imposed``."""

    imposed: tuple[ImposedView, ...]


def _password(path: Path | None) -> bytes:
    """The password of the control front.

    Raises:
        SettingsError: there is none, or it is too short.
    """
    try:
        password = path.read_bytes().strip() if path is not None else b""
    except OSError as error:
        raise SettingsError(f"IFE_CONTROL_PASSWORD: {error.strerror}") from error
    if len(password) < 12:
        raise SettingsError("IFE_CONTROL_PASSWORD: a file with at least 12 characters")
    return password
