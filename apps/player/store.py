"""What a player remembers over a restart: the last command that it holds, and what it played."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import BaseModel, ValidationError

from apps.common.commands import MediaId
from apps.common.files import write_whole
from apps.common.protocol import Held

log = logging.getLogger(__name__)


class HeldStore:
    """(epoch, seq) in a file, ``held.json``, that is whole at every instant.

    Args:
        directory: the state directory; it exists.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / "held.json"

    def load(self) -> Held:
        """What was saved last; (0, 0) where that is missing or damaged.

        A seat that begins at (0, 0) is told by the server what is in force.
        """
        try:
            return Held.model_validate_json(self._file.read_bytes())
        except FileNotFoundError:
            log.info("no command is remembered, beginning anew", extra={"file": str(self._file)})
        except (OSError, ValidationError) as error:
            log.warning(
                "what was remembered cannot be read, beginning anew",
                extra={"file": str(self._file), "error": str(error)},
            )
        return Held(epoch=0, seq=0)

    def save(self, held: Held) -> None:
        """Remember `held`; on return it is on the disk.

        Raises:
            OSError: it is not; what was saved before still is.
        """
        write_whole(self._file, held.model_dump_json().encode())


class Played(BaseModel):
    """A title or channel in one boot of the machine; `position` in seconds."""

    boot_id: str
    media: MediaId
    position: float = 0.0
    paused: bool = False


class PlayedStore:
    """What plays, in a file ``played.json``, for an agent that is started anew in the same boot.

    After a boot the seat begins with nothing: there may be another passenger.

    Args:
        directory: the state directory; it exists.
    """

    def __init__(self, directory: Path, boot_id: str) -> None:
        self._file = directory / "played.json"
        self._boot_id = boot_id
        self._saved: Played | None = None

    def load(self) -> Played | None:
        """What played when the agent ended."""
        try:
            played = Played.model_validate_json(self._file.read_bytes())
        except (OSError, ValidationError):
            return None
        return played if played.boot_id == self._boot_id else None

    def save(self, media: str | None, position: float | None, *, paused: bool) -> None:
        """Remember it, unless that is what is there.

        Raises:
            OSError: it was not possible.
        """
        played = None
        if media is not None:
            played = Played(
                boot_id=self._boot_id, media=media, position=position or 0.0, paused=paused
            )
        if played == self._saved:
            return
        if played is None:
            self._file.unlink(missing_ok=True)
        else:
            write_whole(self._file, played.model_dump_json().encode())
        self._saved = played
