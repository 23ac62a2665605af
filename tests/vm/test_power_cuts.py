"""Power cuts at random moments: it boots, and nothing that was acknowledged is lost.

The disk of a machine here loses exactly what the guest had not flushed (image/vm).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.site import NETWORKS, make_secrets, provision, result, start
from image.vm.machine import Machine
from image.vm.vm import VM
from tests.vm.conftest import Provisioned, StartVm

pytestmark = [pytest.mark.long, pytest.mark.timeout(2 * 3600)]

CUTS = 10
"""Under load."""

LOAD_SECONDS = 20

AMCHECK = "/usr/lib/postgresql/17/bin/pg_amcheck"

# Sends one command after the other to seat control, and tells each number as it is acknowledged.
CREW = r"""
import http.client, json, socket, sys
class Control(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/ife/seat_control.sock")
control = Control("localhost", timeout=20)
body = json.dumps({"selector": {"all": True}, "action": {"name": "identify"}})
while True:
    control.request("POST", "/api/v1/commands", body,
        {"Content-Type": "application/json", "Ife-Crew": "anna"})
    answer = control.getresponse()
    told = json.loads(answer.read())
    if answer.status == 202:
        print(told["seq"], flush=True)
"""

# The numbers of the commands in seat control's journal.
JOURNAL = r"""
import json, sqlite3
database = sqlite3.connect("/var/lib/ife/seat_control/journal.db")
assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
print(json.dumps([seq for seq, in database.execute("SELECT seq FROM command")]))
"""


def _program(text: str) -> str:
    """A shell command that runs a Python program in the machine."""
    return f"/opt/ife/bin/python - <<'END'\n{text}END"


def _check_postgresql(vm: VM) -> None:
    """It is up, and each page of each table and index is whole."""
    vm.run("until runuser -u postgres -- psql -c 'SELECT 1'; do sleep 1; done", timeout=120)
    vm.run(f"runuser -u postgres -- {AMCHECK} --all --install-missing --heapallindexed", 120)


def _wait_for_seat_control(vm: VM) -> None:
    vm.run("until systemctl is-active --quiet ife-seat_control; do sleep 1; done", timeout=120)


@contextmanager
def _crew(vm: VM) -> Iterator[list[int]]:
    """Somebody sends commands during the block; after it, all acknowledged numbers are there."""
    acknowledged: list[int] = []
    with subprocess.Popen(
        ["ssh", "-F", str(vm.files.ssh_config), "vm", _program(CREW)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            acknowledged.append(int(process.stdout.readline()))
            yield acknowledged
        finally:
            process.terminate()
        # The last line may be cut off as well.
        lines = process.stdout.read().split("\n")[:-1]
        acknowledged += [int(line) for line in lines]


@pytest.fixture
def moments() -> random.Random:
    """Chooses when the power is cut: ``IFE_SEED=... pytest`` chooses the same again."""
    seed = os.environ.get("IFE_SEED") or str(random.getrandbits(32))
    print(f"IFE_SEED={seed}")
    return random.Random(seed)  # noqa: S311


def test_under_load_nothing_acknowledged_is_lost(
    new_vm: StartVm, provisioned: Provisioned, moments: random.Random
) -> None:
    vm = new_vm(Machine(provisioned.disk, networks=NETWORKS, direct=True))
    vm.boot()
    vm.wait_for_ssh()
    _wait_for_seat_control(vm)
    highest = 0
    for _ in range(CUTS):
        with _crew(vm) as acknowledged:
            time.sleep(moments.uniform(0, LOAD_SECONDS))
            vm.cut_power()
        assert min(acknowledged) > highest
        vm.boot()
        vm.wait_for_ssh()
        _check_postgresql(vm)
        _wait_for_seat_control(vm)
        kept = json.loads(vm.run(_program(JOURNAL)).stdout)
        highest = max(acknowledged)
        assert max(kept) >= highest
        # It keeps the last hundreds: of those, each is there.
        assert {seq for seq in acknowledged if seq >= min(kept)} <= set(kept)


def _check_journal(vm: VM) -> None:
    """What there is of it is whole; it is made when seat control starts for the first time."""
    if vm.run("test -e /var/lib/ife/seat_control/journal.db", check=False).returncode == 0:
        vm.run(_program(JOURNAL))


def _seconds_of_a_run(vm: VM) -> float:
    """From nothing."""
    vm.boot()
    vm.wait_for_ssh()
    began = time.monotonic()
    run = provision(vm)
    assert not run.failures, run.output
    seconds = time.monotonic() - began
    vm.cut_power()
    return seconds


def test_a_server_can_be_provisioned_after_cuts_while_it_was(
    new_vm: StartVm, image: Path, moments: random.Random
) -> None:
    """Of five servers, each twice: once a run has gone through, the next one changes nothing."""
    make_secrets()
    machine = Machine(image, networks=NETWORKS, direct=True)
    seconds = _seconds_of_a_run(new_vm(machine))
    under_way = 0
    for _ in range(5):
        vm = new_vm(machine)
        vm.boot()
        vm.wait_for_ssh()
        for _ in range(2):
            # What the first run has done the second one need not do, and is over sooner.
            run = start(vm)
            try:
                run.communicate(timeout=moments.uniform(1, seconds))
            except subprocess.TimeoutExpired:
                under_way += 1
            vm.cut_power()
            result(run)
            vm.boot()
            vm.wait_for_ssh()
            _check_postgresql(vm)
            _check_journal(vm)
        done = provision(vm)
        assert done.failures == ()
        assert provision(vm).changed == ()
        vm.cut_power()
    print(f"a run was under way at {under_way} of 10 cuts")
