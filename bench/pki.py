"""Has Ansible make certificates for the bench, and keeps in mind what for."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from bench.host import run
from bench.instance import Paths

ROOT = Path(__file__).parent.parent
DAYS = 30
"""Certificates are looked at again after this time, long before they end."""

TIMEOUT = 300


def is_made(stamp: Path, made_from: bytes) -> bool:
    """Whether `make` was run lately for all that they are made from."""
    fresh = stamp.exists() and time.time() - stamp.stat().st_mtime < DAYS * 86_400
    return fresh and stamp.read_bytes() == made_from


def make(
    paths: Paths, playbook: Path, variables: Mapping[str, object], stamp: Path, made_from: bytes
) -> None:
    """Run a playbook of roles/pki, then write the stamp.

    Raises:
        BenchError: it failed.
    """
    run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            str(playbook),
            *("--extra-vars", json.dumps(variables)),
        ],
        "make the certificates",
        TIMEOUT,
        ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"),
        ANSIBLE_HOME=str(paths.directory / "ansible"),
        # As root, leave nothing in a checkout that may be somebody else's.
        PYTHONPYCACHEPREFIX=str(paths.directory / "pycache"),
    )
    stamp.write_bytes(made_from)
