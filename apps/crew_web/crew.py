"""Who may log in: the crew file, and the check of a PIN.

The file is a JSON list, one object a person::

    [{"id": "anna", "name": "Anna", "pin_hash": "$argon2id$..."}]

``python -m apps.crew_web hash-pin`` makes the hash. A PIN of 4 to 8 digits is short, so what
really guards it is the lock-out (`apps.crew_web.lockout`); the hash only keeps a glance at the
file from telling it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import argon2
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

PIN_PATTERN = r"^[0-9]{4,8}$"

MAX_FILE = 256 * 1024

MAX_WAITING = 2
"""Log-ins that may wait for the one whose PIN is checked. Each holds a thread of the page's few."""

Pin = Annotated[str, StringConstraints(pattern=PIN_PATTERN)]


class CrewFileError(Exception):
    """The crew file is missing or wrong; the message says what to mend."""


class BusyError(Exception):
    """Too many PINs are to be checked at once: try again in a moment."""


class CrewMember(BaseModel):
    """A person who may log in. `id` is what the audit log keeps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    name: Annotated[str, StringConstraints(min_length=1, max_length=40, strip_whitespace=True)]
    pin_hash: Annotated[str, StringConstraints(pattern=r"^\$argon2id\$", max_length=256)]


_CREW = TypeAdapter(Annotated[list[CrewMember], Field(min_length=1, max_length=200)])


class Crew:
    """The people of a crew file, in its order."""

    def __init__(self, members: list[CrewMember]) -> None:
        self._members = {member.id: member for member in members}
        # One at a time: each check takes 64 MiB, and a flood of guesses must not take it all.
        self._checking = threading.Lock()
        self._turns = threading.BoundedSemaphore(1 + MAX_WAITING)
        self._hasher = argon2.PasswordHasher.from_parameters(
            argon2.extract_parameters(members[0].pin_hash)
        )
        self._nobody = self._hasher.hash("no PIN has letters")

    @property
    def members(self) -> list[CrewMember]:
        """Everyone."""
        return list(self._members.values())

    def get(self, person: str) -> CrewMember | None:
        """The person with this id."""
        return self._members.get(person)

    def name(self, person: str) -> str:
        """The name to show for an id; the id itself for one who is not in the file."""
        member = self._members.get(person)
        return member.name if member else person

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The turn to check a PIN, which one has to have for `pin_is_right`.

        Raises:
            BusyError: others wait for theirs already.
        """
        if not self._turns.acquire(blocking=False):
            raise BusyError
        try:
            with self._checking:
                yield
        finally:
            self._turns.release()

    def pin_is_right(self, person: str, pin: str) -> bool:
        """Whether `pin` is this person's. Takes as long for an unknown person as for a known."""
        member = self._members.get(person)
        try:
            self._hasher.verify(member.pin_hash if member else self._nobody, pin)
        except argon2.exceptions.VerifyMismatchError:
            return False
        return member is not None


def load(path: Path) -> Crew:
    """Read a crew file.

    Raises:
        CrewFileError: it is missing, or not what it should be.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE + 1)
    except OSError as error:
        raise CrewFileError(f"the crew file {path} cannot be read: {error.strerror}") from error
    if len(text) > MAX_FILE:
        raise CrewFileError(f"the crew file {path} is over {MAX_FILE // 1024} KiB")
    try:
        members = _CREW.validate_json(text)
        for member in members:
            argon2.extract_parameters(member.pin_hash)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, problem['loc'])) or 'file'}: {problem['msg']}"
            for problem in error.errors(include_input=False)
        ]
        raise CrewFileError("\n".join([f"the crew file {path} is wrong:", *lines])) from None
    except argon2.exceptions.InvalidHashError:
        raise CrewFileError(
            f"the crew file {path} has a pin_hash that is no argon2id hash: "
            "make one with `python -m apps.crew_web hash-pin`"
        ) from None
    ids = [member.id for member in members]
    if twice := sorted({person for person in ids if ids.count(person) > 1}):
        raise CrewFileError(f"the crew file {path} has twice: {', '.join(twice)}")
    try:
        return Crew(members)
    except argon2.exceptions.HashingError as error:
        raise CrewFileError(f"the crew file {path} has a pin_hash of no use: {error}") from None


def hash_pin(pin: str) -> str:
    """The hash of a PIN, for the crew file.

    Raises:
        ValueError: it is not 4 to 8 digits.
    """
    try:
        TypeAdapter(Pin).validate_python(pin)
    except ValidationError:
        raise ValueError("a PIN has 4 to 8 digits") from None
    return argon2.PasswordHasher().hash(pin)
