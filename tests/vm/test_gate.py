"""An aircraft that has a Hangar, in the built image: what the role brings is what the app takes."""

from __future__ import annotations

import json

import pytest

from bench.site import NETWORKS, provision
from image.vm.machine import Machine
from tests.vm.conftest import ROOT, Provisioned, StartVm, sha256, wait_for_content_sync

pytestmark = pytest.mark.long

LAB = ROOT / "build/lab"
STORE = LAB / "EC-LAB"
HANGAR = "198.18.4.9"
"""An address of the ground's network, where nobody is."""


def test_the_gate_waits_for_its_hangar(new_vm: StartVm, provisioned: Provisioned) -> None:
    vm = new_vm(Machine(provisioned.disk, networks=NETWORKS, direct=True))
    vm.boot()
    vm.wait_for_ssh()
    given = {
        "content_sync_hangar_address": HANGAR,
        "content_sync_hangar_host_keys": [
            (LAB / "hangar-lab/ssh_host_ed25519_key.pub").read_text().strip()
        ],
        "content_sync_gate_needs_wow": False,
    }
    more = ("--tags=content_sync", f"--extra-vars={json.dumps(given)}")
    run = provision(vm, *more)
    assert not run.failures, run.output
    told = vm.run("cd /etc/ife/keys && sha256sum gate.pem gate_ssh.key usage.key").stdout
    digests = {name: digest for digest, name in map(str.split, told.splitlines())}
    assert digests == {
        "gate.pem": sha256((STORE / "gate.key").read_bytes() + (STORE / "gate.crt").read_bytes()),
        "gate_ssh.key": sha256((STORE / "gate_ssh").read_bytes()),
        "usage.key": sha256((STORE / "usage.key").read_bytes()),
    }
    wait_for_content_sync(vm)
    gate = json.loads(vm.run("ife-content status --json").stdout)["gate"]
    assert gate is not None
    assert vm.run("systemctl show -P NRestarts ife-content_sync").stdout == "0\n"
    again = provision(vm, *more)
    assert (again.failures, again.changed) == ((), ())
