"""``python -m image.vm IMAGE``: boots an image for a person, until Ctrl-C."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from image.settings import built
from image.vm import VmError
from image.vm.machine import NETWORKS, Machine, Network
from image.vm.vm import BOOT_TIMEOUT, VM

CREW = Network.parse("crew=198.18.3.1/24")
MILESTONE = re.compile(r"Reached target (?:\x1b\[[\d;]*m)?([\w.@-]+)")
POLL = 0.2


def main(arguments: list[str]) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    machine = Machine(
        image=options.image,
        memory=options.memory,
        cpus=options.cpus,
        networks=tuple(options.network) or (CREW,),
        credentials=dict(options.credential),
        tpm=options.tpm,
        direct=options.direct,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    begin = time.monotonic()
    try:
        _run(
            machine,
            options.ssh_config,
            lambda text: print(f"[{time.monotonic() - begin:5.1f} s] {text}", flush=True),
        )
    except VmError as error:
        print(f"vm: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("nothing is left running", flush=True)
    finally:
        if options.ssh_config:
            options.ssh_config.unlink(missing_ok=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m image.vm", description="Boot an image in a virtual machine, until Ctrl-C."
    )
    parser.add_argument(
        "image",
        type=Path,
        nargs="?",
        default=built(),
        metavar="IMAGE",
        help="a raw disk image, else that of the last build",
    )
    parser.add_argument("--memory", type=int, default=Machine.memory, metavar="MIB")
    parser.add_argument("--cpus", type=int, default=Machine.cpus, metavar="N")
    parser.add_argument(
        "--network",
        type=_network,
        action="append",
        default=[],
        metavar="NAME=ADDRESS",
        help=f"one of {', '.join(NETWORKS)}, and this machine's address there; the guest gets the "
        f"next, and SSH goes over the first (default: {CREW.name}={CREW.host})",
    )
    parser.add_argument(
        "--credential",
        type=_credential,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a systemd credential",
    )
    parser.add_argument(
        "--ssh-config", type=Path, metavar="FILE", help="make this file for SSH, once it lets us in"
    )
    parser.add_argument(
        "--direct", action="store_true", help="start the .efi beside IMAGE without firmware"
    )
    parser.add_argument("--tpm", action="store_true", help="give it a TPM 2.0")
    return parser


def _network(text: str) -> Network:
    try:
        return Network.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _credential(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _run(machine: Machine, ssh_config: Path | None, say: Callable[[str], None]) -> None:
    with VM(machine) as vm:
        say(f"{machine.image.name}: {machine.cpus} processors by {vm.accelerator.upper()}")
        vm.boot()
        say(f"power is on; its console goes to {vm.files.console}")
        if _watch(vm, say) and ssh_config:
            # All at once, for whoever waits for it.
            new = ssh_config.with_name(f"{ssh_config.name}.new")
            shutil.copy(vm.files.ssh_config, new)
            new.rename(ssh_config)
        print(_welcome(vm), flush=True)
        while vm.is_on:
            time.sleep(POLL)
        say("it went off")


def _watch(vm: VM, say: Callable[[str], None]) -> bool:
    """Tell how far it is, until root can log in; False if that is taking too long."""
    told = 0
    deadline = time.monotonic() + BOOT_TIMEOUT
    while vm.is_on and time.monotonic() < deadline:
        milestones = list(dict.fromkeys(MILESTONE.findall(vm.console())))
        for target in milestones[told:]:
            say(f"Reached target {target}")
        told = len(milestones)
        if vm.lets_in():
            say("root can log in")
            return True
        time.sleep(POLL)
    say("root cannot log in: its console may tell why")
    return False


def _welcome(vm: VM) -> str:
    networks = ", ".join(
        f"{network.name}: we are {network.host.ip}, it is {network.guest.ip}"
        for network in vm.machine.networks
    )
    return f"""
In another terminal:

    ssh -F {vm.files.ssh_config} vm
    tail -f {vm.files.console}
    {shlex.join(vm.entering)} COMMAND     # on our side of its networks

{networks}. Ctrl-C pulls its plug and leaves nothing.
"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
