"""The Hangar put together: the fleet file, PostgreSQL, the repository that aircraft fetch from."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from nacl.signing import VerifyKey
from pydantic import BaseModel, ValidationError

from apps.common import gate, usage
from apps.common.commands import Strict
from apps.common.gate import (
    BatchTaken,
    Fault,
    Heartbeat,
    HeartbeatAnswer,
    Request,
    RequestKind,
)
from apps.common.health import Health
from apps.common.log import Refusals
from apps.common.usage import BatchError, RecordError
from apps.common.web import Problem, malformed
from apps.hangar import aircraft as fleet_file
from apps.hangar import fleet
from apps.hangar.fleet import AircraftView, FleetView
from apps.hangar.logs import Logs
from apps.hangar.published import Published, Repository
from apps.hangar.settings import HangarSettings
from apps.hangar.store import (
    AskedAlreadyError,
    NoJsonError,
    OtherBatchError,
    Store,
    StoreError,
    Waiting,
)

log = logging.getLogger(__name__)

TICK = 1.0
"""Seconds between two times that heartbeats are written, and requests are looked for."""

STUCK_AFTER = 60.0

DAY = 86400.0

MAX_USAGE_A_DAY = 2 << 30
"""Bytes, as they came and unpacked, that a worker takes of one aircraft in a day: some ten million
records. No aircraft flies as much, and one whose key is stolen does not fill the disk of all."""

T = TypeVar("T")


@dataclass
class _Day:
    """What was taken of an aircraft since when."""

    began: float
    bytes: int = 0


class AskRequest(Strict):
    """`POST /api/v1/aircraft/<registration>/requests`: what is asked of an aircraft."""

    kind: RequestKind


class AskedView(BaseModel):
    """A request for an aircraft, and what it made of it."""

    id: UUID
    kind: str
    asked_by: str
    asked_at: datetime
    state: str
    why: str
    changed_at: datetime
    has_logs: bool = False


class TitleView(BaseModel):
    """A title, how often it was played, and for how many seconds in all."""

    title: str
    plays: int
    seconds: int


class AircraftDetail(BaseModel):
    """`GET /api/v1/aircraft/<registration>`: all that is known of an aircraft.

    `fresh_until`: when its content expires, as far as it knows. `sales` of the last flight are by
    currency, in its smallest unit.
    """

    aircraft: AircraftView
    kinds: dict[str, int] = {}
    fresh_until: datetime | None = None
    published: Published
    free: int | None = None
    total: int | None = None
    boot_id: str | None = None
    faults: list[Fault] = []
    requests: list[AskedView] = []
    sales: dict[str, int] = {}
    titles: list[TitleView] = []


class Hangar:
    """The service. Make it, `start` it, `close` it.

    Raises:
        SettingsError: the fleet file is wrong.
    """

    def __init__(self, settings: HangarSettings) -> None:
        self.fleet = fleet_file.load(settings.fleet_file)
        self.health = Health("hangar")
        self.refusals = Refusals(log)
        self._keys: dict[str, list[VerifyKey]] = {
            name: aircraft.keys() for name, aircraft in self.fleet.items()
        }
        self._store = Store(settings.database_url)
        self._repository = Repository(settings.content_directory)
        self._logs = Logs(settings.state_directory / "logs")
        self._database: str | None = "it was not asked yet"
        self._lock = threading.Lock()
        self._heard: dict[str, Waiting] = {}
        """The newest heartbeat of each aircraft that the database does not have yet."""
        self._requests: dict[str, tuple[Request, ...]] = {}
        now = time.monotonic()
        self._days = {name: _Day(now) for name in self.fleet}
        self._ticked_at = time.monotonic()
        self._closing = threading.Event()
        self._ticker = threading.Thread(target=self._tick_until_closed, name="tick", daemon=True)
        self.health.need(self._stuck)
        self.health.need(lambda: self._database)

    def start(self) -> None:
        """Begin to look after the database."""
        self._ticker.start()
        log.info("the Hangar is up", extra={"aircraft": len(self.fleet)})

    def close(self) -> None:
        """Stop."""
        self._closing.set()
        self._ticker.join(timeout=5)
        self._store.close()

    # -- aircraft ---------------------------------------------------------------------------

    def heartbeat(self, certificate: str, body: bytes) -> HeartbeatAnswer:
        """Take a heartbeat; the database has it within a second, outcomes in it at once.

        Args:
            certificate: the aircraft that the client certificate is for; empty without one.
            body: at most `gate.MAX_HEARTBEAT` bytes, else it is refused.
        """
        self._known(certificate)
        if len(body) > gate.MAX_HEARTBEAT:
            raise self._refused(
                certificate, Problem(413, "too-large", f"over {gate.MAX_HEARTBEAT} bytes")
            )
        try:
            heartbeat = Heartbeat.model_validate_json(body)
        except ValidationError as error:
            raise self._refused(certificate, malformed(error)) from error
        if heartbeat.registration != certificate:
            raise self._refused(
                certificate,
                Problem(403, "other-aircraft", f"the certificate is of {certificate}"),
            )
        told = heartbeat.model_dump_json(exclude={"outcomes"}, exclude_defaults=True)
        now = time.monotonic()
        with self._lock:
            before = self._heard.get(certificate)
            self._heard[certificate] = Waiting(told, now, before.since if before else now)
        # It was heard, also where the database is away and it has to tell these again.
        if heartbeat.outcomes:
            self._stored(lambda: self._store.take_outcomes(certificate, heartbeat.outcomes))
            self._look_for_requests()
        return HeartbeatAnswer(at=usage.now(), requests=self._requests.get(certificate, ()))

    def take(self, certificate: str, number: int, body: bytes) -> BatchTaken:
        """Take a batch of usage; what this returns is on the disk.

        Args:
            certificate: as for `heartbeat`.
            number: of the path.
            body: at most `usage.MAX_BATCH` bytes, else it is refused.
        """
        self._known(certificate)
        day = self._day_with_room(certificate)
        try:
            batch = usage.open_batch(body, self._keys[certificate])
            if batch.head.registration != certificate:
                raise BatchError("other-aircraft", f"the certificate is of {certificate}")
            if batch.head.number != number:
                raise BatchError("other-number", f"the batch has the number {batch.head.number}")
            records = [usage.parse(batch.head.kind, line) for line in batch.lines]
            taken = self._stored(lambda: self._store.take(body, batch, records))
            if not taken.again:
                with self._lock:
                    day.bytes += len(body) + sum(map(len, batch.lines))
            return taken
        except BatchError as error:
            status = {"too-large": 413, "forged": 403, "other-aircraft": 403}.get(error.reason, 400)
            problem = Problem(status, error.reason, error.detail)
        except (RecordError, NoJsonError) as error:
            problem = Problem(422, "wrong-record", str(error))
        except OtherBatchError:
            problem = Problem(409, "other-batch", f"there is another batch {number} of this spool")
        raise self._refused(certificate, problem)

    def take_logs(self, certificate: str, request: UUID, body: bytes) -> None:
        """Take the logs that an aircraft was asked for; what returns is on the disk.

        Args:
            certificate: as for `heartbeat`.
            request: that asked for them.
            body: at most `gate.MAX_LOGS` bytes, else it is refused.
        """
        self._known(certificate)
        if not self._stored(lambda: self._store.is_open(certificate, request, "send_logs")):
            raise self._refused(
                certificate, Problem(404, "no-request", "no such request is open: send no logs")
            )
        if len(body) > gate.MAX_LOGS:
            raise self._refused(
                certificate, Problem(413, "too-large", f"over {gate.MAX_LOGS} bytes")
            )
        try:
            self._logs.keep(certificate, request, body)
        except OSError as error:
            log.exception("logs cannot be kept")
            raise Problem(
                503, "no-room", "the Hangar's disk refuses: try again", retry_after=60
            ) from error

    # -- operators --------------------------------------------------------------------------

    def view(self) -> FleetView:
        """All aircraft."""
        self._stored(self._write_heard)
        published = self._repository.published()
        now = self._stored(self._store.now)
        heard = self._stored(self._store.all_heard)
        flights = self._stored(self._store.last_flights)
        return FleetView(
            at=now,
            published=published.version,
            aircraft=[
                fleet.view(aircraft, heard.get(name), flights.get(name, {}), published, now)
                for name, aircraft in sorted(self.fleet.items())
            ],
        )

    def detail(self, registration: str) -> AircraftDetail:
        """One aircraft.

        Raises:
            Problem: there is none by this registration.
        """
        if registration not in self.fleet:
            raise Problem(404, "unknown-aircraft", f"the fleet file has no {registration}")
        self._stored(self._write_heard)
        published = self._repository.published()
        now = self._stored(self._store.now)
        row = self._stored(self._store.all_heard).get(registration)
        flights = self._stored(self._store.last_flights)
        shown = AircraftDetail(
            aircraft=fleet.view(
                self.fleet[registration], row, flights.get(registration, {}), published, now
            ),
            published=published,
            requests=[
                AskedView.model_validate(asked, from_attributes=True)
                for asked in self._stored(lambda: self._store.asked(registration))
            ],
        )
        there = self._logs.of(registration)
        for asked in shown.requests:
            asked.has_logs = asked.id in there
        said = fleet.heartbeat_of(row) if row is not None else None
        if said is not None:
            shown.kinds = dict(said.content.kinds)
            if said.content.fresh_until is not None:
                shown.fresh_until = datetime.fromtimestamp(said.content.fresh_until / 1000, UTC)
            shown.free, shown.total = said.space.free, said.space.total
            shown.boot_id = said.boot_id
            shown.faults = list(said.bite.faults)
        start, end = shown.aircraft.flight_from, shown.aircraft.flight_to
        if start is not None and end is not None:
            flight = self._stored(lambda: self._store.flight(registration, start, end))
            shown.sales = flight.sales
            shown.titles = [
                TitleView(title=title, plays=plays, seconds=seconds)
                for title, plays, seconds in flight.titles
            ]
        return shown

    def ask(self, operator: str, registration: str, request: AskRequest) -> UUID:
        """Have a request wait for an aircraft's next heartbeat.

        Raises:
            Problem: there is no such aircraft, or such a request is open.
        """
        if registration not in self.fleet:
            raise Problem(404, "unknown-aircraft", f"the fleet file has no {registration}")
        try:
            identifier = self._stored(lambda: self._store.ask(registration, request.kind, operator))
        except AskedAlreadyError:
            raise Problem(
                409, "asked-already", "that was asked, and is not done: wait for it, or withdraw it"
            ) from None
        self._look_for_requests()
        log.info(
            "a request",
            extra={"operator": operator, "aircraft": registration, "asked": request.kind},
        )
        return identifier

    def logs(self, registration: str, request: UUID) -> bytes:
        """What an aircraft sent, compressed by zstandard.

        Raises:
            Problem: it is not, or no longer, there.
        """
        data = self._logs.read(registration, request) if registration in self.fleet else None
        if data is None:
            raise Problem(404, "no-logs", "there are no such logs, or no longer")
        return data

    def withdraw(self, operator: str, registration: str, identifier: UUID) -> None:
        """Take a request back.

        Raises:
            Problem: there is none that is open.
        """
        if not self._stored(lambda: self._store.withdraw(registration, identifier, operator)):
            raise Problem(404, "no-request", "there is no such request that is open")
        self._look_for_requests()
        log.info("a request is withdrawn", extra={"operator": operator, "aircraft": registration})

    # -- what is alike ----------------------------------------------------------------------

    def _known(self, certificate: str) -> None:
        if not certificate:
            raise self._refused(
                "no certificate",
                Problem(403, "no-aircraft", "show the client certificate of an aircraft"),
            )
        if certificate not in self.fleet:
            raise self._refused(
                certificate,
                Problem(403, "unknown-aircraft", f"the fleet file has no {certificate}"),
            )

    def _day_with_room(self, certificate: str) -> _Day:
        now = time.monotonic()
        with self._lock:
            day = self._days[certificate]
            if now - day.began >= DAY:
                day = self._days[certificate] = _Day(now)
        if day.bytes >= MAX_USAGE_A_DAY:
            raise self._refused(
                certificate,
                Problem(
                    429,
                    "too-much-usage",
                    f"over {MAX_USAGE_A_DAY} bytes of usage in a day: keep it, and try again later",
                    retry_after=int(day.began + DAY - now) + 1,
                ),
            )
        return day

    def _refused(self, source: str, problem: Problem) -> Problem:
        self.refusals.add(problem.slug, source, problem.detail)
        return problem

    def _stored(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except StoreError as error:
            self._database = str(error) or "it does not say why"
            log.warning("PostgreSQL does not do it", extra={"error": self._database})
            raise Problem(
                503, "no-database", "the Hangar's database is away: try again", retry_after=10
            ) from error

    def _look_for_requests(self) -> None:
        """At once, here; another worker sees it within a second."""
        self._requests = self._stored(self._store.open_requests)

    def _write_heard(self) -> None:
        with self._lock:
            told, self._heard = self._heard, {}
        if not told:
            return
        try:
            self._store.heard(told, gate.OFFLINE_AFTER)
        except StoreError:
            with self._lock:
                for name, one in told.items():
                    newer = self._heard.get(name)
                    self._heard[name] = replace(newer, since=one.since) if newer else one
            raise

    # -- by the clock -----------------------------------------------------------------------

    def _stuck(self) -> str | None:
        if time.monotonic() - self._ticked_at > STUCK_AFTER:
            return "the database is not looked after any more: restart the Hangar"
        return None

    def _tick_until_closed(self) -> None:
        migrated = False
        while not self._closing.is_set():
            try:
                if not migrated:
                    self._store.migrate()
                    migrated = True
                self._write_heard()
                self._requests = self._store.open_requests()
            except StoreError as error:
                self._database = str(error) or "it does not say why"
            except Exception as error:
                # A database of a newer version, say. This thread is the only one to tell.
                log.exception("the database cannot be used")
                self._database = str(error)
            else:
                self._database = None
            self._ticked_at = time.monotonic()
            self.health.notify()
            self.health.alive()
            self._closing.wait(TICK)
