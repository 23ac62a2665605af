"""What boots the machines of all other tests: on a blank disk, where the firmware is the guest."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from operator import ne
from pathlib import Path

import pytest

from apps.common.testing import wait_until
from image.vm import VmError, accelerator
from image.vm.accelerator import Accelerator
from image.vm.machine import Machine, Network
from image.vm.vm import VM
from tests.vm.conftest import CREW, ROOT, StartVm

SHELL = "Shell>"
SHELL_TIMEOUT = 60.0
CABIN = Network.parse("cabin=198.18.1.1/24")


def _processes_with(text: str) -> list[str]:
    """The command lines of living processes that have `text` in them, but for those of pytest."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


def _shell(new_vm: StartVm, machine: Machine) -> VM:
    vm = new_vm(machine)
    vm.boot()
    vm.wait_for_console(SHELL, SHELL_TIMEOUT)
    return vm


# -- it boots ---------------------------------------------------------------------------------


def test_it_boots_and_tells_what_the_console_says(new_vm: StartVm, blank: Path) -> None:
    vm = _shell(new_vm, Machine(blank))
    assert vm.is_on
    assert "UEFI Interactive Shell" in vm.console()


def test_what_a_guest_writes_never_reaches_the_image(new_vm: StartVm, blank: Path) -> None:
    vm = new_vm(Machine(blank))
    vm._serve_disk()
    _write(vm, "write -P 0xaa 0 4k", "flush")
    assert _read(vm, 0) == 0xAA
    assert blank.read_bytes()[:4096] == bytes(4096)


def test_it_can_be_cut_off_and_booted_again(new_vm: StartVm, blank: Path) -> None:
    vm = _shell(new_vm, Machine(blank, tpm=True))
    vm.cut_power()
    assert not vm.is_on
    assert _processes_with(str(vm.files.folder / "disk.sock")) == []
    vm.boot()
    assert SHELL not in vm.console()  # that was the boot before
    vm.wait_for_console(SHELL, SHELL_TIMEOUT)


def test_a_machine_without_an_image_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(VmError, match="make image"), VM(Machine(tmp_path / "ife.raw")):
        pass


def test_what_qemu_refuses_is_told_at_once(new_vm: StartVm, blank: Path) -> None:
    vm = new_vm(Machine(blank, cpus=100_000))
    with pytest.raises(VmError, match="CPUs"):
        vm.boot()


def test_a_console_that_stays_silent_is_told_with_its_end(new_vm: StartVm, blank: Path) -> None:
    vm = _shell(new_vm, Machine(blank))
    with pytest.raises(VmError, match=r"not within 0.1 s: it says 'login:'(.|\n)*Shell>"):
        vm.wait_for_console("login:", timeout=0.1)


def test_a_machine_that_goes_off_is_not_waited_for(new_vm: StartVm, blank: Path) -> None:
    vm = _shell(new_vm, Machine(blank))
    vm.execute("quit")
    with pytest.raises(VmError, match="it went off before"):
        vm.wait_for_console("login:")


# -- an accelerator is found by trying --------------------------------------------------------


