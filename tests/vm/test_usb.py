"""USB on an aircraft: crew disks are let in and read, and nothing else, also at boot."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from apps.common.disks import Blocked, Disk, Disks
from apps.common.testing import wait_until
from apps.usb_lockdown.testing import (
    BAD,
    DISK,
    DISK_AND_KEYBOARD,
    KEYBOARD,
)
from apps.usb_lockdown.tests import images
from apps.usb_lockdown.tests.test_fuzzed_disks import damage
from bench.site import NETWORKS
from image.vm.machine import Machine
from image.vm.vm import VM
from tests.vm.conftest import Provisioned, StartVm, python
from tests.vm.redirected import Redirected

FRONT, AFT, BEHIND_A_HUB, OTHER = "1", "2", "4.1", "3"
"""The controller's ports; inventory/lab names all but the last."""

FILM = bytes(range(256)) * 40_000
NAME = hashlib.sha256(FILM).hexdigest()
OBJECT = f"objects/{NAME[:2]}/{NAME}"
TREE = images.content(FILM, b"short")
SOON = 90.0
"""Seconds within which something that is plugged in is dealt with, on an emulated machine."""

YANKS = 50
DAMAGED = 67
"""Disks of each kind."""

SEED = int(os.environ.get("IFE_SEED", str(time.time_ns() % 1_000_000)))

# What the rest of the software does: asks the API, and reads a disk as content_sync's user.
ASK = """
from pathlib import Path
from apps.common.calls import Client
from apps.common.disks import Disks
client = Client(Path("/run/ife/usb_lockdown.sock"), timeout=60)
print(client.ask(Disks, "GET", "/api/v1/usb", "anna").model_dump_json())
"""
READ = """
import hashlib, http.client, json, socket, sys
answers = {}
for name in sys.argv[2:]:
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(60)
        connection.sock.connect(sys.argv[1])
        connection.request("GET", f"/{name}")
        answer = connection.getresponse()
        answers[name] = [answer.status, hashlib.sha256(answer.read()).hexdigest()]
    except (OSError, http.client.HTTPException) as error:
        answers[name] = [0, type(error).__name__]
print(json.dumps(answers))
"""
# The kernel answers that there is no such device where it is another by then.
RESET = """
import contextlib, fcntl, glob, os
for path in glob.glob("/sys/bus/usb/devices/*-{port}"):
    bus, number = (int(open(f"{{path}}/{{name}}").read()) for name in ("busnum", "devnum"))
    device = os.open(f"/dev/bus/usb/{{bus:03}}/{{number:03}}", os.O_WRONLY)
    with contextlib.suppress(OSError):
        fcntl.ioctl(device, ord("U") << 8 | 20)
"""


def state(vm: VM) -> Disks:
    return Disks.model_validate_json(python(vm, ASK))


def read(vm: VM, socket: str, *names: str) -> dict[str, tuple[int, str]]:
    """Status and SHA-256 of each."""
    told = json.loads(python(vm, READ, socket, *names, user="ife-content_sync"))
    return {name: (status, digest) for name, (status, digest) in told.items()}


def starts(vm: VM) -> None:
    """Wait until usb_lockdown is there."""
    vm.run("until systemctl is-active --quiet ife-usb_lockdown; do sleep 1; done", timeout=240)


def disk(vm: VM, *states: str) -> Disk:
    """The one disk, once it is in one of these states."""
    wait_until(
        lambda: [disk.state in states for disk in state(vm).disks] == [True],
        f"there is one disk, {states}",
        SOON,
    )
    return state(vm).disks[0]


def blocked(vm: VM, count: int = 1) -> list[Blocked]:
    """What is plugged in and blocked, once there is so much."""

    def found() -> list[Blocked]:
        return [device for device in state(vm).blocked if device.present]

    wait_until(lambda: len(found()) == count, f"{count} are blocked", SOON)
    return found()


def inside(vm: VM) -> set[str]:
    """The USB interfaces that there are, but for those of root hubs; and what input there is."""
    names = vm.run("ls /sys/bus/usb/devices").stdout.split()
    return {name for name in names if re.fullmatch(r"\d+-[1-9][\d.]*:.*", name)}


def block_devices(vm: VM) -> str:
    return vm.run("lsblk --noheadings --nodeps --output NAME,TRAN").stdout


def is_whole(vm: VM, socket: str) -> bool:
    wanted = {name: (200, hashlib.sha256(data).hexdigest()) for name, data in TREE.items()}
    return read(vm, socket, *TREE) == wanted


