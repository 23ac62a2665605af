"""What the tests of the roles share: the certificates of two aircraft."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.common.testing import PostgresServer, wait_until
from bench.gate.hangar import Hangar
from tests.roles import ground as grounds
from tests.roles.ground import Ground, HangarDatabase
from tests.roles.helpers import LAYOUT, Pki, Run


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pki, Run]:
    """The certificates of EC-LAB, as the playbook makes them in an empty folder."""
    folder = tmp_path_factory.mktemp("pki")
    layout = folder / "layout.yml"
    layout.write_text(LAYOUT)
    pki = Pki(folder / "EC-LAB", "EC-LAB", folder / "offline", layout)
    return pki, pki.run()


@pytest.fixture(scope="session")
def pki(first_run: tuple[Pki, Run]) -> Pki:
    """The certificates of EC-LAB. A test that changes them puts them right again."""
    made, run = first_run
    assert not run.failed, run.errors
    return made


@pytest.fixture(scope="session")
def other_pki(pki: Pki) -> Pki:
    """The certificates of EC-TWO, another aircraft of the airline."""
    other = Pki(pki.directory.parent / "EC-TWO", "EC-TWO", pki.authority, pki.layout)
    run = other.run()
    assert not run.failed, run.errors
    return other


@pytest.fixture(scope="session")
def ground(pki: Pki, other_pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """The Hangar's keys, and those of the two aircraft."""
    return grounds.make(tmp_path_factory.mktemp("ground"), pki, other_pki)


@pytest.fixture(scope="session")
def hangar_database(postgres: PostgresServer) -> HangarDatabase:
    """The Hangar's database."""
    return HangarDatabase(postgres, postgres.create("ife-hangar"))


@pytest.fixture(scope="session")
def hangar(ground: Ground, hangar_database: HangarDatabase) -> Iterator[Hangar]:
    """A Hangar that EC-LAB and EC-TWO may come to, EC-TWO's certificate being revoked."""
    revoked = subprocess.run(
        ["openssl", "x509", "-noout", "-serial", "-in", ground.aircraft["EC-TWO"] / "gate.crt"],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    ).stdout.strip()
    with (
        tempfile.TemporaryDirectory(prefix="ife-") as folder,
        Hangar(
            Path(folder),
            ground.keys,
            hangar_database.url,
            Path(folder) / "content",
            [revoked.removeprefix("serial=")],
        ) as hangar,
    ):
        with ground.browser(hangar.url, "hangar/operators/anna") as anna:
            wait_until(lambda: anna.get("/").status_code == 200, "the Hangar is up", 30, every=0.1)
        yield hangar
