"""The seat's screen: ``python -m apps.player.screen``, a child of the agent that holds libvlc.

It obeys the agent (`apps.player.screen_messages`) and, first of all, the PA child
(`apps.player.pa_report`), which reaches it without the agent. libvlc may hang in any call, so it
has this process for itself: whoever hears nothing of it kills it and starts another. A film must
not be heard over a PA for as long: a thread that calls nothing of libvlc sees to that.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import vlc
from pydantic import ValidationError

from apps.common import log as logs
from apps.common.lifeline import die_with
from apps.common.settings import SettingsError
from apps.player import card
from apps.player.pa_report import BELIEVED_FOR, MAX_REPORT, WHILE_ON, PaReport
from apps.player.screen_messages import (
    HOLD_FOR,
    MAX_MESSAGE,
    ORDERS,
    REPORT_EVERY,
    Ended,
    Expect,
    Failed,
    Hold,
    Hung,
    Impose,
    Languages,
    News,
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
from apps.player.settings import ScreenSettings
from apps.player.standby import Standby
from apps.player.window import Display, Window

log = logging.getLogger(__name__)

LIVE_CACHING, TITLE_CACHING = 200, 500
"""Milliseconds that libvlc buffers of a channel and of a title."""

SENDER_GONE_AFTER = 1
"""Seconds of silence after which libvlc listens to another sender of a channel; it has 5."""

RETRY = 1.0
"""Seconds before what broke off is opened again."""

BROKE_OFF = 3.0
"""Seconds before its end at which a title that stops has broken off."""

CLOCK_WITHIN = 5.0
"""Seconds within which libvlc's time goes on at least once, where a stream's clock comes."""

STILL_WIDTH = 640

SETTLE = 1.5 * WHILE_ON
"""Seconds after the start in which nothing is opened: in that time a PA that is on makes itself
known, and nothing is to be heard over it."""

CARD_FOR = 0.5
"""Seconds that the announcement screen is there at least: told to stop a picture that it began to
show less than a quarter of a second ago, libvlc 3 hangs for six seconds."""

SILENT_WITHIN = 0.2
"""Seconds after the PA's begin in which entertainment falls silent, or this process ends. An end
that was not needed costs the passenger some seconds of a film; without it, what is announced."""

TEXT_SIZE = 28
"""Pixels, of a text over the picture."""


class Player:
    """One of libvlc's media players.

    It is asked for its state, and never heard by its events: what is called from those can lock up.
    """

    def __init__(self, instance: vlc.Instance, window: Window | None) -> None:
        self._instance = instance
        self._player = instance.media_player_new()
        self._window = window
        if window is not None:
            self._player.set_xwindow(window.number)
        self._stats = vlc.MediaStats()
        self._track: int | None = None
        self.is_open = False
        self.opens_at = -math.inf
        """Not before; after a failure some time passes."""
        self._live = False
        self._read = self._read_at = self._clock = 0
        self._clock_at = -math.inf
        """Bytes that came, and the time then, by libvlc's; the time now, and since when."""

    def open(self, url: str, *options: str, live: bool = False) -> None:
        """Begin to play."""
        media = self._instance.media_new(url, *options)
        self._player.set_media(media)
        if self._window is not None:
            self._window.show()
        self._player.play()
        self.is_open, self._live, self._track = True, live, None
        self._clock_at = -math.inf

    def close(self) -> None:
        """Stop."""
        if self.is_open:
            self._player.stop()
            if self._window is not None:
                self._window.hide()
            self.is_open = False

    def pause(self, paused: bool) -> None:
        """Hold the picture and the sound, or go on: exactly there."""
        if self.is_open:
            self._player.set_pause(paused)

    def silence(self, silent: bool) -> None:
        """Without sound at once, while the picture goes on.

        Muted alone, what waits in the sound device would still be heard; so the track goes too.
        """
        self._player.audio_set_mute(silent)
        if not self.is_open:
            return
        track = self._player.audio_get_track()
        if silent and track != -1:
            self._track = track
            self._player.audio_set_track(-1)
        elif not silent and track == -1 and self._track is not None:
            self._player.audio_set_track(self._track)
            self._track = None

    def set_volume(self, volume: int) -> None:
        """In percent."""
        self._player.audio_set_volume(volume)

    def set_text(self, text: str | None) -> None:
        """Over the picture."""
        option = vlc.VideoMarqueeOption
        self._player.video_set_marquee_string(option.Text, text or "")
        self._player.video_set_marquee_int(option.Size, TEXT_SIZE)
        self._player.video_set_marquee_int(option.Enable, int(text is not None))

    @property
    def has_ended(self) -> bool:
        """Whether it stopped by itself; what cannot be opened has, too."""
        return self._player.get_state() in {vlc.State.Ended, vlc.State.Error}

    @property
    def seconds(self) -> float:
        """Into the title; 0 before it began."""
        return float(max(0, self._player.get_time()) / 1000)

    @property
    def left(self) -> float:
        """Seconds to its end, where its length is known; else 0."""
        return float(max(0, self._player.get_length() - self._player.get_time()) / 1000)

    def shown(self) -> int:
        """Pictures that were shown; of media without video, pieces of sound."""
        media = self._player.get_media()
        if media is None:
            return 0
        if self._live:
            # libvlc 3 brings the figures of RTP up to date only when it is told something.
            self._player.video_set_spu_delay(0)
        media.get_stats(self._stats)
        media.release()
        if self._player.video_get_track_count() > 0 or not self._stats.decoded_audio:
            return int(self._stats.displayed_pictures)
        return int(self._stats.played_abuffers)

    def only_its_clock_comes(self, now: float) -> bool:
        """Whether whoever sends a live stream has paused it. To be asked after `shown`."""
        if (clock := self._player.get_time()) != self._clock:
            self._clock, self._clock_at = clock, now
        if self._stats.demux_read_bytes != self._read:
            self._read, self._read_at = self._stats.demux_read_bytes, clock
        return clock > self._read_at and now - self._clock_at < CLOCK_WITHIN

    def still(self, path: str) -> bool:
        """A picture into a file, as PNG; whether there was one."""
        return bool(self._player.video_take_snapshot(0, path, STILL_WIDTH, 0) == 0)


