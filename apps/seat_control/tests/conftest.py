"""A real service on a real journal, with neither Redis nor PostgreSQL about."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.seat_control.service import SeatControl
from apps.seat_control.settings import SeatControlSettings

LAYOUT = Path(__file__).parents[3] / "inventory" / "layouts" / "a320.yml"


@pytest.fixture
def settings(tmp_path: Path) -> SeatControlSettings:
    (tmp_path / "command.key").write_bytes(os.urandom(32))
    return SeatControlSettings(
        registration="EC-LAB",
        layout=LAYOUT,
        state_directory=tmp_path,
        command_key=tmp_path / "command.key",
        boot_id="a" * 32,
        redis_url=f"unix://{tmp_path}/no-redis.sock",
        database_url=f"postgresql+psycopg:///ife?host={tmp_path}/no-postgresql",
        multicast_interface="lo",
        multicast_ttl=0,
    )


@pytest.fixture
def service(settings: SeatControlSettings) -> Iterator[SeatControl]:
    service = SeatControl(settings)
    service.start()
    yield service
    service.close()
