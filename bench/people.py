"""The demo's crew: two people with PINs of their own, drawn when the folder is new."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from apps.crew_web.crew import hash_pin

NAMES = ("Anna", "Bruno")
PIN_DIGITS = 6


class Person(BaseModel):
    """Somebody who may log in to the crew's page."""

    id: str
    name: str
    pin: str


_PEOPLE = TypeAdapter(list[Person])


def ensure(notes: Path, crew_file: Path) -> list[Person]:
    """The people, and the file that the crew's page knows them by.

    Args:
        notes: where their PINs are kept, for the owner's eyes only.
        crew_file: written anew, with hashes.
    """
    people = load(notes)
    if not people:
        people = [Person(id=name.lower(), name=name, pin=_draw_pin()) for name in NAMES]
        write_private(notes, _PEOPLE.dump_json(people, indent=1))
    hashed = [
        {"id": person.id, "name": person.name, "pin_hash": hash_pin(person.pin)}
        for person in people
    ]
    write_private(crew_file, json.dumps(hashed).encode())
    return people


def load(notes: Path) -> list[Person]:
    """The people of an earlier start; none if there was none."""
    try:
        return _PEOPLE.validate_json(notes.read_bytes())
    except (OSError, ValidationError):
        return []


def write_private(path: Path, data: bytes) -> None:
    """Write a file that its owner alone can read, from its first byte on."""
    aside = path.with_name(path.name + ".new")
    aside.unlink(missing_ok=True)
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    aside.replace(path)


def _draw_pin() -> str:
    return f"{secrets.randbelow(10**PIN_DIGITS):0{PIN_DIGITS}}"
