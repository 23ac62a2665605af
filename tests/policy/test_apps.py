"""Every app has one shape, so that a newcomer who knows one knows them all."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APPS = sorted(
    folder.name
    for folder in (ROOT / "apps").iterdir()
    if (folder / "__init__.py").exists() and folder.name != "common"
)
ON_THE_GROUND = {"publish"}
"""Commands that people run on the ground: no aircraft has them, so there is no unit."""

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_there_are_apps() -> None:
    assert {"seat_control", "crew_web", "player"} <= set(APPS)


@pytest.mark.parametrize("app", APPS)
def test_an_app_explains_itself(app: str) -> None:
    """A README of a page: what it does, its interface, its unit, how it fails."""
    text = (ROOT / "apps" / app / "README.md").read_text()
    assert text.startswith(f"# {app}\n")
    for heading in ("## What it does", "## Interface", "## Unit", "## How it fails"):
        assert heading in text, heading
    assert 20 <= len(text.splitlines()) <= 150


@pytest.mark.parametrize("app", APPS)
def test_an_app_has_tests_a_unit_and_an_extra(app: str) -> None:
    """One name: the folder, the import, the unit, the extra."""
    assert list((ROOT / "apps" / app / "tests").glob("test_*.py"))
    assert (ROOT / "units" / f"ife-{app}.service").exists() == (app not in ON_THE_GROUND)
    assert app in PROJECT["project"]["optional-dependencies"]
    assert (
        f"ife[{','.join(PROJECT['project']['optional-dependencies'])}]"
        in (PROJECT["dependency-groups"]["dev"])
    )


@pytest.mark.parametrize("app", sorted(ON_THE_GROUND))
def test_a_command_of_the_ground_is_installed_by_its_name(app: str) -> None:
    """What people run is a command, not a module of Python."""
    assert PROJECT["project"]["scripts"][f"ife-{app}"] == f"apps.{app}.__main__:main"


@pytest.mark.parametrize("app", APPS)
def test_an_app_imports_and_says_what_it_is(app: str) -> None:
    assert importlib.import_module(f"apps.{app}").__doc__


@pytest.mark.parametrize("app", APPS)
def test_apps_meet_in_common_only(app: str) -> None:
    """An app that imports another cannot be installed, or changed, without it."""
    others = [other for other in APPS if other != app]
    for path in (ROOT / "apps" / app).rglob("*.py"):
        text = path.read_text()
        for other in others:
            assert f"apps.{other}" not in text, f"{path} imports {other}"


def test_common_imports_no_app() -> None:
    for path in (ROOT / "apps" / "common").rglob("*.py"):
        for app in APPS:
            assert f"import apps.{app}" not in path.read_text()
            assert f"from apps.{app}" not in path.read_text()


def test_uv_is_pinned_once() -> None:
    """`make install` fetches the uv that the lock was made with."""
    pins = [entry for entry in PROJECT["dependency-groups"]["dev"] if str(entry).startswith("uv==")]
    assert pins == [f"uv{PROJECT['tool']['uv']['required-version']}"]
