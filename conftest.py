"""What holds for every test."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

from apps.common import testing

# A busy machine makes an example slow, not wrong; pytest-timeout ends what hangs.
settings.register_profile("ife", deadline=None)
settings.load_profile("ife")


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Where an app sends the process's records ends with its test, as the stream does."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture(scope="session")
def postgres() -> Iterator[testing.PostgresServer]:
    """A PostgreSQL for whoever only makes databases in it: it starts in seconds."""
    with testing.postgres() as server:
        yield server
