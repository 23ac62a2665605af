"""What plays on the seat's screen: the backend's interface, and one that plays nothing."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Protocol


class MediaError(Exception):
    """The backend cannot do it; the message is what the crew read."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The title played to its end."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The title broke off; `reason` is for the log."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stalled:
    """What should play does not go on, as `reason` says for the log; None: it does again."""

    reason: str | None


MediaEvent = Ended | Failed | Stalled


class MediaBackend(Protocol):
    """Plays titles and channels, one at a time.

    Every call returns at once. A call that raises `MediaError` has changed nothing: what
    played before goes on. The agent makes its calls on the event loop, and wants its events
    there.
    """

    def start(self, on_event: Callable[[MediaEvent], None]) -> None:
        """Get ready; tell what happens later to `on_event`."""

    async def close(self) -> None:
        """Stop, and give back what is in use."""

    def play(self, media: str, position: float) -> None:
        """Play a title from `position`, in seconds, instead of what plays now."""

    def pause(self) -> None:
        """Hold what plays."""

    def resume(self) -> None:
        """Go on."""

    def stop(self) -> None:
        """End what plays."""

    def position(self) -> float | None:
        """Seconds into the title; None when there is none."""

    def set_volume(self, volume: int) -> None:
        """How loud, in percent; 0 is silent."""

    def show_text(self, text: str | None) -> None:
        """Show a text over the picture; None takes it away."""

    def impose(self, channel: str | None) -> None:
        """Show a channel in place of what plays, which is put aside; None: go back to that."""

    def hold(self, held: bool) -> None:
        """An announcement, of which the backend may not know by itself, has the seat, or not.

        As long as it has, nothing is heard, and what plays is put aside.
        """

    def choose_languages(self, audio: str | None, subtitles: str | None) -> None:
        """Which soundtrack and subtitles (RFC 5646); None: the title's first, and none."""


class NullBackend:
    """Plays every title silently and without end; its position goes with the clock.

    Args:
        clock: gives monotonic seconds.
        missing: titles that it does not have.
    """

    def __init__(self, clock: Callable[[], float], missing: Container[str] = ()) -> None:
        self._clock = clock
        self._missing = missing
        self._began: float | None = None
        self._stopped_at: float | None = None
        self._paused = False
        self._imposed: str | None = None
        self._held = self._pa = False

    def start(self, on_event: Callable[[MediaEvent], None]) -> None:
        """Nothing to get ready, and nothing ever happens."""

    async def close(self) -> None:
        """End what plays."""
        self.stop()

    def play(self, media: str, position: float) -> None:
        """Begin to count from `position`."""
        if media in self._missing:
            raise MediaError(f"no title {media}")
        self._began = self._clock() - position
        self._stopped_at = None
        self._paused = False
        self._count()

    def pause(self) -> None:
        """Stop counting."""
        self._paused = True
        self._count()

    def resume(self) -> None:
        """Count on."""
        self._paused = False
        self._count()

    def stop(self) -> None:
        """Forget the position."""
        self._began = self._stopped_at = None

    def position(self) -> float | None:
        """Seconds counted."""
        if self._began is None:
            return None
        return (self._clock() if self._stopped_at is None else self._stopped_at) - self._began

    def set_volume(self, volume: int) -> None:
        """There is no sound."""

    def show_text(self, text: str | None) -> None:
        """There is no picture."""

    def impose(self, channel: str | None) -> None:
        """Stop counting for as long."""
        if channel in self._missing:
            raise MediaError(f"no channel {channel}")
        self._imposed = channel
        self._count()

    def hold(self, held: bool) -> None:
        """The same."""
        self._held = held
        self._count()

    def choose_languages(self, audio: str | None, subtitles: str | None) -> None:
        """There is no sound, and no picture."""

    def announce(self, on: bool) -> None:
        """What a real screen hears from the PA child: the PA has the seat, or has not."""
        self._pa = on
        self._count()

    def _count(self) -> None:
        """Count, or do not, as things are now."""
        now = self._clock()
        if self._paused or self._held or self._pa or self._imposed is not None:
            if self._stopped_at is None:
                self._stopped_at = now
        elif self._stopped_at is not None:
            if self._began is not None:
                self._began += now - self._stopped_at
            self._stopped_at = None
