"""The requests of vlc_stream's API, beside the views in `apps.common.channels`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator

from apps.common.channels import ImposedView, Language
from apps.common.commands import Accepted, Flag, MediaId, Selector, Strict

ScreenName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
InputName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{1,16}$")]


class ChannelControl(Strict):
    """`POST /api/v1/channels/<id>/control`. To seek wants `percent`, of the file that plays."""

    action: Literal["play", "pause", "stop", "seek"]
    percent: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _has_place(self) -> Self:
        if (self.percent is not None) != (self.action == "seek"):
            raise ValueError("percent goes with seek, and with nothing else")
        return self


class ImposeRequest(Strict):
    """`POST /api/v1/imposed`: show an imposed video at some seats, and on the overhead screens."""

    channel: MediaId
    language: Language
    selector: Selector | None = None
    screens: Flag = False

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.selector is None and not self.screens:
            raise ValueError("select seats, or the screens, or both")
        return self


class ImposeAnswer(BaseModel):
    """The answer: the video runs. `command` tells how the seats were told; None: not yet."""

    video: ImposedView
    command: Accepted | None


class ImposedControl(Strict):
    """`POST /api/v1/imposed/<id>/control`."""

    action: Literal["pause", "resume", "stop"]


class ScreensOrder(Strict):
    """`POST /api/v1/screens`: what some screens, or all, are to be; what is left out stays."""

    screens: Annotated[tuple[ScreenName, ...], Field(max_length=64)] | None = None
    deployed: Flag | None = None
    power: Flag | None = None
    input: InputName | None = None


class ScreenView(BaseModel):
    """A screen as it said last; None is what it cannot tell. `trouble`: why it does not answer."""

    id: ScreenName
    bus: str
    label: str
    deployed: bool | None = None
    power: bool | None = None
    input: InputName | None = None
    trouble: str | None = None


class ScreensView(BaseModel):
    """`GET /api/v1/screens`. `locked`: stowed for as long as the cabin is decompressed."""

    locked: bool
    screens: tuple[ScreenView, ...]
