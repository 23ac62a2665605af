"""To a Hangar, by rsync, in an order in which aircraft can read it meanwhile."""

from __future__ import annotations

import shutil

import sh

from apps.common.content import METADATA, OBJECTS
from apps.publish.repository import PublishError, Repository

SILENCE = 60
"""Seconds without a byte, after which rsync gives up."""


def push(repository: Repository, to: str) -> int:
    """Bring what is published to a Hangar: objects first, then what names them, the timestamp last.

    What was pruned goes after that. Others may sign and push while the objects go. What came of it
    goes then, with the metadata of that moment, while nobody else is at work: no older timestamp
    comes after a newer one, and nothing goes that the timestamp means.

    Args:
        repository: it.
        to: a folder that is there, as rsync names it: ``hangar:/srv/ife/content``.

    Returns:
        the set that is there now.

    Raises:
        PublishError: rsync fails, or somebody else is at work. What came stays, and the next push
            goes on from there.
        OSError: there is no room for a copy of the metadata.
    """
    objects = (f"{repository.published / OBJECTS}/", f"{to}/{OBJECTS}/")
    _rsync(*objects)
    with repository.alone(), repository.stage() as copy:
        version = repository.version
        for path in repository.metadata():
            shutil.copy2(path, copy)
        # Two timestamps of one second have one length as well.
        metadata = ("--checksum", f"{copy}/", f"{to}/{METADATA}/")
        _rsync(*objects)
        # A new root may name another key for the timestamp, so they go together.
        _rsync("--exclude=timestamp.json", "--exclude=*.root.json", *metadata)
        _rsync(*metadata)
        _rsync("--delete", *objects)
    return version


def _rsync(*arguments: str) -> None:
    """Run it as if it were called by hand: ssh may ask, and what goes wrong it says itself."""
    options = ("-rpt", "--fsync", "--chmod=D755,F644", "--exclude=.*", f"--timeout={SILENCE}")
    try:
        sh.Command("rsync")(*options, *arguments, _fg=True)
    except sh.CommandNotFound as error:
        raise PublishError("rsync is not there: install rsync") from error
    except sh.ErrorReturnCode as error:
        raise PublishError(
            f"rsync fails with status {error.exit_code}: the same command again goes on"
        ) from error
