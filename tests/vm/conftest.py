"""Virtual machines for tests. Whatever uses one is marked ``vm``: `make test-vm` runs those."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyroute2 import netns

from apps.common.content import ContentState
from bench.site import NETWORKS, UNTIL_ALL_ANSWER, Run, make_secrets, provision
from image.settings import built
from image.vm import VmError
from image.vm.machine import Machine, Network
from image.vm.vm import VM

# A job in the background of a shell ignores SIGINT, and so would all that is started here.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[2]
UV = ROOT / ".venv/bin/uv"
CONSOLES = ROOT / ".cache/vm"
TIMEOUT = 1800
"""Seconds for a test: a few boots under TCG, or two runs of the playbook, on a slow machine."""

CREW = Network.parse("crew=198.18.3.1/24")

StartVm = Callable[[Machine], VM]


def _machines(request: pytest.FixtureRequest) -> Iterator[StartVm]:
    """Makes machines that last as long as the fixture; of failures console and log are kept."""
    failures = request.session.testsfailed
    name = re.sub(r"[^\w.-]+", "-", request.node.name or str(request.fixturename))
    consoles: list[Path] = []
    machines: list[VM] = []
    with contextlib.ExitStack() as stack:

        def make(machine: Machine) -> VM:
            consoles.append(CONSOLES / f"{name}-{len(consoles) + 1}.log")
            CONSOLES.mkdir(parents=True, exist_ok=True)
            machines.append(stack.enter_context(VM(machine, consoles[-1])))
            return machines[-1]

        yield make
        if request.session.testsfailed > failures:
            for vm in machines:
                _keep_journal(vm)
    for console in consoles:
        if request.session.testsfailed == failures:
            console.unlink(missing_ok=True)
        else:
            print(f"console: {console}")


def _keep_journal(vm: VM) -> None:
    """What its services said since the boot, beside its console, if it can be logged in to."""
    if vm.files.ssh_control.exists():
        with contextlib.suppress(VmError):
            journal = vm.run("journalctl --no-pager -b -o short-precise", 120, check=False)
            vm.files.console.with_suffix(".journal").write_text(journal.stdout)


@pytest.fixture
def new_vm(request: pytest.FixtureRequest) -> Iterator[StartVm]:
    """Makes machines for a test."""
    yield from _machines(request)


@pytest.fixture(scope="module")
def new_vm_of_module(request: pytest.FixtureRequest) -> Iterator[StartVm]:
    """Makes machines that a module's tests share."""
    yield from _machines(request)


@pytest.fixture(scope="session")
def image() -> Path:
    """The image: ``IFE_VM_IMAGE``, or the newest that `make image` has built."""
    if given := os.environ.get("IFE_VM_IMAGE"):
        return Path(given)
    newest = built()
    if not newest.exists():
        pytest.skip("there is no image: make one with `make image`, or name one: IFE_VM_IMAGE=FILE")
    return newest


@dataclass(frozen=True)
class Provisioned:
    """A machine that was provisioned once, for tests to boot.

    Attributes:
        disk: what it had on its disk when it was shut down afterwards.
        run: what the run said.
        again: what the same run said a second time.
    """

    disk: Path
    run: Run
    again: Run


@pytest.fixture(scope="session")
def provisioned(
    request: pytest.FixtureRequest, image: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Provisioned]:
    """ec-lab of inventory/lab, provisioned over SSH as it comes out of the box."""
    make_secrets()
    disk = tmp_path_factory.mktemp("provisioned") / "ec-lab.qcow2"
    for new_vm in _machines(request):
        vm = new_vm(Machine(image, networks=NETWORKS, direct=True))
        vm.boot()
        vm.wait_for_ssh()
        run, again = provision(vm), provision(vm)
        assert not run.failures, run.output
        vm.shut_down()
        vm.keep_disk(disk)
        yield Provisioned(disk, run, again)


