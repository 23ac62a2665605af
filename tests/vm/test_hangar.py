"""The Hangar: playbooks/hangar.yml on a Debian 13 of its own, and who gets into what it makes."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from ruamel.yaml import YAML

from apps.common.gate import Heartbeat, Space
from apps.common.testing import wait_until
from bench import plain
from bench.site import GROUND, HANGAR, Run, make_secrets, provision
from image.vm.machine import Machine
from image.vm.vm import VM
from tests.vm.conftest import ROOT, UV, StartVm, ask_hangar, requirements

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="Debian is installed as root"),
]

LAB = ROOT / "build/lab"
KEYS = LAB / "hangar-lab"
OPERATOR = KEYS / "operators/anna"
AIRCRAFT = LAB / "EC-LAB"
UNITS = ("ife-hangar", "nginx", "postgresql@17-main", "ssh")

# There is no way out of the machine: what pip would fetch is there already.
WHEELS = "/srv/wheels"
PIP = f"[global]\nno-index = true\nfind-links = {WHEELS}\n"


@dataclass(frozen=True)
class Ground:
    """A Hangar that was provisioned, and had its power cut since; and what the runs said."""

    vm: VM
    run: Run
    again: Run

    def get(self, path: str, certificate: Path, *more: str) -> tuple[int, str]:
        """As `ask_hangar`."""
        return ask_hangar(self.vm, str(GROUND.guest.ip), path, certificate, *more)

    def do(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the ground's network."""
        command = [*self.vm.entering, *argv]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)


def _packages() -> list[str]:
    """What the playbook would install by apt, and what Ansible itself needs there."""
    yaml = YAML(typ="safe")
    roles = {
        name: yaml.load(ROOT / f"roles/{name}/vars/main.yml") for name in ("hangar", "postgresql")
    }
    packages = [package for name, told in roles.items() for package in told[f"{name}_packages"]]
    return ["python3", "python3-apt", *packages]


def _tree(folder: Path) -> Path:
    """What the server has beside Debian: an address by DHCP, and the wheels."""
    tree = folder / "tree"
    plain.ask_by_dhcp(tree)
    (tree / "etc/pip.conf").write_text(PIP)
    fetch = [
        *(str(UV), "run", "--quiet", "--no-project", "--with=pip"),
        *("python", "-m", "pip", "download"),
        *("--quiet", f"--dest={tree}{WHEELS}", "--python-version=3.13", "--implementation=cp"),
        *("--platform=manylinux_2_28_x86_64", "--platform=manylinux_2_17_x86_64"),
        *("--platform=manylinux2014_x86_64", "--only-binary=:all:", "--require-hashes"),
        *("--requirement", str(requirements("hangar", folder))),
    ]
    subprocess.run(fetch, cwd=folder, check=True, timeout=600)
    return tree


@pytest.fixture(scope="module")
def ground(
    new_vm_of_module: StartVm, image: Path, tmp_path_factory: pytest.TempPathFactory
) -> Ground:
    """The lab's Hangar. The image's tools make Debian's kernel image."""
    make_secrets()
    folder = tmp_path_factory.mktemp("hangar")
    disk = plain.install(folder, *_packages(), files=_tree(folder))
    vm = new_vm_of_module(Machine(disk, networks=(GROUND,), direct=True))
    vm.boot()
    vm.wait_for_ssh()
    run, again = (provision(vm, host=HANGAR) for _ in range(2))
    assert not run.failures, run.output
    vm.run("sync")
    vm.cut_power()
    # From now on it has the host key of the store.
    key = (KEYS / "ssh_host_ed25519_key.pub").read_text()
    vm.files.known_hosts.write_text(f"{GROUND.guest.ip} {key}")
    vm.boot()
    vm.wait_for_ssh()
    vm.run("systemctl is-system-running --wait", timeout=300, check=False)
    return Ground(vm, run, again)


def test_a_second_run_changes_nothing(ground: Ground) -> None:
    assert not ground.again.failures, ground.again.output
    assert ground.again.changed == ()


def test_after_a_boot_all_of_it_runs(ground: Ground) -> None:
    assert ground.vm.run("systemctl is-system-running", check=False).stdout == "running\n"
    told = ground.vm.run(f"systemctl is-active {' '.join(UNITS)}", check=False).stdout
    assert told.split() == ["active"] * len(UNITS)


