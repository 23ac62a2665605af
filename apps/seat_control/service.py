"""Seat control put together: the tables, the journal, the multicast, the audit log, the bus.

One lock guards the cabin's state; nothing waits for a disk or a network while it is held.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from apps.common import layout as layouts
from apps.common import pa
from apps.common.bus import Bus, Followed
from apps.common.cabin import CabinView
from apps.common.commands import (
    MOMENTARY_EXPIRY,
    Accepted,
    AnyAction,
    Armed,
    ArmRequest,
    CommandRequest,
    DeliveryReport,
    Selector,
)
from apps.common.health import Health
from apps.common.log import Refusals
from apps.common.outbox import Outbox
from apps.common.protocol import (
    EPOCH_HEADER,
    MAX_STATUS_BODY,
    PROTOCOL,
    PROTOCOL_HEADER,
    TIME_HEADER,
    Beacon,
    FrameSigner,
    FrameTooLargeError,
    Status,
    StatusAnswer,
)
from apps.common.settings import SettingsError
from apps.common.usage import now as now_ms
from apps.common.web import CONTENT_TYPE, Problem, malformed
from apps.seat_control.audit import Auditor
from apps.seat_control.commands import (
    ARM_SECONDS,
    Arming,
    CommandLog,
    CommandRate,
    Issued,
    Missed,
)
from apps.seat_control.events import EventStream
from apps.seat_control.journal import Journal
from apps.seat_control.multicast import MulticastSender
from apps.seat_control.seats import ClaimedTwiceError, SeatTable
from apps.seat_control.settings import SeatControlSettings
from apps.seat_control.usage import SeatUsage

log = logging.getLogger(__name__)

TICK = 0.1
"""Seconds between two looks at what changed."""

STUCK_AFTER = 5.0
"""Seconds without a look, or without a beacon, after which seat control is not ready."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An HTTP answer, whoever gives it.

    `after_writing`: it may be given only when `SeatControl.write_outcomes` has returned.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    after_writing: bool = False

    @classmethod
    def of(cls, problem: Problem) -> HttpAnswer:
        """A refusal."""
        return cls(problem.status, [(b"content-type", CONTENT_TYPE.encode())], problem.body())


