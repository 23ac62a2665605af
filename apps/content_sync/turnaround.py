"""What is done while the gate is open: see what is new, bring it on board in the planner's order.

One thread does it. Whatever cuts it off (the link, the power, the departure), what has come is
kept, what is whole is put in force, and the next try goes on from there.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from pyroute2 import IPRoute

from apps.common.backoff import BackOff
from apps.common.content import (
    CATALOGUE,
    KINDS,
    MAX_KIND,
    METADATA,
    Entry,
    Kind,
    SetFile,
    TargetName,
    target_name,
)
from apps.common.files import write_whole
from apps.content_sync import planner, trust
from apps.content_sync.ahead import MAX_ROUNDS, Ahead
from apps.content_sync.carry import (
    Account,
    Carrier,
    CarryError,
    Line,
    RefusedError,
    StalledError,
    StoppedError,
    Wanted,
)
from apps.content_sync.importer import Halves, Outcome
from apps.content_sync.link import GateState, received
from apps.content_sync.planner import Item, Piece, Plan, Rate
from apps.content_sync.source import FolderSource, Source, SourceError
from apps.content_sync.store import Store
from apps.content_sync.trust import Offer

log = logging.getLogger(__name__)

CHECK_EVERY = 15 * 60.0
"""Seconds between two looks for something new, unless the Hangar says that there is."""

RETRY_FIRST, RETRY_MAX = 1.0, 60.0
"""Seconds before another try; up to `CHECK_EVERY` where the Hangar's set is not to be believed."""

USAGE_FIRST = 60.0
"""Seconds of a stop for which content waits for usage to have gone out."""

TAKE_EVERY = 60.0
"""Seconds between two times that what is whole of a kind is put in force, until all of it is."""

REPLAN_EVERY = 5.0
MOST_TRIES = 2
"""Times at one stop that an object is fetched of which the Hangar gives other bytes, or none."""

MOST_METADATA = 2 * (len(KINDS) + 3) * MAX_KIND
"""Bytes of the metadata of two sets: what came at an earlier try, and what is new since then."""

MOST_ASKED = 16
INTERRUPTS = 60.0
"""Seconds between two times that somebody may have it begin anew."""

NEXT_STOP = 20 * 60.0
"""Seconds for which the gate was closed, after which it opens for another stop: a link that flaps
does not make the stop longer."""

UNKNOWN_RATE = 250_000.0
"""Bytes a second, before any gate was ever measured."""


class Board(Protocol):
    """The rest of this app, as far as the gate needs it. Used by the gate's thread alone."""

    store: Store

    def root_version(self) -> int:
        """Of the newest root that is trusted."""

    def look(self, source: Source) -> Offer:
        """What a source offers; see `Trust.look`."""

    def make_room(self, needed: int, offer: Offer) -> None:
        """Make room for so many bytes of it, as much as can be; see `Store.make_room`."""

    def take(self, source: Source, kinds: Collection[Kind]) -> Outcome:
        """Put in force what is whole of these kinds; see `Importer.run`."""


@dataclass
class _Coming:
    """An entry of which something is missing on board."""

    kind: Kind
    entry: Entry
    objects: dict[str, Wanted]
    size: int = 0


_What = tuple[str, int]
"""An object by digest and length. Who signs one kind with a wrong length of what is another's does
that one no harm."""


