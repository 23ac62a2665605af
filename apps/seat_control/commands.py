"""The commands: which were issued, which are in force, who has confirmed what. No I/O.

Times are cabin time, in milliseconds (docs/protocols/cabin.md), given by the caller.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from apps.common.cabin import CommandProgress
from apps.common.commands import (
    Action,
    AnyAction,
    CommandRequest,
    DeliveryReport,
    Identify,
    Impose,
    ReadingLight,
    SeatRefusal,
    Selector,
)
from apps.common.protocol import (
    MAX_FRAMES_PER_ANSWER,
    PROTOCOL,
    Command,
    Held,
    Status,
    address,
)

KEPT = 1000
"""Commands that are remembered; those in force are remembered beyond that."""

GRACE_MS = 1_500
"""How long after a command's end (its expiry, or the next one for its setting) a seat may still
say that it applied it in time. Until then it is not told to go past the command but gets it, and
applies or refuses it by itself: only a seat knows what it heard while its report was under way."""

VERDICTS_AFTER_MS = 3_000
"""How long after the start nothing is called expired or superseded for a seat that was not heard
of, and nothing superseded after the next command for its setting: in that time each seat that is
not lost says what it did."""

SINCE_PROTOCOL: dict[type[Action], int] = {ReadingLight: 2, Identify: 2, Impose: 3}
"""The protocol version that brought an action; all others are as old as the protocol."""

ARM_SECONDS = 15.0
MAX_ARMED = 100
MAX_ARMED_BY_ONE = 8

BURST = 20
"""Commands of one crew member at once …"""
PER_SECOND = 10
"""… and after that; no thumb is as quick."""


@dataclass(slots=True)
class Issued:
    """A command and what became of it. A seat is in `open` until its outcome is known."""

    seq: int
    crew: str
    selector: Selector
    action: AnyAction
    targets: tuple[str, ...]
    issued_at: datetime
    iat: int
    exp: int | None
    expires_in: float | None
    frame: Command
    """As it is multicast."""
    open: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    expired: list[str] = field(default_factory=list)
    superseded: list[str] = field(default_factory=list)
    applied_ms: list[int] = field(default_factory=list)
    """For each seat that applied it, in that order: when it had confirmed, after `iat`."""
    changed: bool = True
    """Whether something is new since `CommandLog.changed` was last asked."""
    audience: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.audience = frozenset(self.targets)

    def is_expired(self, now: int) -> bool:
        """Whether it is too late to apply it."""
        return self.exp is not None and now > self.exp

    def over(self, now: int) -> bool:
        """Whether nothing more is going to happen."""
        return not self.open or (self.exp is not None and now > self.exp + GRACE_MS)

    def applied(self) -> int:
        """How many seats confirmed that they applied it."""
        return (
            len(self.targets)
            - len(self.open)
            - len(self.refused)
            - len(self.expired)
            - len(self.superseded)
        )

    def _ms_to(self, share: float) -> float | None:
        count = max(1, math.ceil(share * len(self.targets)))
        return self.applied_ms[count - 1] if count <= len(self.applied_ms) else None

    def report(self, epoch: int, now: int) -> DeliveryReport:
        """The whole report; seats in cabin order."""
        return DeliveryReport(
            seq=self.seq,
            epoch=epoch,
            crew=self.crew,
            selector=self.selector,
            action=self.action,
            issued_at=self.issued_at,
            expires_in=self.expires_in,
            final=self.over(now),
            targets=len(self.targets),
            applied=self.applied(),
            missing=[seat for seat in self.targets if seat in self.open],
            refused=[
                SeatRefusal(seat=seat, reason=self.refused[seat])
                for seat in self.targets
                if seat in self.refused
            ],
            expired=list(self.expired),
            superseded=list(self.superseded),
            ms_to_50_percent=self._ms_to(0.5),
            ms_to_99_percent=self._ms_to(0.99),
            ms_to_last=self.applied_ms[-1] if self.applied_ms else None,
        )

    def progress(self, now: int) -> CommandProgress:
        """The report in numbers."""
        return CommandProgress(
            seq=self.seq,
            crew=self.crew,
            action=self.action.name,
            final=self.over(now),
            targets=len(self.targets),
            applied=self.applied(),
            missing=len(self.open),
            refused=len(self.refused),
            expired=len(self.expired),
            superseded=len(self.superseded),
            ms_to_last=self.applied_ms[-1] if self.applied_ms else None,
        )


@dataclass(frozen=True)
class Missed:
    """What a seat is to be told: the commands it misses, and what it then holds."""

    commands: list[Command]
    upto: int
    in_force: bool


class CommandLog:
    """All commands of an epoch, oldest first.

    Args:
        seats: names of all the seats.
        epoch: of the journal that the commands are kept in.
        last: the last sequence number ever given out.
    """

    def __init__(self, seats: Iterable[str], epoch: int, last: int) -> None:
        self.epoch = epoch
        self.last = last
        self._everyone = tuple(seats)
        self._began: int | None = None
        self._log: dict[int, Issued] = {}
        self._open: dict[int, Issued] = {}
        self._confirmed = dict.fromkeys(self._everyone, 0)
        self._in_force: dict[str, dict[str, int]] = {seat: {} for seat in self._everyone}
        self.verdicts = 0
        """How many outcomes other than applied were noted since the start."""
        self._verdict_of = dict.fromkeys(self._everyone, 0)

    def add(self, issued: Issued) -> None:
        """Take up a command that was just issued, or, at start, one from the journal."""
        self.last = max(self.last, issued.seq)
        self._log[issued.seq] = issued
        if issued.open:
            self._open[issued.seq] = issued
        if (setting := issued.action.retained) is not None:
            for seat in issued.targets:
                self._in_force[seat][setting] = issued.seq

    def get(self, seq: int) -> Issued | None:
        """The command with this number, while it is remembered."""
        return self._log.get(seq)

    def frame(
        self, seq: int, action: AnyAction, targets: Iterable[str], iat: int, exp: int | None
    ) -> Command:
        """A command as it is multicast."""
        version, to = address(targets, self._everyone)
        return Command.model_construct(
            v=max(version, SINCE_PROTOCOL.get(type(action), 1)),
            epoch=self.epoch,
            seq=seq,
            iat=iat,
            exp=exp,
            to=to,
            action=action,
        )

    def confirm(self, seat: str, status: Status, now: int) -> None:
        """Note what a seat's status says about the commands it had."""
        held = status.held
        if not self._is_ours(held) or held.seq <= self._confirmed[seat]:
            return
        self._confirmed[seat] = held.seq
        refused = {refusal.seq: refusal.reason for refusal in status.refused}
        for issued in [entry for seq, entry in self._open.items() if seq <= held.seq]:
            if seat not in issued.open:
                continue
            reason = refused.get(issued.seq)
            if reason is None:
                issued.applied_ms.append(max(0, now - issued.iat))
                self._settled(issued, seat)
            elif reason == "expired":
                self._close(issued, seat, issued.expired)
            else:
                issued.refused[seat] = reason
                self._settle(issued, seat)

    def _is_ours(self, held: Held) -> bool:
        """Whether it is a number that this log has given out."""
        return held.epoch == self.epoch and held.seq <= self.last

    def last_verdict(self, seat: str) -> int:
        """What `verdicts` was when the last one of this seat was noted; 0 without one.

        A seat tells a refusal until it is answered, and an answer moves it past what expired or
        was superseded. From then on `held` is all that it says, which means applied. So a
        verdict must be in the journal before the seat gets its answer.
        """
        return self._verdict_of[seat]

    def _settle(self, issued: Issued, seat: str) -> None:
        """Note an outcome other than applied, a verdict."""
        self.verdicts += 1
        self._verdict_of[seat] = self.verdicts
        self._settled(issued, seat)

    def _settled(self, issued: Issued, seat: str) -> None:
        issued.open.discard(seat)
        issued.changed = True
        if not issued.open:
            self._open.pop(issued.seq, None)

    def missed(self, seat: str, status: Status, now: int) -> Missed | None:
        """The commands that a seat misses; None when it holds all there is."""
        held = status.held
        begin_anew = status.fresh or not self._is_ours(held)
        if not begin_anew and held.seq == self.last:
            return None
        after = held.seq if self._is_ours(held) else 0
        in_force = self._in_force[seat]
        wanted: list[Issued] = []
        if begin_anew:
            earlier = [self._log[seq] for seq in in_force.values() if seq <= after]
            wanted += [issued for issued in earlier if not issued.is_expired(now)]
        for issued in self._since(after):
            if seat not in issued.audience:
                continue
            ended = self._ended(issued, in_force, now)
            if ended is None or (now - ended <= GRACE_MS and not begin_anew):
                wanted.append(issued)
            elif issued.action.retained is None:
                self._close(issued, seat, issued.expired)
            else:
                self._close(issued, seat, issued.superseded)
        wanted.sort(key=lambda issued: issued.seq)
        upto = self.last
        if len(wanted) > MAX_FRAMES_PER_ANSWER:
            wanted, upto = self._first_answer(wanted, begin_anew, seat)
        version = min(status.protocol, PROTOCOL)
        commands = [
            command
            for issued in wanted
            if (command := self._for_one(issued, seat, version)) is not None
        ]
        return Missed(commands, upto, begin_anew)

    def _ended(self, issued: Issued, in_force: dict[str, int], now: int) -> int | None:
        """When a command stopped being worth applying; None while it is."""
        if (setting := issued.action.retained) is not None:
            newest = in_force[setting]
            return None if newest == issued.seq else self._log[newest].iat
        return issued.exp if issued.is_expired(now) else None

    def _since(self, seq: int) -> Iterator[Issued]:
        """The commands after `seq`, oldest first."""
        if self.last - seq <= len(self._log):
            candidates = (self._log.get(number) for number in range(seq + 1, self.last + 1))
            yield from (issued for issued in candidates if issued is not None)
        else:
            yield from (issued for issued in self._log.values() if issued.seq > seq)

    def _first_answer(
        self, wanted: list[Issued], begin_anew: bool, seat: str
    ) -> tuple[list[Issued], int]:
        """What of too many commands goes into one answer, and what the seat then holds.

        A fresh seat must get all that is in force at once; it misses the oldest momentary
        ones. Any other seat gets the rest with its next status.
        """
        if not begin_anew:
            first = wanted[:MAX_FRAMES_PER_ANSWER]
            return first, first[-1].seq
        room = MAX_FRAMES_PER_ANSWER - sum(i.action.retained is not None for i in wanted)
        momentary = [issued for issued in wanted if issued.action.retained is None]
        dropped = {issued.seq for issued in momentary[: len(momentary) - room]}
        for issued in momentary:
            if issued.seq in dropped:
                self._close(issued, seat, issued.expired)
        return [issued for issued in wanted if issued.seq not in dropped], self.last

    def _for_one(self, issued: Issued, seat: str, version: int) -> Command | None:
        """The command as this seat understands it; None (and refused) when it cannot."""
        if issued.frame.v <= version:
            return issued.frame
        needs = SINCE_PROTOCOL.get(type(issued.action), 1)
        if needs > version:
            if seat in issued.open:
                issued.refused[seat] = f"needs protocol {needs}"
                self._settle(issued, seat)
            return None
        return issued.frame.model_copy(update={"v": needs, "to": (seat,), "one": True})

    def _close(self, issued: Issued, seat: str, outcome: list[str]) -> None:
        if seat in issued.open:
            outcome.append(seat)
            self._settle(issued, seat)

    def tick(self, now: int) -> None:
        """Close what is over for a seat, forget what is old; call it a few times a second."""
        self._began = now if self._began is None else self._began
        # After a start, each seat first gets the time to say what it had done before.
        verdicts = now - self._began >= VERDICTS_AFTER_MS
        for issued in list(self._open.values()) if verdicts else ():
            if issued.action.retained is not None:
                for seat in [seat for seat in issued.targets if seat in issued.open]:
                    ended = self._ended(issued, self._in_force[seat], now)
                    if ended is not None and now - ended > VERDICTS_AFTER_MS:
                        self._close(issued, seat, issued.superseded)
            elif issued.over(now):
                for seat in [seat for seat in issued.targets if seat in issued.open]:
                    self._close(issued, seat, issued.expired)
        if len(self._log) > KEPT:
            self._forget()

    def _forget(self) -> None:
        in_force = {seq for settings in self._in_force.values() for seq in settings.values()}
        for seq in [seq for seq in self._log if seq <= self.last - KEPT and seq not in in_force]:
            if not self._log[seq].changed:
                del self._log[seq]
                self._open.pop(seq, None)

    def remembered(self) -> set[int]:
        """The numbers of the commands that are remembered."""
        return set(self._log)

    def changed(self) -> list[Issued]:
        """The commands whose outcome changed since the last call."""
        changed = [issued for issued in self._log.values() if issued.changed]
        for issued in changed:
            issued.changed = False
        return changed


