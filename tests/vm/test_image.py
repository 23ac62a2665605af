"""The image as it was built, in a machine with firmware, a TPM and an aircraft's networks."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from apps.common.testing import wait_until
from image.vm import VmError
from image.vm.machine import NETWORKS, Machine, Network
from image.vm.vm import BOOT_TIMEOUT, VM
from tests.vm.conftest import CREW, StartVm
from tests.vm.test_aircraft import open_ports

ROOT_TYPE = UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
"""What the Discoverable Partitions Specification calls the root partition of an x86-64 machine."""

ROOT_MIB = 700
"""What it may take, as it is on the disk."""

SECTOR = 512

UDP = re.compile(r"127\.[0-9.]+(%lo)?:[0-9]+|\[::1\]:[0-9]+|[0-9.]+%\w+:68")
"""What is for the server itself (resolved, chrony's orders), and networkd's leases."""

GET = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], timeout=10)
connection.request("GET", "/")
print(connection.getresponse().read().decode())
"""
OTHERS = tuple(
    Network.parse(f"{name}=198.18.{10 + number}.1/24")
    for number, name in enumerate(NETWORKS)
    if name != CREW.name
)


@pytest.fixture(scope="module")
def booted(new_vm_of_module: StartVm, image: Path) -> VM:
    """A machine that nothing has been done to since its first boot. Leave it like that."""
    vm = new_vm_of_module(Machine(image, networks=(CREW, *OTHERS), tpm=True))
    vm.boot()
    vm.wait_for_ssh()
    vm.run("systemctl is-system-running --wait", timeout=300, check=False)
    return vm


def test_no_unit_has_failed(booted: VM) -> None:
    assert booted.run("systemctl list-units --failed --plain --no-legend").stdout == ""
    assert booted.run("systemctl is-system-running").stdout == "running\n"


def test_units_are_ordered_without_a_cycle(booted: VM) -> None:
    """To break one, systemd leaves out a unit, and another one at the next boot."""
    journal = booted.run("journalctl --boot --quiet --grep='ordering cycle'", check=False)
    assert journal.stdout == ""


def test_the_kernel_is_not_tainted(booted: VM) -> None:
    assert booted.run("cat /proc/sys/kernel/tainted").stdout == "0\n"


def test_modules_that_nobody_needs_are_not_there(booted: VM) -> None:
    """Neither a program that asks for a protocol, nor a disk or a device, has one loaded."""
    told = booted.run("cd /usr/lib/modules/*/kernel && find fs/* net/* -name '*.ko*'").stdout
    there = {line.split("/")[1] for line in told.splitlines()}
    assert there >= {"ext4", "erofs", "netfilter", "8021q"}
    assert there & {"btrfs", "nfs", "smb", "bluetooth", "sctp", "can"} == set()
    for module in ("sctp", "bluetooth", "xfs", "firewire-core", "cfg80211", "psmouse"):
        assert booted.run(f"modprobe {module}", check=False).returncode != 0
    assert booted.run("modprobe 8021q && modprobe snd-usb-audio && modprobe snd-aloop").stdout == ""


def test_the_image_has_no_secret_and_nothing_of_its_own(booted: VM) -> None:
    """As it was built, beneath what the first boot made."""
    booted.run("mkdir -p /run/built && mount -t erofs -o ro /dev/mapper/root /run/built")
    shadow = booted.run("cut -d: -f2 /run/built/etc/shadow").stdout.split()
    assert shadow
    assert set(shadow) <= {"*", "!", "!*"}
    machine = booted.run("cat /run/built/etc/machine-id", check=False).stdout.strip()
    assert machine in {"", "uninitialized"}
    places = "etc opt/ife usr/lib/ssl usr/share/factory usr/local"
    # Nor an authority of the internet: whom it trusts it is told.
    keys = f"cd /run/built && grep -rlIE '^-----BEGIN .*(PRIVATE KEY|CERTIFICATE)-----' {places}"
    assert booted.run(keys, check=False).stdout == ""
    assert booted.run("ls /run/built/etc/ssh /run/built/root").stdout.count("ssh_host") == 0
    assert booted.run("ls /run/built/etc/ssl/certs", check=False).stdout.split() == []
    booted.run("umount /run/built")


def test_root_cannot_be_written(booted: VM) -> None:
    for folder in ("/", "/usr", "/opt"):
        done = booted.run(f"touch {folder}/written", check=False)
        assert (done.returncode, "Read-only" in done.stderr) == (1, True), done.stderr
    done = booted.run("mount -o remount,rw / && touch /usr/written", check=False)
    assert done.returncode != 0


def test_root_is_verified(booted: VM) -> None:
    assert booted.run("findmnt --noheadings --output FSTYPE /").stdout == "erofs\n"
    assert booted.run("cat /sys/block/dm-*/dm/uuid").stdout.startswith("CRYPT-VERITY-")
    assert int(booted.run("blockdev --getsize64 /dev/mapper/root").stdout) < ROOT_MIB << 20


def test_nobody_can_change_the_kernels_command_line(booted: VM) -> None:
    """No menu, no editor, and no shell that the command line could ask for."""
    booted.run("mkdir -p /run/esp && mount -o ro $(blkid -t TYPE=vfat -o device) /run/esp")
    loader = booted.run("cat /run/esp/loader/loader.conf").stdout.splitlines()
    booted.run("umount /run/esp")
    assert {"timeout 0", "editor no"} <= set(loader)
    assert booted.run("systemctl is-active debug-shell.service", check=False).stdout != "active\n"
    booted.run("! test -e /usr/lib/systemd/system-generators/systemd-debug-generator")


def test_there_is_room_for_the_next_version(booted: VM) -> None:
    """Slot B: partitions as large as slot A's, and of its types; the rest is the state."""
    told = booted.run("lsblk --json --bytes --output PARTLABEL,PARTTYPE,SIZE,PKNAME").stdout
    found = [part for part in json.loads(told)["blockdevices"] if part["partlabel"]]
    labels = [part["partlabel"] for part in found]
    assert labels.count("_empty") == 2
    slot_b = {(part["parttype"], part["size"]) for part in found if part["partlabel"] == "_empty"}
    is_slot_a = re.compile(r"ife_[0-9].*").fullmatch
    slot_a = {(part["parttype"], part["size"]) for part in found if is_slot_a(part["partlabel"])}
    assert len(slot_a) == 2
    assert slot_b == slot_a
    assert labels.count("ife_state") == 1


def test_it_has_the_tpm_and_each_network(booted: VM) -> None:
    booted.run("test -c /dev/tpmrm0")
    addresses = booted.run("cat /sys/class/net/*/address").stdout.split()
    assert {network.mac for network in (CREW, *OTHERS)} < set(addresses)


# -- nobody has provisioned it ------------------------------------------------------------------


def _page(vm: VM, address: object) -> str:
    """What a browser gets there on our side of a network; nothing while nobody answers."""
    done = subprocess.run(
        [*vm.entering, sys.executable, "-c", GET, str(address)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.stdout


def test_its_page_says_that_nobody_has_provisioned_it_and_nothing_else_is_open(booted: VM) -> None:
    for network in (CREW, *OTHERS):
        assert "This server has not been provisioned" in _page(booted, network.guest.ip)
    # What its firewall lets in now goes for all networks alike.
    assert open_ports(booted, str(CREW.guest.ip)) == [22, 80]
    # A program that is silent would not be told from a firewall by trying its port.
    listening = booted.run("ss --no-header --numeric --listening --udp").stdout.splitlines()
    addresses = {line.split()[3] for line in listening}
    assert {address for address in addresses if not UDP.fullmatch(address)} == set()


def test_its_console_and_its_screen_tell_how_to_reach_it(booted: VM) -> None:
    """Its addresses, those by DHCP too, and the key that it shows to SSH."""
    key = ["ssh-keygen", "-l", "-f", str(booted.files.known_hosts)]
    shown = subprocess.run(key, capture_output=True, text=True, timeout=10, check=True)
    for text in (
        "This server has not been provisioned",
        *(network.mac for network in (CREW, *OTHERS)),
        *(str(network.guest) for network in (CREW, *OTHERS)),
        shown.stdout.split()[1],
    ):
        booted.wait_for_console(text, timeout=120)
        assert text in booted.run("cat /dev/vcs1").stdout


def test_nobody_gets_anywhere_by_its_keyboard(booted: VM) -> None:
    """No restart, be it asked for seven times in two seconds; no other terminal, no prompt."""
    before = booted.run("cat /proc/sys/kernel/random/boot_id").stdout
    booted.send_keys("alt-f2", *["ctrl-alt-delete"] * 20)
    booted.run("until journalctl --boot --quiet --grep='ctrl-alt-del.*masked'; do sleep 0.1; done")
    assert booted.run("cat /sys/class/tty/tty0/active").stdout == "tty1\n"
    units = booted.run("systemctl list-units --all --plain --no-legend '*getty*' reboot.target")
    assert units.stdout == ""
    assert "login:" not in booted.run("cat /dev/vcs1").stdout
    assert booted.run("cat /proc/sys/kernel/random/boot_id").stdout == before


def test_without_a_credential_nobody_comes_in(new_vm: StartVm, image: Path) -> None:
    vm = new_vm(Machine(image, networks=(CREW,), direct=True, lets_in=False))
    vm.boot()
    wait_until(lambda: "provisioned" in _page(vm, CREW.guest.ip), "its page is there", BOOT_TIMEOUT)
    vm.wait_for_console("SHA256:")  # all has started by then
    assert open_ports(vm, str(CREW.guest.ip)) == [80]


# -- what happens to machines -------------------------------------------------------------------


def test_a_disk_that_is_plugged_in_is_not_let_in(booted: VM, tmp_path: Path) -> None:
    """Nobody has said yet in which ports crew disks may be."""
    disk = tmp_path / "crew.raw"
    disk.write_bytes(bytes(1 << 20))
    before = booted.run("cat /proc/partitions").stdout
    name = booted.plug_disk(disk)
    out = "grep -qx 0 /sys/bus/usb/devices/[0-9]*-*/authorized"
    booted.run(f"until {out}; do sleep 0.1; done", timeout=20)
    assert booted.run("cat /proc/partitions").stdout == before
    booted.unplug(name)
    booted.run(f"while {out}; do sleep 0.1; done", timeout=20)


@pytest.mark.long
def test_a_power_cut_before_the_host_keys_were_on_the_disk_locks_nobody_out(
    new_vm: StartVm, image: Path
) -> None:
    vm = new_vm(Machine(image, networks=(CREW,), direct=True))
    vm.boot()
    vm.wait_for_ssh()
    vm.run("rm /etc/ssh/ssh_host_* && sync")
    vm.cut_power()
    vm.files.known_hosts.unlink()
    vm.boot()
    vm.wait_for_ssh()


@pytest.mark.long
def test_it_comes_back_from_a_power_cut_and_knows_what_it_had_written(
    new_vm: StartVm, image: Path
) -> None:
    """With the same host key, or SSH would refuse; it is made at the first boot."""
    vm = new_vm(Machine(image, networks=(CREW,), direct=True))
    vm.boot()
    vm.wait_for_ssh()
    first = vm.run("cat /proc/sys/kernel/random/boot_id").stdout
    vm.run("echo kept >/var/lib/kept && sync /var/lib/kept /var/lib")
    # Whoever writes this does not wait for the disk; the file system has time to note the new name.
    vm.run("cd /etc && echo kept >aside && mv aside renamed && sleep 8")
    vm.cut_power()
    vm.boot()
    vm.wait_for_ssh()
    assert vm.run("cat /proc/sys/kernel/random/boot_id").stdout != first
    assert vm.run("cat /var/lib/kept").stdout == "kept\n"
    assert vm.run("cat /etc/renamed").stdout == "kept\n", (
        "a file renamed into its place is not empty"
    )


def test_a_flipped_bit_in_the_root_partition_is_refused(
    new_vm: StartVm, image: Path, tmp_path: Path
) -> None:
    """In a byte that the file system has no use for, so that only dm-verity can know."""
    altered = tmp_path / image.name
    shutil.copy(image, altered)
    (tmp_path / f"{image.stem}.efi").symlink_to(image.with_suffix(".efi").absolute())
    with altered.open("r+b") as disk:
        start = _start_of_root(disk.read(64 * SECTOR))
        disk.seek(start)
        byte = disk.read(1)[0]
        disk.seek(start)
        disk.write(bytes([byte ^ 1]))
    vm = new_vm(Machine(altered, networks=(CREW,), direct=True))
    vm.boot()
    vm.wait_for_console("data block 0 is corrupted")
    with pytest.raises(VmError, match="lets root in"):
        vm.wait_for_ssh(timeout=30)


def _start_of_root(head: bytes) -> int:
    """Where the first root partition begins, in bytes, from the head of a GPT disk."""
    table, count, size = struct.unpack_from("<Q2I", head, SECTOR + 72)
    for index in range(count):
        offset = table * SECTOR + index * size
        if UUID(bytes_le=head[offset : offset + 16]) == ROOT_TYPE:
            (first,) = struct.unpack_from("<Q", head, offset + 32)
            return int(first) * SECTOR
    raise AssertionError("there is no root partition")
