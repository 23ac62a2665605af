"""The PA's parts put together, without Flask."""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel

from apps.common import layout as layouts
from apps.common.announcements import (
    MessageView,
    MusicRequest,
    PaView,
    PramRequest,
    PramView,
    QueuedView,
)
from apps.common.bus import Bus
from apps.common.health import Health
from apps.common.pa import ALL_AREAS, LEVELS_TOPIC, STATE_EVERY, TOPIC, Signer, Source
from apps.common.settings import SettingsError
from apps.pa_audio.agenda import NOTHING, Agenda, Asked
from apps.pa_audio.arbiter import Groups, PramItem
from apps.pa_audio.cabin import Cabin
from apps.pa_audio.clock import PaTime
from apps.pa_audio.engine import Engine, StuckError
from apps.pa_audio.inputs import Input, open_input
from apps.pa_audio.listening import Listening
from apps.pa_audio.pram import Library, Music, PramError
from apps.pa_audio.real_time import PRIORITY, calm_python, go_first, lock_memory
from apps.pa_audio.recorder import Recorder
from apps.pa_audio.self_test import SelfTest
from apps.pa_audio.session import Announcer
from apps.pa_audio.settings import PaAudioSettings

log = logging.getLogger(__name__)

LEVELS_EVERY = 0.2
"""Seconds between two levels on the bus, while anybody speaks."""

MEND_EVERY = 0.2
"""Seconds between two looks at the inputs."""

NOTIFY_EVERY = 1.0

LOOK_EVERY = 10.0
"""Seconds between two looks at the messages' index."""

HANGS_AFTER = 15.0
"""Seconds without such a look after which the index's disk hangs."""

PATIENCE = 0.5
"""Seconds that one who asks for what is on a disk waits for others who did."""

KEYLINES = "keylines.sock"

KEYLINES_WITHIN = 5.0
"""Seconds that what is resumed waits for the keylines: there may be a decompression."""

STEADY = 10.0
"""Seconds after a start before what the crew ask for is noted for the next."""

NOTE_EVERY = 0.25

THREADS = ("mender", "librarian", "music", "recorder", "self-test", "sap", "agenda")
"""Those that have to go on, by name; the sender and the teller are the watchdog's."""

MAX_LABEL = 64


class Levels(BaseModel):
    """The topic of levels: of the announcement that wins, dB of full scale."""

    number: int
    level: float


class UnknownAreaError(Exception):
    """The cabin has no such area; the text names it."""


class HungDiskError(Exception):
    """Somebody waits for a disk already; the text says for which."""


class Disk:
    """What lies there, `what`, is looked at by one at a time.

    So one that hangs holds one thread of the API, and the others are there for the crew's orders.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.Lock()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Look at it during the block.

        Raises:
            HungDiskError: whoever does so already has not ended within `PATIENCE`.
        """
        if not self._lock.acquire(timeout=PATIENCE):
            raise HungDiskError(f"the disk of the {self._what} does not answer")
        try:
            yield
        finally:
            self._lock.release()