@pytest.mark.long
def test_an_accelerator_that_guests_die_on_is_passed_over(
    blank: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a CPU to run on, nothing comes of it, though QEMU may start."""
    broken = Accelerator("broken", ("-accel", "tcg", "-cpu", "Nehalem", "-S"))
    works = accelerator.CANDIDATES[-1]
    monkeypatch.setattr(accelerator, "TIMEOUT", 15.0)
    monkeypatch.setattr(accelerator, "CANDIDATES", (broken, works))
    monkeypatch.setattr(accelerator, "CACHE", tmp_path / "cache/accelerator.json")
    assert accelerator.find() == works
    assert accelerator.try_out(broken) == "nothing within 15 s"


def test_an_accelerator_is_tried_once_for_each_boot_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    candidates = (Accelerator("one", ()), Accelerator("two", ()))
    cache = tmp_path / "accelerator.json"
    boot_id = accelerator.BOOT_ID.read_text().strip()
    monkeypatch.setattr(accelerator, "CANDIDATES", candidates)
    monkeypatch.setattr(accelerator, "CACHE", cache)
    monkeypatch.setattr(accelerator, "try_out", lambda candidate: None)
    cache.write_text(json.dumps({"boot_id": boot_id, "accelerator": "two"}))
    assert accelerator.find() == candidates[1]
    cache.write_text(json.dumps({"boot_id": "another", "accelerator": "two"}))
    assert accelerator.find() == candidates[0]
    assert json.loads(cache.read_text()) == {"boot_id": boot_id, "accelerator": "one"}


# -- a power cut loses what was not flushed ---------------------------------------------------


def _blocks(vm: VM) -> list[str]:
    """The guest's disk for qemu-io, as QEMU has it."""
    server = f"file.driver=nbd,file.server.type=unix,file.server.path={vm.files.disk_socket}"
    return ["qemu-io", "-t", "writeback", "--image-opts", f"driver=qcow2,{server}"]


def _write(vm: VM, *commands: str) -> None:
    """Give qemu-io commands, and let it crash: what it holds itself is lost as well."""
    arguments = [part for command in (*commands, "abort") for part in ("-c", command)]
    done = subprocess.run(
        [*_blocks(vm), *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == -signal.SIGABRT, done.stdout + done.stderr


def _read(vm: VM, offset: int) -> int:
    """The byte there."""
    done = subprocess.run(
        [*_blocks(vm), "-c", f"read -v {offset} 1"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    found = re.match(r"[0-9a-f]{8}: +([0-9a-f]{2})", done.stdout)
    assert found, done.stdout
    return int(found[1], 16)


def test_a_power_cut_loses_exactly_what_was_not_flushed(new_vm: StartVm, blank: Path) -> None:
    """New blocks, and such that were written before: a database overwrites its own."""
    vm = new_vm(Machine(blank))
    vm._serve_disk()
    _write(
        vm,
        *("write -P 0x11 0 64k", "write -P 0x22 1M 64k", "flush"),
        *("write -P 0x33 1M 64k", "write -P 0x44 2M 64k"),
    )
    vm.cut_power()
    vm._serve_disk()
    assert [_read(vm, offset) for offset in (0, 1 << 20, 2 << 20)] == [0x11, 0x22, 0]


# -- networks ---------------------------------------------------------------------------------


def _links(*entering: str) -> dict[str, str]:
    """Whether interfaces are ``UP``, by name."""
    done = subprocess.run(
        [*entering, "ip", "-json", "link"], capture_output=True, text=True, timeout=10, check=True
    )
    return {link["ifname"]: link["operstate"] for link in json.loads(done.stdout)}


def test_networks_are_the_machines_own(new_vm: StartVm, blank: Path) -> None:
    before = _links().keys()
    one = new_vm(Machine(blank, networks=(CREW, CABIN)))
    two = new_vm(Machine(blank, networks=(CREW,)))
    assert _links(*one.entering).keys() == {"lo", "crew", "crew-vm", "cabin", "cabin-vm"}
    assert _links(*two.entering).keys() == {"lo", "crew", "crew-vm"}
    assert _links().keys() == before


def test_a_guest_is_on_the_networks_that_it_was_given(new_vm: StartVm, blank: Path) -> None:
    vm = _shell(new_vm, Machine(blank, networks=(CREW, CABIN)))
    links = _links(*vm.entering)
    assert [links[network.tap] for network in (CREW, CABIN)] == ["UP", "UP"]
    assert {network.mac for network in (CREW, CABIN)} == set(
        re.findall("52:54:[0-9a-f:]+", str(vm.execute("query-rx-filter")))
    )


@pytest.mark.parametrize("text", ["galley=198.18.1.1/24", "crew=198.18.1.256/24", "crew", "crew="])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"network|Expected|permitted|Octet|empty"):
        Network.parse(text)


def test_a_network_without_room_for_the_guest_is_refused() -> None:
    with pytest.raises(ValueError, match="no address"):
        Network.parse("crew=198.18.1.255/24")


# -- screen, keyboard, USB, TPM ---------------------------------------------------------------


KEYS = {" ": "spc", "-": "minus", "\n": "ret"}


def _type(vm: VM, line: str) -> None:
    vm.send_keys(*(KEYS.get(character, character) for character in f"{line}\n"))


def test_keys_reach_the_guest_and_its_screen_can_be_seen(
    new_vm: StartVm, blank: Path, tmp_path: Path
) -> None:
    vm = _shell(new_vm, Machine(blank))
    before, after = tmp_path / "before.png", tmp_path / "after.png"
    vm.screendump(before)
    _type(vm, "ver")
    wait_until(lambda: vm.console().count("Interactive Shell v") == 2, "it tells its version")
    vm.screendump(after)
    assert before.read_bytes().startswith(b"\x89PNG")
    assert before.read_bytes() != after.read_bytes()


def test_a_disk_can_be_plugged_in_and_pulled_out(
    new_vm: StartVm, blank: Path, tmp_path: Path
) -> None:
    vm = _shell(new_vm, Machine(blank))
    disk = tmp_path / "crew.raw"
    disk.write_bytes(bytes(1 << 20))
    for _ in range(2):
        name = vm.plug_disk(disk)
        _wait_for_disks(vm, usb=True)
        vm.unplug(name)
        _wait_for_disks(vm, usb=False)


def _wait_for_disks(vm: VM, usb: bool) -> None:
    """Have the shell look for disks until a USB one is there, or none."""
    for _ in range(10):
        told = len(vm.console())
        _type(vm, "connect -r")
        _type(vm, "map -r")
        wait_until(lambda told=told: vm.console().count(SHELL, told) > 0, "the disks are told", 20)  # type: ignore[misc]
        if ("USB(" in vm.console()[told:]) == usb:
            return
    raise AssertionError(f"a USB disk should {'be' if usb else 'not be'} there: {vm.console()}")


def test_a_device_can_be_plugged_in_and_pulled_out(new_vm: StartVm, blank: Path) -> None:
    vm = _shell(new_vm, Machine(blank))
    name = vm.plug_usb("usb-mouse")
    assert name in vm._devices()
    vm.unplug(name)
    assert name not in vm._devices()


@pytest.mark.long
def test_a_tpm_remembers_over_a_power_cut(new_vm: StartVm, blank: Path) -> None:
    """Of its seeds and proofs no byte differs, and a new one would differ in some 400."""
    vm = _shell(new_vm, Machine(blank, tpm=True))
    assert "tpm-crb" in str(vm.execute("query-tpm"))
    memory = vm.files.tpm / "tpm2-00.permall"
    before = memory.read_bytes()
    vm.cut_power()
    vm.boot()
    vm.wait_for_console(SHELL, SHELL_TIMEOUT)
    assert sum(map(ne, before, memory.read_bytes())) < 100


def test_it_switches_off_by_itself(new_vm: StartVm, blank: Path) -> None:
    vm = _shell(new_vm, Machine(blank))
    _type(vm, "reset -s")
    wait_until(lambda: not vm.is_on, "it is off", 20)
    vm.boot()
    vm.wait_for_console(SHELL, SHELL_TIMEOUT)


# -- nothing is left --------------------------------------------------------------------------

OWNER = """
import sys, time
from operator import ne
from pathlib import Path
from image.vm.machine import Machine, Network
from image.vm.vm import VM
networks = (Network.parse("crew=198.18.3.1/24"),)
with VM(Machine(Path(sys.argv[1]), networks=networks, tpm=True)) as vm:
    vm.boot()
    print(vm.files.folder, flush=True)
    time.sleep(600)
"""


def _wait_until_gone(folder: str, namespace: str) -> None:
    """A process that ends loses its command line before its namespace: both are waited for."""
    wait_until(lambda: not _processes_with(folder), "no process is left", 20)
    wait_until(lambda: not Path(folder).exists(), "no file is left", 20)
    wait_until(lambda: namespace not in _network_namespaces(), "no namespace is left", 20)


def _namespace_of(vm_folder: str) -> str:
    """The network namespace of a machine's processes; one that has just begun is in ours yet."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if vm_folder in (path / "cmdline").read_bytes().decode(errors="replace"):
                found.add(str((path / "ns/net").readlink()))
        except OSError:
            continue
    (namespace,) = found - {str(Path("/proc/self/ns/net").readlink())}
    return namespace


def _network_namespaces() -> set[str]:
    """Those of all processes. None of ours is named, so without a process it is gone."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found.add(str(path.readlink()))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_a_machine_whose_owner_dies(blank: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(blank)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        folder = owner.stdout.readline().strip()
        assert len(_processes_with(folder)) == 4  # the keeper, QEMU, the disk's server, the TPM
        namespace = _namespace_of(folder)
        owner.send_signal(number)
        owner.wait(20)
    _wait_until_gone(folder, namespace)


def test_nothing_is_left_after_the_block(blank: Path) -> None:
    with VM(Machine(blank, networks=(CREW,), tpm=True)) as vm:
        vm.boot()
        namespace = _namespace_of(str(vm.files.folder))
        assert namespace in _network_namespaces()
    _wait_until_gone(str(vm.files.folder), namespace)


def test_for_a_person_it_stays_until_ctrl_c(blank: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "image.vm", str(blank)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as person:
        assert person.stdout is not None
        lines = [person.stdout.readline(), person.stdout.readline()]
        assert "blank.raw: 2 processors by" in lines[0]
        found = re.search(r"power is on; its console goes to (\S+)/console.log", lines[1])
        assert found, lines
        namespace = _namespace_of(found[1])
        person.send_signal(signal.SIGINT)
        assert person.stdout.read() == "nothing is left running\n"
    assert person.returncode == 0
    _wait_until_gone(found[1], namespace)
