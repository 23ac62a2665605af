"""Builds the image: lock, packages, tools root, code, mkosi, checksums."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from image import debian, lock, sbom, stage, wheels
from image.command import run
from image.lock import Lock
from image.settings import IMAGE_ID, ROOT, Build, ImageError, version
from image.tools import Tools, tools

HERE = Path(__file__).parent
EPOCH = 1_767_225_600
"""2026-01-01: the time of files in an image built outside a git checkout."""

GIT_TIMEOUT = 60


def build(options: Build) -> None:
    """Build the image into the output folder, in place of what is there.

    Raises:
        ImageError: it cannot be built.
    """
    if os.geteuid() != 0:
        raise ImageError("building takes root rights: use `make image`, which asks for them")
    os.umask(0o022)
    options.cache.mkdir(parents=True, exist_ok=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with _alone(options.cache), tempfile.TemporaryDirectory(dir=options.output.parent) as work:
        _build(options, Path(work))
    for path in (options.output, *options.output.iterdir()):
        # For whoever owns the checkout, not for root.
        os.chown(path, ROOT.stat().st_uid, ROOT.stat().st_gid)


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    with (cache / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(options: Build, work: Path) -> None:
    names = package_names()
    chosen = _lock(options, names)
    files = debian.fetch(chosen, options.source, options.cache / "debian")
    repository = options.cache / "repository"
    debian.repository(files, repository, chosen.suite)
    inside = tools(chosen, names["tools"], repository, options.cache / "tools")

    apps = stage.server_apps()
    epoch = source_date_epoch()
    requirements = wheels.fetch(apps, options.cache / "uv", work)
    tree = work / "tree"
    stage.stage(tree)
    wheels.install(inside, requirements, options.cache / "uv", tree, epoch)

    output = work / "output"
    output.mkdir()
    keys = _keys(options, inside)
    _mkosi(inside, chosen, names, repository, tree, output, work, keys, options.cache / "uv", epoch)
    (output / "packages.lock").write_text(lock.dump(chosen))
    (output / f"{IMAGE_ID}_{version()}.cdx.json").write_text(
        sbom.sbom(chosen, requirements.read_text(), epoch)
    )
    _check_sums(output)
    shutil.rmtree(options.output, ignore_errors=True)
    output.rename(options.output)


def package_names() -> dict[str, list[str]]:
    """The packages by what they are for: those asked for, without what they depend on."""
    names = {what: _names(what) for what in ("tools", "image", "initrd")}
    for file in sorted((ROOT / "roles").glob("*/vars/main.yml")):
        variables: dict[str, Any] = YAML(typ="safe").load(file)
        names["image"] += variables.get(f"{file.parents[1].name}_packages", [])
    return {what: sorted(set(packages)) for what, packages in names.items()}


def _names(what: str) -> list[str]:
    lines = (HERE / f"packages/{what}.txt").read_text().splitlines()
    return [name for line in lines if (name := line.partition("#")[0].strip())]


def _lock(options: Build, names: dict[str, list[str]]) -> Lock:
    if options.lock is not None:
        chosen = lock.load(options.lock.read_text())
        lock.check(chosen, names)
        return chosen
    apt = debian.Apt(options.cache / "debian/apt", options.source)
    apt.update()
    sets = {what: apt.resolve(packages) for what, packages in names.items()}
    return lock.lock(options.source.suite, sets)


def source_date_epoch() -> int:
    """The time of the files in the image, in seconds: that of the last commit."""
    if not (ROOT / ".git").exists():
        return EPOCH
    told = run(
        ["git", "log", "-1", "--format=%ct"],
        "ask git for the time of the last commit",
        GIT_TIMEOUT,
        cwd=ROOT,
        capture=True,
    )
    return int(told)


def _keys(options: Build, inside: Tools) -> Path:
    """The folder with the key that signs for Secure Boot; a test key where none was given."""
    if options.keys is not None:
        for name in ("secureboot.key", "secureboot.crt"):
            if not (options.keys / name).exists():
                raise ImageError(f"{options.keys / name} is missing")
        return options.keys
    keys = options.cache / "test-keys"
    if not keys.exists():
        new = options.cache / "test-keys.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        inside.run(
            [
                *("openssl", "req", "-quiet", "-x509", "-newkey", "rsa:2048", "-noenc"),
                *("-subj", "/CN=ife test key, not for aircraft/", "-days", "3650"),
                *("-keyout", "/keys/secureboot.key", "-out", "/keys/secureboot.crt"),
            ],
            "make a test key",
            {new: "/keys"},
            {},
        )
        new.rename(keys)
    return keys


def _mkosi(
    inside: Tools,
    chosen: Lock,
    names: dict[str, list[str]],
    repository: Path,
    tree: Path,
    output: Path,
    work: Path,
    keys: Path,
    cache: Path,
    epoch: int,
) -> None:
    configuration = work / "mkosi"
    stage.copy_tree(HERE / "mkosi", configuration)
    for folder in ("roles", "playbooks"):
        stage.copy_tree(ROOT / folder, configuration / folder)
    wheels.ansible(cache, configuration / "ansible")
    _write_packages(configuration, names["image"])
    _write_packages(configuration / "mkosi.images/initrd", names["initrd"])
    room = work / "room"
    for name in ("output", "package-cache", "workspace"):
        (room / name).mkdir(parents=True)
    inside.run(
        [
            *("mkosi", "--directory=/project", f"--release={chosen.suite}"),
            *(f"--image-version={version()}", f"--source-date-epoch={epoch}", "build"),
        ],
        "build the image with mkosi",
        {
            configuration: "/project",
            repository: "/packages",
            tree: "/tree",
            keys: "/keys",
            room: "/build",
        },
        {"SOURCE_DATE_EPOCH": str(epoch)},
    )
    for suffix in ("raw", "efi", "manifest"):
        file = f"{IMAGE_ID}_{version()}.{suffix}"
        (room / "output" / file).rename(output / file)


def _write_packages(configuration: Path, names: list[str]) -> None:
    folder = configuration / "mkosi.conf.d"
    folder.mkdir(exist_ok=True)
    lines = "".join(f"    {name}\n" for name in names)
    (folder / "packages.conf").write_text(f"[Content]\nPackages=\n{lines}")


def _check_sums(output: Path) -> None:
    lines = []
    for file in sorted(output.iterdir()):
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        lines.append(f"{digest}  {file.name}\n")
    (output / "SHA256SUMS").write_text("".join(lines))
