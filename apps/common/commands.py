"""What the crew can tell the seats: selectors, actions, commands and their reports.

These models are the crew's API (docs/protocols/cabin.md) and, for the actions, the wire too.
Everything that comes from outside is checked here, when it is parsed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

SeatName = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]?[A-HJKL]$")]
"""A row from 1 to 99 and a letter (I is never used in cabins): ``12C``."""

AreaName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
"""The name of a class or a zone in a cabin layout: ``economy``."""

HIDDEN = (
    r"\u0000-\u001F\u007F-\u009F"  # controls
    r"\u00AD\u061C\u180E\u200B\u200E\u200F\u2028-\u202E\u2060-\u2064\u2066-\u206F\uFEFF\uFFF9-\uFFFB"
    r"\uE000-\uF8FF"  # private use
    "\U000e0000-\U000e007f\U000f0000-\U0010ffff"  # tags, private use
)
PLAIN = f"[^{HIDDEN}]"
"""A character of a text for people; a pattern that Rust, Python and JSON Schema (ECMA-262 with
its u flag) read alike, which is why it names no categories of Unicode.

Left out is what shows nothing but does something: controls (to a database, a terminal), line
separators, overrides of the direction and other format characters (a text that reads as another),
private use. The joiners U+200C and U+200D pass, for Persian, the languages of India and many emoji
are not written without them. So does what is not assigned: a newer Unicode may have assigned it,
and an older player must not refuse the frame of a newer server for that.
"""

MediaId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]

Percent = Annotated[int, Field(ge=0, le=100, strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Seq = Annotated[int, Field(ge=0, lt=2**53, strict=True)]


class Strict(BaseModel):
    """A frozen model that refuses fields it does not know: what people and apps send us."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RowRange(Strict):
    """Rows from `first` to `last`, both included."""

    first: Annotated[int, Field(ge=1, le=99, strict=True)]
    last: Annotated[int, Field(ge=1, le=99, strict=True)]


class Seats(Strict):
    """A union of seats named one by one, by rows, by class and by zone."""

    all: Flag = False
    seats: Annotated[tuple[SeatName, ...], Field(max_length=1000)] = ()
    rows: Annotated[tuple[RowRange, ...], Field(max_length=99)] = ()
    classes: Annotated[tuple[AreaName, ...], Field(max_length=16)] = ()
    zones: Annotated[tuple[AreaName, ...], Field(max_length=32)] = ()


class Selector(Seats):
    """Which seats a command is for: a union of seats less those of `exclude`."""

    exclude: Seats | None = None


class Action(Strict):
    """What a seat is to do. `destructive` ones on more than one seat want an arm token."""

    name: str

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The schema, with `name` required: without it nothing tells the actions apart."""
        schema = handler(core_schema)
        members = handler.resolve_ref_schema(schema)
        members["required"] = ["name", *members.get("required", [])]
        return schema

    @property
    def retained(self) -> str | None:
        """The setting that this action puts in force until the next one of its kind.

        A seat that reboots gets what is in force. None for a momentary action, which is
        worth nothing after its expiry.
        """
        return None

    @property
    def destructive(self) -> bool:
        """Whether it takes the passenger's entertainment away."""
        return False


class _Retained(Action):
    @property
    def retained(self) -> str:
        return self.name


class Reset(Action):
    """Restart the player."""

    name: Literal["reset"] = "reset"

    @property
    def destructive(self) -> bool:
        """Always: playback stops and the player restarts."""
        return True


class Power(_Retained):
    """Switch the seat's screen and media on or off; its agent goes on."""

    name: Literal["power"] = "power"
    on: Flag

    @property
    def destructive(self) -> bool:
        """Only to switch off."""
        return not self.on


class LockScreen(_Retained):
    """Lock the passenger's controls, or unlock them."""

    name: Literal["lock_screen"] = "lock_screen"
    locked: Flag


class Mute(_Retained):
    """Silence the seat, or let it be heard again at its volume."""

    name: Literal["mute"] = "mute"
    muted: Flag


class SetVolume(_Retained):
    """Set the volume, in percent."""

    name: Literal["set_volume"] = "set_volume"
    volume: Percent