@pytest.fixture(scope="session")
def aircraft(request: pytest.FixtureRequest, provisioned: Provisioned) -> Iterator[VM]:
    """ec-lab after a boot of its own, as it flies. Leave it as it is."""
    for new_vm in _machines(request):
        vm = new_vm(Machine(provisioned.disk, networks=NETWORKS, direct=True))
        vm.boot()
        vm.wait_for_ssh()
        vm.run("systemctl is-system-running --wait", timeout=300, check=False)
        vm.run(UNTIL_ALL_ANSWER, timeout=300)
        yield vm


@contextlib.contextmanager
def beside(vm: VM) -> Iterator[ThreadPoolExecutor]:
    """A thread on our side of a machine's networks, and all that is begun in it. As root."""
    with ThreadPoolExecutor(1, initializer=netns.setns, initargs=(vm.network, 0)) as thread:
        yield thread


def python(vm: VM, script: str, *arguments: str, user: str = "root") -> str:
    """What a script prints that is run in a machine, with what the apps have."""
    argv = " ".join(arguments)
    return vm.run(
        f"runuser -u {user} -- /opt/ife/bin/python - {argv} <<'END'\n{script}\nEND"
    ).stdout


def copy(vm: VM, source: Path, target: str) -> None:
    """A file of ours into a machine."""
    subprocess.run(
        ["scp", "-q", "-F", str(vm.files.ssh_config), str(source), f"vm:{target}"],
        check=True,
        timeout=60,
    )


def fetch(vm: VM, source: str, target: Path) -> None:
    """A file out of a machine."""
    subprocess.run(
        ["scp", "-q", "-F", str(vm.files.ssh_config), f"vm:{source}", str(target)],
        check=True,
        timeout=60,
    )


def requirements(extra: str, folder: Path, *more: str) -> Path:
    """What `uv.lock` says that an app needs, by hash, as a file for pip.

    Args:
        extra: the app's, in pyproject.toml.
        folder: where the file goes.
        more: for `uv export`.
    """
    file = folder / "requirements.txt"
    export = ("export", "--quiet", "--frozen", "--no-dev", "--no-emit-project")
    command = [str(UV), *export, f"--extra={extra}", *more, f"--output-file={file}"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    return file


def wait_for_content_sync(vm: VM) -> None:
    """Until it answers."""
    vm.run("until ife-content status > /dev/null 2>&1; do sleep 1; done", timeout=240)


def content_state(vm: VM) -> ContentState:
    """What content_sync tells."""
    return ContentState.model_validate_json(vm.run("ife-content status --json", timeout=120).stdout)


def sha256(data: bytes) -> str:
    """As `sha256sum` prints it."""
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that each account may read, as a real sshd does in the name of whoever logs in."""
    with tempfile.TemporaryDirectory(prefix="ife-ground-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def blank(tmp_path: Path) -> Path:
    """A disk with nothing on it: the firmware ends in its shell, a few seconds after power on."""
    path = tmp_path / "blank.raw"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    return path


def ask_hangar(vm: VM, address: str, path: str, certificate: Path, *more: str) -> tuple[int, str]:
    """Ask the lab's Hangar over HTTPS from the host's side of a machine's networks.

    Args:
        vm: the machine.
        address: where the Hangar is.
        path: and query.
        certificate: who asks, without its ending.
        more: arguments of curl's.

    Returns:
        HTTP's status, and what it answers.
    """
    authority = ROOT / "build/lab/hangar-lab/root.crt"
    command = [
        *vm.entering,
        *("curl", "--silent", "--show-error", "--max-time", "60"),
        *("--write-out", "\n%{http_code}"),
        *("--resolve", f"hangar-lab:443:{address}", "--cacert", str(authority)),
        *("--cert", f"{certificate}.crt", "--key", f"{certificate}.key"),
        *(f"https://hangar-lab{path}", *more),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body or done.stderr


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what boots a machine. The aircraft, once it is up, stays to the end: it comes last."""
    items.sort(key=lambda item: "aircraft" in getattr(item, "fixturenames", ()))
    for item in items:
        if {"new_vm", "new_vm_of_module", "aircraft", "provisioned", "blank"} & set(
            getattr(item, "fixturenames", ())
        ):
            item.add_marker(pytest.mark.vm)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(TIMEOUT))
