"""Secure Boot: the firmware takes the key from the image, and then starts nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bench.site import NETWORKS, UNTIL_ALL_ANSWER, make_secrets, provision
from image.vm import VmError
from image.vm.accelerator import FIRMWARE
from image.vm.machine import Machine
from tests.vm.conftest import CREW, StartVm

SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
SETUP_MODE = FIRMWARE / "OVMF_VARS_4M.fd"
"""A firmware that has no keys yet."""

BLOCK = 4096


@pytest.mark.long
def test_the_key_is_enrolled_and_then_only_what_it_signed_is_started(
    new_vm: StartVm, image: Path, tmp_path: Path
) -> None:
    vm = new_vm(Machine(image, networks=(CREW,), variables=SETUP_MODE))
    vm.boot()
    vm.wait_for_ssh(timeout=600)
    # After four bytes of attributes: 1 is on.
    assert vm.run(f"od -An -tu1 -j4 {SECURE_BOOT}").stdout.split() == ["1"]
    assert "Secure Boot is on" in vm.run("/opt/ife/bin/ife-status", check=False).stdout
    vm.shut_down()
    enrolled = tmp_path / "variables.fd"
    shutil.copy(vm.files.variables, enrolled)

    altered = tmp_path / image.name
    shutil.copy(image, altered)
    _alter_kernel(altered, image.with_suffix(".efi"))
    other = new_vm(Machine(altered, networks=(CREW,), variables=enrolled))
    other.boot()
    with pytest.raises(VmError, match="lets root in"):
        other.wait_for_ssh(timeout=120)
    assert "Reached target" not in other.console()
    assert "Access denied" in other.console() or "Access Denied" in other.console()


@pytest.mark.long
def test_an_aircraft_as_it_flies_is_signed_encrypted_and_provisioned(
    new_vm: StartVm, image: Path
) -> None:
    """Firmware with keys, a TPM and a run of the playbook in one machine, and a power cut."""
    make_secrets()
    vm = new_vm(Machine(image, networks=NETWORKS, tpm=True, variables=SETUP_MODE))
    vm.boot()
    vm.wait_for_ssh(timeout=600)
    assert provision(vm).failures == ()
    vm.cut_power()
    vm.boot()
    vm.wait_for_ssh(timeout=600)
    vm.run("systemctl is-system-running --wait", timeout=300, check=False)
    vm.run(UNTIL_ALL_ANSWER, timeout=300)
    told = json.loads(vm.run("/opt/ife/bin/ife-status --json", check=False).stdout)
    assert told["facts"]["registration"] == "EC-LAB"
    assert told["facts"]["disk"]["encrypted"]
    assert told["facts"]["trust"]["secure_boot"]
    assert vm.run("systemctl is-active ife.target", check=False).stdout == "active\n"
    assert vm.run("systemctl --failed --plain --no-legend").stdout == ""
    done = provision(vm)
    assert (done.failures, done.changed) == ((), ())


def _alter_kernel(disk: Path, kernel: Path) -> None:
    """Turn one bit of the kernel image on the disk's ESP: of its command line, say."""
    data = kernel.read_bytes()
    at = data.rindex(b"systemd.firstboot=no")
    block = data[at // BLOCK * BLOCK :][:BLOCK]
    with disk.open("r+b") as file:
        esp = file.read(300 << 20)
        found = esp.index(block) + at % BLOCK
        file.seek(found)
        file.write(bytes([esp[found] ^ 1]))
