"""vlc_stream's settings, from ``/etc/ife/vlc_stream.env`` and its unit."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated

from pydantic import Field

from apps.common.settings import Port, Settings


class VlcStreamSettings(Settings):
    """See `apps.common.settings.Settings` for those that every app has.

    `screens_file` is for an aircraft with overhead screens. `control_port`: where engineers reach
    the control front on the loopback interface, with the password of `control_password`; without
    one there is its Unix socket only. With a `multicast_ttl` of 0 streams would be heard on the
    server, and nowhere else.
    """

    boot_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    state_directory: Path
    channels_file: Path
    media_directory: Path
    screens_file: Path | None = None
    multicast_interface: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,15}$")]
    multicast_source: IPv4Address
    multicast_ttl: Annotated[int, Field(ge=1, le=32)] = 1
    seat_control_socket: Path = Path("/run/ife/seat_control.sock")
    control_port: Port | None = None
    control_password: Path | None = None
