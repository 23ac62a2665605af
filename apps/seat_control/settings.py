"""Seat control's settings, from ``/etc/ife/seat_control.env`` and its unit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from apps.common import outbox
from apps.common.settings import CabinLinkSettings


class SeatControlSettings(CabinLinkSettings):
    """See `apps.common.settings.CabinLinkSettings` for those that the player has too."""

    layout: Path
    database_url: str = "postgresql+psycopg:///ife?host=/run/postgresql"
    usage_database_url: str = outbox.DATABASE_URL
    command_key: Path
    multicast_ttl: Annotated[int, Field(ge=1, le=32)] = 1
