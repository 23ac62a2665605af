"""The player: the state machine in its asyncio shell.

One event loop holds one player on a real seat, and hundreds of them in the simulated cabin of
the bench. So a player has no thread and no task that waits: a timer, a socket's callback, and
a short task for each report and each write to the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
import time
from collections import deque
from collections.abc import Callable, Coroutine
from importlib.metadata import version
from typing import Any

import aiohttp
from pydantic import BaseModel, Field

from apps.common.backoff import BackOff
from apps.common.commands import AnyAction
from apps.common.log import Refusals
from apps.common.protocol import (
    EPOCH_HEADER,
    MAX_DATAGRAM,
    MAX_FRAMES_PER_ANSWER,
    PROTOCOL,
    TIME_HEADER,
    Epoch,
    FrameVerifier,
    Millis,
    StatusAnswer,
)
from apps.common.settings import SettingsError
from apps.player.channel_list import MAX_LIST, ChannelList
from apps.player.keys import read_keys
from apps.player.machine import (
    PROTOCOL_1_LACKS,
    Answer,
    Do,
    Effect,
    Machine,
    Refused,
    Rejoin,
    Report,
    Restart,
    Save,
    Take,
)
from apps.player.media import MediaBackend, MediaError, MediaEvent
from apps.player.multicast import MulticastReceiver
from apps.player.pa_link import PaSource
from apps.player.pa_report import PaReport
from apps.player.platform import Platform, PlatformError
from apps.player.seat import (
    HoldMedia,
    ImposeMedia,
    MediaStep,
    PauseMedia,
    PlayMedia,
    ResumeMedia,
    SetReadingLight,
    SetScreen,
    SetSound,
    ShowText,
    Step,
    StopMedia,
)
from apps.player.settings import PlayerSettings
from apps.player.store import HeldStore, PlayedStore

log = logging.getLogger(__name__)

HTTP_TIMEOUT = 2.0
MAX_ANSWER = MAX_FRAMES_PER_ANSWER * (MAX_DATAGRAM + 3) + 256
"""Bytes; a full answer takes that much."""

CHANNELS_FIRST, CHANNELS_EVERY = 2.0, 60.0
"""Seconds before a second try to fetch the channels, and between two times that they are."""

PLAYED_EVERY = 2.0
"""Seconds between two times that what plays is saved."""

OnApplied = Callable[[str, int, int, AnyAction, float], None]
"""Called with seat, epoch, seq, action and monotonic seconds when a command was carried out."""


class _Headers(BaseModel):
    epoch: Epoch = Field(alias=EPOCH_HEADER)
    cabin_ms: Millis = Field(alias=TIME_HEADER)


def tls_context(settings: PlayerSettings) -> ssl.SSLContext:
    """Mutual TLS: the seat's certificate for the server, and the CA that the server's is from.

    Raises:
        SettingsError: a file is missing, or not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslobject_class = _of_aircraft(settings.registration)
    try:
        context.load_verify_locations(settings.ca_file)
        context.load_cert_chain(settings.seat_certificate, settings.seat_key)
    except OSError as error:
        raise SettingsError(
            f"the certificates of seat {settings.seat} cannot be used: {error}; look at "
            f"{settings.ca_file}, {settings.seat_certificate} and {settings.seat_key}"
        ) from error
    return context


