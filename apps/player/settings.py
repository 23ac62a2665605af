"""The player's settings, from ``/etc/ife/player.env`` and its unit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints

from apps.common.commands import SeatName
from apps.common.settings import CabinLinkSettings


class PlayerSettings(CabinLinkSettings):
    """See `apps.common.settings.CabinLinkSettings` for those that seat control has too.

    `server_name` is the name in the server's certificate, where `server_url` has an address.
    `command_public_keys_file` holds the Ed25519 keys that may sign commands (see `read_keys` in
    `apps.player.agent`).
    """

    seat: SeatName
    server_url: Annotated[str, StringConstraints(pattern=r"^https://[^/\s]+$")]
    server_name: Annotated[str, StringConstraints(min_length=1, max_length=253)] | None = None
    ca_file: Path
    seat_certificate: Path
    seat_key: Path
    command_public_keys_file: Path