@pytest.fixture(scope="module")
def stick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return images.make(tmp_path_factory.mktemp("stick") / "stick.img", "ext4", TREE, 32)


@pytest.mark.long
def test_a_disk_is_let_in_and_nothing_else_also_at_boot(
    new_vm: StartVm, provisioned: Provisioned, stick: Path, tmp_path: Path
) -> None:
    before = stick.read_bytes()
    other = tmp_path / "other.img"
    other.write_bytes(before)
    vm = new_vm(Machine(provisioned.disk, networks=NETWORKS, direct=True))
    vm.boot()
    # The kernel has not come to USB by now.
    front = vm.plug_disk(stick, FRONT)
    keyboard = vm.plug_usb("usb-kbd", AFT)
    elsewhere = vm.plug_disk(other, OTHER)
    vm.wait_for_ssh()

    starts(vm)
    wait_until(
        lambda: (
            {disk.port: disk.state for disk in state(vm).disks}
            == {"front": "ready", "aft": "refused"}
        ),
        "the disk is ready",
        SOON,
    )
    ports = {device.path.rpartition(":")[2] for device in blocked(vm, 2)}
    assert ports == {AFT, OTHER}
    (ready,) = (disk for disk in state(vm).disks if disk.port == "front")
    assert ready.socket == "/run/ife/usb_lockdown/front.sock"
    assert is_whole(vm, ready.socket)

    # There is one USB disk, nobody may write to it, and no keyboard.
    assert len(inside(vm)) == 1
    assert len([line for line in block_devices(vm).splitlines() if "usb" in line]) == 1
    assert vm.run("cat /sys/bus/usb/devices/usb*/authorized_default | sort -u").stdout == "0\n"
    interfaces = vm.run("cat /sys/bus/usb/devices/usb*/interface_authorized_default | sort -u")
    assert interfaces.stdout == "0\n"
    assert "USB Keyboard" not in vm.run("cat /proc/bus/input/devices").stdout
    assert vm.run("blockdev --getro /dev/sda").stdout == "1\n"
    assert vm.run("findmnt --noheadings /dev/sda", check=False).stdout == ""
    assert vm.run("udevadm info --query=property /dev/sda | grep ID_FS", check=False).stdout == ""

    # Neither usb_lockdown's user, nor that of what reads, can let the keyboard in.
    for user in ("ife-usb_lockdown", "ife-usb_lockdown-reader"):
        let_in = f"echo 1 > /sys/bus/usb/devices/*-{AFT}/authorized"
        assert vm.run(f"runuser -u {user} -- sh -c '{let_in}'", check=False).returncode != 0

    # What somebody else may not read, and who looks after the server is told.
    stranger = f"runuser -u ife-status -- test -w {ready.socket}"
    assert vm.run(stranger, check=False).returncode == 1
    assert "is not let in" in vm.run("/opt/ife/bin/ife-status", check=False).stdout

    # Pulled out and put in again; the disk is as it was.
    for name in (keyboard, elsewhere, front):
        vm.unplug(name)
    wait_until(lambda: state(vm).disks == (), "all is out", SOON)
    assert vm.run("ls /run/ife/usb_lockdown").stdout == ""
    vm.plug_disk(stick, AFT)
    assert is_whole(vm, disk(vm, "ready").socket or "")
    assert stick.read_bytes() == before
    assert vm.run("systemctl list-units --failed --plain --no-legend").stdout == ""


# -- all kinds of devices ---------------------------------------------------------------------

long = pytest.mark.long


@pytest.fixture(scope="module")
def usb(new_vm_of_module: StartVm, provisioned: Provisioned) -> VM:
    """An aircraft for the tests below; each leaves nothing plugged in."""
    vm = new_vm_of_module(Machine(provisioned.disk, networks=NETWORKS, direct=True))
    vm.boot()
    vm.wait_for_ssh()
    starts(vm)
    return vm


@contextmanager
def plugged(vm: VM, name: str) -> Iterator[None]:
    try:
        yield
    finally:
        vm.unplug(name)
    wait_until(
        lambda: not state(vm).disks and not any(device.present for device in state(vm).blocked),
        "all is out",
        SOON,
    )


