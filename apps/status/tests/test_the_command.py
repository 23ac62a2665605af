"""The command as it is installed, on this machine, which is no provisioned aircraft."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("ife-status")

pytestmark = pytest.mark.skipif(
    Path("/etc/ife/seat_control.env").exists(), reason="needs a machine that is no aircraft"
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False
    )


def test_it_says_what_is_wrong_in_plain_words() -> None:
    done = run()
    assert (done.returncode, done.stderr) == (1, "")
    assert "Wrong: This server has not been provisioned." in done.stdout
    assert "\x1b" not in done.stdout


def test_it_says_it_shortly() -> None:
    done = run("--short")
    assert (done.returncode, done.stderr) == (1, "")
    assert "Wrong: This server has not been provisioned." in done.stdout
    assert len(done.stdout) < len(run().stdout)


def test_it_says_it_to_machines() -> None:
    done = run("--json")
    assert (done.returncode, done.stderr) == (1, "")
    told = json.loads(done.stdout)
    assert (told["shape"], told["well"]) == (1, False)
    assert set(told) == {"shape", "at", "well", "findings", "facts"}
    assert set(told["findings"][0]) == {"level", "what", "do"}


def test_nobody_need_read_to_the_end() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = subprocess.run(
            [COMMAND, "--json"], stdout=pipe, stderr=subprocess.PIPE, timeout=30, check=False
        )
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_it_says_no_more_where_the_unit_hides_most_of_proc() -> None:
    hidden = 'mount -t proc -o subset=pid proc /proc && exec "$0" --short'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", hidden, COMMAND],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "Wrong: This server has not been provisioned." in done.stdout


@pytest.mark.parametrize("arguments", [("--loudly",), ("--json", "--short"), ("nginx",)])
def test_wrong_use_is_told_from_something_wrong(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ife-status")
