"""The apps' code for the image: from uv.lock by its hashes, compiled, in /opt/ife."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

from image.command import run
from image.settings import ROOT
from image.tools import Tools

UV = Path(sys.executable).with_name("uv")
PROJECT = "ife"
PYTHON = "3.13"
PLATFORM = "x86_64-manylinux_2_40"
TIMEOUT = 900
INSTALL = Path(__file__).with_name("install_code.sh")


def fetch(apps: Sequence[str], cache: Path, work: Path) -> Path:
    """Have the wheels of `apps` in uv's cache, those for the image's Python; the requirements.

    Raises:
        ImageError: they cannot be had.
    """
    requirements = work / "requirements.txt"
    _uv(
        [
            *("export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "--no-header"),
            *("--no-annotate", *(f"--extra={app}" for app in apps)),
            *("--output-file", str(requirements)),
        ],
        cache,
    )
    # Installed for nothing but to fill the cache, since uv has no way to only download.
    _install(requirements, work / "wheels", cache)
    return requirements


def installed(tree: Path) -> dict[str, str]:
    """The packages in ``/opt/ife`` of `tree` that are not ours, with their versions."""
    (packages,) = (tree / "opt/ife/lib").glob("python3*/site-packages")
    return {d.name: d.version for d in distributions(path=[str(packages)]) if d.name != PROJECT}


def ansible(cache: Path, target: Path) -> None:
    """Install the controller's ansible-core into `target`, for the image's Python.

    It takes part in the build, and does not stay in the image.

    Raises:
        ImageError: it cannot be had.
    """
    requirements = target.with_suffix(".txt")
    _uv(
        [
            *("export", "--quiet", "--frozen", "--only-group=ground", "--no-emit-package=ansible"),
            *("--no-header", "--no-annotate", "--output-file", str(requirements)),
        ],
        cache,
    )
    _install(requirements, target, cache)


def _install(requirements: Path, target: Path, cache: Path) -> None:
    _uv(
        [
            *("pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"),
            *(f"--python-version={PYTHON}", f"--python-platform={PLATFORM}"),
            *("--link-mode=copy", f"--target={target}", f"--requirements={requirements}"),
        ],
        cache,
    )


def _uv(arguments: Sequence[str], cache: Path) -> None:
    run(
        [str(UV), "--cache-dir", str(cache), *arguments],
        "have the Python packages",
        TIMEOUT,
        cwd=ROOT,
        environment={name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"},
    )


def install(tools: Tools, requirements: Path, cache: Path, tree: Path, epoch: int) -> None:
    """Install the code into ``/opt/ife`` of `tree`, without the network.

    The tools root has the image's Python at the same place, so what is made there fits here.

    Raises:
        ImageError: it cannot be installed.
    """
    (tree / "opt/ife").mkdir(parents=True)
    tools.run(
        ["/usr/local/bin/install_code"],
        "install the code",
        {
            UV: "/usr/local/bin/uv",
            INSTALL: "/usr/local/bin/install_code",
            ROOT: "/src",
            cache: "/cache",
            requirements: "/requirements.txt",
            tree / "opt/ife": "/opt/ife",
        },
        {"SOURCE_DATE_EPOCH": str(epoch), "UV_CACHE_DIR": "/cache", "UV_OFFLINE": "1"},
    )