@long
@pytest.mark.parametrize(
    "driver",
    [
        *("usb-kbd", "usb-mouse", "usb-tablet", "usb-net", "usb-serial", "usb-mtp", "usb-audio"),
        *("usb-hub", "usb-ccid"),
    ],
)
@pytest.mark.parametrize("port", [FRONT, OTHER])
def test_no_other_device_is_let_in(usb: VM, tmp_path: Path, driver: str, port: str) -> None:
    needs: dict[str, dict[str, object]] = {
        # Else it is there when somebody is at the other end.
        "usb-serial": {"chardev": "silence", "always_plugged": True},
        "usb-mtp": {"rootdir": str(tmp_path)},
        "usb-audio": {"audiodev": "silence"},
    }
    drivers = usb.run("lsmod").stdout.count("\n")
    with plugged(usb, usb.plug_usb(driver, port, **needs.get(driver, {}))):
        (device,) = blocked(usb)
        assert device.path.endswith(f":{port}")
        assert device.descriptors
        assert inside(usb) == set()
        assert usb.run("lsmod").stdout.count("\n") == drivers, "no driver is loaded"


@long
@pytest.mark.parametrize("name", sorted(set(BAD) - {"nothing", "zeros", "cut off", "endless"}))
def test_no_device_that_pretends_is_let_in(usb: VM, tmp_path: Path, name: str) -> None:
    """Those left out do not get past the kernel's own check."""
    if name in {"more than announced", "a length of zero", "no configuration"}:
        pytest.skip("the kernel shows what it has understood of these")
    with (
        Redirected(tmp_path / "device.sock", BAD[name]) as device,
        plugged(usb, usb.plug_redirected(device.path, FRONT)),
    ):
        blocked(usb)
        assert inside(usb) == set()
        assert not device.is_configured


@long
def test_a_device_that_becomes_another_by_a_reset_is_shut_out(usb: VM, tmp_path: Path) -> None:
    with (
        Redirected(tmp_path / "device.sock", DISK) as device,
        plugged(usb, usb.plug_redirected(device.path, FRONT)),
    ):
        wait_until(lambda: device.is_configured, "it is let in", SOON)
        device.descriptors = KEYBOARD
        python(usb, RESET.format(port=FRONT))
        (shut_out,) = blocked(usb)
        assert shut_out.interfaces == ("03/01/01",)
        wait_until(lambda: inside(usb) == set(), "nothing of it is in")
        assert "Maker Stick" not in usb.run("cat /proc/bus/input/devices").stdout


@long
def test_a_disk_that_grows_a_keyboard_by_a_reset_is_shut_out(usb: VM, tmp_path: Path) -> None:
    with (
        Redirected(tmp_path / "device.sock", DISK) as device,
        plugged(usb, usb.plug_redirected(device.path, FRONT)),
    ):
        wait_until(lambda: device.is_configured, "it is let in", SOON)
        device.descriptors = DISK_AND_KEYBOARD
        python(usb, RESET.format(port=FRONT))
        (shut_out,) = blocked(usb)
        assert "several devices in one" in shut_out.why
        wait_until(lambda: inside(usb) == set(), "nothing of it is in")


@long
def test_a_port_behind_a_hub_that_is_built_in(usb: VM, stick: Path) -> None:
    with plugged(usb, usb.plug_usb("usb-hub", BEHIND_A_HUB.partition(".")[0])):
        wait_until(lambda: len(inside(usb)) == 1, "the hub is in", SOON)
        with plugged(usb, usb.plug_disk(stick, BEHIND_A_HUB)):
            found = disk(usb, "ready")
            assert found.port == "aft"
            assert is_whole(usb, found.socket or "")
        with plugged(usb, usb.plug_usb("usb-kbd", BEHIND_A_HUB)):
            blocked(usb)
        with plugged(usb, usb.plug_usb("usb-kbd", "4.2")):
            blocked(usb)


@long
@pytest.mark.parametrize("driver", ["usb-storage", "usb-uas"])
@pytest.mark.parametrize("kind", images.KINDS)
def test_disks_of_all_kinds(usb: VM, tmp_path: Path, kind: str, driver: str) -> None:
    image = images.make(tmp_path / "stick.img", kind, TREE, 80)
    if driver == "usb-storage":
        with plugged(usb, usb.plug_disk(image, FRONT)):
            assert is_whole(usb, disk(usb, "ready").socket or "")
        return
    # Its controller first, then the disk that is behind it; it is in when both are there.
    name = usb.plug_usb("usb-uas", FRONT)
    node = {"driver": "file", "filename": str(image)}
    usb.execute("blockdev-add", driver="raw", node_name="behind-uas", file=node)
    scsi = {"bus": f"{name}.0", "drive": "behind-uas", "id": "unit0"}
    usb.execute("device_add", driver="scsi-hd", **scsi)
    usb.execute("qom-set", path=f"/machine/peripheral/{name}", property="attached", value=True)
    with plugged(usb, name):
        assert is_whole(usb, disk(usb, "ready").socket or "")
    usb.execute("blockdev-del", node_name="behind-uas")


