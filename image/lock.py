"""The lock: exactly which Debian packages the tools, the image and its initrd are made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from image.settings import ImageError, Source

_LINE = re.compile(r"'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})")


class Package(BaseModel):
    """One Debian package, to the bit.

    Attributes:
        archive: `debian` or `debian-security`.
        path: the place in the archive, as in a URL.
        size: bytes.
        used: by `tools`, `image`, `initrd`: in that order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$")
    version: str = Field(pattern=r"^[0-9][A-Za-z0-9.+:~-]*$")
    architecture: str = Field(pattern=r"^[a-z0-9]+$")
    archive: str = Field(pattern=r"^debian(-security)?$")
    path: str = Field(pattern=r"^pool/[A-Za-z0-9/._+~%:-]+\.deb$")
    size: int = Field(gt=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    used: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """A name for its file, which no other package has."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"

    def uri(self, source: Source) -> str:
        """Where it is to be had."""
        return f"{source.archive(self.archive)}/{self.path}"


class Lock(BaseModel):
    """All packages, sorted by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: str
    packages: tuple[Package, ...]

    def used_by(self, what: str) -> list[Package]:
        """Those of the tools, the image or the initrd."""
        return [package for package in self.packages if what in package.used]


def parse_uris(text: str, source: Source) -> list[Package]:
    """What `apt-get install --print-uris` says it would download.

    Raises:
        ImageError: it says what cannot be understood.
    """
    packages = []
    for line in text.splitlines():
        if not line.startswith("'"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise ImageError(f"apt-get says what cannot be understood: {line}")
        archive, path = _place(found["uri"], source)
        name, version, rest = found["file"].split("_")
        packages.append(
            Package(
                name=name,
                version=unquote(version),
                architecture=PurePosixPath(rest).stem,
                archive=archive,
                path=path,
                size=int(found["size"]),
                sha256=found["sha256"],
            )
        )
    return packages


def _place(uri: str, source: Source) -> tuple[str, str]:
    for archive in source.suites():
        if uri.startswith(base := f"{source.archive(archive)}/"):
            return archive, uri.removeprefix(base)
    raise ImageError(f"{uri} is of no known archive")


def lock(suite: str, sets: Mapping[str, Iterable[Package]]) -> Lock:
    """Put what the tools, the image and the initrd need together.

    Raises:
        ImageError: two of them need different versions of one package.
    """
    found: dict[tuple[str, str], Package] = {}
    for used, packages in sets.items():
        for package in packages:
            key = (package.name, package.architecture)
            known = found.get(key)
            if known is not None and known.sha256 != package.sha256:
                raise ImageError(
                    f"{package.name} is wanted as {known.version} and {package.version}: "
                    "the mirror changed meanwhile, try again"
                )
            before = known.used if known else ()
            found[key] = package.model_copy(update={"used": (*before, used)})
    return Lock(suite=suite, packages=tuple(found[key] for key in sorted(found)))


def check(lock_: Lock, names: Mapping[str, Iterable[str]]) -> None:
    """See that a lock has what is asked for by now.

    Raises:
        ImageError: it is older than what the tools, the image or the initrd need.
    """
    for used, wanted in names.items():
        missing = sorted(set(wanted) - {package.name for package in lock_.used_by(used)})
        if missing:
            raise ImageError(
                f"the lock is of another version of the project: it has no {', '.join(missing)} "
                f"for the {used}; make a new lock by building without LOCK"
            )


def dump(lock_: Lock) -> str:
    """The lock as a file: JSON, made to be read and compared."""
    return lock_.model_dump_json(indent=1) + "\n"


def load(text: str) -> Lock:
    """Read a lock's file.

    Raises:
        ImageError: it is none.
    """
    try:
        return Lock.model_validate_json(text)
    except ValidationError as error:
        raise ImageError(f"this is no lock of packages: {error}") from error