def instance_of(settings: ScreenSettings, output: str) -> vlc.Instance:
    """A libvlc whose pictures go to `output`, see `ScreenSettings.video_output`.

    Raises:
        SettingsError: it does not start.
    """
    kind, _, path = output.partition(":")
    video = {
        "window": ["--no-mouse-events", "--no-keyboard-events"],
        "dummy": ["--vout=vdummy"],
        "y4m": ["--vout=yuv", f"--yuv-file={path}", "--yuv-yuv4mpeg2"],
    }[kind]
    device = settings.audio_output.partition(":")[2]
    audio = ["--aout=alsa", f"--alsa-audio-device={device}"] if device else ["--aout=adummy"]
    instance = vlc.Instance(
        *("--quiet", "--no-video-title-show", "--no-lua", "--no-auto-preparse", "--no-osd"),
        *("--no-snapshot-preview", "--no-metadata-network-access", "--http-reconnect"),
        f"--miface={settings.multicast_interface}",
        *video,
        *audio,
    )
    if instance is None:
        raise SettingsError("libvlc does not start: are its plugins installed?")
    return instance


class Screen:
    """What is to be seen and heard, and libvlc made to match.

    The front is an announcement, else an imposed channel, else the title. What is behind it is
    paused, or silent where it cannot be paused, and stays open so that it goes on at once. Nothing
    is opened behind the front.

    Args:
        folder: for files of its own.
        tell: told of the title's end.
    """

    def __init__(
        self, settings: ScreenSettings, folder: Path, tell: Callable[[News], None]
    ) -> None:
        instance = beside = instance_of(settings, settings.video_output)
        if settings.video_output.startswith("y4m:"):
            # Into the file comes the title alone.
            beside = instance_of(settings, "dummy")
        self._tell = tell
        self._announcement_text = settings.announcement_text
        self._audio, self._subtitles = settings.audio_language, settings.subtitle_language
        display = Display() if settings.video_output == "window" else None
        self._title_player, self._imposed_player, self._card_player = (
            Player(one, None if display is None else display.window())
            for one in (instance, beside, beside)
        )
        self._players = (self._title_player, self._imposed_player)
        self._picture, self._words = folder / "card.png", folder / "card.ass"
        card.write_picture(self._picture)

        self._title: Play | None = None
        self._paused = False
        self._imposed: str | None = None
        self._standby = Standby(settings.multicast_interface, folder, self._begins_anew)
        self._text: str | None = None
        self._card: str | None = None
        self._card_until = -math.inf
        self._held_by_pa = self._held_by_agent = -math.inf
        """Until when."""
        self.silent = threading.Event()
        """Set while an announcement has the seat and nothing else is heard."""
        self._warm_up()
        self._begins = time.monotonic() + SETTLE

    def _warm_up(self) -> None:
        """Have libvlc load what it shows pictures with before it is needed: it takes a while."""
        self._card_player.open(str(self._picture), ":image-duration=-1")
        time.sleep(CARD_FOR)
        self._card_player.close()

    # -- what is told ------------------------------------------------------------------------

    def pa(self, report: PaReport, now: float) -> None:
        """The PA child reports."""
        self._held_by_pa = now + BELIEVED_FOR if report.on else -math.inf
        self.apply(now)

    def obey(self, order: Order, now: float) -> None:
        """The agent has an order."""
        match order:
            case Play() | Pause() | Resume() | Stop():
                self._obey_title(order)
            case Impose() | Expect():
                self._obey_imposed(order)
            case _:
                self._obey(order, now)
        self.apply(now)

    def _obey(self, order: Languages | Volume | Text | Hold | Still, now: float) -> None:
        match order:
            case Languages(audio=audio, subtitles=subtitles):
                self._audio, self._subtitles = audio, subtitles
                self._reopen()
            case Volume(volume=volume):
                for player in self._players:
                    player.set_volume(volume)
            case Text(text=text):
                self._text = text
                for player in self._players:
                    player.set_text(text)
            case Hold(on=on):
                self._held_by_agent = now + HOLD_FOR if on else -math.inf
            case Still(path=path):
                self._tell(StillMade(made=self._front().still(path)))

    def _obey_imposed(self, order: Impose | Expect) -> None:
        match order:
            case Impose(url=url):
                if url != self._imposed:
                    self._close_imposed()
                self._imposed = url
            case Expect(urls=urls):
                self._standby.expect(urls)

    def _obey_title(self, order: Play | Pause | Resume | Stop) -> None:
        match order:
            case Play():
                self._title_player.close()
                self._title_player.opens_at = -math.inf
                self._title, self._paused = order, order.paused
            case Pause() | Resume():
                self._paused = isinstance(order, Pause)
            case Stop():
                self._title_player.close()
                self._title = None

    def _reopen(self) -> None:
        """So that libvlc chooses the tracks anew."""
        if self._title is not None and self._title_player.is_open and not self._title.live:
            position = self._title_player.seconds
            self._title_player.close()
            self._title = self._title.model_copy(update={"position": position})

    # -- what follows ------------------------------------------------------------------------

    def apply(self, now: float) -> None:
        """Make libvlc match."""
        held = self._held(now)
        self._fall_silent(held)
        if now < self._begins:
            return
        if held:
            self._show_card(self._announcement_text, now)
            return
        if self._imposed is None:
            self._go_on(now)
        else:
            imposed = self._imposed_player
            if not imposed.is_open and imposed.opens_at <= now:
                self._open_imposed(self._imposed, now)
            imposed.silence(False)
        if self._text is not None:
            # A text can be shown only where there is a picture by now.
            for player in self._players:
                player.set_text(self._text)
        nothing = self._title is None and self._imposed is None
        self._show_card(self._text if nothing else None, now)

    def _fall_silent(self, held: bool) -> None:
        """First of all."""
        if not held:
            self.silent.clear()
        if held or self._imposed is not None:
            self._put_aside(drop=self._imposed is not None and not held)
        if held:
            if self._imposed_player.is_open:
                self._imposed_player.silence(True)
            self.silent.set()

    def _held(self, now: float) -> bool:
        return now < max(self._held_by_pa, self._held_by_agent)

    def _put_aside(self, drop: bool) -> None:
        """Take the title from the front; `drop`: a channel is not kept open."""
        if self._title is None:
            return
        if not self._title.live:
            self._title_player.pause(True)
        elif drop:
            self._title_player.close()
        else:
            self._title_player.silence(True)

    def _go_on(self, now: float) -> None:
        """The title is in front."""
        play, player = self._title, self._title_player
        if play is None:
            return
        if not player.is_open:
            if now < player.opens_at:
                return
            if play.live:
                # A sender that was started anew has another SSRC, which libvlc takes no sooner.
                options = [f":rtp-timeout={SENDER_GONE_AFTER}"]
            else:
                options = [f":start-time={play.position:.3f}"]
                options += [":start-paused"] * self._paused
            self._open(player, play.url, *options, live=play.live)
        # A title, too: the channel that was here before it may have been silenced.
        player.silence(False)
        if not play.live:
            player.pause(self._paused)

    def _open_imposed(self, url: str, now: float) -> None:
        try:
            path = self._standby.open(url, now)
        except OSError as error:
            log.warning("an imposed video cannot be opened", extra={"error": str(error)})
            self._imposed_player.opens_at = now + RETRY
        else:
            self._open(self._imposed_player, path, ":demux=ts", live=True)

    def _close_imposed(self) -> None:
        if self._imposed is not None and self._imposed_player.is_open:
            self._imposed_player.close()
            self._standby.release(self._imposed)

    def _begins_anew(self, url: str) -> None:
        if url == self._imposed:
            self._imposed_player.close()
            self.apply(time.monotonic())

    def _open(self, player: Player, url: str, *options: str, live: bool) -> None:
        caching = LIVE_CACHING if live else TITLE_CACHING
        languages = [f":audio-language={self._audio}"] * (self._audio is not None)
        if self._subtitles is None:
            languages.append(":no-spu")
        else:
            languages.append(f":sub-language={self._subtitles}")
        buffer = [f":{access}-caching={caching}" for access in ("network", "file")]
        player.open(url, *buffer, *languages, *options, live=live)

    def _show_card(self, text: str | None, now: float) -> None:
        """The announcement screen, or a text for which there is no other picture."""
        if text == self._card or now < self._card_until:
            return
        self._card = text
        self._card_player.close()
        if text is not None:
            self._card_until = now + CARD_FOR
            card.write_text(self._words, text)
            self._card_player.open(
                str(self._picture),
                *(":image-duration=-1", f":sub-file={self._words}", ":file-caching=0"),
            )

    # -- what is seen ------------------------------------------------------------------------

    def _front(self) -> Player:
        if self._card is not None:
            return self._card_player
        return self._title_player if self._imposed is None else self._imposed_player

    def look(self, now: float) -> Running:
        """How it goes; the agent hears of a title that ended."""
        self._standby.renew(now)
        self._see_ends(now)
        self.apply(now)
        front = self._front()
        shown = front.shown()
        if front is self._title_player:
            moving = self._title is not None and not self._paused
        else:
            moving = front is self._imposed_player and not front.only_its_clock_comes(now)
        return Running(position=self._position(), shown=shown, moving=moving)

    def _position(self) -> float | None:
        if self._title is None or self._title.live:
            return None
        return self._title_player.seconds or self._title.position

    def _see_ends(self, now: float) -> None:
        imposed = self._imposed_player
        if imposed.is_open and imposed.has_ended:
            self._close_imposed()
            imposed.opens_at = now + RETRY
        title, player = self._title, self._title_player
        if title is None or not player.is_open or not player.has_ended:
            return
        began, left, position = player.shown() > 0, player.left, self._position()
        player.close()
        if began and not title.live and left < BROKE_OFF:
            self._title = None
            self._tell(Ended())
        elif began or title.live or title.again:
            self._title = title.model_copy(update={"position": position or 0.0, "again": True})
            player.opens_at = now + RETRY
        else:
            self._title = None
            self._tell(Failed(reason="cannot be played"))


