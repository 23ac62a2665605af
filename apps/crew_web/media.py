"""The calls of the page to pa_audio, vlc_stream and content_sync."""

from __future__ import annotations

from urllib.parse import quote

from apps.common.announcements import (
    MusicRequest,
    PaView,
    PramRequest,
    PramView,
    QueuedView,
    RecordingsView,
)
from apps.common.calls import Client
from apps.common.channels import (
    ChannelControl,
    ChannelsView,
    ChannelView,
    ImposeAnswer,
    ImposedControl,
    ImposedView,
    ImposeRequest,
    View,
)
from apps.common.content import ContentState
from apps.common.screens import ScreensOrder, ScreensView


class _Done(View):
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

    def switch_music(self, crew: str, request: MusicRequest) -> None:
        """Let boarding music play there, or no longer."""
        self.ask(_Done, "POST", "/api/v1/music", crew, request)

    def announcements(self, crew: str) -> RecordingsView:
        """The recorded announcements."""
        return self.ask(RecordingsView, "GET", "/api/v1/announcements", crew)


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


class ContentSync(Client):
    """content_sync's API. Each call raises UnavailableError or RefusedError.

    How content is comes by the bus.
    """

    def import_disk(self, crew: str, port: str) -> None:
        """Import a disk that waits for the crew's word, or try it once more."""
        path = f"/api/v1/disks/{quote(port, safe='')}/import"
        self.ask(ContentState, "POST", path, crew)

    def roll_back(self, crew: str) -> None:
        """Put the former set in force."""
        self.ask(ContentState, "POST", "/api/v1/content/rollback", crew)


class GateOrder(View):
    """What a bench's gate is to do."""

    open: bool


class DemoGate(Client):
    """The gate of a bench. Each call raises UnavailableError or RefusedError."""

    def set(self, crew: str, order: GateOrder) -> None:
        """Open or close it."""
        self.ask(_Done, "PUT", "/gate", crew, order)
