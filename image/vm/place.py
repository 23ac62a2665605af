"""A virtual machine's place on this host: a network namespace and a folder of its own.

Root is not needed where users may make user namespaces; then this is one too.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from image.vm import VmError
from image.vm.machine import Network

START_TIMEOUT = 10.0
END_TIMEOUT = 15.0
COMMAND_TIMEOUT = 30.0

_KEEPER = Path(__file__).with_name("keeper.py")


class Place:
    """There until `close`, or until this process ends, however it does.

    Raises:
        VmError: there is no right to make it.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ife-vm-", dir="/var/tmp"))
        user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
        self._keeper = subprocess.Popen(
            ["unshare", *user, "--net", "--", sys.executable, "-I", _KEEPER, self.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us
        )
        assert self._keeper.stdout is not None  # noqa: S101 - it is a pipe
        ready, _, _ = select.select([self._keeper.stdout], [], [], START_TIMEOUT)
        said = self._keeper.stdout.readline().decode() if ready else "nothing"
        if said != "here\n":
            self.close()
            raise VmError(f"no network namespace can be made: {said.strip()}")

    @property
    def network(self) -> str:
        """The namespace's network, as setns(2) takes it once it is open."""
        return f"/proc/{self._keeper.pid}/ns/net"

    @property
    def entering(self) -> tuple[str, ...]:
        """What to put before a command to run it in the namespace."""
        user = () if os.geteuid() == 0 else ("--user", "--preserve-credentials")
        return ("nsenter", f"--target={self._keeper.pid}", *user, "--net", "--")

    def start(self, argv: Sequence[str], output: Path) -> subprocess.Popen[bytes]:
        """Start a program in the namespace; what it says is added to `output`."""
        with output.open("ab") as file:
            return subprocess.Popen(
                [*self.entering, *argv],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=self.folder,
                env=os.environ | {"TMPDIR": str(self.folder)},
                start_new_session=True,
            )

    def join(self, networks: Sequence[Network]) -> None:
        """Make the networks' bridges, and their taps for the guest.

        Raises:
            VmError: the kernel refuses.
        """
        lines = ["link set lo up"]
        for network in networks:
            lines += [
                f"link add {network.name} type bridge",
                f"addr add {network.host} dev {network.name}",
                f"tuntap add dev {network.tap} mode tap",
                f"link set {network.tap} master {network.name} up",
                f"link set {network.name} up",
            ]
        done = subprocess.run(
            [*self.entering, "ip", "-batch", "-"],
            input="\n".join(lines),
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT,
        )
        if done.returncode != 0:
            raise VmError(f"the networks cannot be made: {done.stderr.strip()}")

    def close(self) -> None:
        """End all that runs in the namespace, and remove both."""
        assert self._keeper.stdin is not None  # noqa: S101 - they are pipes
        assert self._keeper.stdout is not None  # noqa: S101
        self._keeper.stdin.close()
        try:
            self._keeper.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        self._keeper.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)