class PaAudio:
    """Make it, `start` it, `close` it.

    Raises:
        LayoutError: the cabin layout is wrong.
        SettingsError: the key, or the socket of the keylines, cannot be used.
    """

    def __init__(self, settings: PaAudioSettings) -> None:
        self.settings = settings
        self.layout = layouts.load(settings.layout)
        self.areas = {name: number for number, name in enumerate(self.layout.pa_areas, 1)}
        signer = _signer(settings.pa_key)
        groups = (ALL_AREAS, *self.areas.values())
        self._clock = PaTime(settings.state_directory, settings.boot_id)
        interface, source = settings.multicast_interface, settings.multicast_source
        self._cabin = Cabin(interface, source, groups, settings.multicast_ttl)
        self._inputs: dict[Source, Input] = {
            Source.PILOT: open_input(settings.pilot_input),
            Source.CREW: open_input(settings.crew_input),
        }
        self._music = Music(settings.music_directory)
        self._keylines = _bind(settings.runtime_directory / KEYLINES)
        self.engine = Engine(
            self.areas,
            signer,
            self._cabin,
            self._inputs,
            self._music,
            self._keylines,
            self._clock.now,
            f"pa_audio@{settings.registration}",
            secrets.randbits,
        )
        self.library = Library(settings.pram_directory)
        self._library_trouble: str | None = "not read yet"
        self._library_looked = time.monotonic()
        self._idents = itertools.count(1)
        self.recorder = Recorder(
            settings.state_directory / "announcements",
            self.areas,
            settings.recordings_kept,
            settings.recordings_mib * 1024 * 1024,
            settings.recordings_days,
        )
        self.engine.add_tap(self.recorder.tap)
        self.listening = Listening(self.engine.add_tap, self.engine.remove_tap)
        self._self_test = SelfTest(interface, source, groups, signer.public_key, self._clock.now)
        self._announcer = Announcer(
            settings.registration,
            self.areas,
            interface,
            source,
            settings.multicast_ttl,
            version=self._clock.now() // 1000,
        )
        self._bus = _bus(settings.redis_url)
        self._late: str | None = None
        self._messages_disk = Disk("messages")
        self._closing = threading.Event()
        self._teller = threading.Thread(target=self._tell, name="teller", daemon=True)
        self._mender = threading.Thread(target=self._mend, name="mender", daemon=True)
        self._librarian = threading.Thread(target=self._look, name="librarian", daemon=True)
        self._agenda = Agenda(settings.runtime_directory)
        self._noter = threading.Thread(target=self._note, name="agenda", daemon=True)
        self.health = Health("pa_audio")
        self._describe_health()

    def _describe_health(self) -> None:
        self.health.need(self.engine.stuck)
        self.health.part("multicast", lambda: self._cabin.trouble)
        self.health.part("cable", self._self_test.cable_trouble)
        self.health.part("self-test", self._self_test.trouble)
        self.health.part("keylines", self.engine.keylines_trouble)
        self.health.part("pilot input", lambda: self._input_trouble(Source.PILOT))
        self.health.part("crew input", lambda: self._input_trouble(Source.CREW))
        self.health.part("real time", lambda: self._late)
        self.health.part("messages", self._messages_trouble)
        self.health.part("music", lambda: self._music.trouble)
        self.health.part("recordings", lambda: self.recorder.trouble)
        self.health.part("PA time", lambda: self._clock.trouble)
        self.health.part("sessions", lambda: self._announcer.trouble)
        self.health.part("redis", lambda: self._bus.trouble)
        self.health.part("threads", _threads_trouble)

    def start(self) -> None:
        """Begin to send first of all; whoever speaks right now is to be heard."""
        self._late = go_first(PRIORITY)  # and all threads that start from here
        self.engine.start()
        self._late = self._late or lock_memory()
        for thread in (self._mender, self._librarian, self._teller, self._music, self.recorder):
            thread.start()
        self._noter.start()
        self._self_test.start()
        self._announcer.start()
        self._bus.start()
        calm_python()
        log.info("the PA is up", extra={"areas": len(self.areas)})

    def close(self) -> None:
        """Stop everything."""
        self._closing.set()
        self.listening.closing.set()
        for thread in (self._mender, self._teller, self._noter):
            thread.join(timeout=5)
        self.engine.close()
        self._announcer.close()
        self._self_test.close()
        self._music.close()
        self.recorder.close()
        for entry in self._inputs.values():
            entry.close()
        self._cabin.close()
        self._bus.close()
        self._keylines.close()

    # -- the crew's ----------------------------------------------------------------------------

    def groups_of(self, names: tuple[str, ...]) -> Groups:
        """The groups of areas by name; none named is all of them.

        Raises:
            UnknownAreaError: the cabin has no such area.
        """
        for name in names:
            if name not in self.areas:
                raise UnknownAreaError(f"the cabin has no area {name[:MAX_LABEL]}")
        return frozenset(self.areas[name] for name in names) or frozenset({ALL_AREAS})

    def play(self, request: PramRequest, check_in_time: Callable[[], None]) -> QueuedView:
        """Let a message wait for its turn.

        Args:
            request: which, and where.
            check_in_time: raises a Problem when the crew have given it up: a disk may be slow, and
                they would ask again, and hear it twice.

        Raises:
            Problem: by `check_in_time`.
            UnknownAreaError: the cabin has no such area.
            PramError: it cannot be played.
            QueueFullError: too many wait already.
            DecompressionError: not now.
            StuckError: the real-time thread does not answer.
        """
        item = self.library.prepare(next(self._idents), request, self.groups_of(request.areas))
        check_in_time()
        self.engine.do(lambda arbiter: arbiter.add(item))
        return self._queued(item)

    def switch_music(self, request: MusicRequest) -> None:
        """Let boarding music play in some areas, or no longer.

        Raises:
            DecompressionError: not now.
            UnknownAreaError: the cabin has no such area.
            StuckError: the real-time thread does not answer.
        """
        groups = self.groups_of(request.areas)
        if request.on:
            self._music.want()
        self.engine.do(lambda arbiter: arbiter.switch_music(groups, on=request.on))

    def pram(self) -> PramView:
        """The messages.

        Raises:
            StuckError: the real-time thread does not answer.
        """
        queue = self.engine.do(lambda arbiter: arbiter.queue)
        try:
            with self._messages_disk.alone():
                messages, trouble = self.library.index().messages, None
        except (PramError, HungDiskError) as error:
            messages, trouble = {}, str(error)
        return PramView(
            messages={
                name: MessageView(
                    titles={code: entry.title for code, entry in message.languages.items()}
                )
                for name, message in messages.items()
            },
            queue=tuple(map(self._queued, queue)),
            trouble=trouble,
        )

    def view(self) -> PaView:
        """Everything.

        Raises:
            StuckError: the real-time thread does not answer.
        """
        queue, music = self.engine.do(lambda arbiter: (arbiter.queue, arbiter.music))
        return PaView(
            state=self.engine.state,
            level=round(self.engine.level, 1),
            music=self._names(music),
            queue=tuple(map(self._queued, queue)),
            self_test=self._self_test.view(),
            sent=self._cabin.sent,
            lost=self._cabin.lost,
        )

    def _queued(self, item: PramItem) -> QueuedView:
        return QueuedView(
            id=item.id,
            message=item.message,
            languages=item.languages,
            areas=self._names(item.groups),
            seconds=len(item.packets) * 0.005,
        )

    def _names(self, groups: Groups) -> tuple[str, ...]:
        return tuple(
            name for name, area in self.areas.items() if area in groups or ALL_AREAS in groups
        )

    # -- threads -------------------------------------------------------------------------------

    def _tell(self) -> None:
        """Tell the bus of each change at once, and the service manager that we are well."""
        told = notified = 0.0
        while not self._closing.is_set():
            changed, _, _ = select.select([self.engine.changed], [], [], LEVELS_EVERY)
            now = time.monotonic()
            if changed:
                os.eventfd_read(self.engine.changed)
            state = self.engine.state
            if changed or now - told >= STATE_EVERY:
                told = now
                self._bus.publish(TOPIC, state)
            if state.state == "announcement" and not changed:
                level = Levels(number=state.number, level=round(self.engine.level, 1))
                self._bus.publish(LEVELS_TOPIC, level)
            if now - notified >= NOTIFY_EVERY:
                notified = now
                self.health.notify()
                if self.engine.stuck() is None:
                    self.health.alive()

    def _mend(self) -> None:
        while True:
            for source, entry in self._inputs.items():
                try:
                    entry.mend(self.engine.misses(source))
                except Exception:
                    # The other input is to be mended, too.
                    log.exception("an input was not mended")
            if self._closing.wait(MEND_EVERY):
                return

    def _note(self) -> None:
        """Go on with what the crew asked the last one for, then note what they ask for."""
        began = time.monotonic()
        asked = self._agenda.take()
        while asked != NOTHING and self.engine.keylines_trouble():
            if time.monotonic() - began > KEYLINES_WITHIN or self._closing.wait(NOTE_EVERY):
                break
        self._resume(asked)
        while not self._closing.wait(NOTE_EVERY):
            if time.monotonic() - began < STEADY:
                continue
            with suppress(StuckError):
                self._agenda.keep(self._asked())

    def _resume(self, asked: Asked) -> None:
        """From its start, as far as it still can be."""
        try:
            if asked.music is not None:
                self.switch_music(MusicRequest(on=True, areas=asked.music))
            for request in asked.messages:
                log.info("a message begins again", extra={"pram": request.message})
                self.play(request, lambda: None)
        except Exception as error:  # noqa: BLE001 - the PA goes on without
            log.warning("not all goes on that was asked for", extra={"error": repr(error)})

    def _asked(self) -> Asked:
        queue, music = self.engine.do(lambda arbiter: (arbiter.queue, arbiter.music))

        def areas(groups: Groups) -> tuple[str, ...]:
            return () if ALL_AREAS in groups else self._names(groups)

        messages = tuple(
            PramRequest(message=item.message, languages=item.languages, areas=areas(item.groups))
            for item in queue
        )
        return Asked(messages=messages, music=areas(music) if music else None)

    def _look(self) -> None:
        """Read the messages' index from time to time; while its disk hangs, nothing else does."""
        while True:
            try:
                self._library_trouble = self.library.trouble
            except Exception as error:
                log.exception("the messages were not looked at")
                self._library_trouble = f"{self.settings.pram_directory}: {error}"
            self._library_looked = time.monotonic()
            if self._closing.wait(LOOK_EVERY):
                return

    def _input_trouble(self, source: Source) -> str | None:
        if trouble := self._inputs[source].trouble:
            return trouble
        return "it is to be heard and no samples come" if self.engine.misses(source) else None

    def _messages_trouble(self) -> str | None:
        if time.monotonic() - self._library_looked > HANGS_AFTER:
            return f"{self.settings.pram_directory}: the disk does not answer"
        return self._library_trouble


def _threads_trouble() -> str | None:
    """None while all threads are there that have to be."""
    there = {thread.name for thread in threading.enumerate()}
    ended = ", ".join(name for name in THREADS if name not in there)
    return f"ended: {ended}" if ended else None


def _signer(path: Path) -> Signer:
    try:
        return Signer(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError(f"IFE_PA_KEY: {error}") from error


def _bus(url: str) -> Bus:
    try:
        return Bus(url)
    except ValueError as error:
        raise SettingsError(f"IFE_REDIS_URL: {error}") from error


def _bind(path: Path) -> socket.socket:
    """The socket that the keylines come to, for its group to write to (unix(7))."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        path.unlink(missing_ok=True)
        sock.bind(str(path))
        path.chmod(0o660)
    except OSError as error:
        sock.close()
        raise SettingsError(f"IFE_RUNTIME_DIRECTORY: {path}: {error.strerror or error}") from error
    return sock
