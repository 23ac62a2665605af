"""Overhead screens, as vlc_stream tells of them and takes orders for them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from apps.common.channels import View
from apps.common.commands import Flag, Strict

ScreenName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
InputName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{1,16}$")]


class ScreensOrder(Strict):
    """`POST /api/v1/screens`: what some screens, or all, are to be; what is left out stays."""

    screens: Annotated[tuple[ScreenName, ...], Field(max_length=64)] | None = None
    deployed: Flag | None = None
    power: Flag | None = None
    input: InputName | None = None


class ScreenView(View):
    """A screen as it said last; None is what it cannot tell. `trouble`: why it does not answer."""

    id: ScreenName
    bus: str
    label: str
    deployed: bool | None = None
    power: bool | None = None
    input: InputName | None = None
    trouble: str | None = None


class ScreensView(View):
    """`GET /api/v1/screens`. `locked`: stowed for as long as the cabin is decompressed."""

    locked: bool
    screens: tuple[ScreenView, ...]
