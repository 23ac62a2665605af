"""The fleet file: which aircraft there are, and by which keys their usage is known."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated

from nacl.signing import VerifyKey
from pydantic import Field, StringConstraints, ValidationError, field_validator

from apps.common.commands import PLAIN, Strict
from apps.common.settings import Registration, SettingsError


class Aircraft(Strict):
    """One aircraft. `usage_keys` are one or two public keys, base64url, as in its ``usage.pub``."""

    registration: Registration
    type: Annotated[str, StringConstraints(pattern=f"^{PLAIN}{{0,64}}$")] = ""
    usage_keys: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43}$")], ...],
        Field(min_length=1, max_length=2),
    ]

    def keys(self) -> list[VerifyKey]:
        """The keys that sign its usage."""
        return [VerifyKey(base64.urlsafe_b64decode(key + "=")) for key in self.usage_keys]


class Fleet(Strict):
    """All of them."""

    aircraft: Annotated[tuple[Aircraft, ...], Field(max_length=10_000)]

    @field_validator("aircraft")
    @classmethod
    def _each_once(cls, aircraft: tuple[Aircraft, ...]) -> tuple[Aircraft, ...]:
        names = [each.registration for each in aircraft]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"twice: {', '.join(twice)}")
        return aircraft


def load(path: Path) -> dict[str, Aircraft]:
    """The fleet of a file, by registration.

    Raises:
        SettingsError: it cannot be read or is wrong, with where.
    """
    try:
        fleet = Fleet.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"the fleet file cannot be read: {error}") from error
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
        ]
        raise SettingsError(f"{path} is wrong:\n  " + "\n  ".join(lines)) from None
    return {aircraft.registration: aircraft for aircraft in fleet.aircraft}
