"""What a build is told, and where it keeps things."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build"
SNAPSHOTS = "https://snapshot.debian.org/archive"

IMAGE_ID = "ife"
ARCHITECTURE = "amd64"


class ImageError(Exception):
    """The image cannot be built; the text is for whoever builds it."""


@dataclass(frozen=True)
class Source:
    """Where Debian packages come from.

    Attributes:
        mirror: the URL above the archives `debian` and `debian-security`.
        suite: Debian's name of the release.
        snapshot: a time like 20251101T000000Z, to take the archives as they were then from the
            snapshot service instead of the mirror.
    """

    mirror: str = "http://deb.debian.org"
    suite: str = "trixie"
    snapshot: str | None = None

    def archive(self, name: str) -> str:
        """The URL of an archive, without a slash at its end."""
        if self.snapshot:
            return f"{SNAPSHOTS}/{name}/{self.snapshot}"
        return f"{self.mirror.rstrip('/')}/{name}"

    def suites(self) -> dict[str, tuple[str, ...]]:
        """The suites to look at, by archive."""
        return {
            "debian": (self.suite, f"{self.suite}-updates"),
            "debian-security": (f"{self.suite}-security",),
        }


@dataclass(frozen=True)
class Build:
    """One build of the image.

    Attributes:
        output: the folder for what comes out.
        source: where Debian packages come from.
        lock: build from exactly these packages; without it they are resolved anew.
        keys: a folder with `secureboot.key` and `secureboot.crt`, which sign the kernel image.
            Without it a test key is made.
        cache: what was downloaded, and the tools root.
    """

    output: Path = BUILD / "image"
    source: Source = Source()
    lock: Path | None = None
    keys: Path | None = None
    cache: Path = BUILD / "cache"


def built() -> Path:
    """The disk image that was built last; where none was built, a file that is not there."""
    name = f"{IMAGE_ID}_*.raw"
    images = list((BUILD / "image").glob(name))
    return max(images, key=lambda path: path.stat().st_mtime, default=BUILD / "image" / name)
