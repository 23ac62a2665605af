"""Every app has one shape, so that a newcomer who knows one knows them all."""

from __future__ import annotations

import ast
import importlib
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def _source(module: str) -> Path | None:
    """The file of a module of ours; None: it is somebody else's, or a name in a module."""
    top = ROOT / module.replace(".", "/")
    files = (top / "__init__.py", top.with_name(f"{top.name}.py"))
    return next((file for file in files if module.startswith("apps") and file.exists()), None)


@cache
def _imports(module: str) -> tuple[str, ...]:
    """What a module of ours imports when it runs: names of modules, ours and others'."""
    source = _source(module)
    assert source is not None
    tree = ast.parse(source.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = [f"{node.module}.{name.name}" for name in node.names]
            found += [node.module, *filter(_source, below)]
    return tuple(found)


def _modules(app: str) -> Iterator[str]:
    """All modules of an app, and those of apps.common that they come to."""
    folder = ROOT / "apps" / app
    waiting = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in folder.rglob("*.py")
        if not {"tests", "node_modules"} & set(path.relative_to(folder).parts)
    ]
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            yield module
            waiting += filter(_source, _imports(module))


def _brought(requirements: list[str]) -> set[str]:
    """All distributions that come with requirements, as they are installed here."""
    waiting = [(Requirement(text), "") for text in requirements]
    seen: set[str] = set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        if name not in seen:
            seen.add(name)
            needs = [Requirement(text) for text in metadata.requires(name) or ()]
            extras = requirement.extras or {""}
            waiting += [(need, extra) for need in needs for extra in extras]
    return seen


@pytest.mark.parametrize("app", APPS)
def test_an_app_runs_with_its_own_extra_alone(app: str) -> None:
    """Where it is the only one, as on a seat and on the ground, no other's packages are there."""
    project = PROJECT["project"]
    there = _brought([*project["dependencies"], *project["optional-dependencies"][app]])
    owners = metadata.packages_distributions()
    missing = {
        (module, top)
        for module in _modules(app)
        for name in _imports(module)
        if not _source(name)
        and (top := name.partition(".")[0]) not in sys.stdlib_module_names
        and not there & {canonicalize_name(owner) for owner in owners.get(top, ())}
    }
    assert missing == set()


def test_common_imports_no_app() -> None:
    for path in (ROOT / "apps" / "common").rglob("*.py"):
        for app in APPS:
            assert f"import apps.{app}" not in path.read_text()
            assert f"from apps.{app}" not in path.read_text()


def test_uv_is_pinned_once() -> None:
    """`make install` fetches the uv that the lock was made with."""
    pins = [entry for entry in PROJECT["dependency-groups"]["dev"] if str(entry).startswith("uv==")]
    assert pins == [f"uv{PROJECT['tool']['uv']['required-version']}"]
