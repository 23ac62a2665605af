"""What a player remembers over a restart: the last command that it holds."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from pydantic import ValidationError

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
        aside = self._directory / "held.json.new"
        with aside.open("wb") as file:
            file.write(held.model_dump_json().encode())
            file.flush()
            os.fsync(file.fileno())
        aside.rename(self._file)
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
