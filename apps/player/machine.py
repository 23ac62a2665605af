"""The player's state machine: docs/protocols/cabin.md from the seat's side, and nothing else.

It knows no socket, no file and no clock. The agent tells it what happened (a datagram, an
answer, a timer, the end of an effect) and the time, in monotonic seconds; it returns the
effects that the agent is to carry out, in order.

Commands are applied one at a time, in order of their numbers. While one is under way (`_doing`)
those after it wait in `_kept`, so `held` never speaks of a command that was not carried out.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from apps.common.commands import Power, Reset
from apps.common.pa import ALL_AREAS
from apps.common.protocol import (
    BEACON_LIFETIME_MS,
    PROTOCOL,
    Beacon,
    Command,
    FrameError,
    FrameHead,
    FrameVerifier,
    Held,
    LinkCounters,
    Refusal,
    SeatState,
    Status,
    StatusAnswer,
)
from apps.player.announcement import Announcement
from apps.player.media import Ended, Failed, MediaEvent, Stalled
from apps.player.pa_report import PaReport
from apps.player.seat import (
    CannotError,
    HoldMedia,
    PauseMedia,
    Plan,
    Playback,
    PlayMedia,
    Seat,
    ShowText,
    Step,
)
from apps.player.store import Played
from apps.player.timing import (
    ASK_WITHIN,
    CONFIRM_WITHIN,
    Allowance,
    CabinClock,
    ReportTimer,
    SilenceTimer,
)

MAX_KEPT = 16
"""Frames kept back because some before them are missing."""

MAX_SEEN = 128
"""Datagrams remembered, so that their repeats (for 2 s) are dropped unread."""

MAX_REFUSALS_TOLD = 16
"""Refusals in one status."""

MAX_REFUSALS = 256
"""Refusals that wait to be told; the oldest are dropped."""

SAVE_WITHIN = 1.0
"""Seconds after which what is held is on the disk, so that many commands cost one write."""
SAVE_RETRY = 5.0

VAIN_CHECKS_A_SECOND = 100
VAIN_CHECKS_AT_ONCE = 200
"""Signature checks of datagrams that turn out useless. With more, whoever floods the group could
keep a small processor busy; what then goes unchecked comes with the next status answer."""

MAX_FAULTS = 16
"""In one status."""

COLDEST, HOTTEST = -60.0, 150.0
"""Degrees Celsius, of a sensor that works."""

RESTART_WITHIN = 1.0
"""Seconds that a reset waits for the server to hear that it was applied."""

PROTOCOL_1_LACKS = frozenset({"muted", "locked", "attendant_call", "reading_light", "refused"})
"""Fields of a status that came with protocol 2."""


# -- effects --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Do:
    """Take the plan's steps, then call `Machine.done` or `Machine.cannot`."""

    command: Command
    plan: Plan


@dataclass(frozen=True, slots=True)
class Take:
    """Take these steps; nobody waits for their success."""

    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Save:
    """Bring `held` to the disk, then call `Machine.saved`."""

    held: Held


@dataclass(frozen=True, slots=True)
class Report:
    """Send `Machine.status`, then call `Machine.answered`, `turned_away` or `failed`."""


@dataclass(frozen=True, slots=True)
class Rejoin:
    """Leave the multicast group and join it again."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Restart the player for a command; where that fails, call `Machine.cannot_restart`."""

    command: Command


@dataclass(frozen=True, slots=True)
class Refused:
    """A datagram or an answer was refused: `kind` to count it by, `detail` for the log."""

    kind: str
    detail: str


Effect = Do | Take | Save | Report | Rejoin | Restart | Refused


# -- the machine ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx answer to a status: its headers, and its body unless it was a 204."""

    epoch: int
    cabin_ms: int
    body: StatusAnswer | None


@dataclass(slots=True)
class _Counters:
    frames: int = 0
    duplicates: int = 0
    refused: int = 0
    gaps: int = 0
    http_failures: int = 0


@dataclass(frozen=True, slots=True)
class _Sent:
    """What the server learned from the status that is under way."""

    epoch: int = 0
    seq: int = 0
    refusals: tuple[Refusal, ...] = ()