def _of_aircraft(registration: str) -> type[ssl.SSLObject]:
    """TLS that also wants the server's certificate to be of this very aircraft (its OU).

    The authority is the airline's, and the server may have the same address on each aircraft.
    """

    class OfAircraft(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            certificate: Any = self.getpeercert()
            subject = dict(pair for part in certificate["subject"] for pair in part)
            unit = subject.get("organizationalUnitName")
            if unit != registration:
                raise ssl.SSLCertVerificationError(
                    f"the server's certificate is for the aircraft {unit}, not {registration}"
                )

    return OfAircraft


class Player:
    """One seat's agent. `start` it, and `stop` it, on a running event loop.

    Args:
        settings: of this seat.
        media: what plays; the player starts and closes it.
        platform: the hardware around it.
        pa: what hears the PA for it.
        channels: to be kept up to date with the server's.
        protocol: the newest version of the cabin protocol to speak.
        on_applied: told of each command that was carried out.

    Raises:
        SettingsError: a file that the settings name cannot be used.
    """

    def __init__(
        self,
        settings: PlayerSettings,
        media: MediaBackend,
        platform: Platform,
        *,
        pa: PaSource | None = None,
        channels: ChannelList | None = None,
        protocol: int = PROTOCOL,
        on_applied: OnApplied | None = None,
    ) -> None:
        self._settings = settings
        self._media = media
        self._platform = platform
        self._pa = pa
        self._channels = channels
        self._protocol = protocol
        self._on_applied = on_applied
        self._url = f"{settings.server_url}/api/v1/seats/{settings.seat}/status"
        self._tls = tls_context(settings)
        self._verifier = FrameVerifier(
            read_keys(settings.command_public_keys_file), speaks=protocol
        )
        self._store = HeldStore(settings.state_directory)
        self._played = PlayedStore(settings.state_directory, settings.boot_id)
        self._refusals = Refusals(log)
        self._multicast = MulticastReceiver(
            settings.multicast_interface,
            settings.multicast_group,
            settings.multicast_port,
            settings.multicast_source,
            self._datagram,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._saver: asyncio.Task[None] | None = None
        self._plays_anew = asyncio.Event()
        self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._server_trouble: str | None = "not reached yet"
        self._temperature = 0.0
        # Set by start().
        self._machine: Machine
        self._session: aiohttp.ClientSession

    @property
    def server_trouble(self) -> str | None:
        """A sentence while seat control does not answer as it should."""
        return self._server_trouble

    @property
    def multicast_trouble(self) -> str | None:
        """A sentence while the multicast group is not joined."""
        return self._multicast.trouble

    async def start(self) -> None:
        """Begin to listen and to report."""
        self._session = aiohttp.ClientSession(
            # A second connection, so that no status waits for the channels.
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=2),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=HTTP_TIMEOUT),
            headers={"Content-Type": "application/json"},
        )
        self._machine = Machine(
            seat=self._settings.seat,
            boot_id=self._settings.boot_id,
            firmware=version("ife"),
            held=self._store.load(),
            verifier=self._verifier,
            rand=random.random,
            now=time.monotonic(),
            pa_area=self._settings.pa_area,
            protocol=self._protocol,
        )
        self._media.start(self._media_event)
        if self._pa is not None:
            self._fault("pa", True)  # until it reports
            self._pa.start(self._pa_report)
        if self._channels is not None:
            self._spawn(self._follow_channels(self._channels))
        self._rejoin()
        self._run(self._machine.boot(self._played.load()))
        self._spawn(self._remember_played())

    async def stop(self) -> None:
        """End all that goes on; what is held is on the disk afterwards."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        self._multicast.close()
        for task in self._tasks:
            # A thread that writes cannot be stopped, and two must not write at once.
            if task is not self._saver:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()
        if self._pa is not None:
            await self._pa.close()
        await self._media.close()
        try:
            await asyncio.to_thread(self._store.save, self._machine.held)
        except OSError as error:
            log.warning("what is held was not saved", extra={"error": str(error)})

    def call_attendant(self) -> None:
        """The passenger pressed the call button."""
        self._run(self._machine.call_attendant(time.monotonic()))

    # -- what happens -----------------------------------------------------------------------

    def _datagram(self, datagram: bytes) -> None:
        self._run(self._machine.datagram(datagram, time.monotonic()))

    def _pa_report(self, report: PaReport) -> None:
        self._fault("pa", False)
        self._run(self._machine.pa_report(report, time.monotonic()))

    def _media_event(self, event: MediaEvent) -> None:
        log.info("media: %s", event, extra={"seat": self._settings.seat})
        self._run(self._machine.media_event(event, time.monotonic()))
        self._plays_anew.set()

    def _tick(self) -> None:
        self._timer = None
        self._run(self._machine.tick(time.monotonic()))

    def _arm(self) -> None:
        """Make the timer match what the machine wants."""
        loop = asyncio.get_running_loop()
        delay = max(0.0, self._machine.next_at - time.monotonic())
        if self._timer is not None:
            # A timer that comes too early does no harm, so most of the time it can stay.
            if self._timer.when() <= loop.time() + delay:
                return
            self._timer.cancel()
        self._timer = loop.call_later(delay, self._tick)

    # -- what is to be done -----------------------------------------------------------------

    def _run(self, effects: list[Effect]) -> None:
        """Carry out the effects, and those that follow from them."""
        if self._stopping:
            return
        queue = deque(effects)
        while queue:
            match queue.popleft():
                case Do() as do:
                    queue.extend(self._do(do))
                case Take(steps=steps):
                    self._take_if_possible(steps)
                case Save() as save:
                    self._saver = self._spawn(self._save(save))
                case Report():
                    self._spawn(self._report())
                case Rejoin():
                    self._rejoin()
                case Restart() as restart:
                    self._spawn(self._restart(restart))
                case Refused(kind=kind, detail=detail):
                    self._refusals.add(kind, self._settings.seat, detail)
        self._arm()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _do(self, do: Do) -> list[Effect]:
        try:
            for step in do.plan.steps:
                self._take(step)
        except (MediaError, PlatformError) as error:
            log.info("cannot", extra=self._fields(do) | {"reason": str(error)})
            return self._machine.cannot(str(error), time.monotonic())
        except Exception:
            # A fault of ours must not keep the seat from the commands that follow.
            log.exception("a command failed", extra=self._fields(do))
            return self._machine.cannot("a fault in the player", time.monotonic())
        self._applied(do)
        return self._machine.done(do, time.monotonic())

    def _applied(self, effect: Do | Restart) -> None:
        command = effect.command
        if self._on_applied is not None:
            self._on_applied(
                self._settings.seat,
                command.epoch,
                command.seq,
                command.action,
                time.monotonic(),
            )
        log.info("applied", extra=self._fields(effect))

    def _fields(self, effect: Do | Restart) -> dict[str, object]:
        command = effect.command
        return {
            "seat": self._settings.seat,
            "seq": command.seq,
            "action": command.action.name,
        }

    def _take(self, step: Step) -> None:
        match step:
            case SetScreen(on=on, brightness=brightness):
                self._platform.set_screen(on, brightness)
            case SetReadingLight(on=on):
                self._platform.set_reading_light(on)
            case _:
                take(step, self._media)
                self._plays_anew.set()

    def _take_if_possible(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            try:
                self._take(step)
            except (MediaError, PlatformError) as error:
                log.warning("not possible: %s", step, extra={"reason": str(error)})

    def _rejoin(self) -> None:
        self._multicast.rejoin()
        self._fault("multicast", self._multicast.trouble is not None)

    def _fault(self, name: str, present: bool) -> None:
        if present:
            self._machine.faults.add(name)
        else:
            self._machine.faults.discard(name)

    async def _save(self, save: Save) -> None:
        error = None
        try:
            await asyncio.to_thread(self._store.save, save.held)
        except OSError as problem:
            error = problem.strerror or str(problem)
            log.warning("what is held was not saved", extra={"error": str(problem)})
        except Exception:
            # Whatever it is, the machine waits to be told.
            error = "a fault in the player"
            log.exception("what is held was not saved")
        self._run(self._machine.saved(error, time.monotonic()))

    async def _restart(self, restart: Restart) -> None:
        self._applied(restart)
        try:
            await self._platform.reboot()
        except PlatformError as error:
            log.warning("cannot", extra=self._fields(restart) | {"reason": str(error)})
            self._run(self._machine.cannot_restart(time.monotonic()))

    # -- what plays, and what could ----------------------------------------------------------

    async def _remember_played(self) -> None:
        """For the next agent: what plays, at once, and its position every few seconds."""
        while True:
            self._plays_anew.clear()
            seat = self._machine.seat
            paused = seat.playback == "paused"
            media = seat.media if seat.playback in {"playing", "paused"} else None
            try:
                await asyncio.to_thread(
                    self._played.save, media, self._media.position(), paused=paused
                )
            except OSError as error:
                log.info("what plays was not saved", extra={"error": str(error)})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PLAYED_EVERY):
                    await self._plays_anew.wait()

    async def _follow_channels(self, channels: ChannelList) -> None:
        back_off = BackOff(CHANNELS_FIRST, CHANNELS_EVERY)
        while True:
            try:
                if channels.update(await self._get_channels()):
                    await asyncio.to_thread(channels.save)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                log.info("the channels are not to be had", extra={"error": str(error)[:300]})
                await asyncio.sleep(back_off.delay())
            else:
                back_off.reset()
                await asyncio.sleep(CHANNELS_EVERY)

    async def _get_channels(self) -> bytes:
        async with self._session.get(
            f"{self._settings.server_url}/api/v1/channels",
            server_hostname=self._settings.server_name,
            allow_redirects=False,
        ) as response:
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            return await _read(response, MAX_LIST)

    # -- the report -------------------------------------------------------------------------

    async def _report(self) -> None:
        try:
            answer = await self._post(self._status())
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # TimeoutError is an OSError, what pydantic finds wrong is a ValueError.
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            self._server_is(f"seat control does not answer as it should: {said}")
            effects = self._machine.failed(time.monotonic())
        except Exception:
            # A fault of ours must not be the end of the reports.
            log.exception("a report failed")
            effects = self._machine.failed(time.monotonic())
        else:
            if answer is None:
                effects = self._machine.turned_away(time.monotonic())
            else:
                self._server_is(None)
                effects = self._machine.answered(answer, time.monotonic())
        self._run(effects)

    def _status(self) -> bytes:
        try:
            self._temperature = self._platform.temperature()
            self._fault("temperature", False)
        except PlatformError:
            self._fault("temperature", True)
        status = self._machine.status(self._media.position(), self._temperature, time.monotonic())
        lacks = set(PROTOCOL_1_LACKS) if self._protocol == 1 else None
        return status.model_dump_json(exclude=lacks).encode()

    async def _post(self, body: bytes) -> Answer | None:
        """The server's answer; None where it refuses the status."""
        async with self._session.post(
            self._url,
            data=body,
            server_hostname=self._settings.server_name,
            allow_redirects=False,
        ) as response:
            text = await _read(response, MAX_ANSWER)
            if 400 <= response.status < 500:
                self._server_is(f"seat control refuses: {response.status} {text[:500]!r}")
                return None
            if response.status not in {200, 204}:
                raise ValueError(f"status {response.status}")
            headers = _Headers.model_validate_strings(
                {name.title(): value for name, value in response.headers.items()}
            )
            answer = StatusAnswer.model_validate_json(text) if response.status == 200 else None
        return Answer(headers.epoch, headers.cabin_ms, answer)

    def _server_is(self, trouble: str | None) -> None:
        """Log where that changes."""
        if trouble is None and self._server_trouble is not None:
            log.info("seat control answers", extra={"seat": self._settings.seat})
        elif trouble is not None and self._server_trouble is None:
            log.warning("%s", trouble, extra={"seat": self._settings.seat})
        self._server_trouble = trouble


def take(step: MediaStep, media: MediaBackend) -> None:
    """Have a media backend take a step.

    Raises:
        MediaError: it cannot.
    """
    match step:
        case PlayMedia(media=name, position=position):
            media.play(name, position)
        case PauseMedia():
            media.pause()
        case ResumeMedia():
            media.resume()
        case StopMedia():
            media.stop()
        case ImposeMedia(channel=channel):
            media.impose(channel)
        case HoldMedia(held=held):
            media.hold(held)
        case SetSound(volume=volume):
            media.set_volume(volume)
        case ShowText(text=text):
            media.show_text(text)


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    text = b""
    async for chunk in response.content.iter_any():
        text += chunk
        if len(text) > limit:
            raise ValueError("the answer is too long")
    return text
