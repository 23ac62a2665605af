"""Settings: typed, frozen, read from `IFE_*` variables.

A unit reads them from ``/etc/ife/<app>.env``. An app subclasses `Settings`, adds its fields
and calls `load`, so a wrong or missing variable stops it at start, with its name.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Registration = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9][A-Z0-9-]{1,15}$")]
"""An aircraft's, as painted on it: ``EC-LAB``."""


class SettingsError(Exception):
    """A variable is missing or wrong; the message names each one."""


class AnySettings(BaseSettings):
    """What every app has, on an aircraft and on the ground."""

    model_config = SettingsConfigDict(env_prefix="IFE_", frozen=True, extra="ignore")

    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def load(cls) -> Self:
        """The settings of this process.

        Raises:
            SettingsError: with a line for each variable that is missing or wrong.
        """
        try:
            return cls()
        except ValidationError as error:
            lines = [
                f"IFE_{'_'.join(map(str, problem['loc'])).upper()}: {problem['msg']}"
                for problem in error.errors()
            ]
            raise SettingsError("wrong settings:\n  " + "\n  ".join(lines)) from None


class Settings(AnySettings):
    """What every app on an aircraft has. `IFE_REGISTRATION` is the aircraft's."""

    registration: Registration
    redis_url: str = "unix:///run/ife/redis/redis.sock"


Port = Annotated[int, Field(ge=1, le=65535)]


class CabinLinkSettings(Settings):
    """What both ends of the cabin protocol have.

    `boot_id` tells one boot of the machine from the next (the unit passes systemd's). The
    multicast interface is named, never left to the routing table, and so is `multicast_source`,
    the server's address there: it sends from that, and players take nothing from any other.
    """

    boot_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    state_directory: Path
    multicast_interface: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,15}$")]
    multicast_source: IPv4Address
    multicast_group: IPv4Address = IPv4Address("239.192.73.1")
    multicast_port: Port = 5773

    @field_validator("multicast_group")
    @classmethod
    def _is_group(cls, group: IPv4Address) -> IPv4Address:
        if not group.is_multicast:
            raise ValueError(f"{group} is no multicast group (224.0.0.0/4)")
        return group
