"""A turnaround with everything: the whole aircraft's end, and the real Hangar behind the gate."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from apps.common import outbox
from apps.common.testing import PostgresServer, wait_until
from apps.common.usage import Sale
from bench.gate.hangar import Hangar, Keys
from bench.gate.onboard import OnBoard
from bench.gate.world import AIRLINE, World
from tests.content.helpers import Ground
from tests.gate.conftest import again

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="making namespaces takes root rights"),
    pytest.mark.timeout(240),
]

OWNER = "ife-content_sync"
TODAY, EXTRA = b"today" * 5000, b"extra" * 5000


@pytest.fixture
def hangar(world: World, postgres: PostgresServer) -> Iterator[Hangar]:
    """The Hangar's app, nginx and database, where the aircraft finds it."""
    keys = world.folder / "keys"
    database = postgres.url(postgres.create("ife-hangar"), "ife-hangar")
    folder = world.folder / "web"
    folder.mkdir(exist_ok=True)
    ours = Keys(AIRLINE, keys, {"EC-LAB": keys})
    with Hangar(folder, ours, database, world.repository) as hangar, world.relay(hangar.port):
        yield hangar


@pytest.fixture
def anna(world: World, hangar: Hangar) -> Iterator[httpx.Client]:
    """An operator, by the JSON API."""
    keys = world.folder / "keys"
    trust = ssl.create_default_context(cafile=keys / "root.crt")
    trust.load_cert_chain(keys / "anna.crt", keys / "anna.key")
    with httpx.Client(base_url=hangar.url, verify=trust, trust_env=False, timeout=20) as anna:
        wait_until(
            lambda: anna.get("/api/v1/fleet").status_code == 200, "the Hangar is up", 60, every=0.1
        )
        yield anna


def told(anna: httpx.Client, path: str) -> dict[str, Any]:
    """What the Hangar says; at most 20 times a second, as it takes 50 of one operator."""
    time.sleep(0.05)
    return dict(anna.get(f"/api/v1/{path}").raise_for_status().json())


def seen(anna: httpx.Client) -> dict[str, Any]:
    """What the Hangar knows of EC-LAB."""
    (aircraft,) = told(anna, "fleet")["aircraft"]
    return dict(aircraft)


def fresh_until(anna: httpx.Client) -> datetime:
    """Until when what EC-LAB has is good, as the Hangar knows it."""
    return datetime.fromisoformat(told(anna, "aircraft/EC-LAB")["fresh_until"])


def states(anna: httpx.Client) -> dict[str, str]:
    """What became of the Hangar's requests, by kind."""
    requests = told(anna, "aircraft/EC-LAB")["requests"]
    return {request["kind"]: request["state"] for request in requests}


def test_a_turnaround(
    world: World, desk: Ground, hangar: Hangar, anna: httpx.Client, postgres: PostgresServer
) -> None:
    desk.publish("news", "today", {"today.pdf": TODAY})
    usage = postgres.url(postgres.create(OWNER), OWNER)
    with OnBoard(world, world.folder / "a", desk.root, {"IFE_USAGE_DATABASE_URL": usage}) as ours:
        wait_until(lambda: ours.version() == (2, 0), "all is on board", 60)
        wait_until(lambda: seen(anna)["presence"] == "online", "the Hangar has heard of it", 60)
        engine = outbox.connect(usage, "a test")
        sale = Sale(item="cola", quantity=1, amount=350, currency="EUR", payment="card")
        outbox.write(engine, [sale])
        engine.dispose()

        desk.publish("news", "extra", {"extra.pdf": EXTRA})
        for kind in ("sync_now", "open_tunnel", "send_logs"):
            asked = anna.post("/api/v1/aircraft/EC-LAB/requests", json={"kind": kind})
            assert asked.status_code == 202
        again(world, ours)
        wait_until(lambda: ours.shows("news/extra.pdf") == EXTRA, "the extra is on board", 60)
        wait_until(lambda: states(anna)["sync_now"] == "done", "the Hangar has heard of it", 60)
        wait_until(lambda: seen(anna)["content"] == 3, "it knows what is on board", 60)
        # There is no tunnel here.
        assert states(anna)["open_tunnel"] == "refused"
        wait_until(lambda: states(anna)["send_logs"] in {"done", "refused"}, "logs", 60)
        wait_until(lambda: seen(anna)["usage_waiting"] == 0, "no usage waits", 60)
        gate = ours.gate
        assert gate is not None
        assert (gate.says, gate.trouble) == ("all of it is on board, 25 kB", None)
        assert gate.last_heartbeat is not None

        # Nothing is new but the timestamp, by which it is good for longer.
        desk.now += timedelta(days=2)
        assert desk.repository.sign().published.keys() == {"timestamp"}
        expires = desk.load("timestamp").signed.expires
        assert fresh_until(anna) == expires - timedelta(days=2)
        again(world, ours)
        wait_until(lambda: fresh_until(anna) == expires, "the Hangar has heard of it", 90)


def test_the_hangar_knows_what_is_missing_of_a_set_in_force(
    world: World, desk: Ground, hangar: Hangar, anna: httpx.Client
) -> None:
    """A film that is damaged on the ground: the rest is in force without it."""
    film = b"film" * 50_000
    desk.add("films", "dracula", {"dracula.mp4": film})
    desk.add("films", "metropolis", {"metropolis.mp4": film[::-1]})
    desk.publish("news", "today", {"today.pdf": TODAY})
    desk.object("films/metropolis.mp4").write_bytes(film)
    with OnBoard(world, world.folder / "b", desk.root) as ours:
        wait_until(lambda: ours.shows("films/dracula.mp4") == film, "the rest is on board", 60)
        wait_until(lambda: "1 file of set 2" in seen(anna)["missing"], "it is told", 60)
        desk.object("films/metropolis.mp4").write_bytes(film[::-1])
        again(world, ours)
        wait_until(lambda: ours.version() == (2, 0), "all is on board", 60)
        wait_until(lambda: seen(anna)["missing"] == [], "the Hangar has heard of it", 60)
