"""Debian packages: which there are, and their files; all by the host's apt, apart from its own.

The host's apt is used with a folder of its own, so that neither what is installed here nor how
apt is configured here makes a difference, and the keys of Debian's archives, not the host's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import httpx

from image.command import run
from image.lock import Lock, Package, parse_uris
from image.settings import ARCHITECTURE, ImageError, Source

APT_HELPER = "/usr/lib/apt/apt-helper"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
TIMEOUT = 1800
"""Seconds that all downloads together may take; a stalled one is given up by apt long before."""
ANSWER_TIMEOUT = 30
"""Seconds for a mirror to say whether it has a file."""


class Apt:
    """The host's apt, in a folder of its own."""

    def __init__(self, folder: Path, source: Source) -> None:
        self._folder = folder
        self._source = source
        for name in ("etc/apt.conf.d", "etc/preferences.d", "lists/partial", "cache/partial"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "status").write_text("")
        (folder / "etc/sources.list").write_text(_sources(source))
        (folder / "apt.conf").write_text(_configuration(folder))

    def update(self) -> None:
        """Fetch the lists of packages."""
        self._run(["apt-get", "update", "-qq", "--error-on=any"], "read Debian's lists of packages")

    def resolve(self, names: Sequence[str]) -> list[Package]:
        """All packages that it takes to have these, on an empty machine, without recommendations.

        Raises:
            ImageError: there is no such set.
        """
        essential = ("?essential", "base-files")
        said = self._run(
            ["apt-get", "install", "--print-uris", "-qq", "--yes", *essential, *names],
            f"resolve {' '.join(names)}",
            capture=True,
        )
        return parse_uris(said, self._source)

    def download(self, wanted: Sequence[tuple[str, Path, str]]) -> None:
        """Fetch files: URI, where to, SHA-256. Those that cannot be had are not there then."""
        triples = [text for uri, to, sha in wanted for text in (uri, str(to), f"SHA256:{sha}")]
        # Whatever stops it, a stall or a refusal, whoever asked looks for what is not there.
        with contextlib.suppress(ImageError):
            self._run([APT_HELPER, "download-file", *triples], "fetch packages")

    def _run(self, command: Sequence[str], what: str, *, capture: bool = False) -> str:
        environment = os.environ | {
            "APT_CONFIG": str(self._folder / "apt.conf"),
            "LC_ALL": "C.UTF-8",
        }
        return run(command, what, TIMEOUT, environment=environment, capture=capture)


def _sources(source: Source) -> str:
    # A snapshot has expired; a mirror that has is one that somebody holds back.
    expired = " check-valid-until=no" if source.snapshot else ""
    return "".join(
        f"deb [signed-by={KEYRING}{expired}] {source.archive(archive)} {suite} main\n"
        for archive, suites in source.suites().items()
        for suite in suites
    )


def _configuration(folder: Path) -> str:
    return f"""Dir "{folder}";
Dir::Etc "{folder}/etc";
Dir::State "{folder}";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
APT::Architecture "{ARCHITECTURE}";
APT::Architectures {{ "{ARCHITECTURE}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::ForceHash "SHA256";
Acquire::Retries "5";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
"""


def fetch(lock: Lock, source: Source, cache: Path) -> dict[Package, Path]:
    """Have the file of each package in `cache`, checked; fetch those that are not there.

    Raises:
        ImageError: some cannot be had; all of them are named.
    """
    partial = cache / "partial"
    partial.mkdir(parents=True, exist_ok=True)
    files = {package: cache / f"{package.sha256}.deb" for package in lock.packages}
    missing = [package for package, file in files.items() if not _is(file, package.sha256)]
    if missing:
        size = sum(package.size for package in missing)
        print(f"Fetching {len(missing)} packages, {size / 2**20:.0f} MiB", flush=True)
        Apt(cache / "apt", source).download(
            [(p.uri(source), partial / p.sha256, p.sha256) for p in missing]
        )
    gone = []
    for package in missing:
        if _is(partial / package.sha256, package.sha256):
            (partial / package.sha256).rename(files[package])
        else:
            gone.append(package)
    if gone:
        raise ImageError(_why_not(gone, source))
    return files


def _is(file: Path, sha256: str) -> bool:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False


def _why_not(packages: Sequence[Package], source: Source) -> str:
    """Whether the mirror does not have them, which takes another one, or they just did not come."""
    gone = []
    for package in packages:
        try:
            if not _has(package, source):
                gone.append(package)
        except httpx.HTTPError as error:
            return (
                f"{len(packages)} packages of the lock are still to be fetched, and "
                f"{package.uri(source)} cannot be reached: {error}\n"
                "Try again when it can be: what has come is kept."
            )
    if not gone:
        return (
            f"{len(packages)} packages of the lock did not come, though {source.mirror} has them.\n"
            "Try again: what has come is kept."
        )
    lines = "".join(
        f"\n  {package.name} {package.version}, looked for at {package.uri(source)}"
        for package in gone
    )
    return (
        f"these packages of the lock can no longer be had:{lines}\n"
        "Mirrors drop old versions. Give a snapshot that has them (SNAPSHOT=20251101T000000Z), "
        "another mirror (MIRROR=...), or make a new lock by building without LOCK."
    )


def _has(package: Package, source: Source) -> bool:
    """Whether there is a file of that size.

    Raises:
        HTTPError: nobody answers, or with something else than that.
    """
    answer = httpx.head(package.uri(source), timeout=ANSWER_TIMEOUT, follow_redirects=True)
    if answer.status_code in {404, 410}:
        return False
    answer.raise_for_status()
    return int(answer.headers.get("Content-Length", 0)) == package.size


def repository(files: dict[Package, Path], folder: Path, suite: str) -> None:
    """Make a repository of exactly these packages, for apt to see nothing else.

    Raises:
        ImageError: it cannot be made.
    """
    shutil.rmtree(folder, ignore_errors=True)
    lists = folder / f"dists/{suite}/main/binary-{ARCHITECTURE}"
    lists.mkdir(parents=True)
    (folder / "pool").mkdir()
    for package, file in files.items():
        (folder / "pool" / package.file).hardlink_to(file)
    hashes = [f"-oAPT::FTPArchive::{name}=false" for name in ("MD5", "SHA1", "SHA512")]
    what = "make a repository of the packages"
    packages = ["apt-ftparchive", *hashes, "packages", "pool"]
    (lists / "Packages").write_text(run(packages, what, TIMEOUT, cwd=folder, capture=True))
    release = [
        *("apt-ftparchive", f"-oAPT::FTPArchive::Release::Suite={suite}"),
        *(f"-oAPT::FTPArchive::Release::Codename={suite}", "release", f"dists/{suite}"),
    ]
    told = run(release, what, TIMEOUT, cwd=folder, capture=True)
    (folder / f"dists/{suite}/Release").write_text(told)
