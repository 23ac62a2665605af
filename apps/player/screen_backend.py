"""The media backend that really plays: libvlc, in a child that is watched."""

from __future__ import annotations

import asyncio
import logging
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from apps.player.channel_list import ChannelList
from apps.player.children import Child
from apps.player.media import Ended, Failed, MediaError, MediaEvent, Stalled
from apps.player.screen_messages import (
    HOLD_EVERY,
    MAX_MESSAGE,
    NEWS,
    REPORT_EVERY,
    Expect,
    Hold,
    Hung,
    Impose,
    Languages,
    Order,
    Pause,
    Play,
    Resume,
    Running,
    Still,
    StillMade,
    Stop,
    Text,
    Volume,
)
from apps.player.screen_messages import Ended as TitleEnded
from apps.player.screen_messages import Failed as TitleFailed
from apps.player.stall import Ends, StallWatch

log = logging.getLogger(__name__)

STILL_TIMEOUT = 2.0

MAX_STILL = 4 * 1024 * 1024


class ScreenBackend:
    """See `MediaBackend`.

    A child that hangs, or whose picture stands still, is killed, and the next is told all anew: it
    goes on where the last one was.

    Args:
        media_url: where titles are, each under its id.
        channels: an id that it knows is a channel's.
        pa: where the PA child's reports come in, for the child to read.
    """

    def __init__(self, media_url: str, channels: ChannelList, pa: socket.socket | None) -> None:
        self._media_url = media_url
        self._channels = channels
        self._pa = pa
        self._on_event: Callable[[MediaEvent], None] = lambda _: None
        self._watch = StallWatch()
        self._ends = Ends()
        self._reported = False
        """The child got so far that what ends it is what it plays."""
        self._told_trouble: str | None = None
        self._child = Child("apps.player.screen", self._arguments, self._started)
        self._ours: socket.socket | None = None
        self._theirs: socket.socket | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        """The child's own. It is made here, since a child that is killed cannot remove it."""
        self._timer: asyncio.TimerHandle | None = None
        self._still: asyncio.Future[bool] | None = None

        # What the child is to know.
        self._title: Play | None = None
        self._paused = False
        self._position: float | None = None
        self._expect = Expect(urls=channels.imposed)
        self._imposed: str | None = None
        self._impose = Impose(url=None)
        self._volume = Volume(volume=0)
        self._languages: Languages | None = None
        self._text = Text(text=None)
        self._held = False
        self._hold_at = 0.0

    # -- as a MediaBackend -------------------------------------------------------------------

    def start(self, on_event: Callable[[MediaEvent], None]) -> None:
        """Start the child."""
        self._on_event = on_event
        self._child.start()
        self._tick()

    async def close(self) -> None:
        """End it."""
        if self._timer is not None:
            self._timer.cancel()
        await self._child.close()
        self._disconnect()

    def play(self, media: str, position: float) -> None:
        """A channel, if there is one of that id; else a title."""
        channel = self._channels.url(media)
        url = f"{self._media_url}/{media}" if channel is None else channel
        self._title = Play(url=url, live=channel is not None, position=position)
        self._paused = False
        self._ends.forget()
        self._position = None if self._title.live else position
        self._send(self._title)

    def pause(self) -> None:
        """Hold the title."""
        if self._title is not None and self._title.live:
            raise MediaError("a channel cannot be paused")
        self._paused = True
        self._send(Pause())

    def resume(self) -> None:
        """Go on."""
        self._paused = False
        self._send(Resume())

    def stop(self) -> None:
        """End it."""
        self._title = self._position = None
        self._send(Stop())

    def position(self) -> float | None:
        """As the child said last."""
        return self._position

    def set_volume(self, volume: int) -> None:
        """Of entertainment."""
        self._volume = Volume(volume=volume)
        self._send(self._volume)

    def show_text(self, text: str | None) -> None:
        """Over the picture."""
        self._text = Text(text=text)
        self._send(self._text)

    def impose(self, channel: str | None) -> None:
        """In place of the title."""
        url = None if channel is None else self._channels.url(channel)
        # A seat that is new may hear of a video before it hears where that is.
        if channel is not None and url is None and self._channels.is_of_now:
            raise MediaError(f"no channel {channel}")
        self._imposed = channel
        self._impose = Impose(url=url)
        self._send(self._impose)

    def hold(self, held: bool) -> None:
        """Told again and again while it lasts."""
        self._held = held
        self._send_hold()

    def choose_languages(self, audio: str | None, subtitles: str | None) -> None:
        """For this title and those to come."""
        self._languages = Languages(audio=audio, subtitles=subtitles)
        self._send(self._languages)

    # -- besides -----------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """Of the child, while one runs."""
        return self._child.pid

    async def still(self) -> bytes | None:
        """What is on the screen, as PNG; None: nothing, or it is not to be had."""
        if self._still is not None or self._ours is None:
            return None
        self._still = asyncio.get_running_loop().create_future()
        try:
            with tempfile.TemporaryDirectory(prefix="ife-still-") as folder:
                path = Path(folder) / "still.png"
                self._send(Still(path=str(path)))
                async with asyncio.timeout(STILL_TIMEOUT):
                    made = await self._still
                return path.read_bytes()[:MAX_STILL] if made else None
        except OSError:  # TimeoutError is one
            return None
        finally:
            self._still = None

    # -- the child ---------------------------------------------------------------------------

    def _arguments(self) -> tuple[list[str], list[int]]:
        self._disconnect()
        self._ours, self._theirs = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
        )
        self._folder = tempfile.TemporaryDirectory(prefix="ife-screen-", ignore_cleanup_errors=True)
        arguments = ["--agent", str(self._theirs.fileno()), "--folder", self._folder.name]
        descriptors = [self._theirs.fileno()]
        if self._pa is not None:
            arguments += ["--pa", str(self._pa.fileno())]
            descriptors.append(self._pa.fileno())
        return arguments, descriptors

    def _disconnect(self) -> None:
        if self._ours is not None:
            asyncio.get_running_loop().remove_reader(self._ours)
            self._ours.close()
            self._ours = None
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _started(self) -> None:
        """Tell a new child all that it is to know."""
        if self._ours is None or self._theirs is None:
            raise RuntimeError("a child without a socket")
        self._theirs.close()
        self._theirs = None
        asyncio.get_running_loop().add_reader(self._ours, self._hear, self._ours)
        self._watch.started(time.monotonic())
        self._reported = False
        self._send_hold()
        for order in (self._volume, self._languages, self._text, self._expect, self._impose):
            if order is not None:
                self._send(order)
        if self._title is not None:
            again = {"position": self._position or 0.0, "paused": self._paused, "again": True}
            self._send(self._title.model_copy(update=again))

    def _send_hold(self) -> None:
        self._hold_at = time.monotonic() + HOLD_EVERY
        self._send(Hold(on=self._held))

    def _send(self, order: Order) -> None:
        if self._ours is None:
            return
        try:
            self._ours.send(order.model_dump_json().encode())
        except OSError as error:
            # It hangs, so it will be killed, or it just ended; the next one is told all.
            log.debug("an order did not reach the screen", extra={"error": str(error)})

    def _hear(self, ours: socket.socket) -> None:
        try:
            text = ours.recv(MAX_MESSAGE)
            if not text:
                asyncio.get_running_loop().remove_reader(ours)
                self._ended()
                return
            news = NEWS.validate_json(text)
        except (BlockingIOError, ConnectionResetError):
            # The latter: it ended with an order that it had not read. What it said comes now.
            return
        except (OSError, ValidationError) as error:
            log.warning("the screen is not understood", extra={"error": str(error)})
            self._kill(ours)
            return
        match news:
            case Running():
                self._running(news)
            case TitleEnded():
                self._title = self._position = None
                self._on_event(Ended())
            case TitleFailed(reason=reason):
                self._fail(reason)
            case Hung():
                self._watch.hung()
                self._kill(ours)
            case StillMade(made=made):
                if self._still is not None and not self._still.done():
                    self._still.set_result(made)

    def _ended(self) -> None:
        """The child has ended by itself."""
        titles = self._title is not None and self._impose.url is None and self._reported
        if titles and self._ends.are_too_many(time.monotonic()):
            self._fail("the screen ended again and again")

    def _fail(self, reason: str) -> None:
        self._title = self._position = None
        self._on_event(Failed(reason))

    def _kill(self, ours: socket.socket) -> None:
        # Its end is not the title's doing.
        asyncio.get_running_loop().remove_reader(ours)
        self._child.kill()

    def _running(self, news: Running) -> None:
        self._reported = True
        if self._title is not None and not self._title.live and news.position is not None:
            self._position = news.position
        self._watch.running(news, time.monotonic())

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(REPORT_EVERY, self._tick)
        now = time.monotonic()
        if self._held and self._hold_at <= now:
            self._send_hold()
        if self._channels.imposed != self._expect.urls:
            self._expect = Expect(urls=self._channels.imposed)
            self._send(self._expect)
        if self._imposed is not None and self._channels.url(self._imposed) != self._impose.url:
            self._impose = Impose(url=self._channels.url(self._imposed))
            self._send(self._impose)
        if self._watch.must_restart(now):
            log.warning("the screen is started anew", extra={"reason": self._watch.trouble})
            if self._ours is not None:
                self._kill(self._ours)
        if self._watch.trouble != self._told_trouble:
            self._told_trouble = self._watch.trouble
            self._on_event(Stalled(self._told_trouble))
