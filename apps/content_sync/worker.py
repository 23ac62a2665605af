"""Work that takes long, one piece after the other, in a thread of its own."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from apps.common.content import Job, Progress
from apps.common.web import Problem
from apps.content_sync.source import SourceError
from apps.content_sync.store import StoreError
from apps.content_sync.trust import RefusedError

log = logging.getLogger(__name__)

MAX_QUEUED = 16
KEPT = 32
"""Jobs that are remembered, with what became of them."""


Tell = Callable[[Progress], None]
"""Called with the progress of a job, as often as it likes."""

Work = Callable[[Tell], str]
Done = Callable[[Exception | None, str], None]


class JobFailed(Exception):  # noqa: N818 - it is an outcome
    """A job ran to its end, and has not come to what it was for; the message is for people."""


@dataclass
class _Piece:
    id: int
    title: str
    work: Work
    done: Done
    state: str = "queued"
    says: str = ""
    progress: Progress | None = field(default=None)


class Worker:
    """Does jobs, one at a time, in the order in which they come.

    Args:
        on_change: called when a job begins, ends, or comes along.
    """

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        self._on_change = on_change
        self._ids = count(1)
        self._queue: queue.Queue[_Piece] = queue.Queue(MAX_QUEUED)
        self._pieces: dict[int, _Piece] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self.trouble: str | None = None
        """What the last job failed with; None after a success."""
        self.progress: Progress | None = None
        """Of the job that is under way."""
        self.stop = threading.Event()
        """Set when all is to end."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End; a job that is under way stops soon, and those that wait are dropped."""
        self.stop.set()
        self._thread.join(timeout=5)

    def is_alive(self) -> bool:
        """Whether there is somebody to work."""
        return self._thread.is_alive()

    def do(
        self,
        title: str,
        work: Work,
        done: Done = lambda _error, _says: None,
    ) -> Job:
        """Have a job done.

        Args:
            title: what it is, for people.
            work: does it, tells its progress to what it is given, and says what has come of it.
            done: called after it, in the same thread, with its error if it failed, and with words.

        Raises:
            Problem: too many wait.
        """
        piece = _Piece(next(self._ids), title, work, done)
        with self._lock:
            try:
                self._queue.put_nowait(piece)
            except queue.Full:
                raise Problem(
                    429, "busy", "too much is waiting already: try again when it is done", 10
                ) from None
            self._pieces[piece.id] = piece
            for old in list(self._pieces)[:-KEPT]:
                del self._pieces[old]
        self._on_change()
        return _job(piece)

    def job(self, number: int) -> Job:
        """How a job is.

        Raises:
            Problem: there is none of that number, or it is long over.
        """
        with self._lock:
            piece = self._pieces.get(number)
        if piece is None:
            raise Problem(404, "no-such-job", f"there is no job {number}")
        return _job(piece)

    def _run(self) -> None:
        while not self.stop.is_set():
            try:
                piece = self._queue.get(timeout=0.2)
            except queue.Empty:
                continue
            self._work(piece)

    def _work(self, piece: _Piece) -> None:
        def tell(progress: Progress) -> None:
            self.progress = piece.progress = progress
            self._on_change()

        piece.state = "running"
        self._on_change()
        error: Exception | None = None
        try:
            piece.says = piece.work(tell)
        except (RefusedError, SourceError, StoreError, JobFailed) as refused:
            error, piece.says = refused, str(refused)
        except OSError as refused:
            error = refused
            piece.says = f"the server's disk refuses: {refused.strerror or refused}"
        except Exception as failed:
            log.exception("a job failed", extra={"job": piece.title})
            error, piece.says = failed, "it failed for a reason that the log has"
        if error is not None:
            log.warning("a job failed", extra={"job": piece.title, "why": piece.says})
        self.trouble = f"{piece.title}: {piece.says}" if error is not None else None
        self.progress = None
        try:
            piece.done(error, piece.says)
        except Exception:
            log.exception("after a job", extra={"job": piece.title})
        piece.state = "failed" if error is not None else "done"
        self._on_change()


def _job(piece: _Piece) -> Job:
    return Job.model_validate(
        {
            "id": piece.id,
            "title": piece.title,
            "state": piece.state,
            "says": piece.says,
            "progress": piece.progress,
        }
    )
