"""The real Redis with the role's configuration."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from apps.common.testing import listens, wait_until
from tests.roles.helpers import render


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    """A Redis of its own, with room for 4 MB."""
    with tempfile.TemporaryDirectory(prefix="ife-") as top:
        folder = Path(top)
        socket = folder / "redis.sock"
        configuration = render(
            folder,
            "redis",
            "redis.conf.j2",
            redis_socket=socket,
            redis_directory=folder,
            redis_maxmemory=4,
        )
        server = subprocess.Popen(["redis-server", configuration], stdout=subprocess.DEVNULL)
        connection = redis.Redis(unix_socket_path=str(socket), socket_timeout=5)
        try:
            wait_until(lambda: listens(socket), "Redis listens")
            yield connection
        finally:
            connection.close()
            server.terminate()
            server.wait(timeout=10)
        assert not list(folder.glob("*.rdb"))


def test_the_socket_is_the_only_way_in(client: redis.Redis) -> None:
    assert client.ping()
    assert client.config_get("port")["port"] == "0"
    path = Path(str(client.config_get("unixsocket")["unixsocket"]))
    assert path.stat().st_mode & 0o777 == 0o770


def test_nothing_is_kept_on_disk(client: redis.Redis) -> None:
    client.set("a", "b")
    assert client.config_get("save")["save"] == ""
    assert client.config_get("appendonly")["appendonly"] == "no"


def test_what_is_there_stays_when_the_memory_is_full(client: redis.Redis) -> None:
    client.set("first", "kept")
    with pytest.raises(redis.ResponseError, match="maxmemory"):
        _fill(client)
    assert client.get("first") == b"kept"


def _fill(client: redis.Redis) -> None:
    for number in range(1000):
        client.set(f"filler{number}", "x" * 100_000)
