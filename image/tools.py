"""The tools root: a small Debian with what builds the image, so the host makes no difference."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from image.command import run
from image.lock import Lock
from image.settings import ImageError

ENTER = Path(__file__).with_name("enter.sh")
KEPT = 2
"""How many tools roots are kept, that of the last build and the one before."""
TIMEOUT = 1800


@dataclass(frozen=True)
class Tools:
    """A tools root that is there.

    Attributes:
        root: its folder.
    """

    root: Path

    def run(
        self,
        command: Sequence[str],
        what: str,
        binds: Mapping[Path, str],
        environment: Mapping[str, str],
    ) -> None:
        """Run a command inside to its end, without the network; `binds` are host paths to inside.

        Raises:
            ImageError: it could not `what`.
        """
        clean = {
            "HOME": "/root",
            "LC_ALL": "C.UTF-8",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TZ": "UTC",
        }
        run(
            [
                *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"),
                *(str(ENTER), str(self.root)),
                *(f"{source}:{target}" for source, target in binds.items()),
                *("--", *command),
            ],
            what,
            TIMEOUT,
            environment={**clean, **environment},
            umask=0o022,
        )


def tools(lock: Lock, names: Sequence[str], repository: Path, cache: Path) -> Tools:
    """Have the tools root of this lock, from the packages in `repository`.

    Raises:
        ImageError: it cannot be made.
    """
    packages = lock.used_by("tools")
    digest = hashlib.sha256("".join(package.sha256 for package in packages).encode())
    root = cache / digest.hexdigest()[:16]
    if not root.exists():
        print(f"Making the tools root of {len(packages)} packages", flush=True)
        cache.mkdir(parents=True, exist_ok=True)
        new = cache / "new"
        shutil.rmtree(new, ignore_errors=True)
        _make(lock.suite, names, repository, new)
        new.rename(root)
    root.touch()
    for old in sorted(cache.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT]:
        shutil.rmtree(old)
    return Tools(root)


def newest(cache: Path) -> Tools:
    """The tools root of the last build.

    Raises:
        ImageError: there is none.
    """
    try:
        return Tools(max(cache.iterdir(), key=lambda path: path.stat().st_mtime))
    except (FileNotFoundError, ValueError):
        raise ImageError("there is no tools root yet: build the image first") from None


def _make(suite: str, names: Sequence[str], repository: Path, root: Path) -> None:
    run(
        [
            *("mmdebstrap", "--quiet", "--variant=apt", "--format=directory"),
            *(f"--include={','.join(names)}", suite, str(root)),
            f"deb [trusted=yes] copy://{repository} {suite} main",
        ],
        "make the tools root",
        TIMEOUT,
        umask=0o022,
    )
