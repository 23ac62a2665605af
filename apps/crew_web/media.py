"""What the page asks of pa_audio and vlc_stream, and what it reads of their answers."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from apps.common.calls import Client
from apps.common.channels import ChannelsView, ChannelView, ImposedView
from apps.common.commands import Accepted, Selector
from apps.common.pa import PaState


class _Read(BaseModel):
    """Of an answer what the page shows; the rest is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Sent(BaseModel):
    """A request. Whoever takes it checks it."""

    model_config = ConfigDict(frozen=True)


# -- pa_audio ---------------------------------------------------------------------------------


class QueuedView(_Read):
    """A message that waits; the first is being played, or interrupted."""

    id: int
    message: str
    languages: tuple[str, ...]
    areas: tuple[str, ...]
    seconds: float


class PaView(_Read):
    """Who speaks, how loud (dB of full scale), where music plays, and what waits."""

    state: PaState
    level: float
    music: tuple[str, ...]
    queue: tuple[QueuedView, ...]


class MessageView(_Read):
    """A message that can be played: its titles by language."""

    titles: dict[str, str]


class PramView(_Read):
    """The messages by their ids. `trouble`: why there are none."""

    messages: dict[str, MessageView]
    trouble: str | None


class RecordingView(_Read):
    """A recorded announcement. `since` is PA time, ms; `seconds` is how long it is."""

    number: int
    since: int
    source: str
    areas: tuple[str, ...]
    seconds: float


class RecordingsView(_Read):
    """All that are kept, the newest first."""

    announcements: tuple[RecordingView, ...]


class PramRequest(_Sent):
    """A message to be played. No languages: all that it has. No areas: all of them."""

    message: str
    languages: tuple[str, ...] = ()
    areas: tuple[str, ...] = ()


class MusicRequest(_Sent):
    """Where boarding music is to play."""

    areas: tuple[str, ...]


class _Done(_Read):
    """An answer that says no more than that it is done."""


class PaAudio(Client):
    """pa_audio's API. Each call raises UnavailableError or RefusedError."""

    def pa(self, crew: str) -> PaView:
        """Who speaks, and what waits."""
        return self.ask(PaView, "GET", "/api/v1/pa", crew)

    def messages(self, crew: str) -> PramView:
        """The messages that can be played."""
        return self.ask(PramView, "GET", "/api/v1/pram", crew)

    def play(self, crew: str, request: PramRequest) -> QueuedView:
        """Let a message wait for its turn."""
        return self.ask(QueuedView, "POST", "/api/v1/pram", crew, request)

    def remove(self, crew: str, ident: int) -> None:
        """Stop one message, be it playing or waiting."""
        self.ask(_Done, "DELETE", f"/api/v1/pram/{ident}", crew)

    def clear(self, crew: str) -> None:
        """Stop all messages."""
        self.ask(_Done, "DELETE", "/api/v1/pram", crew)

    def play_music(self, crew: str, request: MusicRequest) -> None:
        """Let boarding music play there, and nowhere else."""
        self.ask(_Done, "PUT", "/api/v1/music", crew, request)

    def stop_music(self, crew: str) -> None:
        """End it."""
        self.ask(_Done, "DELETE", "/api/v1/music", crew)

    def announcements(self, crew: str) -> RecordingsView:
        """The recorded announcements."""
        return self.ask(RecordingsView, "GET", "/api/v1/announcements", crew)


# -- vlc_stream -------------------------------------------------------------------------------


class ChannelControl(_Sent):
    """`percent` of the file that plays goes with seek."""

    action: Literal["play", "pause", "stop", "seek"]
    percent: float | None = None


class ImposeRequest(_Sent):
    """Show an imposed video at some seats, and on the overhead screens."""

    channel: str
    language: str
    selector: Selector | None
    screens: bool


class ImposeAnswer(_Read):
    """The video runs. `command` is how the seats were told; None: not, or not yet."""

    video: ImposedView
    command: Accepted | None


class ImposedControl(_Sent):
    """For an imposed video that is on."""

    action: Literal["pause", "resume", "stop"]


class ScreensOrder(_Sent):
    """What some screens, or all, are to be; what is left out stays."""

    screens: tuple[str, ...] | None = None
    deployed: bool | None = None
    power: bool | None = None
    input: str | None = None


class ScreenView(_Read):
    """A screen as it said last; None is what it cannot tell. `trouble`: why it does not answer."""

    id: str
    label: str
    deployed: bool | None = None
    power: bool | None = None
    input: str | None = None
    trouble: str | None = None


class ScreensView(_Read):
    """`locked`: stowed for as long as the cabin is decompressed."""

    locked: bool
    screens: tuple[ScreenView, ...]


class VlcStream(Client):
    """vlc_stream's API. Each call raises UnavailableError or RefusedError."""

    def channels(self) -> ChannelsView:
        """All channels and imposed videos."""
        return self.ask(ChannelsView, "GET", "/api/v1/channels", None)

    def control(self, crew: str, channel: str, control: ChannelControl) -> ChannelView:
        """Play, pause, stop or seek a channel."""
        path = f"/api/v1/channels/{quote(channel, safe='')}/control"
        return self.ask(ChannelView, "POST", path, crew, control)

    def impose(self, crew: str, request: ImposeRequest) -> ImposeAnswer:
        """Show an imposed video."""
        return self.ask(ImposeAnswer, "POST", "/api/v1/imposed", crew, request)

    def control_imposed(self, crew: str, video: str, control: ImposedControl) -> ImposedView:
        """Pause, resume or stop an imposed video."""
        path = f"/api/v1/imposed/{quote(video, safe='')}/control"
        return self.ask(ImposedView, "POST", path, crew, control)

    def screens(self, crew: str) -> ScreensView:
        """All overhead screens."""
        return self.ask(ScreensView, "GET", "/api/v1/screens", crew)

    def order_screens(self, crew: str, order: ScreensOrder) -> ScreensView:
        """Deploy, stow or switch screens; how they were when this was said."""
        return self.ask(ScreensView, "POST", "/api/v1/screens", crew, order)
