"""The player's settings, from ``/etc/ife/player.env`` and its unit."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints, field_validator

from apps.common.commands import SeatName
from apps.common.settings import Port, Settings


class PlayerSettings(Settings):
    """See `apps.common.settings.Settings` for those that every app has.

    `boot_id` tells one boot of the machine from the next (the unit passes systemd's).
    `server_name` is the name in the server's certificate, where `server_url` has an address.
    `command_public_keys_file` holds the Ed25519 keys that may sign commands (see `read_keys` in
    `apps.player.agent`).
    The multicast interface is named, never left to the routing table.
    """

    seat: SeatName
    boot_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    state_directory: Path
    server_url: Annotated[str, StringConstraints(pattern=r"^https://[^/\s]+$")]
    server_name: Annotated[str, StringConstraints(min_length=1, max_length=253)] | None = None
    ca_file: Path
    seat_certificate: Path
    seat_key: Path
    command_public_keys_file: Path
    multicast_interface: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,15}$")]
    multicast_group: IPv4Address = IPv4Address("239.192.73.1")
    multicast_port: Port = 5773

    @field_validator("multicast_group")
    @classmethod
    def _is_group(cls, group: IPv4Address) -> IPv4Address:
        if not group.is_multicast:
            raise ValueError(f"{group} is no multicast group (224.0.0.0/4)")
        return group
