"""Builds the image twice under different circumstances, and compares it byte for byte."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from image.build import alone, build
from image.command import run
from image.settings import BUILD, ROOT, Build, ImageError
from image.tools import newest

SHOW = Path(__file__).with_name("show_difference.sh")
CHECK_SUMS = "SHA256SUMS"
LEFT_OUT = ("build", "*_cache", "node_modules", ".venv", ".hypothesis")
TIMEOUT = 3600


def check(options: Build) -> None:
    """Build here, then elsewhere and otherwise from the lock of the first, and compare.

    The second build has another checkout, output folder, umask, time zone and locale, a later
    time, and a tools root made anew.

    Raises:
        ImageError: they are not the same; diffoscope has shown where.
    """
    build(options)
    with tempfile.TemporaryDirectory(prefix="check-", dir=BUILD) as folder:
        other = Path(folder) / "out"
        _build_elsewhere(options, Path(folder) / "checkout", other)
        differing = difference(options.output, other)
        if differing:
            _show(options, other, differing)
            raise ImageError(f"two builds differ in {', '.join(differing)}")
    print(f"Two builds are the same:\n{(options.output / CHECK_SUMS).read_text()}", end="")


def _build_elsewhere(options: Build, checkout: Path, output: Path) -> None:
    old = os.umask(0o077)
    try:
        shutil.copytree(
            ROOT,
            checkout,
            symlinks=True,
            ignore=shutil.ignore_patterns(*LEFT_OUT),
            copy_function=_copy,
        )
        # Ignored by git, yet part of the crew's page.
        vendor = "apps/crew_web/static/vendor"
        shutil.copytree(ROOT / vendor, checkout / vendor, copy_function=_copy, dirs_exist_ok=True)
    finally:
        os.umask(old)
    with alone(options.cache):
        shutil.rmtree(options.cache / "tools")
    command = [
        *(sys.executable, "-B", "-m", "image", "build", "--out", str(output)),
        *("--lock", str(options.output / "packages.lock"), "--cache", str(options.cache)),
        *("--mirror", options.source.mirror, "--suite", options.source.suite),
        *(("--snapshot", options.source.snapshot) if options.source.snapshot else ()),
        *(("--keys", str(options.keys)) if options.keys else ()),
    ]
    run(
        command,
        "build a second time",
        TIMEOUT,
        cwd=checkout,
        environment=os.environ | {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "HOME": str(checkout)},
        umask=0o077,
    )


def _copy(source: str, target: str) -> None:
    """Copy a file as somebody with another umask would have checked it out."""
    shutil.copyfile(source, target)
    executable = Path(source).stat().st_mode & 0o100
    Path(target).chmod(0o700 if executable else 0o600)


def difference(one: Path, other: Path) -> list[str]:
    """The names of files that are not the same in two folders, by their sums."""
    sums = [_sums(folder) for folder in (one, other)]
    names = sums[0].keys() | sums[1].keys()
    return sorted(name for name in names if sums[0].get(name) != sums[1].get(name))


def _sums(folder: Path) -> dict[str, str]:
    lines = (folder / CHECK_SUMS).read_text().splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _show(options: Build, other: Path, differing: list[str]) -> None:
    with tempfile.TemporaryDirectory(dir=BUILD) as work:
        newest(options.cache / "tools").run(
            ["/usr/local/bin/show_difference", *differing],
            "show the difference",
            {
                SHOW: "/usr/local/bin/show_difference",
                options.output: "/one",
                other: "/other",
                Path(work): "/work",
            },
            {},
        )
