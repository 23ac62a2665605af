"""content_sync's settings, from ``/etc/ife/content_sync.env`` and its unit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from apps.common.content import Airline
from apps.common.settings import Settings


class ContentSyncSettings(Settings):
    """See `apps.common.settings.Settings` for those that every app has.

    `content_root` is the airline's TUF root, which all trust begins with. With
    `crew_confirms_disks` a disk waits until the crew say on their page that it may be imported.
    `content_reserve` is in MiB.
    """

    airline: Airline
    content_directory: Path
    content_root: Path
    content_reserve: Annotated[int, Field(ge=0, le=1024 * 1024)] = 256
    crew_confirms_disks: bool = False
