"""Runs the programs that a build consists of."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from image.settings import ImageError


def run(
    command: Sequence[str],
    what: str,
    timeout: float,
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    umask: int = -1,
    capture: bool = False,
) -> str:
    """Run a program to its end; what it printed, if that is to be captured.

    Args:
        command: the program and its arguments.
        what: what it is for, as in "cannot `what`".
        timeout: in seconds.
        cwd: where it runs, else here.
        environment: all of it, else ours.
        umask: its own, else ours.
        capture: keep what it prints from the terminal.

    Raises:
        ImageError: it is not there, takes too long or fails.
    """
    stream = subprocess.PIPE if capture else None
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            umask=umask,
            encoding="utf-8",
            stdout=stream,
            stderr=stream,
            timeout=timeout,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageError(f"cannot {what}: {error}") from error
    if done.returncode != 0:
        raise ImageError(f"cannot {what}: {done.stderr or 'see above'}")
    return done.stdout or ""
