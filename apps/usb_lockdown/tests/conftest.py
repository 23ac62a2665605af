"""What the tests of usb_lockdown share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.common.testing import kill_group, listens, wait_until


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Path]:
    """What systemd does for ife-usb_lockdown-reader.socket, by a program of systemd's."""
    path = tmp_path / "starter.sock"
    command = [sys.executable, "-m", "apps.usb_lockdown.reader"]
    process = subprocess.Popen(
        ["systemd-socket-activate", "--accept", "--inetd", f"--listen={path}", *command],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(lambda: listens(path), "it listens")
    yield path
    kill_group(process)
