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


MediaEvent = Ended | Failed


class MediaBackend(Protocol):
    """Plays titles, one at a time.

    Every call returns at once. A call that raises `MediaError` has changed nothing: what
    played before goes on. The agent makes its calls on the event loop, and wants its events
    there.
    """

    def start(self, on_event: Callable[[MediaEvent], None]) -> None:
        """Get ready; tell what happens later to `on_event`."""

    def close(self) -> None:
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
        self._paused_at: float | None = None

    def start(self, on_event: Callable[[MediaEvent], None]) -> None:
        """Nothing to get ready, and nothing ever happens."""

    def close(self) -> None:
        """End what plays."""
        self.stop()

    def play(self, media: str, position: float) -> None:
        """Begin to count from `position`."""
        if media in self._missing:
            raise MediaError(f"no title {media}")
        self._began = self._clock() - position
        self._paused_at = None

    def pause(self) -> None:
        """Stop counting."""
        self._paused_at = self._clock()

    def resume(self) -> None:
        """Count on."""
        if self._began is not None and self._paused_at is not None:
            self._began += self._clock() - self._paused_at
        self._paused_at = None

    def stop(self) -> None:
        """Forget the position."""
        self._began = self._paused_at = None

    def position(self) -> float | None:
        """Seconds counted."""
        if self._began is None:
            return None
        return (self._clock() if self._paused_at is None else self._paused_at) - self._began

    def set_volume(self, volume: int) -> None:
        """There is no sound."""

    def show_text(self, text: str | None) -> None:
        """There is no picture."""
