"""content_sync put together, without Flask: disks that come and go, jobs, and what it tells."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from apps.common import disks
from apps.common.backoff import BackOff
from apps.common.bus import Bus, Followed
from apps.common.content import (
    TOPIC,
    ContentSet,
    ContentState,
    DiskView,
    Freshness,
    ImportRequest,
    Job,
    SetView,
)
from apps.common.disks import Disk, Disks
from apps.common.health import Health
from apps.common.settings import SettingsError
from apps.common.web import Problem
from apps.content_sync.clock import Clock
from apps.content_sync.ground import STAGING, Ground, OnBoard
from apps.content_sync.importer import Importer, verify
from apps.content_sync.settings import ContentSyncSettings
from apps.content_sync.source import (
    FolderSource,
    GoneError,
    SocketSource,
    Source,
    TooSlowError,
)
from apps.content_sync.spool import bound_what_is_left
from apps.content_sync.store import TUF, Store, StoreError
from apps.content_sync.trust import Offer, RefusedError, Trust
from apps.content_sync.worker import JobFailed, Tell, Worker

log = logging.getLogger(__name__)

TICK = 1.0
"""Seconds between two words on the bus while something is under way."""

RETRY_FIRST = 2.0
RETRY_MAX = 60.0
"""Seconds until a disk that broke off, but is still there, is tried again."""

_State = Literal["waits", "queued", "importing", "done", "refused", "failed"]


@dataclass
class _Port:
    """A port with a disk in it."""

    disk: Disk
    state: _State
    says: str
    safe: bool = True
    retry_at: float | None = None
    back_off: BackOff = field(default_factory=lambda: BackOff(RETRY_FIRST, RETRY_MAX))


class ContentSync:
    """The service. Make it, `start` it, `close` it.

    Raises:
        SettingsError: the root cannot be read or is none, or the bus cannot have such an address.
    """

    def __init__(self, settings: ContentSyncSettings, clock: Clock | None = None) -> None:
        self.settings = settings
        self._clock = clock or Clock()
        try:
            root = settings.content_root.read_bytes()
            self.store = Store(settings.content_directory, settings.content_reserve * 1024 * 1024)
            self.trust = Trust(
                settings.content_directory / TUF,
                settings.runtime_directory / TUF,
                root,
                settings.airline,
                self._clock,
            )
        except OSError as error:
            raise SettingsError(f"{error.filename}: {error.strerror}") from error
        except RefusedError as error:
            raise SettingsError(f"IFE_CONTENT_ROOT: {error}") from error
        try:
            self._bus = Bus(settings.redis_url)
        except ValueError as error:
            raise SettingsError(f"IFE_REDIS_URL: {error}") from error
        self.worker = Worker(self.publish_soon)
        self.turn = threading.Lock()
        """Held by whoever looks at a source or imports: trust and objects have one user each."""
        self.ground = (
            Ground(
                settings,
                self._bus,
                OnBoard(self.store, self.trust, self.turn, self.worker.stop),
                lambda: self.trust.reference,
                self.publish_soon,
            )
            if settings.hangar_address
            else None
        )
        if self.ground is None:
            # What came half by a gate that is no more.
            shutil.rmtree(settings.content_directory / STAGING, ignore_errors=True)
        self._lock = threading.RLock()
        self._ports: dict[str, _Port] = {}
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._published: ContentState | None = None
        self._ticker = threading.Thread(target=self._tick_until_closed, name="tick", daemon=True)
        self.health = Health("content_sync")
        self.health.need(self._why_not)
        self.health.part("redis", lambda: self._bus.trouble)
        self.health.part("content", self._content_trouble)
        if self.ground:
            self.health.need(self.ground.turnaround.why_not)
        for part, check in (self.ground.parts() if self.ground else {}).items():
            self.health.part(part, check)

    def start(self) -> None:
        """Begin to follow disks."""
        self._bus.start()
        self.worker.start()
        self._ticker.start()
        Followed(self._bus, disks.TOPIC, Disks, on_value=self._disks_are)
        if self.ground:
            self.ground.start()
        else:
            threading.Thread(
                target=bound_what_is_left,
                args=(self.settings.usage_database_url, self._closing),
                name="outbox",
                daemon=True,
            ).start()
        log.info("content_sync is up")

    def close(self) -> None:
        """Stop; what is under way goes on behind where it was, at the next start."""
        self._closing.set()
        self._wake.set()
        self.worker.close()
        if self.ground:
            self.ground.close()
        self._ticker.join(timeout=5)
        self._bus.close()

    # -- what is asked of it ------------------------------------------------------------------

    def view(self) -> ContentState:
        """All there is to tell."""
        trusted = self.trust.trusted
        coming = trusted if trusted and self.store.wants(trusted) else None
        with self._lock:
            views = tuple(_disk_view(port) for port in self._ports.values())
        return ContentState(
            current=_set_view(self.store.current),
            former=_set_view(self.store.former),
            coming=_coming_view(coming, self.store.current) if coming else None,
            freshness=self._freshness(trusted),
            progress=self.worker.progress,
            disks=views,
            gate=self.ground.view() if self.ground else None,
            trouble=self.worker.trouble,
            free=self.store.free(),
        )

    def rollback(self, crew: str) -> ContentState:
        """Put the former set in force.

        Raises:
            Problem: there is none, or the disk refuses.
        """
        try:
            content = self.store.rollback()
        except StoreError as error:
            raise Problem(409, "no-former-set", str(error)) from error
        except OSError as error:
            raise Problem(503, "disk", f"the server's disk refuses: {error.strerror}") from error
        log.warning("rolled back", extra={"set": content.version, "crew": crew})
        if self.ground:
            # What comes there may be of the set that they went back from.
            self.ground.turnaround.sync_now()
        self.publish_soon()
        return self.view()

    def import_folder(self, request: ImportRequest) -> Job:
        """Import the repository in a folder. Raises Problem."""
        source = FolderSource(Path(request.folder), request.folder)
        title = f"import from {request.folder}"
        return self.worker.do(title, lambda tell: self._import(source, tell))

    def verify(self) -> Job:
        """Read all that is on board again. Raises Problem."""
        return self.worker.do("check of what is on board", self._verify)

    def import_disk(self, crew: str, port: str) -> ContentState:
        """Import a disk that waits for the crew's word, or that was refused or broke off.

        Raises:
            Problem: there is no disk in that port that could be imported now.
        """
        with self._lock:
            found = self._ports.get(port)
            if found is None or found.disk.state != "ready":
                raise Problem(409, "no-disk", f"there is no disk to import in {port}")
            if found.state in {"queued", "importing"}:
                raise Problem(409, "under-way", "that disk is being imported already")
            log.info("the crew have a disk imported", extra={"port": port, "crew": crew})
            self._queue(found)
        return self.view()

    def publish_soon(self) -> None:
        """Something has changed."""
        self._wake.set()

    # -- disks --------------------------------------------------------------------------------

    def _disks_are(self, value: Disks | None) -> None:
        """In a thread of the bus: what usb_lockdown says of the ports."""
        if value is None:
            return
        with self._lock:
            now = {disk.port: disk for disk in value.disks}
            for port in [port for port in self._ports if port not in now]:
                gone = self._ports.pop(port)
                log.info("a disk is gone", extra={"port": port, "was": gone.state})
            for port, disk in now.items():
                known = self._ports.get(port)
                if known is None or known.disk != disk:
                    self._disk_is(disk)
        self.publish_soon()

    def _disk_is(self, disk: Disk) -> None:
        if disk.state == "ready" and disk.socket:
            port = self._ports[disk.port] = _Port(disk, "waits", "It waits for the crew's word.")
            if not self.settings.crew_confirms_disks:
                self._queue(port)
        elif disk.state in {"refused", "unreadable"}:
            self._ports[disk.port] = _Port(disk, "refused", disk.why or "It cannot be read.")
        else:
            self._ports[disk.port] = _Port(disk, "waits", "It is being looked at.", safe=False)

    def _queue(self, port: _Port) -> None:
        source = SocketSource(Path(port.disk.socket or ""), f"disk {port.disk.port}")

        def work(tell: Tell) -> str:
            if not self._is_there(port):
                raise GoneError("it was pulled out before its turn came")
            with self._lock:
                port.state, port.says = "importing", "It is being loaded. Leave it in."
            try:
                return self._import(source, tell)
            finally:
                source.close()

        def done(error: Exception | None, says: str) -> None:
            with self._lock:
                port.safe, port.says, port.retry_at = True, says, None
                port.state = "done" if error is None else "failed"
                if isinstance(error, RefusedError):
                    port.state = "refused"
                elif isinstance(error, GoneError | TooSlowError):
                    port.says = f"It broke off: {says}. It will be tried again if it stays in."
                    port.retry_at = time.monotonic() + port.back_off.delay()

        try:
            self.worker.do(f"disk {port.disk.port}", work, done)
        except Problem as problem:
            port.state, port.says = "failed", problem.detail
            port.retry_at = time.monotonic() + RETRY_MAX
            return
        port.state, port.says, port.safe = "queued", "It waits for its turn.", False
        port.retry_at = None

    def _is_there(self, port: _Port) -> bool:
        with self._lock:
            return self._ports.get(port.disk.port) is port

    def _retry(self) -> None:
        now = time.monotonic()
        with self._lock:
            for port in self._ports.values():
                if port.retry_at is not None and port.retry_at <= now:
                    self._queue(port)

    # -- how ----------------------------------------------------------------------------------

    def _import(self, source: Source, tell: Tell) -> str:
        halves = self.ground.turnaround.halves if self.ground else None
        with self.turn:
            importer = Importer(self.store, self.trust, tell, self.worker.stop, halves)
            outcome = importer.run(source)
        current = self.store.current
        if outcome.older and outcome.missing and not outcome.wrong:
            return (
                f"It is older than set {outcome.version}, which the ground has signed since. What "
                f"it has of that is on board; {outcome.missing} files are still to come."
            )
        if outcome.missing:
            raise JobFailed(
                f"{len(outcome.wrong)} files are damaged and {len(outcome.absent)} missing on it: "
                "get another copy; what was good is kept"
            )
        if outcome.in_force:
            return f"All of it is on board: set {outcome.version}."
        if current is not None and current.version == outcome.version:
            return f"Nothing new: set {outcome.version} is on board already."
        return f"Set {outcome.version} is the one that was gone back from. It was left alone."

    def _verify(self, tell: Tell) -> str:
        with self.turn:
            damaged = verify(self.store, self.trust, tell, self.worker.stop)
        if damaged:
            raise JobFailed(
                f"{len(damaged)} files were damaged and are out of the set: import it again"
            )
        return "All that is on board is as it was signed."

    def _freshness(self, trusted: Offer | None) -> Freshness:
        sure = self._clock.is_sure()
        # The first set is trusted before anything of it is on board.
        if trusted is None or self.store.is_empty:
            says = "There is no content yet."
            if self.trust.trouble:
                says = "How fresh it is has been lost. It plays on; load the newest disk."
            return Freshness(state="none", clock_is_sure=sure, says=says)
        day = trusted.expires.date().isoformat()
        if trusted.expires <= self.trust.reference:
            return Freshness(
                state="expired",
                until=trusted.expires,
                clock_is_sure=sure,
                says=f"It was to be renewed by {day}. It plays on; load a newer disk.",
            )
        says = f"It is good until {day}."
        if not sure:
            says += " The clock was not told the time, so it may be over."
        return Freshness(state="fresh", until=trusted.expires, clock_is_sure=sure, says=says)

    def _why_not(self) -> str | None:
        if self._ticker.is_alive() and not self.worker.is_alive():
            return "nothing is imported any more: restart content_sync"
        return None

    def _content_trouble(self) -> str | None:
        if trouble := self.worker.trouble or self.trust.trouble:
            return trouble
        freshness = self._freshness(self.trust.trusted)
        return freshness.says if freshness.state == "expired" else None

    def _tick_until_closed(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(TICK)
            self._wake.clear()
            try:
                self._retry()
                if self.ground:
                    self.ground.tick()
                self._publish()
            except Exception:
                # Without this thread nobody would hear of anything.
                log.exception("the state could not be told")
            # What changes fast is told no faster than people read.
            time.sleep(0.1)

    def _publish(self) -> None:
        state = self.view()
        if state != self._published:
            self._published = state
            self._bus.publish(TOPIC, state)
        self.health.notify()
        if self.health.report().ready:
            self.health.alive()


def _disk_view(port: _Port) -> DiskView:
    return DiskView(
        port=port.disk.port,
        name=port.disk.name,
        state=port.state,
        says=port.says,
        safe_to_remove=port.safe,
        tried_again=port.retry_at is not None,
    )


def _set_view(content: ContentSet | None) -> SetView | None:
    if content is None:
        return None
    return SetView(
        version=content.version,
        kinds=content.kinds,
        missing=content.missing,
        files=len(content.files),
        bytes=sum(content.digests().values()),
        made=content.made,
        expires=content.expires,
    )


def _coming_view(offer: Offer, current: ContentSet | None) -> SetView:
    files = offer.files()
    there = current.files if current else {}
    return SetView(
        version=offer.version,
        kinds={kind: offered.version for kind, offered in offer.kinds.items()},
        missing=sum(there.get(name) != file for name, file in files.items()),
        files=len(files),
        bytes=sum({file.digest: file.length for file in files.values()}.values()),
        made=offer.made,
        expires=offer.expires,
    )
