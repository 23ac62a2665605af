"""Imposed videos: what the crew have said, what became of it, and what the seats were told.

Which videos are on is kept in a file, so that one goes on where it was when vlc_stream comes back,
and so that seats are let go when the machine was restarted meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from apps.common.backoff import BackOff
from apps.common.calls import RefusedError, SeatControl, UnavailableError
from apps.common.channels import (
    ImposeAnswer,
    ImposedControl,
    ImposedVideo,
    ImposedView,
    ImposeRequest,
    Language,
)
from apps.common.commands import Accepted, CommandRequest, Impose, MediaId, Seats, Selector
from apps.common.files import write_whole
from apps.common.web import Problem
from apps.vlc_stream.library import Library
from apps.vlc_stream.orders import Control, Report, StartClip
from apps.vlc_stream.process import SendingProcess
from apps.vlc_stream.ts import CLOCK

log = logging.getLogger(__name__)

T = TypeVar("T")

FILE = "imposed.json"

NOBODY = "vlc_stream"
"""In whose name seats are let go where it is not known who imposed a video on them."""

_ALL = Selector(all=True)

NOT_NOW = {412, 429}
"""HTTP's statuses (RFC 9110, 6585) of what was not done for its moment alone: it came too late to a
busy seat control, or was one too many."""

HEARD_WITHIN = 1.0
"""Seconds; the pacer says twice a second where a video is."""

NOTED_FIRST = 0.1
"""Seconds that seats wait for the disk, before they are told of a video."""

DISK_TIMEOUT = 5.0
"""Seconds that an order waits for the disk, before it goes without being noted."""

SAVE_EVERY = 1.0
"""Seconds between two notes of where a video is."""


class _On(BaseModel):
    """A video that is on, as it is kept. `position` is seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    crew: str
    language: Language
    selector: Selector | None
    screens: bool
    paused: bool = False
    position: float = 0.0


