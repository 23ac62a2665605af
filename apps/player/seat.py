"""What a seat shows and plays, and what an action means for it. No I/O, no clock.

An action is first planned: steps for the media backend and the hardware, and the state that the
seat has once they were taken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from apps.common.commands import (
    Action,
    AttendantCallClear,
    Identify,
    Impose,
    LimitVolume,
    LockScreen,
    Mute,
    Pause,
    Play,
    Power,
    ReadingLight,
    Resume,
    SetBrightness,
    SetVolume,
    ShowMessage,
)

Playback = Literal["idle", "playing", "paused", "fault"]


class CannotError(Exception):
    """The seat cannot do what it is told; the message is what the crew read."""


@dataclass(frozen=True, slots=True)
class PlayMedia:
    """Play a title from `position`, in seconds."""

    media: str
    position: float


@dataclass(frozen=True, slots=True)
class PauseMedia:
    """Pause what plays."""


@dataclass(frozen=True, slots=True)
class ResumeMedia:
    """Go on with what was paused."""


@dataclass(frozen=True, slots=True)
class StopMedia:
    """End what plays."""


@dataclass(frozen=True, slots=True)
class ImposeMedia:
    """Show a channel in place of what plays; None: go back to that."""

    channel: str | None


@dataclass(frozen=True, slots=True)
class HoldMedia:
    """An announcement has the seat, or no more."""

    held: bool


@dataclass(frozen=True, slots=True)
class SetSound:
    """Be as loud as `volume`, in percent; 0 is silent."""

    volume: int


@dataclass(frozen=True, slots=True)
class ShowText:
    """Show a text over the picture; None takes it away."""

    text: str | None


@dataclass(frozen=True, slots=True)
class SetScreen:
    """Switch the screen, at `brightness` in percent."""

    on: bool
    brightness: int


@dataclass(frozen=True, slots=True)
class SetReadingLight:
    """Switch the reading light."""

    on: bool


MediaStep = (
    PlayMedia | PauseMedia | ResumeMedia | StopMedia | ImposeMedia | HoldMedia | SetSound | ShowText
)
Step = MediaStep | SetScreen | SetReadingLight


@dataclass(frozen=True, slots=True)
class Seat:
    """One seat's state; a new one is as after a boot.

    `chosen_volume` is what was asked for; `limit` caps it for as long as it is in force, so
    that the order in which the two arrive makes no difference. `text_until` is when the text
    on the screen goes away, in monotonic seconds; None: there is none. `imposed` is the channel
    that the crew show in place of `media`; that waits where it was.
    """

    name: str
    on: bool = True
    playback: Playback = "idle"
    media: str | None = None
    imposed: str | None = None
    chosen_volume: int = 50
    limit: int = 100
    muted: bool = False
    brightness: int = 80
    locked: bool = False
    reading_light: bool = False
    attendant_call: bool = False
    text_until: float | None = None

    @property
    def volume(self) -> int:
        """In percent, within the limit; also while muted."""
        return min(self.chosen_volume, self.limit)

    @property
    def loudness(self) -> int:
        """What is to be heard of it, in percent."""
        return 0 if self.muted else self.volume

    def steps(self) -> tuple[Step, ...]:
        """What brings sound and screen to this state, after a boot."""
        return (SetSound(self.loudness), SetScreen(self.on, self.brightness))

    def plan(self, action: Action, now: float) -> Plan:
        """What carries `action` out.

        Raises:
            CannotError: it makes no sense here and now.
        """
        if isinstance(action, Play | ShowMessage | Identify) and not self.on:
            raise CannotError("the seat is switched off")
        return self._setting(action) if action.retained else self._momentary(action, now)

    def _setting(self, action: Action) -> Plan:
        match action:
            case Power(on=on):
                return self._power(on)
            case Impose(channel=channel):
                after = replace(self, imposed=channel)
                return Plan((ImposeMedia(channel),) if self.on else (), after)
            case LockScreen(locked=locked):
                return Plan((), replace(self, locked=locked))
            case Mute(muted=muted):
                after = replace(self, muted=muted)
            case SetVolume(volume=volume):
                after = replace(self, chosen_volume=volume)
            case LimitVolume(limit=limit):
                after = replace(self, limit=limit)
            case SetBrightness(brightness=brightness):
                after = replace(self, brightness=brightness)
                return Plan((SetScreen(self.on, brightness),), after)
            case ReadingLight(on=on):
                return Plan((SetReadingLight(on),), replace(self, reading_light=on))
            case _:
                raise CannotError(f"this player cannot {action.name}")
        return Plan((SetSound(after.loudness),), after)

    def _power(self, on: bool) -> Plan:
        steps: tuple[Step, ...] = (SetScreen(on, self.brightness),)
        after = replace(self, on=on)
        if not on:
            steps = (*steps, StopMedia(), ShowText(None))
            after = replace(after, playback="idle", media=None, text_until=None)
        if self.imposed is not None:
            # It is still known, so this does not fail.
            steps = (*steps, ImposeMedia(self.imposed if on else None))
        return Plan(steps, after)

    def _momentary(self, action: Action, now: float) -> Plan:
        match action:
            case Play(media=media, position=position):
                after = replace(self, playback="playing", media=media)
                return Plan((PlayMedia(media, position),), after)
            case Pause() if self.playback == "playing":
                return Plan((PauseMedia(),), replace(self, playback="paused"))
            case Resume() if self.playback == "paused":
                return Plan((ResumeMedia(),), replace(self, playback="playing"))
            case Pause() | Resume():
                return Plan((), self)
            case ShowMessage(text=text, seconds=seconds):
                return Plan((ShowText(text),), replace(self, text_until=now + seconds))
            case Identify(seconds=seconds):
                return Plan((ShowText(self.name),), replace(self, text_until=now + seconds))
            case AttendantCallClear():
                return Plan((), replace(self, attendant_call=False))
        raise CannotError(f"this player cannot {action.name}")


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps to take, and what the seat is like once they were taken.

    Only the first may fail, so that a plan that fails has changed nothing.
    """

    steps: tuple[Step, ...]
    after: Seat
