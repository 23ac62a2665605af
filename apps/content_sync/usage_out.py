"""Usage out: seals what apps put into the outbox, and hands it to the Hangar while there is a link.

A batch is dropped when the Hangar has acknowledged exactly that batch in answer to it, and never
before: docs/decisions/0018-usage-exactly-once.md.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from apps.common import gate, usage
from apps.common.backoff import BackOff
from apps.common.gate import BatchTaken
from apps.common.usage import BatchError
from apps.content_sync.hangar import HangarError, RefusedError
from apps.content_sync.spool import CHUNK, Sealed, Spool

log = logging.getLogger(__name__)

EVERY = 10.0
"""Seconds between two looks for new records."""

IN_FLIGHT = 2
"""Batches that are under way at once: while one travels the Hangar takes the other, and a link of
300 ms is not idle."""

OF_ALL = frozenset({"no-aircraft", "unknown-aircraft", "wrong-certificate"})
"""Refusals (RFC 9457) that are of the whole aircraft, whatever it hands over."""

RETRY_FIRST = 1.0
RETRY_MAX = 60.0


class TakesBatches(Protocol):
    """The Hangar, as far as usage goes (`apps.content_sync.hangar.HangarClient`), for threads."""

    def put_batch(self, number: int, batch: bytes) -> BatchTaken:
        """Hand over a batch."""

    def close(self) -> None:
        """Hang up."""


class LyingError(HangarError):
    """The Hangar acknowledges something else than what it was given."""


class UsageOut:
    """Seals and hands over, in a thread of its own. Make it, `start` it, `close` it.

    Args:
        spool: of this aircraft; closed with this.
        connect: makes the Hangar's client, when there is a link.
    """

    def __init__(self, spool: Spool, connect: Callable[[], TakesBatches]) -> None:
        self._spool = spool
        self._connect = connect
        self._hangar: TakesBatches | None = None
        self._lock = threading.Lock()
        self._is_up = False
        self._idle = threading.Event()
        self._wanted = threading.Event()
        self._closing = False
        self._depth = gate.Spool()
        self._error: str | None = None
        self._refusals: str | None = None
        self._renewed: str | None = None
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)

    @property
    def trouble(self) -> str | None:
        """A sentence while usage cannot be sealed or handed over, though it should be."""
        return self._error or self._refusals

    @property
    def is_idle(self) -> bool:
        """Whether all that there was has been handed over, since the link is up."""
        return self._idle.is_set()

    def depth(self) -> gate.Spool:
        """How much waited when we last looked."""
        return self._depth

    def start(self) -> None:
        """Begin to seal."""
        self._thread.start()

    def link(self, up: bool) -> None:
        """There is a way to the Hangar now, or there is none any more. Never waits."""
        with self._lock:
            self._idle.clear()
            self._is_up = up
            self._wanted.set()

    def wait_idle(self, timeout: float) -> bool:
        """Wait until all is handed over; whether it was so within `timeout` seconds."""
        return self._idle.wait(timeout)

    def close(self) -> None:
        """Stop. What is sealed stays so."""
        self._closing = True
        self._wanted.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        back_off = BackOff(RETRY_FIRST, RETRY_MAX)
        delay = 0.0
        while True:
            if self._wanted.wait(delay):
                # The link is new: what failed by the one before may go by this one.
                self._wanted.clear()
                back_off.reset()
            if self._closing:
                break
            try:
                self._seal()
                all_went = self._is_up and self._hand_over()
            except OSError as error:
                self._failed(str(error))
                delay = back_off.delay()
            except Exception as error:
                # This thread is the only one to tell.
                log.exception("usage does not go out")
                self._failed(str(error))
                delay = back_off.delay()
            else:
                if self._error is not None:
                    log.info("usage goes out again")
                self._error = None
                if all_went:
                    self._all_went()
                if self._refusals is None:
                    back_off.reset()
                    delay = EVERY
                else:
                    # What is refused would load the link for nothing.
                    delay = back_off.delay()
        self._hang_up()
        self._spool.close()

    def _failed(self, said: str) -> None:
        error = said.partition("\n")[0] or "it does not say why"
        if self._error is None:
            log.warning("usage does not go out", extra={"error": error})
        self._error = error
        self._hang_up()

    def _hang_up(self) -> None:
        if self._hangar is not None:
            self._hangar.close()
            self._hangar = None

    def _seal(self) -> None:
        """In flight what makes full batches, for a batch costs a round trip; with a link all."""
        while not self._closing and (self._is_up or self._spool.has_full_batch()):
            # Not until there is nothing: apps write meanwhile, and these would be tiny batches.
            if self._spool.seal() < CHUNK:
                break
        self._depth = self._spool.depth()
        if self._depth.batches:
            self._idle.clear()

    def _all_went(self) -> None:
        with self._lock:
            # If the link is new since we sealed, what lay in the outbox may lie there yet.
            if self._is_up and not self._wanted.is_set():
                self._idle.set()

    def _hand_over(self) -> bool:
        """Hand over each batch once; whether none is left that was not."""
        # Not what is sealed anew meanwhile, which this Hangar might refuse again and again.
        end = self._spool.end()
        self._renewed = None
        if self._hangar is None:
            self._hangar = self._connect()
        with ThreadPoolExecutor(IN_FLIGHT, "batch") as threads:
            under_way: deque[Future[None]] = deque()
            sealed = self._spool.next(end=end)
            while sealed is not None:
                if self._closing or not self._is_up:
                    return False
                if len(under_way) == IN_FLIGHT:
                    under_way.popleft().result()
                under_way.append(threads.submit(self._give, self._hangar, sealed))
                sealed = self._spool.next(sealed, end)
            for each in under_way:
                each.result()
        self._depth = self._spool.depth()
        self._refusals = self._renewed or self._spool.refusals()
        return self._renewed is None

    def _give(self, hangar: TakesBatches, sealed: Sealed) -> None:
        try:
            try:
                check(sealed, hangar.put_batch(sealed.number, sealed.batch))
            except RefusedError as error:
                is_forged = error.slug == "forged" and self._spool.is_of_our_key(sealed)
                if error.slug in OF_ALL or is_forged:
                    # All of the spool would load the link for nothing.
                    raise HangarError(str(error)) from error
                if error.slug != "other-batch":
                    raise
                self._spool.renew(sealed)
                self._renewed = f"batch {sealed.number} is sealed anew: {error}"
            else:
                self._spool.acknowledged(sealed)
        except (RefusedError, BatchError) as error:
            # The others go past it, also where it has decayed here.
            log.warning("a batch is refused", extra={"number": sealed.number, "why": str(error)})
            self._spool.refused(sealed, str(error))


def check(sealed: Sealed, taken: BatchTaken) -> None:
    """Whether an acknowledgement is of the batch that was handed over.

    Raises:
        LyingError: it is of another.
    """
    head = usage.head_of(sealed.batch)
    said = (taken.registration, taken.spool, taken.number, taken.sha256)
    ours = (
        head.registration,
        head.spool,
        head.number,
        hashlib.sha256(sealed.batch).hexdigest(),
    )
    if said != ours:
        raise LyingError(
            f"the Hangar acknowledges batch {taken.number} of {taken.registration}, and was given "
            f"batch {head.number}: it is kept"
        )
