"""What the crew asked for and is not over, for the next start: an app that was killed goes on.

It lies in the machine's memory, so it is gone with the next boot, and the unit has it removed when
the PA is stopped.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from apps.common.announcements import Areas, PramRequest
from apps.common.commands import Strict
from apps.common.files import write_whole
from apps.pa_audio.arbiter import MAX_QUEUE

log = logging.getLogger(__name__)

FILE = "agenda.json"


class Asked(Strict):
    """Messages that wait, the one that plays among them, and the areas with boarding music.

    As in a request no areas are all of them; None: there is no music.
    """

    messages: Annotated[tuple[PramRequest, ...], Field(max_length=MAX_QUEUE)] = ()
    music: Areas | None = None


NOTHING = Asked()


class Agenda:
    """The file. Used by one thread.

    Args:
        folder: in memory.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._kept = NOTHING

    def take(self) -> Asked:
        """What there was when the last one ended, once: what ends us is not begun for ever."""
        try:
            asked = Asked.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return NOTHING
        except (OSError, ValidationError) as error:
            log.warning("what the crew asked for is lost", extra={"error": str(error)})
            asked = NOTHING
        self._kept = asked
        self.keep(NOTHING)
        return asked

    def keep(self, asked: Asked) -> None:
        """Note what there is now."""
        if asked == self._kept:
            return
        try:
            if asked == NOTHING:
                self._path.unlink(missing_ok=True)
            else:
                write_whole(self._path, asked.model_dump_json().encode(), sync=False)
        except OSError as error:
            log.warning("what the crew asked for is not noted", extra={"error": str(error)})
        self._kept = asked
