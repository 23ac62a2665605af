"""The crew page's settings, from ``/etc/ife/crew_web.env`` and its unit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from apps.common.settings import Settings


class CrewWebSettings(Settings):
    """See `apps.common.settings.Settings` for those that every app has.

    `crew_file` says who may log in (`apps.crew_web.crew`). Whoever does nothing for
    `session_idle_minutes` is logged out. `boot_id` tells one boot of the machine from the next (the
    unit passes systemd's). `seat_picture` is a seat and the `still_socket` of its player, where
    that runs on this machine: ``12A:/run/ife/player/still.sock``; the page then shows what that
    seat sees. With `imports_want_pin` whoever has a crew disk imported gives their PIN.
    `demo_gate_socket` is where a bench opens and closes its gate; no aircraft has one.
    """

    layout: Path
    crew_file: Path
    boot_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    state_directory: Path
    seat_control_socket: Path = Path("/run/ife/seat_control.sock")
    pa_audio_socket: Path = Path("/run/ife/pa_audio.sock")
    vlc_stream_socket: Path = Path("/run/ife/vlc_stream.sock")
    content_sync_socket: Path = Path("/run/ife/content_sync.sock")
    session_idle_minutes: Annotated[int, Field(ge=1, le=720)] = 30
    seat_picture: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]?[A-HJKL]:/.+$")] | None = (
        None
    )
    imports_want_pin: bool = False
    demo_gate_socket: Path | None = None