class LimitVolume(_Retained):
    """Cap the volume that a passenger can choose, in percent."""

    name: Literal["limit_volume"] = "limit_volume"
    limit: Percent


class SetBrightness(_Retained):
    """Set the screen's brightness, in percent."""

    name: Literal["set_brightness"] = "set_brightness"
    brightness: Percent


class Pause(Action):
    """Pause what plays."""

    name: Literal["pause"] = "pause"


class Resume(Action):
    """Go on with what was paused."""

    name: Literal["resume"] = "resume"


class Play(Action):
    """Play a title, from `position` in seconds."""

    name: Literal["play"] = "play"
    media: MediaId
    position: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False, strict=True)] = 0.0


class ShowMessage(Action):
    """Show a text on the screen for some seconds."""

    name: Literal["show_message"] = "show_message"
    text: Annotated[
        str, StringConstraints(pattern=rf"^{PLAIN}*[^\s{HIDDEN}]{PLAIN}*$", max_length=200)
    ]
    seconds: Annotated[int, Field(ge=1, le=60, strict=True)] = 10


class AttendantCallClear(Action):
    """Clear the passenger's call."""

    name: Literal["attendant_call_clear"] = "attendant_call_clear"


class ReadingLight(_Retained):
    """Switch the reading light."""

    name: Literal["reading_light"] = "reading_light"
    on: Flag


class Identify(Action):
    """Show the seat's own name on its screen for some seconds."""

    name: Literal["identify"] = "identify"
    seconds: Annotated[int, Field(ge=1, le=60, strict=True)] = 10


class Impose(_Retained):
    """Show an imposed channel in place of entertainment; without one, go back to that."""

    name: Literal["impose"] = "impose"
    channel: MediaId | None = None


AnyAction = Annotated[
    Reset
    | Power
    | LockScreen
    | Mute
    | SetVolume
    | LimitVolume
    | SetBrightness
    | Pause
    | Resume
    | Play
    | ShowMessage
    | AttendantCallClear
    | ReadingLight
    | Identify
    | Impose,
    Field(discriminator="name"),
]

ACTIONS: dict[str, type[Action]] = {
    action.model_fields["name"].default: action for action in get_args(get_args(AnyAction)[0])
}
"""Every action's class by its name."""

MOMENTARY_EXPIRY = 10.0
"""Seconds after which a momentary command is no longer applied, unless it says otherwise."""


class CommandRequest(Strict):
    """`POST /api/v1/commands`: an action for some seats.

    `expires_in` is in seconds; without it a momentary action expires after 10 s and a
    retained one stays in force until the next of its kind.
    """

    selector: Selector
    action: AnyAction
    expires_in: (
        Annotated[float, Field(ge=0.1, le=86_400, allow_inf_nan=False, strict=True)] | None
    ) = None
    arm_token: Annotated[str, StringConstraints(max_length=64)] | None = None


class ArmRequest(Strict):
    """`POST /api/v1/commands/arm`: the first of the two steps of a destructive command."""

    selector: Selector
    action: AnyAction


class Armed(BaseModel):
    """The answer to an `ArmRequest`: a token for exactly this action on these seats, once."""

    arm_token: str
    expires_in: float
    targets: int


class Accepted(BaseModel):
    """The answer to a `CommandRequest`."""

    seq: Seq
    targets: int


class SeatRefusal(BaseModel):
    """Why one seat did not do as told."""

    seat: str
    reason: str


class DeliveryReport(BaseModel):
    """`GET /api/v1/commands/<seq>`: how far a command has come, seat by seat.

    Every target is in exactly one of: applied, missing (not heard of yet), refused, expired
    (it could not be reached in time, and will not apply it late), superseded (a newer command
    for the same setting took its place before it was reached). Times run from the sending to
    the seat's confirmation, in milliseconds; None until that share has confirmed. `ms_to_last`
    is the time of the last confirmation so far.
    """

    seq: Seq
    epoch: int
    crew: str
    selector: Selector
    action: AnyAction
    issued_at: datetime
    expires_in: float | None
    final: bool
    targets: int
    applied: int
    missing: list[str]
    refused: list[SeatRefusal]
    expired: list[str]
    superseded: list[str]
    ms_to_50_percent: float | None
    ms_to_99_percent: float | None
    ms_to_last: float | None
