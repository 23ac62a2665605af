"""The lock: read from apt, written, read again, and true to the bit."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image import lock
from image.lock import Package
from image.settings import ImageError, Source

SOURCE = Source(mirror="http://mirror.example/")
SHA = "5" * 64

names = st.from_regex(r"[a-z0-9][a-z0-9+.-]{1,20}", fullmatch=True)
versions = st.from_regex(r"([0-9]:)?[0-9][A-Za-z0-9.+~-]{0,20}", fullmatch=True)
packages = st.builds(
    Package,
    name=names,
    version=versions,
    architecture=st.sampled_from(["amd64", "all"]),
    archive=st.sampled_from(["debian", "debian-security"]),
    path=st.from_regex(r"pool/main/[a-z0-9/%+.~-]{1,30}\.deb", fullmatch=True),
    size=st.integers(1, 2**40),
    sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
)


def _line(package: Package, source: Source) -> str:
    """As apt-get prints it."""
    file = f"{package.name}_{quote(package.version, safe='+~')}_{package.architecture}.deb"
    return f"'{package.uri(source)}' {file} {package.size} SHA256:{package.sha256}"


def _package(name: str = "nginx", version: str = "1.26", sha256: str = SHA) -> Package:
    return Package(
        name=name,
        version=version,
        architecture="amd64",
        archive="debian",
        path=f"pool/{name}.deb",
        size=1,
        sha256=sha256,
    )


@given(st.lists(packages, max_size=5))
def test_what_apt_says_is_read_as_it_was_meant(found: list[Package]) -> None:
    for source in (SOURCE, Source(snapshot="20251101T000000Z")):
        text = "Reading...\n" + "\n".join(_line(package, source) for package in found)
        assert lock.parse_uris(text, source) == found


def test_an_epoch_in_a_version_is_read() -> None:
    line = (
        "'http://mirror.example/debian-security/pool/updates/main/s/systemd/x_1.deb' "
        f"systemd_1%3a257.13-1%7edeb13u1_amd64.deb 3094 SHA256:{SHA}"
    )
    (package,) = lock.parse_uris(line, SOURCE)
    assert package.version == "1:257.13-1~deb13u1"
    assert package.archive == "debian-security"
    assert package.file == "systemd_1%3a257.13-1~deb13u1_amd64.deb"


@pytest.mark.parametrize(
    "line",
    [
        "'http://mirror.example/debian/pool/a.deb' a_1_amd64.deb 1 MD5Sum:00",
        "'http://mirror.example/debian/pool/a.deb' a_1_amd64.deb 1",
        f"'http://elsewhere.example/debian/pool/a.deb' a_1_amd64.deb 1 SHA256:{SHA}",
    ],
)
def test_a_package_without_a_strong_sum_or_from_elsewhere_is_refused(line: str) -> None:
    with pytest.raises(ImageError):
        lock.parse_uris(line, SOURCE)


@given(st.lists(packages, unique_by=lambda p: (p.name, p.architecture), max_size=8))
def test_a_lock_is_read_as_it_was_written(found: list[Package]) -> None:
    made = lock.lock("trixie", {"tools": found[:5], "image": found[3:], "initrd": []})
    assert lock.load(lock.dump(made)) == made
    assert [p.name for p in made.packages] == sorted(p.name for p in made.packages)
    assert {p.name for p in made.used_by("image")} == {p.name for p in found[3:]}


@given(st.lists(packages, unique_by=lambda p: (p.name, p.architecture)))
def test_the_order_of_what_apt_says_makes_no_difference(found: list[Package]) -> None:
    other = sorted(found, key=lambda p: p.sha256)
    assert lock.lock("trixie", {"image": found}) == lock.lock("trixie", {"image": other})


def test_two_versions_of_a_package_are_refused() -> None:
    """The mirror changed between two questions to it."""
    sets = {"tools": [_package()], "image": [_package(version="1.27", sha256="6" * 64)]}
    with pytest.raises(ImageError, match=r"nginx is wanted as 1\.26 and 1\.27"):
        lock.lock("trixie", sets)


def test_a_lock_that_lacks_what_is_asked_for_by_now_is_refused() -> None:
    """Before minutes of building show it."""
    made = lock.lock("trixie", {"image": [_package()], "tools": [_package("mkosi")]})
    lock.check(made, {"image": ["nginx"], "tools": ["mkosi"]})
    with pytest.raises(ImageError, match="no chrony, mkosi for the image"):
        lock.check(made, {"image": ["nginx", "mkosi", "chrony"], "tools": ["mkosi"]})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"suite": "trixie"}',
        lock.dump(lock.lock("trixie", {"image": [_package()]})).replace(SHA, "5" * 63),
        lock.dump(lock.lock("trixie", {"image": [_package()]})).replace("pool/", "../../"),
        lock.dump(lock.lock("trixie", {"image": [_package()]})).replace('"nginx"', '"../nginx"'),
    ],
)
def test_what_is_no_lock_is_refused(text: str) -> None:
    with pytest.raises(ImageError, match="no lock"):
        lock.load(text)
