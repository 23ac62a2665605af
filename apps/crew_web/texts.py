"""What the page says of actions, parts and refusals, in the language of the request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.numbers import format_decimal
from flask import g

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
    Reset,
    Resume,
    Seats,
    Selector,
    SetBrightness,
    SetVolume,
    ShowMessage,
)
from apps.common.content import DiskView, Freshness, GateView
from apps.common.health import Degraded
from apps.common.layout import Layout

NAMED_SEATS = 8
"""Seats that are named one by one before the rest is a number."""


def gettext(text: str) -> str:
    """The translation of an English text of ours."""
    translated: str = g.language.translations.gettext(text)
    return translated


_ = gettext

_QUOTES = str.maketrans(dict.fromkeys("“”„«»", '"'))


def quoted(text: str) -> str:
    """What a seat or a person wrote, in quotes which nothing in it can end.

    So it cannot be taken for the page's own words.
    """
    return _("“{text}”").format(text=text.translate(_QUOTES))


def action(what: Action) -> str:  # noqa: C901 - one line for each action
    """What an action does, in a few words."""
    match what:
        case Reset():
            return _("Reset")
        case Power():
            return _("Power on") if what.on else _("Power off")
        case LockScreen():
            return _("Lock") if what.locked else _("Unlock")
        case Mute():
            return _("Mute") if what.muted else _("Unmute")
        case SetVolume():
            return _("Volume {percent} %").format(percent=what.volume)
        case LimitVolume():
            return _("Volume limit {percent} %").format(percent=what.limit)
        case SetBrightness():
            return _("Brightness {percent} %").format(percent=what.brightness)
        case Pause():
            return _("Pause")
        case Resume():
            return _("Resume")
        case Play():
            return _("Play {title}").format(title=quoted(what.media))
        case ShowMessage():
            return _("Message {text}").format(text=quoted(what.text))
        case AttendantCallClear():
            return _("Clear call")
        case ReadingLight():
            return _("Light on") if what.on else _("Light off")
        case Identify():
            return _("Identify")
        case Impose():
            if what.channel is None:
                return _("Back to entertainment")
            return _("Show {title}").format(title=quoted(what.channel))
    raise TypeError(f"no words for {what.name}")


def consequence(what: Action) -> str:
    """What a destructive action does to the passengers."""
    if isinstance(what, Reset):
        return _("Entertainment stops and the players restart. This takes about a minute.")
    return _("Screens and entertainment go off until the crew switch them on again.")


def state(look: str) -> str:
    """A seat's presence or state, in a word."""
    words = {
        "playing": _("playing"),
        "paused": _("paused"),
        "idle": _("idle"),
        "announcement": _("announcement"),
        "booting": _("starting"),
        "off": _("off"),
        "waiting": _("not heard of yet"),
        "fault": _("fault"),
        "lost": _("lost"),
    }
    return words.get(look, look)


def part(name: str) -> str:
    """What it means for the crew that a part is away."""
    return _parts().get(name, name)


def known_parts(degraded: Iterable[Degraded]) -> list[Degraded]:
    """Those parts of other apps that the crew can do something about, and all of the page's own.

    Content is none of them: what is on board plays on without it, and its own view tells.
    """
    others = ("pa_audio ", "vlc_stream ", "content_sync")
    return [part for part in degraded if part.part in _parts() or not part.part.startswith(others)]


def _parts() -> dict[str, str]:
    return {
        "seat_control": _("Seat control does not answer: no commands can be sent now."),
        "redis": _("Live data service away: commands work, the PA state is not known."),
        "audit log": _("Audit log away: commands work, the record is kept and written later."),
        "journal": _(
            "Seat control cannot write to its disk: commands work, a restart would forget them."
        ),
        "multicast": _("Multicast silent: commands arrive a second later than usual."),
        "sessions": _("Log-ins cannot be stored: whoever is logged in can go on working."),
        "pa_audio": _("The PA does not answer: announcements may not be heard at the seats."),
        "pa_audio multicast": _("The PA cannot send: announcements may not be heard at the seats."),
        "pa_audio self-test": _("The PA does not hear itself: check that announcements arrive."),
        "pa_audio keylines": _("The PA hears of no handset: pressing to talk may open nothing."),
        "pa_audio pilot input": _("The pilots' microphone is away: they are not heard."),
        "pa_audio crew input": _("The crew's handset is away: it is not heard."),
        "vlc_stream": _("Video does not answer: channels and imposed video cannot be changed."),
        "vlc_stream interface": _("Video cannot send: channels and imposed video are not seen."),
    }


def refusal(slug: str) -> str:
    """Why seat control refused, and what to do."""
    words = {
        "not-armed": _("It was not armed, or too late. Begin again."),
        "unknown-selection": _("The map does not fit seat control's layout. Reload the page."),
        "empty-selection": _("No seat is selected."),
        "too-large-for-multicast": _("It is too long: shorten the text, or select fewer seats."),
        "too-many-commands": _(
            "That was too much at once. Nothing was sent: try again in a moment."
        ),
        "unknown-command": _("It is too old: its report is in the audit log only."),
    }
    return words.get(slug, _("Seat control refused it."))


