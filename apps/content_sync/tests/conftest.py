"""What the tests of usage share: a real PostgreSQL, and a spool in a new database of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from nacl.signing import SigningKey

from apps.common.testing import PostgresServer
from apps.content_sync.spool import Spool

KEY = SigningKey(bytes(range(32)))
OWNER = "ife-content_sync"


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    """A database as roles/postgresql makes it for usage: its owner's, for others to write to."""
    return postgres.create(OWNER)


@pytest.fixture
def url(postgres: PostgresServer, database: str) -> str:
    """Where content_sync finds that database."""
    return postgres.url(database, OWNER)


@pytest.fixture
def spool(url: str) -> Iterator[Spool]:
    """A spool with room for 10 MB."""
    spool = Spool(url, "EC-LAB", KEY, limit=10_000_000)
    yield spool
    spool.close()
