"""What the project itself puts into the image: a tree of files, laid out as in the image."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from image.settings import ROOT, ImageError

NOT_HERE = {"hangar", "player"}
"""Apps that run on other machines."""

UNIT_FOLDERS = {
    "system-preset": "usr/lib/systemd/system-preset",
    "sysusers.d": "usr/lib/sysusers.d",
    "udev": "usr/lib/udev/rules.d",
}


def server_apps() -> list[str]:
    """The apps that run on the aircraft's server."""
    names = {path.stem.removeprefix("ife-") for path in (ROOT / "units").glob("ife-*.service")}
    extras = {path.name for path in (ROOT / "apps").iterdir()}
    return sorted((names & extras) - NOT_HERE)


def stage(tree: Path) -> None:
    """Copy units, documents, cabin layouts and the crew's page to where the image has them.

    Raises:
        ImageError: something is missing, or nobody knows where it goes.
    """
    _units(tree)
    documents = tree / "usr/share/doc/ife"
    _copy(ROOT / "README.md", documents / "README.md")
    for page in sorted((ROOT / "apps").glob("*/README.md")):
        _copy(page, documents / f"{page.parent.name}.md")
    for layout in sorted((ROOT / "inventory/layouts").glob("*.yml")):
        _copy(layout, tree / "usr/share/ife/layouts" / layout.name)
    static = ROOT / "apps/crew_web/static"
    if not (static / "vendor").exists():
        raise ImageError("the scripts of the crew's page are missing: run `make build`")
    for file in sorted(path for path in static.rglob("*") if path.is_file()):
        _copy(file, tree / "usr/share/ife/crew_web/static" / file.relative_to(static))


def scripts() -> dict[str, str]:
    """The packages of npm that the crew's page has scripts of, with their versions."""
    locked = json.loads((ROOT / "apps/crew_web/package-lock.json").read_text())["packages"]
    return {
        path.removeprefix("node_modules/"): package["version"]
        for path, package in locked.items()
        if path and not package.get("dev")
    }


def _units(tree: Path) -> None:
    others = {f"ife-{app}" for app in NOT_HERE}
    for path in sorted((ROOT / "units").rglob("*")):
        inside = path.relative_to(ROOT / "units")
        # A file of its own, or one in a folder like ife-player.service.d.
        if path.is_dir() or {path.stem, inside.parts[0].partition(".")[0]} & others:
            continue
        folder = inside.parent.name
        if folder.endswith((".service.d", ".socket.d", ".target.d")) or not folder:
            _copy(path, tree / "usr/lib/systemd/system" / inside)
        elif folder in UNIT_FOLDERS:
            _copy(path, tree / UNIT_FOLDERS[folder] / path.name)
        else:
            raise ImageError(f"image/stage.py does not know where units/{inside} goes")


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder, whatever the modes were that it was checked out with."""
    for path in sorted(source.rglob("*")):
        inside = target / path.relative_to(source)
        if path.is_symlink():
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.symlink_to(path.readlink())
        elif path.is_file():
            _copy(path, inside, executable=bool(path.stat().st_mode & 0o100))


def _copy(source: Path, target: Path, *, executable: bool = False) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if executable else 0o644)