class _Kept(BaseModel):
    """The file. `letting_go`: seats that have to be told that a video is over, and by whom."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    boot_id: str
    on: dict[MediaId, _On] = {}
    letting_go: tuple[tuple[str, Selector], ...] = ()


class ImposedVideos:
    """All of them. Its methods may be called from any thread.

    Args:
        specs: by their ids.
        process: the pacer.
        library: where their files are.
        seat_control: tells the seats.
        screens: called with whether the overhead screens are to show a video.
        on_change: called when anything has changed.
        folder: where the file is kept.
        boot_id: of this boot of the machine.
    """

    def __init__(
        self,
        specs: Mapping[MediaId, ImposedVideo],
        process: SendingProcess,
        library: Library,
        seat_control: SeatControl,
        screens: Callable[[bool], None],
        on_change: Callable[[], None],
        folder: Path,
        boot_id: str,
    ) -> None:
        self._specs = specs
        self._process = process
        self._library = library
        self._seat_control = seat_control
        self._screens = screens
        self._on_change = on_change
        self._path = folder / FILE
        self._boot_id = boot_id
        self._lock = threading.RLock()
        self._positions: dict[MediaId, tuple[float, float]] = {}
        """Where each video was, and when that was, on the monotonic clock."""
        self._runs: dict[MediaId, int] = {}
        self._troubles: dict[MediaId, str | None] = {}
        self._shown = False
        """On the screens."""
        self._saved = 0.0
        self._telling = threading.Lock()
        """Held while seats are told, so that what is said last is what holds last."""
        self._wake = threading.Event()
        self._closing = False
        self._back_off = BackOff(0.5, 10.0)
        self._teller = threading.Thread(target=self._tell_until_closed, name="seats", daemon=True)
        self._notes = threading.Condition()
        self._asked = self._noted = 0
        """How often a note was asked for, and which of these it is that is written down."""
        self._sync = False
        self._noter = threading.Thread(target=self._note_until_closed, name="notes", daemon=True)
        self._on, self._letting_go = self._load()
        self._untold: set[MediaId] = set()
        # Those that are on as well: whether their seats were told nobody knows.
        self._tell_anew()
        self._waiting = set(self._on)
        """Videos that go on as soon as their file was looked at."""

    def start(self) -> None:
        """Begin to tell seats what they were not told yet."""
        self._teller.start()
        self._noter.start()

    def close(self) -> None:
        """Tell nobody any more; what is on is kept."""
        self._closing = True
        self._wake.set()
        self._note()
        self._teller.join(timeout=5)
        self._noter.join(timeout=5)

    # -- what the crew say --------------------------------------------------------------------

    def impose(self, crew: str, request: ImposeRequest) -> ImposeAnswer:
        """Start a video, or start it anew.

        Raises:
            Problem: there is none of that name or language, its file is broken, or the seats
                cannot be told so.
        """
        spec = self._spec(request.channel)
        file = spec.files.get(request.language)
        if file is None:
            languages = ", ".join(spec.files)
            raise Problem(422, "no-such-language", f"{request.channel} is there in {languages}")
        if self._library.clip(file) is None:
            why = self._library.trouble([file]) or "it has not been looked at yet"
            raise Problem(409, "not-playable", why)
        on = _On(
            crew=crew,
            language=request.language,
            selector=request.selector,
            screens=request.screens,
        )
        with self._lock:
            position = self._position(request.channel)
            before = self._on.pop(request.channel, None)
            self._on[request.channel] = on
            self._waiting.discard(request.channel)
            self._start(request.channel)
            run = self._runs[request.channel]
            # The pictures are on their way; now the seats.
            self._show_on_screens(anew=on.screens)
        # First: what seat control has taken lasts, and somebody has to let these seats go one day.
        note = self._note(sync=True)
        self._is_noted(note, NOTED_FIRST)
        try:
            command = self._tell_seats(request.channel)
        except RefusedError as error:
            with self._lock:
                if request.channel in self._on and self._runs[request.channel] == run:
                    self._take_back(request.channel, before, position)
            note = self._note(sync=True)
            raise Problem(error.status, error.slug, error.detail) from error
        finally:
            self._wait_for(note)
            self._on_change()
        if before is not None and before.selector not in (None, on.selector):
            with self._lock:
                self._let_go(crew, before.selector)
        self._wake.set()
        return ImposeAnswer(video=self.view(request.channel), command=command)

    def control(self, video: MediaId, action: ImposedControl) -> ImposedView:
        """Pause, resume or stop a video.

        Raises:
            Problem: there is none, or it is not on.
        """
        self._spec(video)
        with self._lock:
            on = self._on.get(video)
            if on is None:
                raise Problem(409, "not-on", f"{video} is not on")
            if action.action == "stop":
                self._end(video)
            else:
                self._process.tell(Control(do=action.action, id=video))
                position = self._position(video)
                self._on[video] = on.model_copy(update={"paused": action.action == "pause"})
                self._positions[video] = (position, time.monotonic())
        self._save()
        self._on_change()
        return self.view(video)

    # -- what becomes of it -------------------------------------------------------------------

    def take(self, report: Report) -> None:
        """What the pacer says of one."""
        with self._lock:
            if report.id not in self._on or report.run != self._runs.get(report.id):
                return
            self._troubles[report.id] = report.trouble
            self._positions[report.id] = (report.position, time.monotonic())
            if report.state != "ended":
                return
            self._end(report.id, report.trouble)
        self._note()
        self._on_change()

    def show_on_screens(self) -> None:
        """Tell the screens whether one is on that they show: at the start, before they are told."""
        with self._lock:
            self._show_on_screens()

    def process_is_new(self) -> None:
        """The pacer was started anew: what is on goes on where it was."""
        with self._lock:
            for video in set(self._on) - self._waiting:
                now = {"position": self._position(video)}
                self._on[video] = self._on[video].model_copy(update=now)
                self._waiting.add(video)

    def tend(self) -> None:
        """To be called now and then: starts what waits, and notes where videos are.

        What waits for a file that cannot be played is over.
        """
        with self._lock:
            for video in sorted(self._waiting):
                file = self._specs[video].files[self._on[video].language]
                # Asked first: a look that ends in between is taken at the next call.
                looked_at = self._library.has_looked_at_clip(file)
                if self._library.clip(file):
                    self._waiting.discard(video)
                    self._start(video)
                    self._show_on_screens()
                elif looked_at:
                    self._end(video, self._library.trouble([file]))
                    self._note()
                    self._on_change()
            if self._on and time.monotonic() - self._saved > SAVE_EVERY:
                self._note()

    @property
    def letting_go(self) -> bool:
        """Whether seats are to be told yet that a video is over."""
        return bool(self._letting_go)

    def views(self) -> tuple[ImposedView, ...]:
        """How they all are."""
        return tuple(self.view(video) for video in self._specs)

    def view(self, video: MediaId) -> ImposedView:
        """How one is."""
        spec = self._specs[video]
        with self._lock:
            on = self._on.get(video)
            position = self._position(video) if on else None
            trouble = self._troubles.get(video)
        clip = self._library.clip(spec.files[on.language]) if on else None
        remaining = None
        if clip is not None and position is not None and not spec.loop:
            remaining = max(0.0, round(clip.seconds - position, 1))
        if video in self._untold:
            trouble = trouble or "seat control cannot be reached: the seats were not told"
        return ImposedView(
            id=video,
            names=spec.names,
            group=spec.group,
            port=spec.port,
            languages=tuple(spec.files),
            state="idle" if on is None else "paused" if on.paused else "playing",
            language=on.language if on else None,
            position=None if position is None else round(position, 1),
            remaining=remaining,
            seats=on.selector if on else None,
            screens=on.screens if on else False,
            trouble=trouble or self._library.trouble(spec.files.values()),
        )

    # -- how ----------------------------------------------------------------------------------

    def _spec(self, video: MediaId) -> ImposedVideo:
        spec = self._specs.get(video)
        if spec is None:
            raise Problem(404, "no-such-video", f"there is no imposed video {video}")
        return spec

    def _start(self, video: MediaId) -> None:
        on, spec = self._on[video], self._specs[video]
        clip = self._library.clip(spec.files[on.language])
        if clip is None:
            return
        self._runs[video] = self._runs.get(video, 0) + 1
        self._process.tell(
            StartClip(
                id=video,
                run=self._runs[video],
                group=str(spec.group),
                port=spec.port,
                clip=clip,
                loop=spec.loop,
                position=on.position,
            )
        )
        if on.paused:
            self._process.tell(Control(do="pause", id=video))
        self._positions[video] = (on.position, time.monotonic())
        self._troubles[video] = None

    def _position(self, video: MediaId) -> float:
        position, at = self._positions.get(video, (0.0, 0.0))
        on = self._on.get(video)
        if on is None or on.paused or video in self._waiting:
            return position if on is None or video in self._positions else on.position
        clip = self._library.clip(self._specs[video].files[on.language])
        longest = clip.length / CLOCK if clip else position
        # No further than what was last heard of it: one that hangs shows nothing.
        return min(longest, position + min(HEARD_WITHIN, time.monotonic() - at))

    def _end(self, video: MediaId, trouble: str | None = None) -> None:
        on = self._on.pop(video)
        self._troubles[video] = trouble
        self._process.tell(Control(do="stop", id=video))
        self._positions.pop(video, None)
        self._waiting.discard(video)
        self._untold.discard(video)
        if on.selector is not None:
            self._let_go(on.crew, on.selector)
        self._show_on_screens()

    def _take_back(self, video: MediaId, before: _On | None, position: float) -> None:
        """Seat control refused: what was on before goes on where it was, where it was seen."""
        if before is None:
            self._end(video)
            return
        self._on[video] = before.model_copy(update={"position": position})
        self._start(video)
        self._show_on_screens()

    def _show_on_screens(self, *, anew: bool = False) -> None:
        """Tell the screens where that is new; the crew may have set them otherwise since."""
        shown = any(on.screens for on in self._on.values())
        if anew or shown != self._shown:
            self._shown = shown
            self._screens(shown)

    def _tell_seats(self, video: MediaId) -> Accepted | None:
        """Tell the seats that a video is for; None: there are none, or not yet."""
        with self._telling:
            on = self._on.get(video)
            if on is None or on.selector is None:
                self._untold.discard(video)
                return None
            request = CommandRequest(selector=on.selector, action=Impose(channel=video))
            try:
                command = self._issue(on.crew, request)
            except UnavailableError as error:
                log.warning("the seats were not told", extra={"video": video, "why": str(error)})
                with self._lock:
                    now = self._on.get(video)
                    # It may be over by now, or be on again without seats.
                    if now is not None and now.selector is not None:
                        self._untold.add(video)
                return None
            self._untold.discard(video)
            return command

    def _issue(self, crew: str, request: CommandRequest) -> Accepted:
        """Give seat control an order. If it is only that it cannot now, it is to be tried again."""
        try:
            return self._seat_control.issue(crew, request)
        except RefusedError as error:
            if error.status in NOT_NOW:
                raise UnavailableError(str(error), maybe_done=False) from error
            raise

    def _tell_until_closed(self) -> None:
        wait: float | None = 0.0
        while not self._closing:
            self._wake.wait(wait)
            self._wake.clear()
            try:
                all_told = self._tell_all()
            except Exception:
                # Without this thread seats would stay where they are.
                log.exception("the seats were not told")
                all_told = False
            wait = None if all_told else self._back_off.delay()
            if all_told:
                self._back_off.reset()

    def _tell_all(self) -> bool:
        """Tell seats what they were not told; whether all was told."""
        with self._lock:
            letting_go = self._letting_go
            # In the order in which they were imposed: the newest has the last word.
            untold = [video for video in self._on if video in self._untold]
        for crew, selector in letting_go:
            if not self._release(crew, selector):
                return False
        for video in untold:
            try:
                self._tell_seats(video)
            except RefusedError as error:
                log.warning("the seats cannot be told", extra={"video": video, "why": str(error)})
                self._untold.discard(video)
        return not self._untold

    def _release(self, crew: str, selector: Selector) -> bool:
        with self._telling:
            with self._lock:
                on = [on.selector for on in self._on.values() if on.selector is not None]
            # The cabin may have another layout by now, in which some of these seats are not: then
            # all are let go that no video is for, or all.
            for seats in (_without(selector, on), _without(_ALL, on), _ALL):
                if seats is _ALL:
                    with self._lock:
                        self._tell_anew()
                try:
                    self._issue(crew, CommandRequest(selector=seats, action=Impose(channel=None)))
                except UnavailableError as error:
                    log.warning("the seats were not let go", extra={"why": str(error)})
                    return False
                except RefusedError as error:
                    if error.slug == "empty-selection":
                        break  # each of them has another video
                    log.warning("the seats cannot be let go", extra={"why": str(error)})
                else:
                    break
        with self._lock:
            self._letting_go = tuple(
                entry for entry in self._letting_go if entry != (crew, selector)
            )
        self._save()
        return True

    def _let_go(self, crew: str, selector: Selector) -> None:
        """Note that seats are to be let go. Those that another video is for are told so again."""
        self._letting_go = (*self._letting_go, (crew, selector))
        self._tell_anew()
        self._wake.set()

    def _tell_anew(self) -> None:
        """Note that the seats of each video are to be told of it again."""
        self._untold |= {video for video, on in self._on.items() if on.selector is not None}

    def _load(self) -> tuple[dict[MediaId, _On], tuple[tuple[str, Selector], ...]]:
        try:
            kept = _Kept.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return {}, ()
        except (OSError, ValidationError) as error:
            log.warning("what was imposed is not known", extra={"why": str(error)})
            return {}, ((NOBODY, _ALL),)
        on = {
            video: entry
            for video, entry in kept.on.items()
            if kept.boot_id == self._boot_id
            and video in self._specs
            and entry.language in self._specs[video].files
        }
        # After another boot, too: the seats were without power, but what was put in force lasts.
        over = [
            (entry.crew, entry.selector)
            for video, entry in kept.on.items()
            if video not in on and entry.selector is not None
        ]
        return on, (*kept.letting_go, *over)

    def _note(self, sync: bool = False) -> int:
        """Have what is on written down, soon; who watches the channels waits for no disk."""
        with self._notes:
            self._asked += 1
            self._sync |= sync
            self._notes.notify_all()
            return self._asked

    def _save(self) -> None:
        """Have it written down now: an order is to last."""
        self._wait_for(self._note(sync=True))

    def _wait_for(self, note: int) -> None:
        """Wait until it is written down. A disk that hangs is not waited for."""
        if not self._is_noted(note, DISK_TIMEOUT):
            log.warning("what is imposed cannot be noted", extra={"why": "the disk hangs"})

    def _is_noted(self, note: int, within: float) -> bool:
        with self._notes:
            return self._notes.wait_for(lambda: self._noted >= note, within)

    def _note_until_closed(self) -> None:
        while True:
            with self._notes:
                self._notes.wait_for(lambda: self._asked > self._noted)
                asked, sync, self._sync = self._asked, self._sync, False
            self._write(sync)
            with self._notes:
                self._noted = asked
                self._notes.notify_all()
                if self._closing and self._asked == asked:
                    return

    def _write(self, sync: bool) -> None:
        with self._lock:
            self._saved = time.monotonic()
            on = {
                video: entry.model_copy(update={"position": round(self._position(video), 3)})
                for video, entry in self._on.items()
            }
            letting_go = self._letting_go[-100:]
        kept = _Kept(boot_id=self._boot_id, on=on, letting_go=letting_go)
        try:
            write_whole(self._path, kept.model_dump_json().encode(), sync=sync)
        except OSError as error:
            log.warning("what is imposed cannot be noted", extra={"why": str(error)})


def _without(selector: Selector, others: Iterable[Selector]) -> Selector:
    """A selector less others. One that has exceptions of its own is left in: it is told anew."""
    parts: list[Seats] = [other for other in others if other.exclude is None]
    if selector.exclude is not None:
        parts.append(selector.exclude)
    if not parts:
        return selector
    exclude = Seats(
        all=any(part.all for part in parts),
        seats=_union(part.seats for part in parts),
        rows=_union(part.rows for part in parts),
        classes=_union(part.classes for part in parts),
        zones=_union(part.zones for part in parts),
    )
    return selector.model_copy(update={"exclude": exclude})


def _union(lists: Iterable[tuple[T, ...]]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(lists)))
