"""Packages by the real apt, from a mirror on this machine."""

from __future__ import annotations

import functools
import hashlib
import http.server
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from image import debian, lock
from image.lock import Lock, Package
from image.settings import ImageError, Source

needs_apt = pytest.mark.skipif(
    shutil.which("apt-ftparchive") is None, reason="needs apt-utils (make image)"
)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Source]:
    """A mirror with what `_publish` puts there."""
    (tmp_path / "mirror/debian/pool").mkdir(parents=True)
    handler = functools.partial(_Quiet, directory=str(tmp_path / "mirror"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Source(mirror=f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()
        thread.join()


def _publish(tmp_path: Path, name: str, version: str = "1.0") -> Package:
    """Build a real, empty package and put it on the mirror."""
    tree = tmp_path / "trees" / name / "DEBIAN"
    tree.mkdir(parents=True)
    (tree / "control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
        "Maintainer: Nobody <nobody@example.org>\nDescription: a test\n"
    )
    file = tmp_path / f"mirror/debian/pool/{name}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", tree.parent, file],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return Package(
        name=name,
        version=version,
        architecture="all",
        archive="debian",
        path=f"pool/{name}.deb",
        size=file.stat().st_size,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
    )


def _lock(*packages: Package) -> Lock:
    return lock.lock("trixie", {"image": packages})


def test_packages_are_fetched_once_and_checked(tmp_path: Path, mirror: Source) -> None:
    wanted = _lock(_publish(tmp_path, "alpha"), _publish(tmp_path, "beta"))
    files = debian.fetch(wanted, mirror, tmp_path / "cache")
    shutil.rmtree(tmp_path / "mirror")
    assert debian.fetch(wanted, mirror, tmp_path / "cache") == files
    for package, file in files.items():
        assert hashlib.sha256(file.read_bytes()).hexdigest() == package.sha256


def test_lists_that_have_expired_are_taken_from_a_snapshot_only(tmp_path: Path) -> None:
    """A mirror with such lists is one that somebody holds back."""
    for source, taken in ((Source(), False), (Source(snapshot="20251101T000000Z"), True)):
        debian.Apt(tmp_path, source)
        lines = (tmp_path / "etc/sources.list").read_text().splitlines()
        assert len(lines) == 3
        assert all(("check-valid-until=no" in line) == taken for line in lines)


def test_a_damaged_file_in_the_cache_is_fetched_again(tmp_path: Path, mirror: Source) -> None:
    wanted = _lock(_publish(tmp_path, "alpha"))
    (file,) = debian.fetch(wanted, mirror, tmp_path / "cache").values()
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    debian.fetch(wanted, mirror, tmp_path / "cache")
    assert file.read_bytes() == whole


def test_all_that_can_no_longer_be_had_is_named_at_once(tmp_path: Path, mirror: Source) -> None:
    """Gone from the mirror, or another file by now; what is there is kept all the same."""
    there, gone, other = (_publish(tmp_path, name) for name in ("alpha", "beta", "gamma"))
    (tmp_path / "mirror/debian/pool/beta.deb").unlink()
    with (tmp_path / "mirror/debian/pool/gamma.deb").open("ab") as stream:
        stream.write(b"!")
    with pytest.raises(ImageError) as failed:
        debian.fetch(_lock(there, gone, other), mirror, tmp_path / "cache")
    text = str(failed.value)
    assert f"beta 1.0, looked for at {mirror.mirror}/debian/pool/beta.deb" in text
    assert "gamma 1.0" in text
    assert "alpha" not in text
    assert (tmp_path / "cache" / f"{there.sha256}.deb").exists()


def test_a_mirror_that_is_not_reached_has_dropped_nothing(tmp_path: Path, mirror: Source) -> None:
    """Of the whole, apt alone would take half a minute, for it tries again."""
    package = _publish(tmp_path, "alpha")
    assert "did not come, though" in debian._why_not([package], mirror)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = Source(mirror=f"http://127.0.0.1:{nobody.getsockname()[1]}")
        text = debian._why_not([package], away)
    assert "1 packages of the lock are still to be fetched" in text
    assert "cannot be reached" in text
    assert "can no longer be had" not in text


@needs_apt
def test_a_repository_has_exactly_the_packages_of_the_lock(tmp_path: Path, mirror: Source) -> None:
    """Apt sees nothing else there, and resolves from it."""
    wanted = _lock(_publish(tmp_path, "alpha", "2:1.0~rc1"), _publish(tmp_path, "beta"))
    files = debian.fetch(wanted, mirror, tmp_path / "cache")
    debian.repository(files, tmp_path / "repository", "trixie")
    index = tmp_path / "repository/dists/trixie/main/binary-amd64/Packages"
    text = index.read_text()
    assert text.count("Package: ") == 2
    for package in wanted.packages:
        assert f"SHA256: {package.sha256}" in text
    assert "Version: 2:1.0~rc1" in text
    assert "Packages" in (tmp_path / "repository/dists/trixie/Release").read_text()
