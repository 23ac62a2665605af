"""Runs the playbooks against a virtual machine, as one of the hosts of inventory/lab."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from image.vm.machine import Network
from image.vm.vm import VM

ROOT = Path(__file__).parent.parent
CONFIGURATION = ROOT / "ansible.cfg"
BIN = Path(sys.executable).parent
TIMEOUT = 1200
"""Seconds for a run, in which a machine under TCG installs nothing but starts everything."""

# What inventory/lab says of ec-lab, seen from our side: its own addresses end in .1.
GROUND = Network.parse("ground=198.18.4.1/24")
CABIN = Network.parse("cabin=10.20.0.2/22")
WIRELESS = Network.parse("wireless=10.21.0.2/20")
CREW = Network.parse("crew=10.22.0.2/24")
AVIONICS = Network.parse("avionics=10.23.0.2/24")
NETWORKS = (GROUND, CABIN, WIRELESS, CREW, AVIONICS)


@dataclass(frozen=True)
class Host:
    """A host of inventory/lab, and the playbook that makes it."""

    name: str
    playbook: str


ALSO_EC_LAB = "{{ 'EC-LAB' if ansible_play_hosts is defined else inventory_hostname }}"
"""The `registration` of a host that is to be EC-LAB beside another that is.

Two of one name are refused: where another host looks, and no play of its own, it has another.
"""

AIRCRAFT = Host("ec-lab", "site.yml")
HANGAR = Host("hangar-lab", "hangar.yml")

UNTIL_IT_ANSWERS = r"""
until printf 'GET /healthz HTTP/1.0\r\n\r\n' | nc -U -w 20 /run/ife/$app.sock | grep -q ' 200 '; do
    sleep 0.2
done
"""
"""What a shell on the machine does until the app named `$app` has loaded, and answers."""

APPS = " ".join(sorted(path.parent.name for path in (ROOT / "apps").glob("*/app.py")))
UNTIL_ALL_ANSWER = f"""
for app in {APPS}; do
    [ -S /run/ife/$app.sock ] || continue
    {UNTIL_IT_ANSWERS}
done
"""
"""The same until all have that are enabled there."""


@dataclass(frozen=True)
class Run:
    """One run: the tasks and handlers that changed something, by name, and what failed."""

    changed: tuple[str, ...]
    failures: tuple[str, ...]
    output: str


def make_secrets() -> None:
    """Have the lab's secrets: what is there stays."""
    done = result(_start("lab-secrets.yml", CONFIGURATION))
    if done.failures:
        raise RuntimeError(done.output)


def provision(
    vm: VM,
    *arguments: str,
    host: Host = AIRCRAFT,
    configuration: Path = CONFIGURATION,
    timeout: float = TIMEOUT,
) -> Run:
    """Run the host's playbook to its end, well or not.

    Args:
        vm: the machine, which lets root in.
        arguments: more for `ansible-playbook`.
        host: what the machine is.
        configuration: Ansible's.
        timeout: in seconds.
    """
    return result(start(vm, *arguments, host=host, configuration=configuration), timeout)


def start(
    vm: VM, *arguments: str, host: Host = AIRCRAFT, configuration: Path = CONFIGURATION
) -> subprocess.Popen[str]:
    """Start the host's playbook; what it prints is for `result`."""
    return _start(
        host.playbook,
        configuration,
        f"--extra-vars=ansible_host=vm ansible_ssh_common_args='-F {vm.files.ssh_config}'",
        f"--limit={host.name}",
        *arguments,
    )


def _start(playbook: str, configuration: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [BIN / "ansible-playbook", ROOT / "playbooks" / playbook, *arguments],
        cwd=ROOT,
        env=os.environ
        | {"ANSIBLE_CONFIG": str(configuration), "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def result(run: subprocess.Popen[str], timeout: float = TIMEOUT) -> Run:
    """Wait for its end.

    Raises:
        subprocess.TimeoutExpired: it did not come, and the run was killed.
    """
    try:
        output, errors = run.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        raise
    if not output.startswith("{"):
        return Run((), (f"Ansible did not start: {errors}",), output + errors)
    plays: list[dict[str, Any]] = json.loads(output)["plays"]
    results = [
        (task["task"]["name"], told)
        for play in plays
        for task in play["tasks"]
        for told in task["hosts"].values()
    ]
    return Run(
        tuple(name for name, told in results if told.get("changed")),
        tuple(
            f"{name}: {told.get('msg')} {told.get('stderr', '')}"
            for name, told in results
            if told.get("failed") or told.get("unreachable")
        ),
        output + errors,
    )
