"""What the Hangar's tests share: a real PostgreSQL, a Hangar on a new database of it, a client."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from flask.testing import FlaskClient
from nacl.signing import SigningKey

from apps.common import usage
from apps.common.gate import AIRCRAFT_HEADER, OPERATOR_HEADER, Heartbeat, Space
from apps.common.testing import PostgresServer, wait_until
from apps.common.usage import BatchHead, Record
from apps.hangar.app import create_app
from apps.hangar.service import Hangar
from apps.hangar.settings import HangarSettings

KEYS = {name: SigningKey(name.encode().ljust(32)) for name in ("EC-LAB", "EC-TWO")}
EC_LAB = {AIRCRAFT_HEADER: "EC-LAB"}
ANNA = {OPERATOR_HEADER: "anna"}
OWNER = "ife-hangar"


def fleet_file(folder: Path) -> Path:
    """A fleet of two."""
    path = folder / "fleet.json"
    aircraft = [
        {
            "registration": name,
            "type": "A330-300",
            "usage_keys": [base64.urlsafe_b64encode(bytes(key.verify_key)).decode().rstrip("=")],
        }
        for name, key in KEYS.items()
    ]
    path.write_text(json.dumps({"aircraft": aircraft}))
    return path


def publish(folder: Path, version: int, **kinds: int) -> None:
    """A repository's metadata, as far as the Hangar reads it."""
    metadata = folder / "metadata"
    metadata.mkdir(parents=True, exist_ok=True)

    def write(name: str, signed: dict[str, dict[str, object]]) -> None:
        (metadata / name).write_text(json.dumps({"signed": signed, "signatures": []}))

    def meta(**versions: int) -> dict[str, dict[str, object]]:
        return {"meta": {f"{name}.json": {"version": it} for name, it in versions.items()}}

    for kind, number in kinds.items():
        write(f"{number}.{kind}.json", {"targets": {f"{kind}/catalogue.json": {}}})
    # Of the shop nothing was ever published.
    write("1.shop.json", {"targets": {}})
    write(f"{version}.snapshot.json", meta(root=1, targets=1, shop=1, **kinds))
    write("timestamp.json", meta(snapshot=version))


def batch(
    *records: Record, number: int = 1, spool: UUID | None = None, registration: str = "EC-LAB"
) -> bytes:
    """A batch of records of one kind."""
    head = BatchHead(
        registration=registration, spool=spool or uuid4(), number=number, kind=records[0].kind
    )
    return usage.seal(KEYS[registration], head, [usage.line(record) for record in records])


def heartbeat(**more: object) -> Heartbeat:
    """A heartbeat of EC-LAB's."""
    return Heartbeat.model_validate(
        {
            "registration": "EC-LAB",
            "at": usage.now(),
            "boot_id": "a" * 32,
            "space": Space(free=10**9, total=4 * 10**9),
            **more,
        }
    )


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    """A new database of the Hangar's."""
    return postgres.create(OWNER)


@pytest.fixture
def hangar(postgres: PostgresServer, database: str, tmp_path: Path) -> Iterator[Hangar]:
    """A Hangar that is up."""
    hangar = Hangar(
        HangarSettings(
            database_url=postgres.url(database, OWNER),
            fleet_file=fleet_file(tmp_path),
            state_directory=tmp_path / "state",
            content_directory=tmp_path / "content",
        )
    )
    hangar.start()
    wait_until(lambda: hangar.health.report().ready, "the Hangar is ready", 20)
    yield hangar
    hangar.close()


@pytest.fixture
def client(hangar: Hangar) -> FlaskClient:
    """A client of it, which may say in a header who it is, as nginx does."""
    return create_app(hangar).test_client()