def media_refusal(slug: str) -> str:
    """Why the PA or video refused, and what to do."""
    words = {
        "queue-full": _("Too many messages wait already: stop some first."),
        "not-queued": _("That message is over already."),
        "cannot-play": _("That message cannot be played."),
        "no-such-channel": _("There is no such channel any more, or it has no place to go to."),
        "no-such-video": _("There is no such video."),
        "no-such-language": _("That video is not there in this language."),
        "not-playable": _("That video cannot be played: its file is missing or broken."),
        "not-on": _("That video is over already."),
        "live": _("A live channel has no place to go to."),
        "pa-decompression": _("In a decompression neither messages nor music are played."),
        "decompression": _("The screens stay stowed in a decompression."),
    }
    return words.get(slug, _("It was refused. Reload the page and try again."))


def content_refusal(slug: str) -> str:
    """Why content_sync refused, and what to do."""
    words = {
        "no-disk": _("There is no disk to load in that port any more."),
        "under-way": _("That disk is being loaded already."),
        "no-former-set": _("There is no former content to go back to."),
        "another-set": _("The content has changed meanwhile: look again before you go back."),
        "busy": _("Too much is waiting already: try again when it is done."),
        "disk": _("The server's disk refuses it. Tell maintenance."),
    }
    return words.get(slug, _("It was refused. Reload the page and try again."))


def locked_out(seconds: float) -> str:
    """That somebody has to wait after wrong PINs."""
    return _("Too many wrong PINs. Wait {time}.").format(time=clock(seconds + 1))


def disk_state(disk: DiskView) -> str:
    """How far a disk is, in a word or two."""
    if disk.state == "waits":
        return _("ready to load") if disk.safe_to_remove else _("being looked at")
    words = {
        "queued": _("waits for its turn"),
        "importing": _("is being loaded"),
        "done": _("loaded"),
        "refused": _("not accepted"),
        "failed": _("not loaded to the end"),
    }
    return words.get(disk.state, disk.state)


def disk_advice(disk: DiskView) -> str:
    """What to do with a disk that is not simply being loaded."""
    words = {
        "waits": _("Press Load to bring it on board."),
        "done": _("You can take it out."),
        "refused": _("Nothing of it was loaded. Take it out, and ask the ground for another one."),
        "failed": _("What was good is kept. Take it out, and ask the ground for another one."),
    }
    if disk.state == "failed" and disk.tried_again:
        return _(
            "What was good is kept. Leave it in: it is tried again by itself. "
            "If that does not help, ask the ground for another one."
        )
    if disk.state == "waits" and not disk.safe_to_remove:
        return ""
    return words.get(disk.state, "")


def content_now(word: str | None, percent: int | None) -> str:
    """How content is, in as few words as a tab holds; `word` is from `onboard.headline`."""
    if word == "importing" and percent is not None:
        return _("Loading {percent} %").format(percent=percent)
    words = {
        "importing": _("Disk is loading"),
        "refused": _("Disk not accepted"),
        "failed": _("Disk not loaded"),
        "queued": _("A disk waits"),
        "kept-out": _("Device kept out"),
        "gate": _("Gate is loading"),
        "waits": _("A disk is in"),
        "done": _("Disk may go"),
        "fresh": _("up to date"),
        "expired": _("expired, plays on"),
        "none": _("none on board yet"),
    }
    return words.get(word or "", _("not known"))


def freshness(what: Freshness) -> str:
    """How good the content in force is."""
    day = date(what.until) if what.until else ""
    words = {
        "fresh": _("Good until {day}.").format(day=day),
        "expired": _(
            "Expired since {day}. It plays on: load a newer disk, or go to a gate."
        ).format(day=day),
        "none": _("There is no content on board yet: load a disk, or go to a gate."),
    }
    return words[what.state]


def gate_closed(why: str) -> str:
    """Why the gate is closed: the words of content_sync's `link.Gate`."""
    words = {
        "in flight": _("In flight."),
        "nobody tells whether there is weight on the wheels": _(
            "It is not known whether the aircraft is on the ground."
        ),
        "there is no link to the ground": _("There is no link to the ground."),
        "the ground has not given an address": _("The ground gives no address."),
        "there is no way to the Hangar": _("There is no way to the Hangar."),
        "the link has just come up": _("The link has just come up."),
    }
    return words.get(why, why)


def gate_plan(gate: GateView) -> str:
    """What comes by an open gate, in a sentence."""
    if not gate.bytes:
        return _("Nothing is missing.") if gate.title is None else ""
    if gate.bytes_fit >= gate.bytes:
        return _("All of it fits: {total}.").format(total=size(gate.bytes))
    return _("{fit} of {total} will fit.").format(fit=size(gate.bytes_fit), total=size(gate.bytes))


def date(moment: datetime) -> str:
    """A day, as the language of the request writes it."""
    return format_date(moment, format="medium", locale=_locale())


