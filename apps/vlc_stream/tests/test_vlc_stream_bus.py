"""What it tells on the bus, and what it hears there: a real Redis, which comes and goes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from pydantic import BaseModel

from apps.common import pa
from apps.common.bus import Bus, Followed
from apps.common.channels import ChannelView, ImposedView
from apps.common.screens import ScreensView
from apps.common.testing import RedisServer, wait_until
from apps.vlc_stream.app import create_app
from apps.vlc_stream.tests.test_vlc_stream_api import CREW, running

DEPLOY = {"deployed": True, "power": True}


class Channels(BaseModel):
    """``vlc_stream/channels``."""

    channels: tuple[ChannelView, ...]


class Imposed(BaseModel):
    """``vlc_stream/imposed``."""

    imposed: tuple[ImposedView, ...]


class Listener:
    """Somebody else on the bus."""

    def __init__(self, redis: RedisServer) -> None:
        self.bus = Bus(redis.url)
        self.bus.start()
        self._screens = Followed(self.bus, "vlc_stream/screens", ScreensView)
        self._channels = Followed(self.bus, "vlc_stream/channels", Channels)
        self._imposed = Followed(self.bus, "vlc_stream/imposed", Imposed)

    def is_deployed(self) -> bool | None:
        """What is told of the screen."""
        told = self._screens.value
        return None if told is None else told.screens[0].deployed

    def is_locked(self) -> bool:
        """Whether the screens are told to be."""
        return self._screens.value is not None and self._screens.value.locked

    def channels(self) -> list[str]:
        """Those that are told."""
        told = self._channels.value
        return [] if told is None else [channel.id for channel in told.channels]

    def imposed(self) -> str | None:
        """The state of the imposed video."""
        told = self._imposed.value
        return None if told is None else told.imposed[0].state

    def in_decompression(self, yes: bool) -> None:
        """Tell what pa_audio tells."""
        self.bus.publish(pa.TOPIC, pa.PaState(state="idle", decompression=yes))


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="ife-") as folder, RedisServer(Path(folder)) as server:
        yield server


@pytest.fixture
def listener(redis: RedisServer) -> Iterator[Listener]:
    made = Listener(redis)
    yield made
    made.bus.close()


@pytest.fixture
def client(redis: RedisServer, clips: Path, tmp_path: Path) -> Iterator[FlaskClient]:
    with running(tmp_path, clips, redis_url=redis.url) as service:
        yield create_app(service).test_client()


def deploy(client: FlaskClient) -> int:
    return client.post("/api/v1/screens", json=DEPLOY, headers=CREW).status_code


def test_screens_are_stowed_in_a_decompression_that_the_pa_tells(
    client: FlaskClient, listener: Listener
) -> None:
    listener.in_decompression(False)
    assert deploy(client) == 202
    wait_until(listener.is_deployed, "it is told that the screen is down", 20)
    listener.in_decompression(True)
    wait_until(lambda: listener.is_locked() and listener.is_deployed() is False, "it is up", 20)
    assert deploy(client) == 409
    listener.in_decompression(False)
    wait_until(lambda: not listener.is_locked(), "it may come down", 20)
    assert deploy(client) == 202
    wait_until(listener.is_deployed, "the screen is down again", 20)


def test_a_redis_that_was_away_is_told_all_of_it_again(
    client: FlaskClient, listener: Listener, redis: RedisServer
) -> None:
    wait_until(lambda: listener.imposed() == "idle", "it is told", 20)
    redis.kill()
    video = {"channel": "safety", "language": "en", "selector": {"all": True}}
    assert client.post("/api/v1/imposed", json=video, headers=CREW).status_code == 202
    report = client.get("/healthz").get_json()
    assert report["ready"]
    wait_until(lambda: "redis" in str(client.get("/healthz").get_json()["degraded"]), "it is told")
    redis.start()
    # Before it was killed it had another value, which is lost with it.
    wait_until(lambda: listener.imposed() == "playing", "it is told again", 20)
    assert listener.channels() == ["one"]
    wait_until(lambda: "redis" not in str(client.get("/healthz").get_json()), "all is well", 20)
