"""What becomes of the state partition: full, destroyed, encrypted; and a boot without networks."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from pathlib import Path

import pytest

from apps.common.testing import wait_until
from bench.site import NETWORKS, ROOT
from image.vm import uki
from image.vm.machine import Machine
from image.vm.vm import VM
from tests.vm.conftest import CREW, Provisioned, StartVm
from tests.vm.test_aircraft import heard

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

STATE = "/dev/disk/by-partlabel/ife_state"
TABLE = (1024, 512)
"""The first four entries of the GPT at the disk's begin, whose header has their checksum."""

WIPED_AT_ONCE = 1 << 30
"""Bytes: qemu-io takes less than 2 GiB."""

SEED = os.environ.get("IFE_SEED", "1")
"""Others may take the networks' configuration with them, and then nobody comes in to look."""

HOLES, BLOCK, TABLES = 40, 4096, 64 << 20
"""So many blocks of so many bytes, in the first bytes of the state, where ext4 has its tables."""

RUNBOOK = ROOT / "docs/runbook.md"


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
    # Nobody can look inside; the console tells what is wrong.
    vm.wait_for_console("is missing")
    assert "Failed to start" not in vm.console()


def test_a_full_state_is_told_and_the_rest_goes_on(
    new_vm: StartVm, provisioned: Provisioned
) -> None:
    vm = _boot(new_vm(Machine(provisioned.disk, networks=NETWORKS, direct=True)))
    vm.run("systemctl is-system-running --wait", timeout=300, check=False)
    before = _wrong(vm)  # the lab has neither sound cards nor seats
    # All of it, also what is kept back for root: in pieces that get smaller, without writing any.
    vm.run(
        "mkdir /var/full && for size in 1G 64M 4M 256K 16K 4K; do"
        " while fallocate --length $size /var/full/$((n += 1)) 2>/dev/null; do :; done; done; sync",
        timeout=300,
    )
    assert vm.run("df --output=avail /var | tail -1").stdout.strip() == "0"
    vm.cut_power()
    _boot(vm)
    vm.run("until systemctl is-active --quiet ife.target nginx; do sleep 1; done", timeout=240)
    told = vm.run("/opt/ife/bin/ife-status", check=False)
    assert told.returncode == 1
    assert "/var is nearly full" in told.stdout
    # It mends itself once there is room.
    vm.run("rm -r /var/full")
    wait_until(lambda: _wrong(vm) <= before, "it is well again", 240)


def _wrong(vm: VM) -> set[str]:
    """What ife-status says is wrong."""
    told = json.loads(vm.run("/opt/ife/bin/ife-status --json", check=False).stdout)
    return {finding["what"] for finding in told["findings"] if finding["level"] == "wrong"}


def test_the_state_grows_with_its_disk(new_vm: StartVm, provisioned: Provisioned) -> None:
    """As when its image was copied to a larger one."""
    vm = _boot(new_vm(Machine(provisioned.disk, disk_gib=12, networks=NETWORKS, direct=True)))
    size = int(vm.run("df --output=size --block-size=1G /var | tail -1").stdout)
    assert size > Machine.disk_gib


def test_an_encrypted_state_grows_with_its_disk(new_vm: StartVm, image: Path) -> None:
    """As when its disk was copied to a larger one."""
    vm = _boot(new_vm(Machine(image, networks=(CREW,), tpm=True)))
    assert _state(vm) == "crypt"
    vm.run("echo kept >/var/lib/kept && sync")
    vm.cut_power()
    grow = ["qemu-img", "resize", "-f", "qcow2", str(vm.files.disk), f"{Machine.disk_gib + 4}G"]
    subprocess.run(grow, check=True, capture_output=True, timeout=60)
    _boot(vm)
    size = int(vm.run("df --output=size --block-size=1G /var | tail -1").stdout)
    assert size > Machine.disk_gib
    assert _state(vm) == "crypt"
    assert vm.run("cat /var/lib/kept").stdout == "kept\n"


