"""``ife-content`` as it is installed, against content_sync as its unit starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.common.content import ContentState, Job
from apps.common.testing import RedisServer, listens, wait_until
from bench.units import Where, load
from tests.content.helpers import NOW, Ground, shown

BIN = Path(sys.executable).parent
UNITS = Path(__file__).parents[2] / "units"


@pytest.fixture
def socket(ground: Ground, short_tmp: Path) -> Iterator[Path]:
    """content_sync, behind this socket."""
    path = short_tmp / "content_sync.sock"
    with RedisServer(short_tmp) as redis:
        environment = os.environ | {
            "IFE_REGISTRATION": "EC-LAB",
            "IFE_REDIS_URL": redis.url,
            "IFE_BOOT_ID": "0" * 32,
            "IFE_RUNTIME_DIRECTORY": str(short_tmp),
            "IFE_AIRLINE": "EXA",
            "IFE_CONTENT_DIRECTORY": str(short_tmp / "store"),
            "IFE_CONTENT_ROOT": str(ground.folder / "root.json"),
        }
        unit = load(
            UNITS, "content_sync", Where({}, {"S": "/var/lib", "b": "", "t": "/run"}, short_tmp)
        )
        process = subprocess.Popen(
            [BIN / "gunicorn", *unit.argv[1:], f"--bind=unix:{path}"],
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: path.exists() and listens(path), "it listens", 60)
            yield path
        finally:
            process.terminate()
            process.wait(timeout=20)


def _run(socket: Path, *arguments: object, status: int = 0) -> str:
    done = subprocess.run(
        [BIN / "ife-content", "--socket", socket, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_from_nothing_to_a_rollback(ground: Ground, socket: Path) -> None:
    assert "There is no content yet." in _run(socket, "status")
    assert "no former set" in _run(socket, "rollback", status=1)
    for text in (b"first", b"second"):
        ground.publish("news", "today", {"today.pdf": text})
        said = _run(socket, "import", ground.published)
        assert f"All of it is on board: set {ground.repository.version}." in said
    assert "Nothing new" in _run(socket, "import", ground.published)
    assert "as it was signed" in _run(socket, "verify")
    said = _run(socket, "status")
    assert f"In force: set 3 of {NOW:%Y-%m-%d}, 2 files" in said
    assert "Former:   set 2" in said
    assert "In force: set 2" in _run(socket, "rollback")
    assert "gone back from" in _run(socket, "import", ground.published)
    assert "In force: set 3" in _run(socket, "rollback")
    store = socket.parent / "store"
    assert set(shown(store)) == {"news/catalogue.json", "news/today.pdf"}
    assert store.joinpath("current/news/today.pdf").stat().st_mode & 0o337 == 0, "it is read only"


def test_for_machines(ground: Ground, socket: Path) -> None:
    ground.publish("films", "film", {"film.mp4": bytes(20_000_000)})
    lines = _run(socket, "import", ground.published, "--json").splitlines()
    jobs = [Job.model_validate_json(line) for line in lines]
    assert jobs[-1].state == "done"
    state = ContentState.model_validate_json(_run(socket, "status", "--json"))
    assert state.current is not None
    assert state.current.files == 2
    assert json.loads(_run(socket, "verify", "--json").splitlines()[-1])["state"] == "done"


def test_what_fails_is_said(ground: Ground, socket: Path, tmp_path: Path) -> None:
    ground.publish("news", "today", {"today.pdf": b"news"})
    assert "there is no content" in _run(socket, "import", tmp_path, status=1)
    ground.object("news/today.pdf").write_bytes(b"lies")
    said = _run(socket, "import", ground.published, status=1)
    assert "get another copy" in said
    assert "get another copy" in _run(socket, "status")
    said = _run(tmp_path / "nobody", "status", status=1)
    assert "systemctl status ife-content_sync" in said
    _run(socket, "improt", status=2)


def test_a_wrong_setting_ends_it_with_a_line_that_names_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from apps.content_sync.app import create_app; create_app()"],
        env=os.environ
        | {
            "IFE_REGISTRATION": "EC-LAB",
            "IFE_BOOT_ID": "0" * 32,
            "IFE_RUNTIME_DIRECTORY": str(tmp_path),
            "IFE_AIRLINE": "EXA",
            "IFE_CONTENT_DIRECTORY": str(tmp_path),
            "IFE_CONTENT_ROOT": "/dev/null",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 4
    assert "IFE_CONTENT_ROOT: the airline's root metadata is none" in done.stderr
