"""An aircraft that has a Hangar, in the built image: its unit, in its sandbox, brings content."""

from __future__ import annotations

import json
import os
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import zstandard

from apps.common.testing import PostgresServer, wait_until
from bench.gate.hangar import Hangar, Keys
from bench.site import GROUND, NETWORKS, Run, provision
from image.vm.machine import Machine
from image.vm.vm import VM
from tests.content.helpers import Ground
from tests.roles import ground as hangars
from tests.vm.conftest import (
    ROOT,
    Provisioned,
    StartVm,
    ask_hangar,
    content_state,
    copy,
    sha256,
    wait_for_content_sync,
)

pytestmark = pytest.mark.long

LAB = ROOT / "build/lab"
STORE = LAB / "EC-LAB"
HANGAR = str(GROUND.host.ip)
"""Our side of the ground's network."""

AIRLINE = "Example Airline"
OPERATOR = LAB / "hangar-lab/operators/anna"
OWNER = "ife-hangar"

PAPER = b"the newspaper of today"
LOADED_WITHIN = 300.0
"""Seconds, on an emulated machine."""


def told_of_the_hangar(vm: VM) -> Run:
    """The playbook, as it is for an aircraft that has one."""
    given = {
        "content_sync_hangar_address": HANGAR,
        "content_sync_hangar_url": "https://hangar-lab",
        "content_sync_hangar_host_keys": [
            (LAB / "hangar-lab/ssh_host_ed25519_key.pub").read_text().strip()
        ],
        "content_sync_gate_needs_wow": False,
    }
    return provision(vm, "--tags=content_sync", f"--extra-vars={json.dumps(given)}")


@pytest.fixture(scope="module")
def flying(new_vm_of_module: StartVm, provisioned: Provisioned) -> VM:
    """It has a Hangar, and nobody is there."""
    vm = new_vm_of_module(Machine(provisioned.disk, networks=NETWORKS, direct=True))
    vm.boot()
    vm.wait_for_ssh()
    run = told_of_the_hangar(vm)
    assert not run.failures, run.output
    wait_for_content_sync(vm)
    return vm


def test_the_gate_waits_for_its_hangar(flying: VM) -> None:
    told = flying.run("cd /etc/ife/keys && sha256sum gate.pem gate_ssh.key usage.key").stdout
    digests = {name: digest for digest, name in map(str.split, told.splitlines())}
    assert digests == {
        "gate.pem": sha256((STORE / "gate.key").read_bytes() + (STORE / "gate.crt").read_bytes()),
        "gate_ssh.key": sha256((STORE / "gate_ssh").read_bytes()),
        "usage.key": sha256((STORE / "usage.key").read_bytes()),
    }
    assert content_state(flying).gate is not None
    assert flying.run("systemctl show -P NRestarts ife-content_sync").stdout == "0\n"
    again = told_of_the_hangar(flying)
    assert (again.failures, again.changed) == ((), ())


@pytest.mark.skipif(os.geteuid() != 0, reason="sshd takes root rights")
def test_content_comes_by_the_gate(flying: VM, open_folder: Path) -> None:
    """From a real sshd with the Hangar's configuration, by the unit's own ssh and rsync."""
    publisher = Ground(open_folder / "publisher")
    publisher.begin()
    publisher.publish("news", "today", {"today.pdf": PAPER})
    copy(flying, publisher.folder / "root.json", "/etc/ife/content-root.json")
    flying.run("systemctl restart ife-content_sync.service")
    wait_for_content_sync(flying)
    folder = open_folder / "sshd"
    folder.mkdir()
    keys = hangars.Ground(LAB / "hangar-lab", {"EC-LAB": STORE}, folder / "fleet.json")

    def is_on_board() -> bool:
        current = content_state(flying).current
        return current is not None and current.version == publisher.repository.version

    with hangars.serve_content(
        keys, folder, publisher.published, HANGAR, 22, tuple(flying.entering)
    ):
        wait_until(is_on_board, "it is on board", LOADED_WITHIN)
    paper = flying.run("sha256sum /var/lib/ife/content/current/news/today.pdf").stdout
    assert paper.split()[0] == sha256(PAPER)
    assert flying.run("systemctl list-units --failed --plain --no-legend").stdout == ""


def told(vm: VM, path: str) -> dict[str, Any]:
    """What the Hangar tells its operator, a moment later."""
    time.sleep(1)
    status, text = ask_hangar(vm, HANGAR, f"/api/v1/{path}", OPERATOR)
    assert status == 200, text
    return dict(json.loads(text))


@pytest.mark.skipif(os.geteuid() != 0, reason="nginx takes a port of root's")
def test_the_hangar_hears_of_it_and_gets_usage_and_logs(
    flying: VM, open_folder: Path, postgres: PostgresServer
) -> None:
    """From the unit in its sandbox: the Hangar is a real one behind nginx, with the lab's keys."""
    database = postgres.create(OWNER)
    hangar = Hangar(
        open_folder,
        Keys(AIRLINE, LAB / "hangar-lab", {"EC-LAB": STORE}),
        postgres.url(database, OWNER),
        open_folder / "content",
        address=IPv4Address(HANGAR),
        port=443,
        entering=flying.entering,
    )

    def seen() -> dict[str, Any]:
        (aircraft,) = told(flying, "fleet")["aircraft"]
        return dict(aircraft)

    def state(kind: str) -> str:
        requests = told(flying, "aircraft/EC-LAB")["requests"]
        return "".join(one["state"] for one in requests if one["kind"] == kind)

    keyboard = flying.plug_usb("usb-kbd")
    with hangar:
        fleet = "/api/v1/fleet"
        wait_until(
            lambda: ask_hangar(flying, HANGAR, fleet, OPERATOR)[0] == 200, "the Hangar is up", 60
        )
        wait_until(lambda: seen()["presence"] == "online", "it is heard", LOADED_WITHIN)
        for kind in ("send_logs", "open_tunnel"):
            asked = json.dumps({"kind": kind})
            header = ("--header", "Content-Type: application/json", "--data", asked)
            path = "/api/v1/aircraft/EC-LAB/requests"
            status, text = ask_hangar(flying, HANGAR, path, OPERATOR, *header)
            assert status == 202, text
        wait_until(lambda: state("send_logs") == "done", "its logs are there", LOADED_WITHIN)
        assert state("open_tunnel") == "refused", "it has none"
        faults = "SELECT count(*) FROM usage WHERE record->>'fault' = 'not-let-in'"
        wait_until(
            lambda: postgres.run(database, faults) != "0", "of the keyboard, too", LOADED_WITHIN
        )
    flying.unplug(keyboard)
    (packed,) = open_folder.glob("**/logs/EC-LAB/*.zst")
    logs = zstandard.ZstdDecompressor().decompress(packed.read_bytes())
    assert b"systemd" in logs
    assert b"usb_lockdown" in logs
