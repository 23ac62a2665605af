"""content_sync's settings, from ``/etc/ife/content_sync.env`` and its unit."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from apps.common.content import Airline
from apps.common.outbox import DATABASE_URL
from apps.common.settings import Port, Settings


class ContentSyncSettings(Settings):
    """See `apps.common.settings.Settings` for those that every app has.

    `content_root` is the airline's TUF root, which all trust begins with. With
    `crew_confirms_disks` a disk waits until the crew say on their page that it may be imported.
    `content_reserve` is in MiB.

    Without `hangar_address` there is no Hangar, and nothing comes or goes by the gate. It is
    reached by `ground_interface`: by SSH as `hangar_user` with `gate_ssh_key`, a server with one of
    the keys that `hangar_known_hosts` has for ``hangar``; and by HTTPS at `hangar_url` with the
    aircraft's `gate_certificate`, a server whose certificate leads to `hangar_authority`.
    `gate_minutes` is how long a stop takes as a rule, `gate_bandwidth` the kbit/s that may go
    each way, 0 for all that there is. Without `gate_needs_wow` the aircraft has no discrete for
    weight on wheels. `usage_key` has the seed of the key that signs usage, of which `usage_spool`
    MiB are kept at most.
    """

    airline: Airline
    content_directory: Path
    content_root: Path
    content_reserve: Annotated[int, Field(ge=0, le=1024 * 1024)] = 2048
    crew_confirms_disks: bool = False

    boot_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    runtime_directory: Path
    hangar_address: IPv4Address | None = None
    hangar_ssh_port: Port = 22
    hangar_user: Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")] = "ife"
    hangar_known_hosts: Path = Path("/etc/ife/hangar.known_hosts")
    hangar_url: Annotated[str, StringConstraints(pattern=r"^https://[a-z0-9.-]+(:[0-9]+)?$")] = (
        "https://hangar.invalid"
    )
    hangar_authority: Path = Path("/etc/ife/hangar-root.crt")
    gate_certificate: Path = Path("/etc/ife/keys/gate.pem")
    gate_key: Path = Path("/etc/ife/keys/gate.pem")
    gate_ssh_key: Path = Path("/etc/ife/keys/gate_ssh.key")
    ground_interface: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,15}$")] = (
        "ground0"
    )
    gate_needs_wow: bool = True
    gate_minutes: Annotated[int, Field(ge=1, le=24 * 60)] = 45
    gate_bandwidth: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    usage_database_url: str = DATABASE_URL
    usage_key: Path = Path("/etc/ife/keys/usage.key")
    usage_spool: Annotated[int, Field(ge=1, le=1024 * 1024)] = 1024
