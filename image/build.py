"""Builds the image: lock, packages, tools root, code, mkosi, checksums."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from apps.common.files import take_lock
from image import debian, lock, sbom, stage, wheels
from image.checkout import look
from image.lock import Lock
from image.settings import BUILD, IMAGE_ID, ROOT, Build, ImageError
from image.tools import Tools, tools

HERE = Path(__file__).parent
LOCK_TIMEOUT = 3600
"""Seconds to wait for another build."""


def build(options: Build) -> None:
    """Build the image into the output folder, in place of what is there.

    Raises:
        ImageError: it cannot be built.
    """
    if os.geteuid() != 0:
        raise ImageError("building takes root rights: use `make image`, which asks for them")
    for path in (ROOT, options.output, options.cache):
        if re.search(r"[\s:]", str(path)):
            raise ImageError(f"{path}: Debian's tools take no path with a space or a colon")
    if options.keys:
        _check_keys(options.keys)
    os.umask(0o022)
    options.cache.mkdir(parents=True, exist_ok=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with alone(options.cache), tempfile.TemporaryDirectory(dir=options.output.parent) as work:
            _build(options, Path(work))
    finally:
        # What others put files into is for whoever owns the checkout, not for root.
        owner = ROOT.stat()
        for path in (BUILD, options.output, *options.output.glob("*")):
            if path.exists():
                os.chown(path, owner.st_uid, owner.st_gid)


@contextmanager
def alone(cache: Path) -> Iterator[None]:
    """Wait until no other build uses `cache`.

    Raises:
        ImageError: one does for longer than two builds take.
    """
    with (cache / "lock").open("a+") as file:
        if not take_lock(file.fileno(), 0):
            file.seek(0)
            who = f"{cache} is in use by process {file.read().strip() or '?'}"
            print(f"{who}: waiting for its end", flush=True)
            if not take_lock(file.fileno(), LOCK_TIMEOUT):
                raise ImageError(f"{who}, for more than {LOCK_TIMEOUT // 60} min")
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _build(options: Build, work: Path) -> None:
    names = package_names()
    checkout = look(ROOT)
    name = f"{IMAGE_ID}_{checkout.version}"
    chosen = _lock(options, names)
    files = debian.fetch(chosen, options.source, options.cache / "debian")
    repository = options.cache / "repository"
    debian.repository(files, repository, chosen.suite)
    inside = tools(chosen, names["tools"], repository, options.cache / "tools")
    keys = options.keys or _test_keys(options.cache, inside)

    requirements = wheels.fetch(stage.server_apps(), options.cache / "uv", work)
    tree = work / "tree"
    stage.stage(tree)
    wheels.install(inside, requirements, options.cache / "uv", tree, checkout.epoch)

    configuration = _configuration(names, work / "mkosi", options.cache / "uv")
    room = work / "room"
    for folder in ("output", "package-cache", "workspace"):
        (room / folder).mkdir(parents=True)
    inside.run(
        [
            *("mkosi", "--directory=/project", f"--release={chosen.suite}"),
            *(f"--image-version={checkout.version}", f"--source-date-epoch={checkout.epoch}"),
            "build",
        ],
        "build the image with mkosi",
        {
            configuration: "/project",
            repository: "/packages",
            tree: "/tree",
            keys: "/keys",
            room: "/build",
            HERE / "wrappers": "/wrappers",
        },
        {"SOURCE_DATE_EPOCH": str(checkout.epoch)},
    )

    output = work / "output"
    output.mkdir()
    for suffix in ("raw", "efi", "manifest"):
        (room / f"output/{name}.{suffix}").rename(output / f"{name}.{suffix}")
    (output / "packages.lock").write_text(lock.dump(chosen))
    (output / f"{name}.cdx.json").write_text(
        sbom.sbom(chosen, wheels.installed(tree), stage.scripts(), checkout)
    )
    _check_sums(output)
    shutil.rmtree(options.output, ignore_errors=True)
    output.rename(options.output)
    if not options.keys:
        print(f"Signed with the test key of {keys}: for the lab, not for aircraft", flush=True)


def package_names() -> dict[str, list[str]]:
    """The packages by what they are for: those asked for, without what they depend on."""
    names = {what: _names(what) for what in ("tools", "image", "initrd")}
    for file in sorted((ROOT / "roles").glob("*/vars/main.yml")):
        if file.parents[1].name in stage.NOT_HERE:
            continue
        variables: dict[str, Any] = YAML(typ="safe").load(file)
        names["image"] += variables.get(f"{file.parents[1].name}_packages", [])
    return {what: sorted(set(packages)) for what, packages in names.items()}


def _names(what: str) -> list[str]:
    lines = (HERE / f"packages/{what}.txt").read_text().splitlines()
    return [name for line in lines if (name := line.partition("#")[0].strip())]


def _lock(options: Build, names: dict[str, list[str]]) -> Lock:
    if options.lock is not None:
        try:
            text = options.lock.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ImageError(f"the lock {options.lock} cannot be read: {error}") from error
        chosen = lock.load(text)
        lock.check(chosen, names)
        return chosen
    apt = debian.Apt(options.cache / "debian/apt", options.source)
    apt.update()
    sets = {what: apt.resolve(packages) for what, packages in names.items()}
    return lock.lock(options.source.suite, sets)


def _check_keys(keys: Path) -> None:
    """See that the key that signs for Secure Boot is in a folder.

    Raises:
        ImageError: it is not.
    """
    for name in ("secureboot.key", "secureboot.crt"):
        if not (keys / name).exists():
            raise ImageError(f"{keys / name} is missing")


def _test_keys(cache: Path, inside: Tools) -> Path:
    """The folder with a test key."""
    keys = cache / "test-keys"
    if not keys.exists():
        new = cache / "test-keys.new"
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


def _configuration(names: dict[str, list[str]], folder: Path, cache: Path) -> Path:
    """What mkosi is told, with the playbooks that run inside the image."""
    stage.copy_tree(HERE / "mkosi", folder)
    for source in ("roles", "playbooks"):
        stage.copy_tree(ROOT / source, folder / source)
    wheels.ansible(cache, folder / "ansible")
    _write_packages(folder, names["image"])
    _write_packages(folder / "mkosi.images/initrd", names["initrd"])
    return folder


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