class Turnaround:
    """Works while the gate is open. Make it, `start` it, `close` it.

    Args:
        account: of the Hangar; None: there is none.
        staging: the folder that `carry` describes, on the file system of the store.
        runtime: a folder for the connection's socket.
        board: the rest of this app.
        usage_out: waits until usage has gone out, for as many seconds at most.
        stay: seconds that a stop at the gate takes as a rule.
        wall: the time of day, as far as it is known.
        tell: called when there is something new to tell, in any thread; it does not wait.
    """

    def __init__(
        self,
        account: Account,
        staging: Path,
        runtime: Path,
        board: Board,
        usage_out: Callable[[float], object],
        stay: float,
        wall: Callable[[], datetime],
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        self._account = account
        self._runtime = runtime
        self._board = board
        self._usage_out = usage_out
        self._stay = stay
        self._wall = wall
        self._tell = tell
        self._staging = staging
        self._carrier = Carrier(staging, self._progress, lambda: board.store.free())
        self._source = FolderSource(staging, "gate", ours=True)
        self._rate_file = staging / "rate"
        self.rate = Rate(self._last_rate())
        self.plan: Plan | None = None
        self._lost: str | None = None
        self.trouble: str | None = None
        """What failed last, in a sentence; None after a success."""
        self.coming: int | None = None
        """The version of the set that is coming."""
        self._changed = threading.Condition()
        self._state = GateState(open=False)
        self._opened = 0.0
        self._usage_ends: float | None = None
        """Until when content waits for usage at this stop; None: it did not begin to."""
        self._tries: Counter[_What] = Counter()
        """What the Hangar was asked for in vain, at this stop and until all else is on board."""
        self._back_off = BackOff(RETRY_FIRST, RETRY_MAX)
        self._refused = BackOff(RETRY_FIRST, CHECK_EVERY)
        self._closed = -math.inf
        self._again = False
        self._asked: list[Callable[[], None]] = []
        self._interrupted = 0.0
        self._closing = False
        self._coming: list[_Coming] = []
        self._counted: tuple[float, int] | None = None
        self._replanned = 0.0
        self._thread = threading.Thread(target=self._run, name="turnaround", daemon=True)

    def start(self) -> None:
        """Begin to wait for the gate."""
        self._thread.start()

    def close(self) -> None:
        """Stop; what has come is kept."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._carrier.stop()
        self._thread.join(timeout=30)

    def gate(self, state: GateState) -> None:
        """The gate has opened, or closed, or the address is another. Never waits."""
        with self._changed:
            if state == self._state:
                return
            now = time.monotonic()
            if self._state.open and not state.open:
                self._closed = now
            elif state.open and not self._state.open and now - self._closed > NEXT_STOP:
                self._opened = now
                self._usage_ends = None
                self._tries.clear()
            self._state = state
            self._changed.notify_all()
        # Over a link that is gone nothing would ever come, nor over one to another address.
        self._carrier.stop()

    @property
    def halves(self) -> Halves:
        """What came half."""
        return self._carrier

    def sync_now(self, done: Callable[[], None] = lambda: None) -> None:
        """Look for something new, now, and call `done` when it is on board. Never waits."""
        with self._changed:
            self._again = True
            self._asked.append(done)
            del self._asked[:-MOST_ASKED]
            self._changed.notify_all()
            now = time.monotonic()
            if now - self._interrupted < INTERRUPTS:
                return
            self._interrupted = now
        self._carrier.stop()

    # -- by the gate ------------------------------------------------------------------------

    def _run(self) -> None:
        delay = 0.0
        while self._wait(delay):
            asked = list(self._asked)
            try:
                self._sync()
                self._answer(asked)
            except StoppedError:
                delay = 0.0
            except trust.RefusedError as error:
                self._failed(error)
                delay = self._refused.delay()
            except Exception as error:  # noqa: BLE001 - this thread is the only one to tell
                self._failed(error)
                delay = self._back_off.delay()
            else:
                self.trouble = self._lost or self._no_room()
                self._back_off.reset()
                self._refused.reset()
                self._tries.clear()
                delay = CHECK_EVERY
            self._tell()

    def _answer(self, asked: Sequence[Callable[[], None]]) -> None:
        for done in asked:
            # The oldest may have been dropped meanwhile.
            if done in self._asked:
                self._asked.remove(done)
            done()

    def why_not(self) -> str | None:
        """For `Health`: whether there is somebody to work; None: there is, or was not to be yet."""
        if self._thread.ident is None or self._closing or self._thread.is_alive():
            return None
        return "nothing comes by the gate any more: restart content_sync"

    def _wait(self, delay: float) -> bool:
        """Wait until there is something to do; False: it is to end."""
        with self._changed:
            before = self._state
            self._changed.wait_for(
                lambda: self._closing or self._again or self._state != before, delay
            )
            if not self._state.open:
                self.plan, self._coming, self.trouble = None, [], None
                self._tell()
                self._changed.wait_for(lambda: self._closing or self._state.open)
                self._back_off.reset()
                self._refused.reset()
            self._again = False
            self._carrier.go_on()
            return not self._closing

    def _failed(self, error: Exception) -> None:
        why = str(error).partition("\n")[0] or type(error).__name__
        known = isinstance(error, CarryError | SourceError | trust.RefusedError | OSError)
        log.warning("nothing comes", extra={"error": why}, exc_info=None if known else error)
        self.trouble = why

    # -- what is new ------------------------------------------------------------------------

    def _sync(self) -> None:
        with (
            self._carrier.connected(self._account, self._runtime) as line,
            IPRoute(groups=0) as self._route,
        ):
            offer = self._look(line)
            self._lost = None
            if not self._board.store.wants(offer):
                self._coming, self.coming = [], None
                # What came half may be on board by a disk, and takes room from the next.
                self._carrier.forget_but([])
                self._plan()
                return
            self.coming = offer.version
            self._usage_first()
            self._coming = self._missing(offer)
            # An earlier try may have ended before it took what had come.
            here = [
                digest
                for coming in self._coming
                for digest, wanted in coming.objects.items()
                if self._carrier.is_whole(wanted)
            ]
            if ready := self._ready(offer) | self._kinds_of(here):
                self._take(ready)
            self._make_room(offer)
            self._bring(line)

    def _usage_first(self) -> None:
        """Of a stop usage has a minute, however often the link breaks."""
        now = time.monotonic()
        if self._usage_ends is None:
            self._usage_ends = now + USAGE_FIRST
        if now < self._usage_ends:
            self._usage_out(self._usage_ends - now)

    def _look(self, line: Line) -> Offer:
        metadata = (self._staging / METADATA).iterdir()
        if sum(path.stat().st_size for path in metadata) > MOST_METADATA:
            # More than that is of a Hangar that lies, and that breaks off before it is judged.
            self._forget(set(), [])
        ahead = Ahead(self._metadata, self._board.root_version())
        for _ in range(MAX_ROUNDS):
            names = ahead.names()
            if not names:
                break
            self._carrier.fetch_metadata(line, names)
        catalogues = [
            self._wanted(target_name(kind, CATALOGUE), SetFile(digest=digest, length=length))
            for kind, (digest, length) in ahead.catalogues().items()
        ]
        for wanted in catalogues:
            self._carrier.seed(wanted, self._board.store.object(wanted.digest))
        missing = [wanted for wanted in catalogues if not self._carrier.is_whole(wanted)]
        for is_delta in (False, True):
            if batch := [one for one in missing if self._carrier.is_delta(one) == is_delta]:
                self._carrier.fetch(line, batch)
        try:
            offer = self._board.look(self._source)
        except (trust.RefusedError, SourceError):
            # What is here of a name is not asked for again, whoever has said it.
            self._forget(set(), catalogues)
            raise
        self._forget(ahead.current(), [])
        return offer

    def _forget(self, keep: Collection[str], catalogues: Sequence[Wanted]) -> None:
        """Remove the other metadata, and these objects."""
        for file in (self._staging / METADATA).iterdir():
            if file.name not in keep:
                file.unlink()
        for wanted in catalogues:
            self._carrier.drop(wanted)
            self._carrier.start_over(wanted)

    def _metadata(self, name: str) -> bytes | None:
        path = self._staging / METADATA / name
        try:
            return path.read_bytes() if path.stat().st_size <= MAX_KIND else None
        except FileNotFoundError:
            return None

    def _wanted(self, target: TargetName, file: SetFile) -> Wanted:
        former = self._board.store.in_force(target)
        return Wanted(file.digest, file.length, former)

    def _missing(self, offer: Offer) -> list[_Coming]:
        """The entries of which something is missing on board."""
        found = []
        for kind, offered in offer.kinds.items():
            for entry, files in offered.entries():
                objects = {
                    file.digest: self._wanted(name, file)
                    for name, file in files.items()
                    if not self._board.store.has(file.digest)
                }
                if objects:
                    size = sum(self._left(wanted) for wanted in objects.values())
                    found.append(_Coming(kind, entry, objects, size))
        self._carrier.forget_but(
            [
                *(wanted for coming in found for wanted in coming.objects.values()),
                *(
                    Wanted(offered.files[target_name(kind, CATALOGUE)].digest, 0)
                    for kind, offered in offer.kinds.items()
                ),
            ]
        )
        return found

    def _ready(self, offer: Offer) -> set[Kind]:
        """The kinds that are new though nothing of them is missing: they can be taken at once.

        All of them where nothing is missing at all, since the set's version is new.
        """
        current = self._board.store.current
        known = current.files if current else {}
        coming = {one.kind for one in self._coming}
        return {
            kind
            for kind, offered in offer.kinds.items()
            if kind not in coming and not (coming and offered.files.items() <= known.items())
        }

    def _left(self, wanted: Wanted) -> int:
        if self._board.store.has(wanted.digest):
            return 0
        return max(0, wanted.length - self._carrier.has(wanted))

    def _make_room(self, offer: Offer) -> None:
        """See that all has room; where it has not, what has is brought."""
        sizes = sorted(self._item(coming).room for coming in self._coming)
        room = self._board.store.room_for(offer)
        # For what cannot come nothing has to go.
        needed = max(total for total in (0, *itertools.accumulate(sizes)) if total <= room)
        self._board.make_room(needed, offer)
        free = self._board.store.free()
        for coming in self._coming:
            lacks = self._item(coming).room - free
            for wanted in coming.objects.values():
                # It is made anew of its former version, for which there is room without this.
                if self._carrier.is_delta(wanted) and 0 < lacks <= self._carrier.has(wanted):
                    self._carrier.start_over(wanted)

    # -- bring it ---------------------------------------------------------------------------

    def _bring(self, line: Line) -> None:
        whole: set[Kind] = set()
        taken = dict.fromkeys({coming.kind for coming in self._coming}, time.monotonic())
        self._give_up()
        try:
            while pieces := planner.batch(self._plan().order, self.rate.value):
                objects = {
                    _what(wanted): wanted
                    for coming in self._coming
                    for wanted in coming.objects.values()
                }
                batch = [objects[piece.digest, piece.length] for piece in pieces]
                came = self._fetch(line, batch)
                whole |= self._kinds_of(came)
                now = time.monotonic()
                for kind in sorted(whole):
                    is_over = not any(
                        self._left(wanted)
                        for coming in self._coming
                        if coming.kind == kind
                        for wanted in coming.objects.values()
                    )
                    if kind == "news" or is_over or now - taken[kind] > TAKE_EVERY:
                        whole.discard(kind)
                        taken[kind] = now
                        self._tries.update(self._take({kind}))
                self._give_up()
                with self._changed:
                    if self._again:
                        raise StoppedError("the Hangar has something new")
        finally:
            self._remember_rate()
            if whole:
                self._take(whole)

    def _fetch(self, line: Line, batch: Sequence[Wanted]) -> list[str]:
        """Bring these; see `Carrier.fetch`."""
        self._counted = None
        before = sum(map(self._carrier.has, batch))
        try:
            came = self._carrier.fetch(line, batch)
        except (StalledError, RefusedError):
            # The Hangar is there, so it stumbles over what was next: rsync goes by the names.
            if left := [one for one in batch if not self._carrier.is_whole(one)]:
                self._tries[_what(min(left, key=lambda one: one.path))] += 1
            raise
        finally:
            if sum(map(self._carrier.has, batch)) > before:
                # However often it breaks, such a link is worth another try at once.
                self._back_off.reset()
        self._tries.update(_what(one) for one in batch if one.digest not in came)
        return came

    def _kinds_of(self, came: Sequence[str]) -> set[Kind]:
        """The kinds of which an entry is whole now."""
        return {
            coming.kind
            for coming in self._coming
            if any(digest in coming.objects for digest in came)
            and not any(self._left(wanted) for wanted in coming.objects.values())
        }

    def _take(self, kinds: Collection[Kind]) -> set[_What]:
        """Take on board what is whole of these kinds; of what the bytes are wrong."""
        outcome = self._board.take(self._source, kinds)
        for coming in self._coming:
            for digest, wanted in coming.objects.items():
                if digest in outcome.wrong:
                    self._carrier.distrust(wanted)
                elif self._board.store.has(digest):
                    self._carrier.drop(wanted)
        return {
            _what(wanted)
            for coming in self._coming
            if coming.kind in kinds
            for digest, wanted in coming.objects.items()
            if digest in outcome.wrong
        }

    def _give_up(self) -> None:
        """Leave out the entries that cannot become whole at this stop."""
        given = {what for what, count in self._tries.items() if count >= MOST_TRIES}
        lost = [
            coming
            for coming in self._coming
            if any(_what(wanted) in given for wanted in coming.objects.values())
        ]
        if lost:
            self._coming = [coming for coming in self._coming if coming not in lost]
            more = f", nor {len(lost) - 1} more" if len(lost) > 1 else ""
            first = title_of(lost[0].entry)
            self._lost = f"the Hangar does not give {first} as it is signed{more}"
            log.warning("not to be had", extra={"entries": len(lost), "first": lost[0].entry.id})

    def _no_room(self) -> str | None:
        if self.plan is None or not self.plan.no_room:
            return None
        count, needed = len(self.plan.no_room), sum(item.room for item in self.plan.no_room)
        return f"there is no room for {self.plan.no_room[0].title}" + (
            f" and {count - 1} more: {planner.size(needed)} are missing" if count > 1 else ""
        )

    def _plan(self) -> Plan:
        seconds = self._opened + self._stay - time.monotonic()
        room = self._board.store.free()
        self.plan = planner.plan(
            [self._item(coming) for coming in self._coming],
            self._wall(),
            self.rate.value,
            seconds if seconds > 0 else None,
            room,
        )
        self._replanned = time.monotonic()
        self._tell()
        return self.plan

    def _item(self, coming: _Coming) -> Item:
        pieces = tuple(
            Piece(
                wanted.digest,
                wanted.length,
                left,
                self._carrier.is_delta(wanted),
                max(0, self._carrier.room(wanted) - left),
            )
            for wanted in coming.objects.values()
            if not self._carrier.is_whole(wanted)
            if (left := self._left(wanted)) or not self._board.store.has(wanted.digest)
        )
        return Item(
            coming.kind,
            coming.entry.id,
            title_of(coming.entry),
            coming.size,
            pieces,
            coming.entry.rights.until,
        )

    # -- how fast ---------------------------------------------------------------------------

    def _progress(self) -> None:
        """Called while something comes, by this thread."""
        now, count = time.monotonic(), received(self._route, self._account.interface)
        if self._counted is not None:
            then, before = self._counted
            self.rate.add(count - before, now - then)
        self._counted = (now, count)
        if now - self._replanned > REPLAN_EVERY:
            self._plan()

    def _last_rate(self) -> float:
        with suppress(OSError, ValueError):
            return max(1.0, float(self._rate_file.read_text()))
        return (self._account.bandwidth or 8 * UNKNOWN_RATE) / 8

    def _remember_rate(self) -> None:
        with suppress(OSError):
            write_whole(self._rate_file, f"{self.rate.value:.0f}".encode(), sync=False)


def _what(wanted: Wanted) -> _What:
    return wanted.digest, wanted.length


def title_of(entry: Entry) -> str:
    """What an entry is called, for people."""
    return entry.titles.get("en") or next(iter(entry.titles.values()))
