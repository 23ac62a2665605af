"""What becomes of the state partition: full, destroyed, encrypted; and a boot without networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.site import NETWORKS
from image.vm.machine import Machine
from image.vm.vm import VM
from tests.vm.conftest import CREW, Provisioned, StartVm

pytestmark = pytest.mark.long

STATE = "/dev/disk/by-partlabel/ife_state"


def _boot(vm: VM) -> VM:
    vm.boot()
    vm.wait_for_ssh()
    return vm


def _state(vm: VM) -> str:
    """What kind of device is mounted on /var."""
    return vm.run("lsblk --noheadings --output TYPE $(findmnt -no SOURCE /var)").stdout.strip()


def test_without_any_network_it_boots_and_says_who_it_is(
    new_vm: StartVm, provisioned: Provisioned
) -> None:
    vm = new_vm(Machine(provisioned.disk, direct=True))
    vm.boot()
    vm.wait_for_console("EC-LAB")


def test_a_full_state_is_told_and_the_rest_goes_on(
    new_vm: StartVm, provisioned: Provisioned
) -> None:
    vm = _boot(new_vm(Machine(provisioned.disk, networks=NETWORKS, direct=True)))
    # All of it: also what is kept back for root.
    vm.run("dd if=/dev/zero of=/var/full bs=1M 2>/dev/null; sync", timeout=300, check=False)
    vm.cut_power()
    _boot(vm)
    assert vm.run("df --output=avail /var | tail -1").stdout.strip() == "0"
    assert vm.run("systemctl is-active ife.target nginx").stdout == "active\nactive\n"
    told = vm.run("/opt/ife/bin/ife-status", check=False)
    assert told.returncode == 1
    assert "/var" in told.stdout
    # It mends itself once there is room.
    vm.run("rm /var/full")
    vm.run("until /opt/ife/bin/ife-status >/dev/null; do sleep 1; done", timeout=120)


def test_a_damaged_state_is_mended(new_vm: StartVm, provisioned: Provisioned) -> None:
    """The first superblock is gone; the file system has others."""
    vm = _boot(new_vm(Machine(provisioned.disk, networks=NETWORKS, direct=True)))
    vm.run(f"sync; dd if=/dev/zero of={STATE} bs=4096 count=1 oflag=direct")
    vm.cut_power()
    _boot(vm)
    assert _state(vm) == "part"
    assert vm.run("hostname").stdout == "ec-lab\n"


def test_a_destroyed_state_is_told_and_left_alone(
    new_vm: StartVm, provisioned: Provisioned
) -> None:
    vm = _boot(new_vm(Machine(provisioned.disk, networks=(CREW,), direct=True)))
    vm.run(f"dd if=/dev/urandom of={STATE} bs=1M oflag=direct 2>/dev/null", 600, check=False)
    vm.cut_power()
    vm.files.known_hosts.unlink()  # as a new machine it has a new key
    _boot(vm)
    assert "cannot be mounted" in vm.console()
    assert "has not been provisioned" in vm.console()
    assert vm.run("findmnt -no FSTYPE /var").stdout == "tmpfs\n"


def test_with_a_tpm_the_state_is_encrypted_for_this_machine_alone(
    new_vm: StartVm, image: Path
) -> None:
    vm = _boot(new_vm(Machine(image, networks=(CREW,), tpm=True)))
    assert vm.run(f"blkid -p -s TYPE -o value {STATE}").stdout == "crypto_LUKS\n"
    assert _state(vm) == "crypt"
    vm.run("echo kept >/var/lib/kept && sync")
    vm.cut_power()
    _boot(vm)
    assert vm.run("cat /var/lib/kept").stdout == "kept\n"
    # The disk in another machine: another TPM.
    vm.shut_down()
    for file in vm.files.tpm.iterdir():
        file.unlink()
    vm.files.known_hosts.unlink()
    _boot(vm)
    assert "cannot be mounted" in vm.console()
    assert vm.run("test -e /var/lib/kept", check=False).returncode == 1
