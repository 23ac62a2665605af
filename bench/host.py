"""What the bench may do on this machine: with root rights it gives each program its user."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.instance import BenchError
from bench.preflight import SYSTEM_PATH


@dataclass(frozen=True)
class Host:
    """This machine. Without root rights, everything runs as whoever started the bench."""

    as_root: bool

    @classmethod
    def here(cls) -> Host:
        """With the rights that this process has."""
        return cls(os.geteuid() == 0)

    def user(self, name: str) -> str | None:
        """Whom a program of `name` runs as; None: as we do."""
        return name if self.as_root else None

    def own(self, path: Path, user: str, mode: int, group: str | None = None) -> Path:
        """Make a folder that belongs to `user`, as far as there is a right to."""
        path.mkdir(parents=True, exist_ok=True)
        self.give(path, user, mode, group)
        return path

    def own_among_others(self, path: Path, user: str) -> Path:
        """Make a folder for `user` alone in a place where anybody may make one.

        Raises:
            BenchError: somebody else's is there, or a link to one.
        """
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        owner = pwd.getpwnam(user) if self.as_root else pwd.getpwuid(os.geteuid())
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise BenchError(f"{path} is in the way: {error.strerror}: remove it") from error
        try:
            if os.fstat(fd).st_uid not in {os.geteuid(), owner.pw_uid}:
                raise BenchError(f"{path} is somebody else's: let them remove it")
            if self.as_root:
                os.fchown(fd, owner.pw_uid, owner.pw_gid)
            os.fchmod(fd, 0o700)
        finally:
            os.close(fd)
        return path

    def give(self, path: Path, user: str, mode: int, group: str | None = None) -> None:
        """Make a file or folder belong to `user`, as far as there is a right to."""
        if self.as_root:
            shutil.chown(path, user, group or pwd.getpwnam(user).pw_gid)
        path.chmod(mode)


def run(
    command: Sequence[str | Path],
    what: str,
    timeout: float,
    *,
    user: str | None = None,
    stdin: str = "",
    **environment: str,
) -> None:
    """Run a program to its end; what it said is told only if it failed.

    Raises:
        BenchError: it could not `what`.
    """
    try:
        done = subprocess.run(
            command,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            cwd="/",
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
            env=os.environ | {"PATH": SYSTEM_PATH} | environment,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"cannot {what}: {error}") from error
    if done.returncode != 0:
        said = done.stdout.strip()[-4000:]
        raise BenchError(f"cannot {what}: {Path(command[0]).name} said\n{said}")