class SeatControl:
    """The service. Make it, `start` it, `close` it.

    Raises:
        LayoutError: the cabin layout is wrong.
        JournalError: the journal cannot be used.
        SettingsError: the command key cannot be used.
    """

    def __init__(self, settings: SeatControlSettings) -> None:
        self.settings = settings
        self.layout = layouts.load(settings.layout)
        self.events = EventStream()
        self.health = Health("seat_control")
        self.refusals = Refusals(log)
        self._signer = _signer(settings.command_key)
        self._journal = Journal(settings.state_directory, settings.boot_id)
        self._lock = threading.Lock()
        self._issuing = threading.Lock()
        self._log = CommandLog(self.layout.seats, self._journal.epoch, self._journal.last_seq())
        for issued in self._journal.load(self._log.frame, self.layout.seats):
            self._log.add(issued)
        self._arming = Arming(time.monotonic)
        self._rate = CommandRate(time.monotonic)
        self._bus = Bus(settings.redis_url)
        self._announced: tuple[int, ...] = ()
        self._telling = threading.Lock()
        self._auditor = Auditor(self._journal, settings.database_url, settings.registration)
        self._usage = SeatUsage()
        self._outbox = Outbox(settings.usage_database_url, "ife-seat_control")
        self._multicast = MulticastSender(
            settings.multicast_interface,
            settings.multicast_source,
            settings.multicast_group,
            settings.multicast_port,
            settings.multicast_ttl,
            self._beacon,
        )
        self._writing = threading.Lock()
        self._unwritten: dict[int, Issued] = {}
        self._untold: dict[int, Issued] = {}
        self._verdicts_written = 0
        """Up to which `CommandLog.verdicts` the journal has them, or could not take them."""
        self._ticked_at = self._beaconed_at = time.monotonic()
        self._closing = threading.Event()
        self._ticker = threading.Thread(target=self._tick_until_closed, name="tick", daemon=True)
        self.health.need(self._stuck)
        self.health.part("redis", lambda: self._bus.trouble)
        self.health.part("audit log", lambda: self._auditor.trouble)
        self.health.part("usage", lambda: self._outbox.trouble)
        self.health.part("journal", lambda: self._journal.trouble)
        self.health.part("multicast", lambda: self._multicast.trouble or self._deaf)
        self._deaf: str | None = None
        self._epoch_header = (EPOCH_HEADER.lower().encode(), str(self._journal.epoch).encode())

    def start(self) -> None:
        """Begin to send beacons, to copy to the audit log, and to watch the seats."""
        # Not before: what came until here, the journal above all, may have taken seconds.
        self._seats = SeatTable(self.layout.seats, time.monotonic())
        self._bus.start()
        with self._telling:  # the first value may come at once
            self._pa = Followed(
                self._bus,
                pa.TOPIC,
                pa.PaState,
                pa.STATE_GOOD_FOR,
                lambda _: self._tell_of_announcements(),
            )
        self._auditor.start()
        self._outbox.start()
        self._multicast.start()
        self._ticker.start()
        log.info(
            "seat control is up",
            extra={"layout": self.layout.name, "seats": len(self.layout.seats)},
        )

    def close(self) -> None:
        """Stop everything and write down what is known."""
        self._closing.set()
        self._ticker.join(timeout=5)
        self._multicast.close()
        for record in self._usage.finish(time.monotonic()):
            self._outbox.append(record)
        self._outbox.close()
        self._auditor.close()
        self._bus.close()
        self._journal.close()

    # -- seats ------------------------------------------------------------------------------

    def receive_status(self, seat: str, certificate: str, body: bytes) -> HttpAnswer:
        """`POST /api/v1/seats/<seat>/status`, as docs/protocols/cabin.md tells. Never blocks.

        Args:
            seat: from the path.
            certificate: the seat that the client certificate is for; empty without one.
            body: at most `MAX_STATUS_BODY` bytes, else it is refused.
        """
        try:
            status = self._checked(seat, certificate, body)
            with self._lock:
                self._seats.report(seat, status, time.monotonic())
                now = self._journal.now()
                self._log.confirm(seat, status, now)
                missed = self._log.missed(seat, status, now)
                unwritten = self._log.last_verdict(seat) > self._verdicts_written
        except ClaimedTwiceError as error:
            return self._refuse(seat, Problem(409, "seat-claimed-twice", str(error)))
        except Problem as problem:
            return self._refuse(certificate or "no certificate", problem)
        headers = [
            self._epoch_header,
            (_TIME, str(now).encode()),
            (_PROTOCOL, b"%d" % min(status.protocol, PROTOCOL)),
        ]
        if missed is None:
            return HttpAnswer(204, headers, after_writing=unwritten)
        headers.append((b"content-type", b"application/json"))
        return HttpAnswer(200, headers, self._answer_body(missed), unwritten)

    def write_outcomes(self) -> None:
        """Bring what became of commands into the journal. Waits for the disk.

        While one thread writes, others gather behind it; the next one writes for all of them.
        """
        with self._writing:
            with self._lock:
                self._gather()
                verdicts = self._log.verdicts
                batch, self._unwritten = self._unwritten, {}
            # What a full disk refuses is tried again with the next tick.
            if batch and not self._journal.update(batch.values()):
                with self._lock:
                    self._unwritten = batch | self._unwritten
            self._verdicts_written = verdicts

    def _gather(self) -> None:
        for issued in self._log.changed():
            self._unwritten[issued.seq] = self._untold[issued.seq] = issued

    def _checked(self, seat: str, certificate: str, body: bytes) -> Status:
        if not certificate:
            raise Problem(401, "no-certificate", "report with the seat's own client certificate")
        if seat not in self._seats:
            raise Problem(
                404, "unknown-seat", f"the layout {self.layout.name} has no seat {seat[:8]}"
            )
        if seat != certificate:
            raise Problem(
                403, "wrong-certificate", f"the certificate is for {certificate}, not {seat}"
            )
        if len(body) > MAX_STATUS_BODY:
            raise Problem(413, "too-large", f"a status has at most {MAX_STATUS_BODY} bytes")
        try:
            return _PARSE_STATUS(body)
        except ValidationError as error:
            raise malformed(error) from error

    def _refuse(self, source: str, problem: Problem) -> HttpAnswer:
        self.refusals.add(problem.slug, source, problem.detail)
        return HttpAnswer.of(problem)

    def _answer_body(self, missed: Missed) -> bytes:
        frames = tuple(self._signer.sign(command).decode() for command in missed.commands)
        return (
            StatusAnswer.model_construct(frames=frames, upto=missed.upto, in_force=missed.in_force)
            .model_dump_json()
            .encode()
        )

    # -- the crew ---------------------------------------------------------------------------

    def resolve(self, selector: Selector) -> tuple[str, ...]:
        """The seats that a selector means, in cabin order.

        Raises:
            Problem: it names what the layout does not have, or nobody is left.
        """
        try:
            targets = self.layout.resolve(selector)
        except layouts.SelectorError as error:
            raise Problem(422, "unknown-selection", str(error)) from error
        if not targets:
            raise Problem(422, "empty-selection", "the selector leaves no seat")
        return targets

    def arm(self, crew: str, request: ArmRequest) -> Armed:
        """The first step of a destructive command."""
        targets = self.resolve(request.selector)
        with self._lock:
            token = self._arming.arm(crew, request.action, targets)
        return Armed(arm_token=token, expires_in=ARM_SECONDS, targets=len(targets))

    def issue(
        self, crew: str, request: CommandRequest, check_in_time: Callable[[], None]
    ) -> Accepted:
        """Journal a command and send it.

        Args:
            crew: who gives it.
            request: what they ask for.
            check_in_time: raises a Problem when they have given it up, for commands that are
                before it may have waited for the disk.

        Raises:
            Problem: it is not armed, does not fit a datagram, means no seat, is a setting with
                an expiry, one of too many, or too late.
        """
        targets = self.resolve(request.selector)
        expires_in = request.expires_in
        if request.action.retained is None:
            expires_in = MOMENTARY_EXPIRY if expires_in is None else expires_in
        elif expires_in is not None:
            raise Problem(
                422,
                "does-not-expire",
                f"{request.action.name} stays in force until the next: leave expires_in out",
            )
        self._check_rate(crew)
        self._check_armed(crew, request, targets)
        with self._issuing:
            check_in_time()
            issued = self._new(crew, request.selector, request.action, targets, expires_in)
            try:
                datagram = self._signer.sign(issued.frame)
            except FrameTooLargeError as error:
                raise Problem(422, "too-large-for-multicast", str(error)) from error
            self._journal.add(issued)
            with self._lock:
                self._log.add(issued)
            self._multicast.send(datagram, lambda: self._is_missing(issued))
        return Accepted(seq=issued.seq, targets=len(targets))

    def _is_missing(self, issued: Issued) -> bool:
        """Whether a live seat has not confirmed a command: it may have lost every datagram."""
        with self._lock:
            return any(self._seats.is_live(seat) for seat in issued.open)

    def _check_rate(self, crew: str) -> None:
        with self._lock:
            wait = self._rate.wait(crew)
        if wait:
            raise Problem(
                429,
                "too-many-commands",
                f"{crew} gave more commands than a thumb can: wait a moment",
                retry_after=math.ceil(wait),
            )

    def _check_armed(self, crew: str, request: CommandRequest, targets: tuple[str, ...]) -> None:
        if not request.action.destructive or len(targets) == 1:
            return
        with self._lock:
            armed = self._arming.redeem(request, crew, targets)
        if not armed:
            raise Problem(
                428,
                "not-armed",
                f"{request.action.name} on {len(targets)} seats: arm exactly this at "
                f"/api/v1/commands/arm, and send the arm_token within {ARM_SECONDS:g} s",
            )

    def _new(
        self,
        crew: str,
        selector: Selector,
        action: AnyAction,
        targets: tuple[str, ...],
        expires_in: float | None,
    ) -> Issued:
        seq, iat = self._log.last + 1, self._journal.now()
        exp = None if expires_in is None else iat + round(expires_in * 1000)
        return Issued(
            seq=seq,
            crew=crew,
            selector=selector,
            action=action,
            targets=targets,
            issued_at=datetime.now(UTC),
            iat=iat,
            exp=exp,
            expires_in=expires_in,
            frame=self._log.frame(seq, action, targets, iat, exp),
            open=set(targets),
        )

    def report(self, seq: int) -> DeliveryReport:
        """How far a command has come.

        Raises:
            Problem: it is not known, or forgotten.
        """
        with self._lock:
            issued = self._log.get(seq)
            if issued is not None:
                return issued.report(self._log.epoch, self._journal.now())
        raise Problem(404, "unknown-command", f"no command {seq}: see the audit log for old ones")

    def cabin(self) -> CabinView:
        """The whole cabin."""
        with self._lock:
            seq = self._log.last
            seats = self._seats.copy()
        return CabinView(
            registration=self.settings.registration,
            layout=self.layout.name,
            epoch=self._log.epoch,
            seq=seq,
            seats={name: seat.view() for name, seat in seats.items()},
            refused=self.refusals.counts(),
            degraded=self.health.report().degraded,
        )

    def snapshot(self) -> tuple[int, bytes]:
        """The first event of a new client, and where in the stream it then stands."""
        position = self.events.position()
        return position, self.events.snapshot(position, self.cabin().model_dump_json())

    # -- by the clock -----------------------------------------------------------------------

    def _stuck(self) -> str | None:
        now = time.monotonic()
        if now - self._ticked_at > STUCK_AFTER:
            return "seats are not watched any more: restart seat control"
        if now - self._beaconed_at > STUCK_AFTER:
            return "no beacons go out any more: restart seat control"
        return None

    def _beacon(self) -> bytes:
        self._beaconed_at = time.monotonic()
        return self._signer.sign(
            Beacon(
                epoch=self._log.epoch,
                seq=self._log.last,
                iat=self._journal.now(),
                pa=self._announced or None,
            )
        )

    def _tell_of_announcements(self) -> None:
        """Tell the seats where the PA speaks, by a beacon at once if that has changed."""
        # One at a time, each of the newest: what was read before another told it would be older.
        with self._telling:
            state = self._pa.value
            spoken = {*state.areas, *state.ent_pause} if state else set()
            areas = self.layout.pa_areas
            told = tuple(self.layout.pa_area_number(area) for area in areas if area in spoken)
            told = (pa.ALL_AREAS,) if told and len(told) == len(areas) else told
            if told != self._announced:
                self._announced = told
                self._multicast.send(self._beacon(), lambda: False)

    def _tick_until_closed(self) -> None:
        count = 0
        degraded = ""
        while not self._closing.wait(TICK):
            count += 1
            try:
                self._tick()
                self._ticked_at = time.monotonic()
                if count % 10 == 0:
                    degraded = self._each_second(degraded)
                if count % 100 == 0:
                    self._journal.advance()
                    self._journal.forget_but(self._log.remembered())
            except Exception:
                log.exception("a tick failed")
        self._tick()

    def _tick(self) -> None:
        with self._lock:
            self._seats.check(time.monotonic())
            now = self._journal.now()
            self._log.tick(now)
            seats = self._seats.changes()
            self._gather()
            progress = [issued.progress(now) for issued in self._untold.values()]
            self._untold.clear()
        if seats:
            self.events.publish("seats", json.dumps(seats))
            for record in self._usage.take(seats, now_ms(), time.monotonic()):
                self._outbox.append(record)
        for command in progress:
            self.events.publish("command", command.model_dump_json())
        self.write_outcomes()

    def _each_second(self, told: str) -> str:
        with self._lock:
            counts = self._seats.counts()
            self._deaf = self._seats.multicast_trouble()
        self._bus.publish("seat_control/seats", counts)
        self._tell_of_announcements()
        self.health.notify()
        report = self.health.report()
        if report.ready:
            self.health.alive()
        degraded = json.dumps({"degraded": [part.model_dump() for part in report.degraded]})
        if degraded != told:
            self.events.publish("degraded", degraded)
        return degraded


_TIME = TIME_HEADER.lower().encode()
_PROTOCOL = PROTOCOL_HEADER.lower().encode()
_PARSE_STATUS: Callable[[bytes], Status] = Status.__pydantic_validator__.validate_json


def _signer(command_key: Path) -> FrameSigner:
    try:
        return FrameSigner(command_key.read_bytes())
    except OSError as error:
        why = error.strerror or str(error)
    except ValueError as error:
        why = str(error)
    raise SettingsError(f"IFE_COMMAND_KEY: {command_key}: {why}: see playbooks/pki.yml")