# -- disks that mean harm ---------------------------------------------------------------------


@long
def test_disks_that_mean_harm_do_none(usb: VM, tmp_path: Path) -> None:
    """That what is on them is not served is shown beside the app; here, that the machine stands."""
    many = {f"objects/{NAME[:2]}/{number:064x}": b"x" for number in range(100_000)}
    metadata = tmp_path / "hostile.tree/metadata"
    metadata.mkdir(parents=True)
    for no_text in (b"\xff\xfe", b"\xc0\xaf..", "ü\u202e".encode(), b"new\nline", b"x" * 255):
        os.close(os.open(os.fsencode(metadata) + b"/" + no_text, os.O_CREAT | os.O_WRONLY))
    hostile = images.make(tmp_path / "hostile.img", "ext4", TREE, 32)
    images.run(
        *("debugfs", "-w", "-f", "-", hostile),
        given=f"set_inode_field {OBJECT} size {10 << 40}\n"
        "cd metadata\nsymlink link.json /etc/shadow\nmknod disk.json b 8 0\n"
        "symlink ..%2f..%2fx.json /etc/shadow\n",
    )
    with plugged(usb, usb.plug_disk(hostile, FRONT)):
        socket = disk(usb, "ready").socket or ""
        names = ["metadata/link.json", "metadata/disk.json", "../../etc/shadow", OBJECT]
        names += ["metadata/%ff%fe", "metadata/new%0aline"]
        assert {status for status, _ in read(usb, socket, *names).values()} == {404}
        assert read(usb, socket, "metadata/1.root.json")["metadata/1.root.json"][0] == 200
    crowded = images.make(tmp_path / "many.img", "exfat", many | TREE, 520)
    with plugged(usb, usb.plug_disk(crowded, FRONT)):
        assert is_whole(usb, disk(usb, "ready").socket or "")
    _stands(usb)


@long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", images.KINDS)
def test_damaged_disks_do_no_harm(usb: VM, tmp_path: Path, kind: str) -> None:
    print(f"IFE_SEED={SEED}")
    good = images.make(tmp_path / "good.img", kind, TREE, 24).read_bytes()
    for number in range(DAMAGED):
        damaged = bytearray(good)
        damage(damaged, random.Random(f"{SEED} {kind} {number}"))  # noqa: S311
        image = tmp_path / f"damaged{number}.img"
        image.write_bytes(damaged)
        with plugged(usb, usb.plug_disk(image, FRONT)):
            found = disk(usb, "ready", "unreadable")
            if found.socket:
                read(usb, found.socket, *TREE)
        image.unlink()
    _stands(usb)


@long
@pytest.mark.timeout(3600)
def test_a_disk_is_pulled_out_while_it_is_let_in(usb: VM, stick: Path) -> None:
    """While one is loaded: `test_crew_disks`."""
    print(f"IFE_SEED={SEED}")
    rng = random.Random(SEED)  # noqa: S311
    for _ in range(YANKS):
        name = usb.plug_disk(stick, FRONT)
        time.sleep(rng.random() * 4)
        usb.unplug(name)
    wait_until(lambda: state(usb).disks == (), "all is out", SOON)
    with plugged(usb, usb.plug_disk(stick, FRONT)):
        assert is_whole(usb, disk(usb, "ready").socket or "")
    _stands(usb)


def _stands(vm: VM) -> None:
    """Nothing has failed, the kernel has nothing bad to say, and no reader is left."""
    assert vm.run("systemctl list-units --failed --plain --no-legend").stdout == ""
    bad = r"BUG:|Oops|general protection|Call Trace|(EXT4|exFAT|FAT)-fs \(sd"
    assert vm.run(f"dmesg | grep -E '{bad}'", check=False).stdout == ""
    readers = "systemctl list-units --plain --no-legend 'ife-usb_lockdown-reader@*'"
    wait_until(lambda: vm.run(readers).stdout == "", "no reader is left", SOON)