def size(count: float) -> str:
    """Bytes, in the unit that suits them."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{format_decimal(round(count), locale=_locale())} {unit}"
        count /= 1000
    return f"{format_decimal(round(count, 1), locale=_locale())} GB"


def time_left(seconds: float | None) -> str:
    """About how long something takes yet; empty where nobody knows."""
    if seconds is None:
        return ""
    if seconds < 60:
        return _("less than a minute left")
    minutes = round(seconds / 60)
    if minutes < 60:
        return _("about {minutes} min left").format(minutes=minutes)
    return _("about {hours} h {minutes} min left").format(hours=minutes // 60, minutes=minutes % 60)


def _locale() -> Locale:
    return Locale.parse(g.language.code, sep="-")


def media_unavailable(*, maybe_done: bool) -> str:
    """Why an order got no answer from the PA or video."""
    if maybe_done:
        return _(
            "There was no answer in time. It may or may not have been done: "
            "look before you try again."
        )
    return _("There is no answer. Nothing was done: try again in a moment.")


def source(name: str, *, short: bool = False) -> str:
    """Who speaks."""
    words = {
        "pilot": _("Pilot"),
        "crew": _("Crew") if short else _("Crew handset"),
        "pram": _("Message") if short else _("Recorded message"),
        "music": _("Music") if short else _("Boarding music"),
    }
    return words.get(name, name)


def areas(names: Iterable[str], layout: Layout) -> str:
    """Areas of the PA in a few words."""
    found = list(names)
    if set(found) >= set(layout.pa_areas):
        return _("Everywhere")
    return ", ".join(layout.pa_areas.get(name, name) for name in found)


def channel_state(name: str) -> str:
    """What a channel, or an imposed video, is doing."""
    words = {
        "playing": _("playing"),
        "paused": _("paused"),
        "stopped": _("stopped"),
        "off-air": _("off the air"),
        "starting": _("starting"),
        "silent": _("nothing is sent"),
        "idle": _("not on"),
    }
    return words.get(name, name)


def language(code: str) -> str:
    """A language's name, in the language of the request."""
    try:
        name = Locale.parse(code, sep="-").get_display_name(g.language.code)
    except (UnknownLocaleError, ValueError):
        return code
    return name[0].upper() + name[1:] if name else code


def in_language(names: Mapping[str, str]) -> str:
    """A name that is there in some languages, in that of the request if it is."""
    return names.get(g.language.code) or next(iter(names.values()), "")


def clock(seconds: float | None) -> str:
    """A length of time as a player shows it: 3:07, 1:02:45."""
    if seconds is None:
        return ""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02}"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def time_of_day(pa_time: int) -> str:
    """PA time (ms, near Unix time) as the clock shows it."""
    return f"{datetime.fromtimestamp(pa_time / 1000, UTC):%H:%M} Z"


def field_error(field: str) -> str:
    """What is wrong with a field of an action."""
    words = {
        "media": _("The id of a title has up to 64 letters, digits, dots or dashes."),
        "text": _("A message has 1 to 200 characters."),
        "seconds": _("A message shows for 1 to 60 seconds."),
    }
    return words.get(field, _("That is not an action. Reload the page."))


def unavailable(*, maybe_done: bool) -> str:
    """Why a request got no answer from seat control."""
    if maybe_done:
        return _(
            "Seat control did not answer in time. The command may or may not have been sent: "
            "look at the deliveries before you try again."
        )
    return _("Seat control does not answer. Nothing was sent: try again in a moment.")


def selector(what: Selector, layout: Layout) -> str:
    """Which seats a selector means, in a few words."""
    text = _seats(what, layout)
    if what.exclude is not None:
        text = _("{seats} except {others}").format(seats=text, others=_seats(what.exclude, layout))
    return text


def _seats(what: Seats, layout: Layout) -> str:
    if what.all:
        return _("Whole cabin")
    parts = [layout.classes.get(name, name) for name in what.classes]
    parts += [layout.zones.get(name, name) for name in what.zones]
    for rows in what.rows:
        if rows.first == rows.last:
            parts.append(_("row {row}").format(row=rows.first))
        else:
            parts.append(_("rows {first} to {last}").format(first=rows.first, last=rows.last))
    parts += what.seats[:NAMED_SEATS]
    if len(what.seats) > NAMED_SEATS:
        parts.append(_("{count} more").format(count=len(what.seats) - NAMED_SEATS))
    return ", ".join(parts)


def error(code: int) -> str:
    """What an HTTP error means to the crew."""
    words = {
        404: _("There is no such page."),
        412: _("That came too late, and nothing was done: look, then press again."),
        413: _("That was too much for one request."),
    }
    return words.get(code, _("Something went wrong here: reload the page."))


def duration(milliseconds: float) -> str:
    """A time in the unit that suits it."""
    if milliseconds < 10_000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 120_000:
        return f"{milliseconds / 1000:.0f} s"
    return f"{milliseconds / 60_000:.0f} min"