def test_a_damaged_state_is_mended(new_vm: StartVm, provisioned: Provisioned) -> None:
    """The first superblock is gone; the file system has others."""
    vm = _boot(new_vm(Machine(provisioned.disk, networks=NETWORKS, direct=True)))
    start, _ = _place(vm)
    vm.cut_power()
    _wipe(vm, start, 4096)
    _boot(vm)
    assert "Bad magic number in super-block" in vm.console()
    assert _state(vm) == "part"
    assert vm.run("hostname").stdout == "ec-lab\n"


def test_a_state_that_is_damaged_in_many_places_comes_up_and_tells(
    new_vm: StartVm, provisioned: Provisioned
) -> None:
    """Its tables of files have holes: what fsck could keep is there, and what failed is told."""
    print(f"IFE_SEED={SEED}")
    rng = random.Random(SEED)  # noqa: S311
    vm = _boot(new_vm(Machine(provisioned.disk, networks=NETWORKS, direct=True)))
    start, _ = _place(vm)
    # As a kernel notes it that has come upon one of them; else fsck does not look.
    vm.run("echo 1 >/sys/fs/ext4/$(basename $(findmnt -no SOURCE /var))/trigger_fs_error && sync")
    vm.cut_power()
    for _ in range(HOLES):
        _wipe(vm, start + rng.randrange(TABLES // BLOCK) * BLOCK, BLOCK)
    _boot_as_new(vm)
    assert "FILE SYSTEM WAS MODIFIED" in vm.console() or _is_lost(vm)
    vm.run("systemctl is-system-running --wait", timeout=600, check=False)
    told = vm.run("/opt/ife/bin/ife-status", check=False).stdout
    failed = vm.run("systemctl list-units --failed --plain --no-legend").stdout
    names = [line.split()[0].removesuffix(".service")[:20] for line in failed.splitlines()]
    assert [name for name in names if name not in told] == []


def test_a_torn_partition_table_is_read_from_its_copy(
    new_vm: StartVm, provisioned: Provisioned
) -> None:
    """As when the power goes while the first boot writes it. No firmware is there to mend it."""
    vm = _boot(new_vm(Machine(provisioned.disk, networks=NETWORKS, direct=True)))
    vm.cut_power()
    _wipe(vm, *TABLE)
    _boot(vm)
    assert vm.run("hostname").stdout == "ec-lab\n"
    assert _state(vm) == "part"


def test_a_destroyed_state_is_told_and_made_anew_where_that_is_asked_for(
    new_vm: StartVm, provisioned: Provisioned
) -> None:
    vm = _boot(new_vm(Machine(provisioned.disk, networks=NETWORKS, direct=True)))
    place = _place(vm)
    vm.cut_power()
    _wipe(vm, *place)
    _boot_as_new(vm)
    assert _is_lost(vm)
    vm.wait_for_console("has not been provisioned")
    # As docs/runbook.md says.
    find, delete = re.findall(r"^# ((?:state=|sfdisk ).*)$", RUNBOOK.read_text(), re.MULTILINE)
    vm.run(f"{find} && {delete}")
    vm.cut_power()
    _boot_as_new(vm)
    assert not _is_lost(vm)
    assert _state(vm) == "part"


def test_without_its_state_it_is_silent_unless_somebody_has_come(
    new_vm: StartVm, provisioned: Provisioned, tmp_path: Path
) -> None:
    """Which of its cables leads to the avionics was in the state."""
    vm = _boot(new_vm(Machine(provisioned.disk, networks=NETWORKS, direct=True)))
    place = _place(vm)
    vm.cut_power()
    _wipe(vm, *place)
    vm.keep_disk(tmp_path / "lost.qcow2")
    lost = new_vm(Machine(tmp_path / "lost.qcow2", networks=NETWORKS, direct=True, lets_in=False))
    lost.boot()
    lost.wait_for_console("has not been provisioned")
    assert "cannot be mounted" in lost.console()
    assert {network.name: heard(lost, network) for network in NETWORKS} == dict.fromkeys(
        (network.name for network in NETWORKS), 0
    )


def _place(vm: VM) -> tuple[int, int]:
    """Where the state partition begins on the disk, and its size, in bytes."""
    name = vm.run(f"basename $(readlink {STATE})").stdout.strip()
    told = vm.run(f"cat /sys/class/block/{name}/start /sys/class/block/{name}/size").stdout
    start, size = (512 * int(line) for line in told.split())
    return start, size


def _wipe(vm: VM, start: int, size: int) -> None:
    """Zero a part of the disk of a machine that is off."""
    pieces = range(start, start + size, WIPED_AT_ONCE)
    writes = [f"write -z {at} {min(WIPED_AT_ONCE, start + size - at)}" for at in pieces]
    wipe = ["qemu-io", "-f", "qcow2", *(word for write in writes for word in ("-c", write))]
    subprocess.run([*wipe, vm.files.disk], check=True, capture_output=True, timeout=60)


def _boot_as_new(vm: VM) -> None:
    vm.files.known_hosts.unlink()  # as a new machine it has a new key
    _boot(vm)


def _is_lost(vm: VM) -> bool:
    assert ("cannot be mounted" in vm.console()) == (
        vm.run("findmnt -no FSTYPE /var").stdout == "tmpfs\n"
    )
    return "cannot be mounted" in vm.console()


def test_with_a_tpm_the_state_is_encrypted_for_this_machine_alone(
    new_vm: StartVm, image: Path
) -> None:
    vm = _boot(new_vm(Machine(image, networks=(CREW,), tpm=True)))
    assert vm.run(f"blkid -p -s TYPE -o value {STATE}").stdout == "crypto_LUKS\n"
    assert _state(vm) == "crypt"
    told = json.loads(vm.run("/opt/ife/bin/ife-status --json", check=False).stdout)
    assert told["facts"]["disk"]["encrypted"]
    vm.run("echo kept >/var/lib/kept && sync && fstrim /var")
    # Whoever has got into the running system does not get the key from the TPM, though he has the
    # signature of what the initrd was measured as.
    signature = uki.sections(image.with_suffix(".efi"))[".pcrsig"].rstrip(b"\0").decode()
    assert len(json.loads(signature)["sha256"]) == 1
    vm.run(f"cat >/run/signature <<'END'\n{signature}\nEND")
    unlock = f"systemd-cryptsetup attach again {STATE} - tpm2-device=auto,headless=yes"
    assert vm.run(f"{unlock},tpm2-signature=/run/signature", check=False).returncode != 0
    vm.cut_power()
    _boot(vm)
    assert vm.run("cat /var/lib/kept").stdout == "kept\n"
    # The disk in another machine: another TPM.
    vm.shut_down()
    for file in vm.files.tpm.iterdir():
        file.unlink()
    _boot_as_new(vm)
    assert _is_lost(vm)
    # Why is told where an engineer looks, not on the serial console alone.
    assert "TPM" in vm.run("journalctl -k -b -p err -o cat").stdout


def test_with_a_tpm_a_state_that_is_not_encrypted_is_refused(
    new_vm: StartVm, image: Path, tmp_path: Path
) -> None:
    """Somebody else may have made it, with keys of his own in /etc."""
    plain = _boot(new_vm(Machine(image, networks=(CREW,), direct=True)))
    assert _state(plain) == "part"
    plain.shut_down()
    disk = tmp_path / "plain.qcow2"
    plain.keep_disk(disk)
    vm = _boot(new_vm(Machine(disk, networks=(CREW,), tpm=True)))
    assert "is not encrypted, though there is a TPM" in vm.console()
    assert _is_lost(vm)
