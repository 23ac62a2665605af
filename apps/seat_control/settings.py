"""Seat control's settings, from ``/etc/ife/seat_control.env`` and its unit."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator

from apps.common.settings import Port, Settings


class SeatControlSettings(Settings):
    """See `apps.common.settings.Settings` for those that every app has.

    `boot_id` tells one boot of the machine from the next (the unit passes systemd's). The
    multicast interface is named, never left to the routing table.
    """

    layout: Path
    state_directory: Path
    database_url: str = "postgresql+psycopg:///ife?host=/run/postgresql"
    command_key: Path
    boot_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    multicast_interface: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,15}$")]
    multicast_group: IPv4Address = IPv4Address("239.192.73.1")
    multicast_port: Port = 5773
    multicast_ttl: Annotated[int, Field(ge=0, le=32)] = 1

    @field_validator("multicast_group")
    @classmethod
    def _is_group(cls, group: IPv4Address) -> IPv4Address:
        if not group.is_multicast:
            raise ValueError(f"{group} is no multicast group (224.0.0.0/4)")
        return group
