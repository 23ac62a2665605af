"""What is wrong at the start, as the unit's own command says it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from apps.common.testing import ask_manhole
from apps.crew_web.settings import CrewWebSettings

GUNICORN = (
    str(Path(sys.executable).parent / "gunicorn"),
    *("--worker-class", "gthread", "--workers", "1", "--no-control-socket"),
)


def variables_of(settings: CrewWebSettings) -> dict[str, str]:
    return {
        f"IFE_{name.upper()}": str(value)
        for name, value in settings.model_dump(exclude_none=True).items()
    }


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("IFE_CREW_FILE", None, "IFE_CREW_FILE"),
        ("IFE_CREW_FILE", "/nowhere/crew.json", "/nowhere/crew.json"),
        ("IFE_LAYOUT", "/nowhere/layout.yml", "/nowhere/layout.yml"),
        ("IFE_STATE_DIRECTORY", "/nowhere", "/nowhere"),
        ("IFE_REDIS_URL", "redis", "IFE_REDIS_URL"),
    ],
)
def test_a_wrong_start_ends_with_a_line_that_says_why(
    settings: CrewWebSettings, tmp_path: Path, variable: str, value: str | None, named: str
) -> None:
    variables = variables_of(settings)
    variables[variable] = value or ""
    if value is None:
        del variables[variable]
    done = subprocess.run(
        [*GUNICORN, "--bind", f"unix:{tmp_path}/crew_web.sock", "apps.crew_web.app:create_app()"],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("crew_web:")]
    assert named in said
    assert "Traceback" not in done.stderr
    assert done.returncode != 0


def test_its_manhole_is_in_the_worker_and_knows_the_app(
    settings: CrewWebSettings, tmp_path: Path
) -> None:
    path = tmp_path / "manhole.sock"
    process = subprocess.Popen(
        [*GUNICORN, "--bind", f"unix:{tmp_path}/crew_web.sock", "apps.crew_web.app:create_app()"],
        env=os.environ | variables_of(settings) | {"IFE_MANHOLE": str(path)},
        stderr=subprocess.DEVNULL,
    )
    try:
        told = ask_manhole(path, "web.settings.registration", "__import__('os').getppid()")
        assert "'EC-LAB'" in told
        assert f">>> {process.pid}\n" in told
    finally:
        process.terminate()
        process.wait(timeout=20)
