"""What the project puts into the image, and what it is compared by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from image import lock, sbom, stage
from image.build import package_names
from image.check import difference
from image.checkout import Checkout
from image.lock import Package
from image.settings import ROOT, Source

CREW = ROOT / "apps/crew_web/static/vendor"


def test_the_servers_apps_are_in_the_image_and_others_are_not() -> None:
    assert {"crew_web", "seat_control"} <= set(stage.server_apps())
    assert not {"hangar", "player"} & set(stage.server_apps())


@pytest.mark.skipif(not CREW.exists(), reason="needs `make build`")
def test_every_unit_is_where_systemd_looks_for_it(tmp_path: Path) -> None:
    stage.stage(tmp_path)
    units = tmp_path / "usr/lib/systemd/system"
    for app in stage.server_apps():
        assert (units / f"ife-{app}.service").exists()
        assert (tmp_path / f"usr/share/doc/ife/{app}.md").exists()
    assert (units / "ife.target").exists()
    assert (units / "ife-.service.d/hardening.conf").exists()
    assert (tmp_path / "usr/lib/sysusers.d/ife.conf").exists()
    assert not list(tmp_path.rglob("ife-player*"))
    assert not list(tmp_path.rglob("ife-hangar*"))
    assert list((tmp_path / "usr/share/ife/layouts").glob("*.yml"))
    assert list((tmp_path / "usr/share/ife/crew_web/static/vendor").iterdir())


def test_the_modes_of_a_checkout_make_no_difference(tmp_path: Path) -> None:
    """Somebody's umask must not be in the image."""
    source = tmp_path / "source"
    (source / "folder").mkdir(parents=True)
    for name, mode in (("plain", 0o600), ("folder/program", 0o700)):
        (source / name).write_text(name)
        (source / name).chmod(mode)
    (source / "link").symlink_to("plain")
    stage.copy_tree(source, tmp_path / "copy")
    modes = {
        name: (tmp_path / "copy" / name).stat().st_mode & 0o777
        for name in ("plain", "folder/program")
    }
    assert modes == {"plain": 0o644, "folder/program": 0o755}
    assert (tmp_path / "copy/link").readlink() == Path("plain")


def test_the_image_has_what_the_roles_name() -> None:
    """A package is written down once, in the role that configures it."""
    assert {"nginx", "postgresql-17", "redis-server"} <= set(package_names()["image"])


def test_the_scripts_of_the_crews_page_are_those_that_it_loads() -> None:
    """And none of those that only check it."""
    assert "htmx.org" in stage.scripts()
    assert "eslint" not in stage.scripts()


def test_what_differs_between_two_builds_is_named(tmp_path: Path) -> None:
    for folder, text in (("one", "1  a\n2  b\n3  c\n"), ("other", "1  a\n9  b\n4  d\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "SHA256SUMS").write_text(text)
    assert difference(tmp_path / "one", tmp_path / "one") == []
    assert difference(tmp_path / "one", tmp_path / "other") == ["b", "c", "d"]


def test_the_bill_of_materials_names_all_but_the_tools() -> None:
    def package(name: str, digit: str) -> Package:
        return Package(
            name=name,
            version="1:2+b1",
            architecture="amd64",
            archive="debian",
            path="pool/x.deb",
            size=1,
            sha256=digit * 64,
        )

    nginx, udev, mkosi = package("nginx", "1"), package("udev", "2"), package("mkosi", "3")
    made = lock.lock("trixie", {"tools": [mkosi, udev], "image": [nginx, udev], "initrd": [udev]})
    scripts = {"htmx.org": "4.0.1"}
    document = json.loads(
        sbom.sbom(made, {"Flask": "3.1.0"}, scripts, Checkout("0.1.0-bbeeefa1", 0))
    )
    assert [component["purl"] for component in document["components"]] == [
        "pkg:deb/debian/nginx@1%3A2%2Bb1?arch=amd64&distro=trixie",
        "pkg:deb/debian/udev@1%3A2%2Bb1?arch=amd64&distro=trixie",
        "pkg:npm/htmx.org@4.0.1",
        "pkg:pypi/flask@3.1.0",
    ]
    assert document["metadata"]["component"]["version"] == "0.1.0-bbeeefa1"
    assert document["metadata"]["timestamp"] == "1970-01-01T00:00:00+00:00"


def test_a_snapshot_takes_the_place_of_the_mirror() -> None:
    source = Source(mirror="http://mirror.example", snapshot="20251101T000000Z")
    assert source.archive("debian-security") == (
        "https://snapshot.debian.org/archive/debian-security/20251101T000000Z"
    )
