"""A real service on a real journal, with neither Redis nor PostgreSQL about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.seat_control import testing
from apps.seat_control.service import SeatControl
from apps.seat_control.settings import SeatControlSettings


@pytest.fixture
def settings(tmp_path: Path) -> SeatControlSettings:
    return testing.settings(tmp_path)


@pytest.fixture
def service(settings: SeatControlSettings) -> Iterator[SeatControl]:
    service = SeatControl(settings)
    service.start()
    yield service
    service.close()
