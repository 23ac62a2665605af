"""The Hangar's settings, from ``/etc/ife/hangar.env`` and its unit."""

from __future__ import annotations

from pathlib import Path

from apps.common.settings import AnySettings


class HangarSettings(AnySettings):
    """See `apps.common.settings.AnySettings` for those that every app has.

    `fleet_file` says which aircraft there are (`apps.hangar.aircraft`). `content_directory` is the
    repository that they fetch from, to compare what they have with. Logs that were asked for go
    into `state_directory`.
    """

    database_url: str = "postgresql+psycopg:///hangar?host=/run/postgresql"
    fleet_file: Path
    state_directory: Path
    content_directory: Path = Path("/srv/ife/content")