class Machine:
    """One player.

    Args:
        seat: its seat's name.
        boot_id: 32 hex digits, another for each boot.
        firmware: the version to report.
        held: what was saved last, (0, 0) for a new player.
        verifier: knows the command keys, and speaks `protocol`.
        rand: gives numbers from 0 to 1, for every jitter.
        now: the time of the boot.
        pa_area: the number of its PA area.
        protocol: the newest version to speak.
    """

    def __init__(
        self,
        seat: str,
        boot_id: str,
        firmware: str,
        held: Held,
        verifier: FrameVerifier,
        rand: Callable[[], float],
        now: float,
        pa_area: int = ALL_AREAS,
        protocol: int = PROTOCOL,
    ) -> None:
        self.seat = Seat(seat)
        self.faults: set[str] = set()
        """Reported as they stand; the agent adds its own."""
        self._boot_id = boot_id
        self._firmware = firmware
        self._verifier = verifier
        self._rand = rand
        self._protocol = protocol
        self._announcement = Announcement(pa_area)
        self._announcement_at = math.inf
        self._announced = self._held = False
        self._pa_faults: tuple[str, ...] = ()

        self._epoch = held.epoch
        self._seq = held.seq
        self._fresh = True
        self._known = held.seq
        """The last command that there is, as far as was heard."""
        self._clear_to = held.seq
        """Up to here the server has sent all that is for this seat."""
        self._kept: dict[int, Command] = {}
        self._in_force: deque[Command] = deque()
        """Retained commands at or below `held` that are still to be applied."""
        self._set_by: dict[str, int] = {}
        """For each setting the number of the command that this boot applied last."""
        self._doing: Command | None = None
        self._stage: Literal["saving", "doing", "restarting"] = "doing"
        self._restart_at = math.inf
        self._refusals: deque[Refusal] = deque(maxlen=MAX_REFUSALS)

        self._saving: Held | None = None
        self._save_at = math.inf

        self._seen: dict[bytes, None] = {}
        self._vain_checks = Allowance(VAIN_CHECKS_A_SECOND, VAIN_CHECKS_AT_ONCE, now)
        self._in_gap = False
        self._counters = _Counters()
        self._heard_at: float | None = None
        self._clock = CabinClock()
        self._reports = ReportTimer(rand, now)
        self._silence = SilenceTimer(rand, now)
        self._sent = _Sent()

    # -- what others may know ---------------------------------------------------------------

    @property
    def held(self) -> Held:
        """The last command of an unbroken run that was dealt with."""
        return Held(epoch=self._epoch, seq=self._seq)

    @property
    def fresh(self) -> bool:
        """Whether what is in force is still to come."""
        return self._fresh

    @property
    def next_at(self) -> float:
        """When `tick` wants to be called, at the latest."""
        text_until = self.seat.text_until
        return min(
            self._reports.due,
            self._silence.due,
            self._restart_at,
            self._save_at if self._saving is None else math.inf,
            math.inf if text_until is None else text_until,
            self._announcement_at,
        )

    # -- boot and time ----------------------------------------------------------------------

    def boot(self, played: Played | None = None) -> list[Effect]:
        """The first call; `played` goes on, if the agent alone was started anew."""
        effects: list[Effect] = [Take(self.seat.steps())]
        if played is not None:
            steps: tuple[Step, ...] = (PlayMedia(played.media, played.position),)
            if played.paused:
                steps = (*steps, PauseMedia())
            state: Playback = "paused" if played.paused else "playing"
            self.seat = replace(self.seat, playback=state, media=played.media)
            effects.append(Take(steps))
        return effects

    def tick(self, now: float) -> list[Effect]:
        """Time has passed."""
        effects: list[Effect] = self._announcements(now)
        if self.seat.text_until is not None and self.seat.text_until <= now:
            self.seat = replace(self.seat, text_until=None)
            effects.append(Take((ShowText(None),)))
        if self._silence.due <= now:
            self._silence.rejoined(now)
            effects.append(Rejoin())
        if self._save_at <= now and self._saving is None:
            effects.append(self._save(self.held))
        if self._restart_at <= now:
            effects += self._restart()
        if self._reports.due <= now:
            self._reports.begin(now)
            effects.append(Report())
        return effects

    # -- multicast --------------------------------------------------------------------------

    def datagram(self, datagram: bytes, now: float) -> list[Effect]:
        """Something arrived from the group."""
        if datagram in self._seen:
            self._counters.duplicates += 1
            return []
        if not self._vain_checks.left(now):
            return [self._refused("flood", "not checked, too many were in vain")]
        try:
            frame = self._verifier.verify(datagram)
            self._reports.server_heard(now)
            if self._epoch == 0:
                return []  # The first answer is still to tell which epoch counts.
            self._check_new(frame, now)
        except FrameError as error:
            if error.reason not in {"oversize", "unsigned"}:
                self._vain_checks.take(now)
            return [self._refused(error.reason, str(error))]
        self._heard(now)
        if not isinstance(frame, Command) or self._keep_back(frame):
            self._remember(datagram)
        effects: list[Effect] = []
        if isinstance(frame, Beacon):
            self._announcement.beacon(frame.pa, now)
            effects += self._announcements(now)
        self._known = max(self._known, frame.seq)
        effects += self._advance(now)
        if self._note_gap():
            self._reports.soon(ASK_WITHIN, now)
        return effects

    def _check_new(self, frame: Command | Beacon | FrameHead, now: float) -> None:
        """Take the time from a frame.

        Raises:
            FrameError: the frame belongs to the past, or not to the group.
        """
        if frame.epoch != self._epoch:
            # Only an answer, over TLS, tells which epoch counts: this may be a recording.
            raise FrameError("other-epoch", f"{frame.epoch}, not {self._epoch}")
        self._clock.heard(frame.iat, now)
        if isinstance(frame, Command) and frame.one:
            raise FrameError("misdirected", f"command {frame.seq} in a form for one seat")
        if isinstance(frame, Command) and frame.seq <= max(self._dealt_with(), self._clear_to):
            raise FrameError("replayed", f"command {frame.seq} was here before")
        if isinstance(frame, Beacon) and frame.iat + BEACON_LIFETIME_MS < self._clock.now(now):
            raise FrameError("replayed", f"a beacon of {frame.iat} is too old")

    def _heard(self, now: float) -> None:
        self._counters.frames += 1
        self._heard_at = now
        self._silence.heard(now)

    def _keep_back(self, command: Command) -> bool:
        """Whether there was room for it."""
        if len(self._kept) >= MAX_KEPT and command.seq != self._dealt_with() + 1:
            return False
        self._kept.setdefault(command.seq, command)
        return True

    def _remember(self, datagram: bytes) -> None:
        if len(self._seen) >= MAX_SEEN:
            del self._seen[next(iter(self._seen))]
        self._seen[datagram] = None

    # -- status -----------------------------------------------------------------------------

    def status(self, position: float | None, temperature: float, now: float) -> Status:
        """The report to send now; `position` in seconds, `temperature` in degrees Celsius."""
        refusals = list(self._refusals)
        told = tuple(refusals[:MAX_REFUSALS_TOLD])
        seq = self._seq
        if len(refusals) > len(told):
            # What is beyond is told next time; until then it does not count as held.
            seq = min(seq, refusals[len(told)].seq - 1)
        self._sent = _Sent(self._epoch, seq, told)
        seat, counters, heard_at = self.seat, self._counters, self._heard_at
        return Status(
            protocol=self._protocol,
            boot_id=self._boot_id,
            held=Held(epoch=self._epoch, seq=seq),
            fresh=self._fresh,
            state=self._state(),
            media=seat.imposed or seat.media,
            position=_told(None if seat.imposed else position),
            volume=seat.volume,
            brightness=seat.brightness,
            temperature=min(max(COLDEST, temperature), HOTTEST),
            firmware=self._firmware,
            faults=tuple(sorted(self.faults.union(self._pa_faults)))[:MAX_FAULTS],
            link=LinkCounters(
                frames=counters.frames,
                duplicates=counters.duplicates,
                refused=counters.refused,
                gaps=counters.gaps,
                http_failures=counters.http_failures,
                multicast_age=None if heard_at is None else round(now - heard_at, 1),
            ),
            muted=seat.muted,
            locked=seat.locked,
            attendant_call=seat.attendant_call,
            reading_light=seat.reading_light,
            refused=told,
        )

    def _state(self) -> SeatState:
        if self._doing is not None and self._stage == "restarting":
            return "booting"
        if not self.seat.on:
            return "off"
        if self._announced:
            return "announcement"
        return "playing" if self.seat.imposed else self.seat.playback

    def answered(self, answer: Answer, now: float) -> list[Effect]:
        """The server answered the status with a 2xx."""
        try:
            commands = self._verified(answer)
        except FrameError as error:
            return [self._refused(error.reason, f"in an answer: {error}"), *self.failed(now)]
        self._reports.answered()
        sent = self._sent
        for refusal in sent.refusals:
            if refusal in self._refusals:
                self._refusals.remove(refusal)
        if answer.epoch != self._epoch:
            self._adopt(answer.epoch, now)
        self._clock.answered(answer.cabin_ms, now)
        effects: list[Effect] = []
        told = (sent.epoch, sent.seq) == (self._epoch, self._seq)
        if told and self._restart_at < math.inf:
            effects += self._restart()
        if answer.body is not None:
            more = answer.body.upto > self._clear_to
            self._take_up(commands, answer.body)
            effects += self._advance(now)
            if self._note_gap() and more:
                self._reports.soon(ASK_WITHIN, now)
        return effects

    def turned_away(self, now: float) -> list[Effect]:
        """The server refused the status (a 4xx). It may not, the next time."""
        self._counters.http_failures += 1
        self._reports.answered()
        return []

    def failed(self, now: float) -> list[Effect]:
        """The server did not answer, or not as it should."""
        self._counters.http_failures += 1
        self._reports.failed(now)
        return []

    def _verified(self, answer: Answer) -> list[Command]:
        commands = []
        for frame in () if answer.body is None else answer.body.frames:
            command = self._verifier.verify(frame.encode())
            if not isinstance(command, Command) or command.epoch != answer.epoch:
                raise FrameError("malformed", "not a command of the answer's epoch")
            commands.append(command)
        return commands

    def _take_up(self, commands: list[Command], body: StatusAnswer) -> None:
        """Line up what the server says is all there is for this seat, up to `upto`."""
        for frame in body.frames:
            self._remember(frame.encode())
        if body.in_force:
            self._fresh = False
            self._in_force.extend(
                command
                for command in commands
                if command.seq <= self._dealt_with() and command.action.retained
            )
        self._kept = {seq: command for seq, command in self._kept.items() if seq > body.upto}
        for command in commands:
            if command.seq > self._dealt_with():
                self._kept[command.seq] = command
        self._clear_to = max(self._clear_to, body.upto)
        self._known = max(self._known, body.upto)

    # -- commands ---------------------------------------------------------------------------

    def done(self, do: Do, now: float) -> list[Effect]:
        """Its steps were taken."""
        command = do.command
        self.seat = do.plan.after
        if (setting := command.action.retained) is not None:
            self._set_by[setting] = command.seq
        return self._settle(now)

    def cannot(self, reason: str, now: float) -> list[Effect]:
        """A `Do` failed; `reason` is what the crew read, cut to 100 characters."""
        self._refuse(self._command_under_way(), reason)
        return self._settle(now)

    def saved(self, error: str | None, now: float) -> list[Effect]:
        """A `Save` ended; `error` says why it failed."""
        saved, self._saving = self._saving, None
        if error is None:
            self.faults.discard("storage")
        else:
            self.faults.add("storage")
            self._save_at = now + SAVE_RETRY * (0.5 + 0.5 * self._rand())
        if self._doing is None or self._stage != "saving":
            return []
        if error is not None:
            return self.cannot(f"the player cannot save its state: {error}", now)
        wanted = Held(epoch=self._epoch, seq=self._doing.seq)
        return self._perform(now) if saved == wanted else [self._save(wanted)]

    def cannot_restart(self, now: float) -> list[Effect]:
        """A `Restart` failed; its command was confirmed by then, so it is told as a fault."""
        self.faults.add("restart")
        self._doing, self._stage = None, "doing"
        return self._advance(now)

    def _dealt_with(self) -> int:
        """The number of the last command that was dealt with, or is under way."""
        if self._doing is None or self._stage == "restarting":
            return self._seq
        return max(self._seq, self._doing.seq)

    def _command_under_way(self) -> Command:
        if self._doing is None:
            raise RuntimeError("no command is under way")
        return self._doing

    def _advance(self, now: float) -> list[Effect]:
        """Deal with what is next, until a command is under way or nothing is left in order."""
        while self._doing is None:
            command = self._next()
            if command is None:
                break
            if not command.is_for(self.seat.name):
                self._seq = command.seq
                continue
            self._doing = command
            if command.exp is not None and command.exp < self._clock.now(now):
                late = self._refused("expired", f"command {command.seq} came too late")
                return [late, *self.cannot("expired", now)]
            # Saved first, a reset is never done twice.
            if isinstance(command.action, Reset | Power) and command.seq > self._seq:
                self._stage = "saving"
                wanted = Held(epoch=self._epoch, seq=command.seq)
                return [] if self._saving else [self._save(wanted)]
            return self._perform(now)
        return []

    def _next(self) -> Command | None:
        while self._in_force:
            command = self._in_force.popleft()
            # A newer one may have come by multicast while the answer was under way.
            if command.seq > self._set_by.get(command.action.name, 0):
                return command
        if self._seq + 1 not in self._kept and self._seq < self._clear_to:
            # What is missing up to there is not for this seat.
            kept = [seq for seq in self._kept if seq <= self._clear_to]
            self._seq = min(kept, default=self._clear_to + 1) - 1
        return self._kept.pop(self._seq + 1, None)

    def _perform(self, now: float) -> list[Effect]:
        command = self._command_under_way()
        if isinstance(command.action, Reset):
            # The server hears of it first: afterwards the seat is away for longer than the
            # crew's report stays open.
            self._stage = "restarting"
            self._seq = command.seq
            self._restart_at = now + RESTART_WITHIN
            self._reports.soon(CONFIRM_WITHIN, now)
            return []
        self._stage = "doing"
        try:
            return [Do(command, self.seat.plan(command.action, now))]
        except CannotError as error:
            return self.cannot(str(error), now)

    def _restart(self) -> list[Effect]:
        self._restart_at = math.inf
        return [Restart(self._command_under_way())]

    def _settle(self, now: float) -> list[Effect]:
        """The command under way was dealt with, one way or the other."""
        self._seq = self._dealt_with()
        self._doing = None
        self._reports.soon(CONFIRM_WITHIN, now)
        self._save_soon(now)
        return self._advance(now)

    def _refuse(self, command: Command, reason: str) -> None:
        text = "".join(letter if letter.isprintable() else " " for letter in reason)[:100]
        self._refusals.append(Refusal(seq=command.seq, reason=text or "failed"))

    # -- the rest ---------------------------------------------------------------------------

    def call_attendant(self, now: float) -> list[Effect]:
        """The passenger pressed the call button."""
        self.seat = replace(self.seat, attendant_call=True)
        self._reports.soon(CONFIRM_WITHIN, now)
        return []

    def pa_report(self, report: PaReport, now: float) -> list[Effect]:
        """The PA child says how it is."""
        self._announcement.report(report, now)
        return self._announcements(now)

    def _announcements(self, now: float) -> list[Effect]:
        """See whether an announcement began or is over."""
        self._announcement_at = self._announcement.next_at(now)
        faults = self._announcement.faults(now)
        told = self._announcement.told(now)
        announced = told or self._announcement.heard(now)
        if (announced, faults) != (self._announced, self._pa_faults):
            self._announced, self._pa_faults = announced, faults
            self._reports.soon(CONFIRM_WITHIN, now)
        if told == self._held:
            return []
        self._held = told
        return [Take((HoldMedia(told),))]

    def media_event(self, event: MediaEvent, now: float) -> list[Effect]:
        """The media backend says that something happened."""
        match event:
            case Ended():
                self.seat = replace(self.seat, playback="idle", media=None)
            case Failed():
                self.seat = replace(self.seat, playback="fault")
            case Stalled(reason=None):
                self.faults.discard("media")
            case Stalled():
                self.faults.add("media")
        self._reports.soon(CONFIRM_WITHIN, now)
        return []

    def _adopt(self, epoch: int, now: float) -> None:
        """Begin with another epoch; settings stay until its commands say otherwise."""
        self._epoch = epoch
        self._seq = self._known = self._clear_to = 0
        self._fresh = True
        self._kept.clear()
        self._in_force.clear()
        self._set_by.clear()
        self._refusals.clear()
        self._clock = CabinClock()
        if self._stage == "saving":
            self._doing = None
        self._save_soon(now)

    def _note_gap(self) -> bool:
        """Whether commands are missing; a gap is counted once."""
        seq = self._dealt_with()
        while seq + 1 in self._kept:
            seq += 1
        missing = max(seq, self._clear_to) < self._known
        if missing and not self._in_gap:
            self._counters.gaps += 1
        self._in_gap = missing
        return missing

    def _save(self, held: Held) -> Save:
        self._saving = held
        self._save_at = math.inf
        return Save(held)

    def _save_soon(self, now: float) -> None:
        self._save_at = min(self._save_at, now + SAVE_WITHIN * (0.5 + 0.5 * self._rand()))

    def _refused(self, kind: str, detail: str) -> Refused:
        self._counters.refused += 1
        return Refused(kind, detail)


def _told(position: float | None) -> float | None:
    """A position as a status has it."""
    return None if position is None else round(min(max(0.0, position), 86_400.0), 1)
