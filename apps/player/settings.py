"""The player's settings, from ``/etc/ife/player.env`` and its unit."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from apps.common.channels import Language
from apps.common.commands import SeatName
from apps.common.pa import MAX_AREAS
from apps.common.settings import CabinLinkSettings, Settings

Interface = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,15}$")]
PaArea = Annotated[int, Field(ge=0, le=MAX_AREAS)]
MediaUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s]*[^/\s]$")]


class PlayerSettings(CabinLinkSettings):
    """See `apps.common.settings.CabinLinkSettings` for those that seat control has too.

    `server_name` is the name in the server's certificate, where `server_url` has an address.
    `command_public_keys_file` holds the Ed25519 keys that may sign commands (see `read_keys` in
    `apps.player.keys`). `pa_area` is the number of the seat's PA area in the cabin layout, from 1;
    0: the seat hears only what is for all. Titles are at `media_url`, each under its id.
    `still_socket`: who connects there gets a picture of the screen, as PNG.
    """

    seat: SeatName
    server_url: Annotated[str, StringConstraints(pattern=r"^https://[^/\s]+$")]
    server_name: Annotated[str, StringConstraints(min_length=1, max_length=253)] | None = None
    ca_file: Path
    seat_certificate: Path
    seat_key: Path
    command_public_keys_file: Path
    pa_area: PaArea
    media_url: MediaUrl
    still_socket: Path | None = None


class PaSettings(Settings):
    """What the PA child needs: where the PA comes in, whose it must be, and where it is played.

    `pa_public_keys_file` is as `command_public_keys_file`. `pa_buffer_ms` is the jitter buffer,
    `pa_volume` in percent. `pa_sink` is ``alsa:<device>`` or ``file:<path>`` (a FIFO or a file).
    """

    multicast_interface: Interface
    multicast_source: IPv4Address
    pa_area: PaArea
    pa_public_keys_file: Path
    pa_buffer_ms: Annotated[int, Field(ge=5, le=100)] = 10
    pa_volume: Annotated[int, Field(ge=10, le=100)] = 80
    pa_sink: Annotated[str, StringConstraints(pattern=r"^(alsa:.+|file:/.+)$")] = "alsa:default"


class ScreenSettings(Settings):
    """What the screen child needs.

    `video_output` is ``window`` (over the whole screen of the X server in `DISPLAY`), ``dummy``, or
    ``y4m:<path>``, where every picture of a title is written as YUV4MPEG2; `audio_output` is a
    device of ALSA, or ``dummy``. The languages are what the passenger is offered first.
    """

    multicast_interface: Interface
    video_output: Annotated[str, StringConstraints(pattern=r"^(window|dummy|y4m:/.+)$")] = "window"
    audio_output: Annotated[str, StringConstraints(pattern=r"^(dummy|alsa:.+)$")] = "alsa:default"
    audio_language: Language | None = None
    subtitle_language: Language | None = None
    announcement_text: Annotated[str, StringConstraints(min_length=1, max_length=60)] = (
        "Announcement"
    )