def test_nothing_else_is_open(ground: Ground) -> None:
    told = ground.vm.run("ss --listening --tcp --numeric --no-header").stdout
    ports = {line.split()[3].rpartition(":")[2] for line in told.splitlines()}
    assert ports == {"22", "443"}


def test_it_hears_an_aircraft_and_an_operator_sees_it(ground: Ground) -> None:
    beat = Heartbeat(
        registration="EC-LAB",
        at=round(time.time() * 1000),
        boot_id=uuid4().hex,
        space=Space(free=1 << 30, total=1 << 33),
    )
    status, told = ground.get(
        "/api/v1/heartbeats",
        AIRCRAFT / "gate",
        *("--header", "Content-Type: application/json", "--data", beat.model_dump_json()),
    )
    assert status == 200, told

    def is_online() -> bool:
        status, told = ground.get("/api/v1/fleet", OPERATOR)
        assert status == 200, told
        (aircraft,) = json.loads(told)["aircraft"]
        assert aircraft["registration"] == "EC-LAB"
        return bool(aircraft["presence"] == "online")

    # The database has a heartbeat within a second.
    wait_until(is_online, "the operator sees it online", 30)


def test_others_of_the_aircraft_are_kept_out(ground: Ground) -> None:
    """Its server has a certificate of the same root."""
    status, told = ground.get("/api/v1/fleet", AIRCRAFT / "server")
    assert status in {400, 403}, told
    status, told = ground.get("/api/v1/fleet", AIRCRAFT / "gate")
    assert status == 403, told


def test_an_aircraft_reads_content_and_does_nothing_else(ground: Ground, tmp_path: Path) -> None:
    ground.vm.run("echo today >/srv/ife/content/paper && chmod 644 /srv/ife/content/paper")
    known = tmp_path / "known_hosts"
    key = (KEYS / "ssh_host_ed25519_key.pub").read_text()
    known.write_text(f"{GROUND.guest.ip} {key}")
    ours = tmp_path / "key"
    ours.write_bytes((AIRCRAFT / "gate_ssh").read_bytes())
    ours.chmod(0o600)
    ssh = f"ssh -F none -i {ours} -o UserKnownHostsFile={known} -o StrictHostKeyChecking=yes"
    there = f"ife-ec-lab@{GROUND.guest.ip}"
    got = tmp_path / "got"
    fetched = ground.do("rsync", f"--rsh={ssh}", f"{there}:paper", str(got))
    assert fetched.returncode == 0, fetched.stderr
    assert got.read_text() == "today\n"
    sent = ground.do("rsync", f"--rsh={ssh}", str(got), f"{there}:other")
    assert sent.returncode != 0
    assert ground.do("rsync", f"--rsh={ssh}", f"{there}:/etc/passwd", str(got)).returncode != 0
    asked = ground.do(*ssh.split(), there, "cat /etc/passwd")
    assert asked.returncode != 0
    assert "root:" not in asked.stdout

    # What it takes is bounded, a connection that asks for nothing among it.
    idle = subprocess.Popen([*ground.vm.entering, *ssh.split(), "-N", there])
    try:
        uid = ground.vm.run("id -u ife-ec-lab").stdout.strip()
        tasks = f"/sys/fs/cgroup/user.slice/user-{uid}.slice/pids"
        ground.vm.run(f"timeout 30 sh -c 'until grep -qx 64 {tasks}.max; do sleep 1; done'")
        ground.vm.run(f"test $(cat {tasks}.current) -ge 2")
        bounds = ground.vm.run(f"systemctl show --property=MemoryMax user-{uid}.slice")
        assert bounds.stdout.strip() == f"MemoryMax={1 << 30}"
    finally:
        idle.kill()
        idle.wait()


def test_it_is_back_after_it_was_killed(ground: Ground) -> None:
    for unit in ("ife-hangar", "nginx", "postgresql@17-main"):
        ground.vm.run(f"systemctl kill --kill-whom=all --signal=KILL {unit}")
    ground.vm.run(
        "timeout 120 sh -c 'until systemctl is-active ife-hangar nginx postgresql@17-main;"
        " do sleep 1; done'",
        timeout=150,
    )
    status, told = ground.get("/api/v1/fleet", OPERATOR, "--retry", "10")
    assert status == 200, told