class ScreenChild:
    """The screen, its sockets, and the time.

    Args:
        agent: the agent's end is the other.
        pa: where the PA child's reports come in; None: from nowhere.
    """

    def __init__(
        self, settings: ScreenSettings, folder: Path, agent: socket.socket, pa: socket.socket | None
    ) -> None:
        self._agent = agent
        self._pa = pa
        self._screen = Screen(settings, folder, self._tell)
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Until the agent closes its end."""
        loop = asyncio.get_running_loop()
        self._agent.setblocking(False)
        if self._pa is not None:
            self._pa.setblocking(False)
            self._drain(self._pa)
            self._pa.setblocking(True)
            heard = threading.Thread(target=self._hear_pa, args=(self._pa, loop), daemon=True)
            heard.start()
        loop.add_reader(self._agent, self._hear_agent)
        while not self._over.is_set():
            self._tell(self._screen.look(time.monotonic()))
            try:
                async with asyncio.timeout(REPORT_EVERY):
                    await self._over.wait()
            except TimeoutError:
                continue

    def _drain(self, pa: socket.socket) -> None:
        """What was said before this process was there no longer holds."""
        try:
            while True:
                pa.recv(MAX_REPORT)
        except OSError:
            return

    def _hear_pa(self, pa: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread: the main one may hang in libvlc, whose own go on to play until all end."""
        while True:
            try:
                report = PaReport.model_validate_json(pa.recv(MAX_REPORT))
            except (OSError, ValidationError) as error:
                log.warning("a report of the PA is not understood", extra={"error": str(error)})
                continue
            loop.call_soon_threadsafe(self._screen.pa, report, time.monotonic())
            if report.on and not self._screen.silent.wait(SILENT_WITHIN):
                with contextlib.suppress(OSError):
                    self._agent.send(Hung().model_dump_json().encode())
                os._exit(1)

    def _hear_agent(self) -> None:
        try:
            text = self._agent.recv(MAX_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            text = b""
        if not text:
            self._over.set()
            return
        try:
            order = ORDERS.validate_json(text)
        except ValidationError as error:
            log.warning("an order is not understood", extra={"error": str(error)})
        else:
            self._screen.obey(order, time.monotonic())

    def _tell(self, news: News) -> None:
        try:
            self._agent.send(news.model_dump_json().encode())
        except BlockingIOError:
            log.debug("the agent does not listen")
        except OSError:
            self._over.set()


def _be_ended_first() -> None:
    """Where memory is short, have the kernel end this process before the agent and the PA's child.

    Raises:
        OSError: it refuses.
    """
    # The most that proc(5) knows.
    Path("/proc/self/oom_score_adj").write_text("1000")


def main() -> None:
    """Read the settings, then run."""
    parser = argparse.ArgumentParser(prog="python -m apps.player.screen", description=__doc__)
    parser.add_argument("--parent", type=int, required=True, help="process that started this one")
    parser.add_argument("--agent", type=int, required=True, help="socket, by descriptor")
    parser.add_argument("--folder", type=Path, required=True, help="for files of its own")
    parser.add_argument("--pa", type=int, help="socket with the PA child's reports")
    options = parser.parse_args()
    die_with(options.parent)
    _be_ended_first()
    try:
        settings = ScreenSettings.load()
        logs.setup(settings.log_level)
        agent = socket.socket(fileno=options.agent)
        pa = None if options.pa is None else socket.socket(fileno=options.pa)
        asyncio.run(ScreenChild(settings, options.folder, agent, pa).run())
    except SettingsError as error:
        sys.exit(f"player: screen: {error}")


if __name__ == "__main__":
    main()
