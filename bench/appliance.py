"""Measures the image in a virtual machine, against plain Debian and Ansible as it comes."""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bench import document, plain
from bench.document import table, write
from bench.site import (
    ALSO_EC_LAB,
    CONFIGURATION,
    NETWORKS,
    UNTIL_ALL_ANSWER,
    make_secrets,
    provision,
)
from image.settings import BUILD, ROOT, built
from image.vm.machine import Machine
from image.vm.vm import VM

DEFAULTS = """\
[defaults]
inventory = {root}/inventory/lab
roles_path = {root}/roles
vault_password_file = {root}/inventory/vault-password
"""
"""What the playbook cannot do without; all else as Ansible has it."""

PLAYBOOK_TIMEOUT = 3600
BOOT_TIMEOUT = 600
FLEET = 8
FORKS = (1, 5)
"""How many aircraft Ansible looks after at a time: one, and what it does by itself."""

POLL = 0.05

REST = 60.0
"""Seconds after a boot until its memory is looked at."""

Timed = Callable[[], float]

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


PARTS = ("boot", "provisioning", "fleet")


def main() -> None:
    """Measure, and write it down."""
    parser = argparse.ArgumentParser(prog="python -m bench.appliance", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; else all")
    parser.add_argument("--image", type=Path, default=built(), help="else the last built")
    parser.add_argument("--runs", type=int, default=3, help="of each, in turn; 3 unless given")
    options = parser.parse_args()
    parts = options.parts or PARTS
    if unknown := set(parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}, but {', '.join(PARTS)}")
    if os.geteuid() != 0:
        sys.exit("bench.appliance: plain Debian is installed as root: sudo make bench-image")
    with tempfile.TemporaryDirectory(dir=BUILD, prefix="appliance-") as name:
        image, folder = options.image.absolute(), Path(name)
        make_secrets()
        if {"boot", "provisioning"} & set(parts):
            _measure(image, options.runs, folder, parts)
        if "fleet" in parts:
            _measure_fleet(image, folder)


def _measure(image: Path, runs: int, folder: Path, parts: Sequence[str]) -> None:
    aircraft = folder / "aircraft.qcow2"
    machine = Machine(image, networks=NETWORKS, direct=True)
    with VM(machine) as vm:
        print("boots for the first time, and is provisioned", flush=True)
        first = _boot(vm, "ife.target")
        vm.wait_for_ssh()
        _provision(vm, CONFIGURATION)
        if "provisioning" in parts:
            _measure_provisioning(vm, runs, folder)
        vm.shut_down()
        vm.keep_disk(aircraft)
    if "boot" in parts:
        _measure_boot(replace(machine, image=aircraft), runs, folder, first)


def _measure_provisioning(vm: VM, runs: int, folder: Path) -> None:
    defaults = folder / "ansible.cfg"
    defaults.write_text(DEFAULTS.format(root=ROOT))
    ours, theirs = _in_turn(
        runs,
        lambda: _provision(vm, CONFIGURATION),
        lambda: _provision(vm, defaults),
    )
    rows = [["ansible.cfg", f"{ours:.1f}"], ["Ansible's own", f"{theirs:.1f}"]]
    text = f"{table(['settings', 's'], *rows)}\n{ours / theirs:.2f}x Ansible's own.\n"
    write("provisioning", f"{_of(runs)}{text}")


def _measure_boot(machine: Machine, runs: int, folder: Path, first: float) -> None:
    print("installs plain Debian 13", flush=True)
    debian = replace(machine, image=plain.install(folder))
    with VM(machine) as flying, VM(debian) as bare:
        _boot(bare, "multi-user.target")  # its first, which is no part of the comparison
        bare.cut_power()
        booted, bare_booted = _in_turn(
            runs,
            lambda: _booted_alone(flying, "ife.target"),
            lambda: _booted_alone(bare, "multi-user.target"),
        )
        begin = time.monotonic()
        flying.boot()
        flying.wait_for_ssh()
        reached = time.monotonic() - begin
        flying.run(UNTIL_ALL_ANSWER, timeout=BOOT_TIMEOUT)
        answered = time.monotonic() - begin
        time.sleep(REST)
        memory = int(flying.run("free --mebi | awk '/^Mem/ {print $3}'").stdout)
        packages = _largest(flying)
        erofs = int(flying.run("df --output=used --block-size=1M / | tail -1").stdout)
    times = [
        ["an aircraft, to `ife.target`", f"{booted:.1f}"],
        ["plain Debian 13, to `multi-user.target`", f"{bare_booted:.1f}"],
        [
            "once: an aircraft, until it is reached by SSH over the ground's network",
            f"{reached:.1f}",
        ],
        ["once: an aircraft, until each app answers", f"{answered:.1f}"],
        ["once: the image's first boot, not provisioned", f"{first:.1f}"],
    ]
    sizes = [[name, f"{size / 1024:.0f}"] for name, size in packages]
    text = f"""{table(["what", "s"], *times)}
{booted / bare_booted:.2f}x plain Debian. The kernel is started directly, without firmware.

{memory} MiB of memory in use at rest, with PostgreSQL, Redis, nginx and all apps; the root is
{erofs} MiB of erofs. Its ten largest packages, as installed:

{table(["package", "MiB"], *sizes)}"""
    write("boot", f"{_of(runs)}{text}")


def _of(runs: int) -> str:
    return f"{document.machine()} Medians of {runs} runs.\n\n"


def _measure_fleet(image: Path, folder: Path) -> None:
    """Measure runs that change nothing against a fleet, and write it down.

    All its aircraft are one machine: what the servers do is done one after the other, which makes
    the times a bound from above. What the controller does is what it would do for so many.
    """
    fleet = folder / "fleet"
    (fleet / "host_vars").mkdir(parents=True)
    names = [f"ec-lab-{number}" for number in range(1, FLEET + 1)]
    (fleet / "hosts.yml").write_text(json.dumps({"aircraft": {"hosts": dict.fromkeys(names)}}))
    shutil.copytree(ROOT / "inventory/lab/group_vars", fleet / "group_vars")
    told = (ROOT / "inventory/lab/host_vars/ec-lab.yml").read_text()
    for name in names:
        (fleet / f"host_vars/{name}.yml").write_text(told)
        told = told.replace("registration: EC-LAB\n", f'registration: "{ALSO_EC_LAB}"\n')
    variables = {
        "lab_store": str(BUILD / "lab"),
        # Each has its own there.
        "_under_way": "/run/ife-provisioning-{{ inventory_hostname }}",
    }
    rows = []
    with VM(Machine(image, networks=NETWORKS, direct=True)) as vm:
        print("boots, and is provisioned", flush=True)
        vm.boot()
        vm.wait_for_ssh()
        _provision(vm, CONFIGURATION)
        for aircraft, forks in ((1, FORKS[0]), *((FLEET, forks) for forks in FORKS)):
            limit = "--limit=" + ",".join(names[:aircraft])
            more = (f"--inventory={fleet}", limit, f"--forks={forks}")
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds = _provision(vm, CONFIGURATION, *more, f"--extra-vars={json.dumps(variables)}")
            now = resource.getrusage(resource.RUSAGE_CHILDREN)
            processor = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
            rows.append([str(aircraft), str(forks), f"{seconds:.0f}", f"{processor:.0f}"])
            print(*rows[-1], flush=True)
    head = ["aircraft", "at a time, at most", "s", "controller's processor, s"]
    write("fleet", f"{document.machine()} One run of each.\n\n{table(head, *rows)}")


def _in_turn(runs: int, one: Timed, other: Timed) -> tuple[float, float]:
    """The median seconds of each."""
    times: list[tuple[float, float]] = []
    for run in range(runs):
        times.append((one(), other()))
        print(f"run {run + 1} of {runs}: {times[-1][0]:.1f} s, {times[-1][1]:.1f} s", flush=True)
    return statistics.median(t for t, _ in times), statistics.median(t for _, t in times)


def _booted_alone(vm: VM, target: str) -> float:
    """The other machine is off meanwhile."""
    seconds = _boot(vm, target)
    vm.cut_power()
    return seconds


def _boot(vm: VM, target: str) -> float:
    """Switch it on; seconds until its console says that the target is reached."""
    begin = time.monotonic()
    vm.boot()
    while f"Reached target {target}" not in ESCAPES.sub("", vm.console()):
        if time.monotonic() > begin + BOOT_TIMEOUT:
            raise RuntimeError(f"{target} was not reached within {BOOT_TIMEOUT} s")
        time.sleep(POLL)
    return time.monotonic() - begin


def _provision(vm: VM, configuration: Path, *arguments: str) -> float:
    """Seconds of one run."""
    begin = time.monotonic()
    run = provision(vm, *arguments, configuration=configuration, timeout=PLAYBOOK_TIMEOUT)
    if run.failures:
        raise RuntimeError(run.output)
    return time.monotonic() - begin


def _largest(vm: VM) -> Sequence[tuple[str, int]]:
    """The ten largest packages, with their installed size in KiB."""
    told = vm.run("dpkg-query --show --showformat='${Installed-Size} ${Package}\\n'").stdout
    sizes = [(name, int(size)) for size, name in (line.split() for line in told.splitlines())]
    return sorted(sizes, key=lambda entry: -entry[1])[:10]


if __name__ == "__main__":
    main()