class Arming:
    """The first step of a destructive command: a token for one action, on some seats, once."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._armed: dict[str, tuple[float, str, AnyAction, tuple[str, ...]]] = {}

    def arm(self, crew: str, action: AnyAction, targets: tuple[str, ...]) -> str:
        """A new token, good for `ARM_SECONDS`. Of too many the oldest is good no more."""
        own = [token for token, (_, by, _, _) in self._armed.items() if by == crew]
        if len(own) >= MAX_ARMED_BY_ONE:
            del self._armed[own[0]]
        elif len(self._armed) >= MAX_ARMED:
            del self._armed[next(iter(self._armed))]
        token = secrets.token_urlsafe(24)
        self._armed[token] = (self._clock() + ARM_SECONDS, crew, action, targets)
        return token

    def redeem(self, request: CommandRequest, crew: str, targets: tuple[str, ...]) -> bool:
        """Whether the request's token is good for it; the token is used up either way."""
        armed = self._armed.pop(request.arm_token or "", None)
        if armed is None:
            return False
        deadline, by, action, seats = armed
        return (by, action, seats) == (crew, request.action, targets) and self._clock() <= deadline


class CommandRate:
    """How fast each crew member gives commands: `BURST` at once, then `PER_SECOND`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._given: dict[str, tuple[float, float]] = {}
        """By crew member: at what time, how much of `BURST` was used up."""

    def wait(self, crew: str) -> float:
        """Seconds until this crew member may give a command; at 0.0 it is counted as given."""
        now = self._clock()
        self._given = {
            who: (now, left)
            for who, (at, used) in self._given.items()
            if (left := used - (now - at) * PER_SECOND) > 0
        }
        _, used = self._given.get(crew, (now, 0.0))
        if used + 1 > BURST:
            return (used + 1 - BURST) / PER_SECOND
        self._given[crew] = (now, used + 1)
        return 0.0
