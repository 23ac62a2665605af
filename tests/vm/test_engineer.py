"""What a field engineer does: the manhole of each app, as the runbook has it, and the tunnel."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from apps.common.testing import wait_until
from bench.site import GROUND, NETWORKS, provision
from image.vm.machine import Machine
from image.vm.vm import VM
from tests.vm.conftest import ROOT, Provisioned, StartVm

pytestmark = pytest.mark.long

APPS = ("seat_control", "crew_web", "usb_lockdown", "content_sync", "pa_audio", "vlc_stream")
SOON = 90.0
"""Seconds within which an app is there again, on an emulated machine."""

PORT, SSH_PORT = 20042, 2222
"""The aircraft's on the ground, and that of the ground's sshd."""


# -- the manhole ------------------------------------------------------------------------------


def _runbook(app: str) -> tuple[str, str]:
    """What opens an app's manhole, and what closes it."""
    text = (ROOT / "docs/runbook.md").read_text()
    block = re.search(r"```sh\n(# systemctl edit --runtime --drop-in=manh.*?)```", text, re.DOTALL)
    assert block is not None
    lines = [line.removeprefix("# ") for line in block[1].splitlines()]
    (at,) = (number for number, line in enumerate(lines) if line.startswith("nc -U"))
    opening, closing = "\n".join(lines[:at]), "\n".join(lines[at + 1 :])
    return opening.replace("seat_control", app), closing.replace("seat_control", app)


@pytest.mark.parametrize("app", APPS)
def test_an_app_is_looked_into_and_its_manhole_is_closed_again(aircraft: VM, app: str) -> None:
    opening, closing = _runbook(app)
    socket = f"/run/ife-{app}/manhole.sock"
    aircraft.run(opening, timeout=240)
    is_there = f"test -S {socket}"
    wait_until(lambda: aircraft.run(is_there, check=False).returncode == 0, "it is open", SOON)
    # A Python prompt: after each line it takes its time.
    said = aircraft.run(
        f"(sleep 2; echo 'stacks()'; sleep 5; echo 'exit()'; sleep 1) | nc -U {socket}", timeout=120
    ).stdout
    assert "File " in said
    assert f"apps/{app}/" in said
    stranger = f"runuser -u www-data -- nc -U {socket} </dev/null"
    assert aircraft.run(stranger, check=False).returncode != 0
    aircraft.run(closing, timeout=240)
    assert aircraft.run(is_there, check=False).returncode != 0
    active = f"systemctl is-active --quiet ife-{app}"
    wait_until(lambda: aircraft.run(active, check=False).returncode == 0, "it is back", SOON)
    assert aircraft.run("systemctl list-units --failed --plain --no-legend").stdout == ""


# -- the tunnel -------------------------------------------------------------------------------


def _keygen(path: Path) -> Path:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)]
    subprocess.run(command, check=True, timeout=30)
    return path


@contextmanager
def _ground(vm: VM, folder: Path) -> Iterator[None]:
    """The ground's sshd, on our side of the aircraft's network, as roles/tunnel/README.md has it.

    The account is one that every Debian has.
    """
    readme = (ROOT / "roles/tunnel/README.md").read_text()
    match = re.search(r"```sshd_config\n(.*?)```", readme, re.DOTALL)
    line = re.search(r"```authorized_keys\n(.*?)ssh-ed25519 .*?```", readme, re.DOTALL)
    assert match
    assert line
    (folder / "authorized_keys").write_text(line[1] + (folder / "tunnel.key.pub").read_text())
    (folder / "sshd_config").write_text(
        f"ListenAddress {GROUND.host.ip}\nPort {SSH_PORT}\nHostKey {folder}/ground\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM yes\n"
        + match[1].replace("Match User aircraft", "Match User nobody")
    )
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    # With all of its sessions, when it ends.
    alone = ("unshare", "--pid", "--fork", "--kill-child")
    command = [*vm.entering, *alone, "/usr/sbin/sshd", "-D", "-e", "-f", f"{folder}/sshd_config"]
    with subprocess.Popen(command) as sshd:
        try:
            yield
        finally:
            sshd.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="sshd takes root rights")
def test_an_engineer_comes_in_by_the_tunnel(
    new_vm: StartVm, provisioned: Provisioned, open_folder: Path
) -> None:
    """Its unit in its sandbox; the ground falls away, and the tunnel is there again."""
    vm = new_vm(Machine(provisioned.disk, networks=NETWORKS, direct=True))
    vm.boot()
    vm.wait_for_ssh()
    ground, key = _keygen(open_folder / "ground"), _keygen(open_folder / "tunnel.key")
    given = {
        "tunnel_host": str(GROUND.host.ip),
        "tunnel_port": SSH_PORT,
        "tunnel_user": "nobody",
        "tunnel_host_keys": [ground.with_suffix(".pub").read_text().strip()],
        "tunnel_key": str(key),
        "tunnel_remote_port": PORT,
    }
    come_in = [
        *(*vm.entering, "ssh", "-F", str(vm.files.ssh_config), "-o", "ProxyCommand=none"),
        *("-o", "ControlPath=none", "-o", "HostName=127.0.0.1", "-p", str(PORT), "vm"),
        *("ife-status", "--json"),
    ]

    def is_in() -> bool:
        try:
            told = subprocess.run(come_in, capture_output=True, text=True, timeout=60, check=False)
        except subprocess.TimeoutExpired:
            return False
        return '"registration": "EC-LAB"' in told.stdout

    with _ground(vm, open_folder):
        run = provision(vm, "--tags=tunnel", f"--extra-vars={json.dumps(given)}")
        assert not run.failures, run.output
        wait_until(is_in, "an engineer is in", 2 * SOON)
    wait_until(lambda: not is_in(), "the ground is away", SOON)
    with _ground(vm, open_folder):
        wait_until(is_in, "an engineer is in again", 2 * SOON)
    assert vm.run("systemctl list-units --failed --plain --no-legend").stdout == ""
