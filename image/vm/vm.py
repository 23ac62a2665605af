"""A virtual machine: boots it, talks to it, and does to it what happens to machines."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from image.vm import VmError, accelerator, uki
from image.vm.accelerator import FIRMWARE
from image.vm.machine import GROUND, Files, Machine, command, dhcp_server, network_credentials
from image.vm.monitor import Monitor
from image.vm.place import Place

BOOT_TIMEOUT = 600.0
"""Seconds until it can be logged in to: under TCG, through OVMF, it takes 100, on a slow machine
three times that."""

COMMAND_TIMEOUT = 60.0
SHUTDOWN_TIMEOUT = 120.0
HELPER_TIMEOUT = 10.0
SSH_PAUSE = 1.0
"""Seconds between attempts to log in: each takes time from the guest."""

CONSOLE_LINES = 30
POLL = 0.05

_SSH_CONFIG = """\
Host vm
    HostName {address}
    User root
    IdentityFile {folder}/key
    IdentitiesOnly yes
    BatchMode yes
    # On this network there is nobody but the machine, so its first key is its own. From then on
    # it must not change: if a reboot makes it a new one, SSH refuses.
    StrictHostKeyChecking accept-new
    UserKnownHostsFile {folder}/known_hosts
    GlobalKnownHostsFile none
    ProxyCommand {entering} nc %h %p
    ControlPath {folder}/ssh.sock
    ConnectTimeout 30
    ServerAliveInterval 20
    ServerAliveCountMax 6
    LogLevel ERROR
"""


class VM:
    """A virtual machine, a context manager; off until `boot`.

    Everything that waits does so for a bounded time and then raises `VmError`, with the end of
    the console.

    Args:
        machine: what it is to be.
        console: where to keep what comes over its serial console; else it goes with the folder.

    Attributes:
        machine: what it is made of.
        files: what lies in its folder, which is gone after the block.
        entering: what to put before a command to run it on the host's side of its networks.
        network: that side, as setns(2) takes it once it is open.
    """

    machine: Machine
    files: Files
    entering: tuple[str, ...]
    network: str

    def __init__(self, machine: Machine, console: Path | None = None) -> None:
        self.machine = replace(machine, image=machine.image.absolute())
        self._console = console and console.absolute()
        self._qemu: subprocess.Popen[bytes] | None = None
        self._dhcp: list[subprocess.Popen[bytes]] = []
        self._helpers: list[subprocess.Popen[bytes]] = []
        self._ssh: subprocess.Popen[bytes] | None = None
        self._next_ssh = 0.0
        self._monitor: Monitor | None = None
        self._booted_at = 0
        self._plugged = 0

    def __enter__(self) -> Self:
        if not self.machine.image.is_file():
            raise VmError(f"there is no image {self.machine.image}: make one with `make image`")
        self._accelerator = accelerator.find()
        self._place = Place()
        try:
            folder = self._place.folder
            self.files = Files(folder, self._console or folder / "console.log")
            self.entering = self._place.entering
            self.network = self._place.network
            self._place.join(self.machine.networks)
            self._make_files()
            for network in self.machine.networks:
                if network.name == GROUND:
                    server = dhcp_server(network, self.files)
                    self._dhcp.append(self._place.start(server, self.files.output))
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.cut_power()
        finally:
            self._close()

    def _close(self) -> None:
        for server in self._dhcp:
            server.kill()
            server.wait(HELPER_TIMEOUT)
        self._place.close()

    # -- power ----------------------------------------------------------------------------------

    @property
    def is_on(self) -> bool:
        """Whether it runs."""
        return self._qemu is not None and self._qemu.poll() is None

    @property
    def accelerator(self) -> str:
        """What runs its processors, ``kvm`` or ``tcg``."""
        return self._accelerator.name

    def boot(self) -> None:
        """Switch it on.

        Raises:
            VmError: QEMU does not start; the message has what it said.
        """
        if self.is_on:
            raise VmError("it is on already")
        self._release()  # it may have switched itself off
        self._booted_at = self.files.console.stat().st_size
        self._serve_disk()
        if self.machine.tpm:
            self._serve_tpm()
        self._monitor = Monitor(self.files.monitor)
        argv = command(
            self.machine, self.files, self._accelerator, self._credentials, self._cmdline
        )
        self._qemu = self._place.start(argv, self.files.output)
        try:
            self._monitor.accept(self._qemu)
        except VmError as error:
            raise VmError(f"QEMU does not start: {self.files.output.read_text()}") from error

    def cut_power(self) -> None:
        """Pull the plug: all that the guest has not flushed to its disk is lost."""
        # The disk first: QEMU is not to write what it holds for a last time.
        for process in (*self._helpers, *([self._qemu] if self._qemu else [])):
            process.kill()
        self._release()

    def shut_down(self, timeout: float = SHUTDOWN_TIMEOUT) -> None:
        """Press the power button, and wait until it is off.

        Raises:
            VmError: it is still on after `timeout` seconds.
        """
        self.execute("system_powerdown")
        self._wait_until(lambda: not self.is_on, "is off", timeout)
        self._release()

    def keep_disk(self, path: Path) -> None:
        """Copy its disk as it is, while it is off, to be an image for others (``.qcow2``).

        It stays laid over the image that this machine was made from. The kernel for a direct boot
        is linked beside it.
        """
        if self.is_on:
            raise VmError("its disk can be copied when it is off")
        kind = self.machine.image.suffix.removeprefix(".")
        over = ("-B", str(self.machine.image), "-F", kind)
        disk = str(self.files.disk)
        self._make(
            "qemu-img", "convert", "-q", "-f", "qcow2", "-O", "qcow2", *over, disk, str(path)
        )
        path.with_suffix(".efi").symlink_to(self.machine.image.with_suffix(".efi"))

    def execute(self, command: str, **arguments: object) -> object:
        """What QEMU answers to a command of its monitor (QMP); see `Monitor.execute`."""
        if self._monitor is None:
            raise VmError("it is off")
        return self._monitor.execute(command, **arguments)

    # -- its console, screen and keyboard -------------------------------------------------------

    def console(self) -> str:
        """What it has said on its serial console since it was switched on."""
        with self.files.console.open("rb") as file:
            file.seek(self._booted_at)
            return file.read().decode(errors="replace")

    def wait_for_console(self, text: str, timeout: float = BOOT_TIMEOUT) -> None:
        """Wait until it has said `text` there.

        Raises:
            VmError: it has not within `timeout` seconds, or went off before.
        """
        self._wait_until(lambda: text in self.console(), f"says {text!r}", timeout, on=True)

    def screendump(self, path: Path) -> None:
        """Write what its screen shows to `path`, as PNG."""
        self.execute("screendump", filename=str(path.absolute()), format="png")

    def send_keys(self, *chords: str) -> None:
        """Press keys on its keyboard, like ``ctrl-alt-delete``; names as in QEMU's `QKeyCode`."""
        for chord in chords:
            keys = [{"type": "qcode", "data": key} for key in chord.split("-")]
            self.execute("send-key", keys=keys)

    # -- its USB --------------------------------------------------------------------------------

    def plug_usb(self, driver: str, port: str | None = None, **properties: object) -> str:
        """Plug in a device that QEMU has, for example ``usb-kbd``; returns the name to unplug.

        `port` is one of the four of the controller, ``1``, or of a hub that is plugged in there,
        ``4.1``; else one that is free. `properties` are the driver's own; a sound or serial device
        can have ``silence``, where nobody is at the other end.
        """
        self._plugged += 1
        name = f"plugged{self._plugged}"
        where = {} if port is None else {"port": port}
        self.execute("device_add", driver=driver, id=name, bus="usb.0", **where, **properties)
        return name

    def plug_disk(
        self,
        path: Path,
        port: str | None = None,
        driver: str = "usb-storage",
        rate: int | None = None,
        bad_spot: int | None = None,
    ) -> str:
        """Plug in a USB disk, a raw file; the guest may write to it. Returns the name to unplug.

        With `rate` it gives and takes so many bytes a second at most. With `bad_spot`, the sector
        with that byte cannot be read.
        """
        node = f"medium{self._plugged + 1}"
        medium: dict[str, object]
        if rate is None:
            medium = {"driver": "file", "filename": str(path.absolute())}
        else:
            # QEMU's own throttling crashes it when the disk is pulled out.
            socket = self.files.folder / f"{node}.sock"
            filters = ("--filter=exitlast", "--filter=rate")
            server = ("nbdkit", "--foreground", f"--unix={socket}", *filters)
            self._serve(socket, *server, "file", str(path.absolute()), f"rate={8 * rate}")
            medium = {"driver": "nbd", "server": {"type": "unix", "path": str(socket)}}
        if bad_spot is not None:
            fault = {"event": "none", "iotype": "read", "sector": bad_spot // 512}
            medium = {"driver": "blkdebug", "image": medium, "inject-error": [fault]}
        self.execute("blockdev-add", driver="raw", node_name=node, file=medium)
        return self.plug_usb(driver, port, drive=node, serial=path.stem)

    def plug_redirected(self, socket: Path, port: str) -> str:
        """Plug in a device that is played (usbredir) at the other end of a socket that listens.

        Returns the name to unplug.
        """
        character = f"redirected{self._plugged + 1}"
        address = {"type": "unix", "data": {"path": str(socket.absolute())}}
        backend = {"type": "socket", "data": {"addr": address, "server": False}}
        self.execute("chardev-add", id=character, backend=backend)
        return self.plug_usb("usb-redir", port, chardev=character)

    def unplug(self, name: str) -> None:
        """Pull a device out.

        Raises:
            VmError: it is still there after a while.
        """
        medium = name.replace("plugged", "medium")
        self.execute("device_del", id=name)
        self._wait_until(lambda: name not in self._devices(), f"is without {name}", HELPER_TIMEOUT)
        self._wait_until(lambda: self._is_rid_of(medium), f"is rid of {medium}", HELPER_TIMEOUT)

    def _is_rid_of(self, medium: str) -> bool:
        """Whether it no longer holds a disk's file, which it does for a moment after the disk."""
        nodes = self.execute("query-named-block-nodes", flat=True)
        assert isinstance(nodes, list)  # noqa: S101 - QEMU's documented answer
        if medium in {node["node-name"] for node in nodes}:
            with contextlib.suppress(VmError):
                self.execute("blockdev-del", node_name=medium)
            return False
        return True

    def _devices(self) -> set[str]:
        found = self.execute("qom-list", path="/machine/peripheral")
        assert isinstance(found, list)  # noqa: S101 - QEMU's documented answer
        return {entry["name"] for entry in found}

    # -- commands in it -------------------------------------------------------------------------

    def wait_for_ssh(self, timeout: float = BOOT_TIMEOUT) -> None:
        """Wait until root can log in; commands go over that connection then.

        Raises:
            VmError: that is not so within `timeout` seconds.
        """
        self._wait_until(self.lets_in, "lets root in by SSH", timeout, on=True)

    def lets_in(self) -> bool:
        """Whether root is logged in by SSH; it is tried in the background until so."""
        off = self._ssh is None or self._ssh.poll() is not None
        if off and time.monotonic() > self._next_ssh:
            self._next_ssh = time.monotonic() + SSH_PAUSE
            with self.files.ssh_output.open("wb") as output:
                self._ssh = subprocess.Popen(
                    [*self._ssh_command, "-N", "-M", "vm"],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        return self.files.ssh_control.exists()

    def run(
        self, command: str, timeout: float = COMMAND_TIMEOUT, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root in it, once `wait_for_ssh` has returned.

        Raises:
            VmError: it fails, where that is to be checked, or takes longer than `timeout` seconds.
        """
        try:
            done = subprocess.run(
                [*self._ssh_command, "vm", command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as error:
            raise VmError(f"not done within {timeout} s: {command}{self._tail()}") from error
        if check and done.returncode != 0:
            raise VmError(f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    @property
    def _ssh_command(self) -> tuple[str, ...]:
        return ("ssh", "-F", str(self.files.ssh_config))

    # -- inside ---------------------------------------------------------------------------------

    def _make_files(self) -> None:
        self.files.console.write_bytes(b"")
        kind = self.machine.image.suffix.removeprefix(".")
        overlay = ("create", "-q", "-f", "qcow2", "-F", kind, "-b", str(self.machine.image))
        self._make("qemu-img", *overlay, str(self.files.disk), f"{self.machine.disk_gib}G")
        # Served as a block device it cannot grow: it gets all the room that it may need, as a hole.
        os.truncate(self.files.disk, (self.machine.disk_gib + 1) << 30)
        shutil.copy(self.machine.variables or FIRMWARE / "OVMF_VARS_4M.fd", self.files.variables)
        self.files.tpm.mkdir()
        self._make(
            "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "vm", "-f", str(self.files.key)
        )
        self._credentials = network_credentials(self.machine) | dict(self.machine.credentials)
        if self.machine.lets_in:
            key = self.files.key.with_suffix(".pub").read_text()
            self._credentials["ssh.authorized_keys.root"] = key
        if self.machine.networks:
            self.files.ssh_config.write_text(
                _SSH_CONFIG.format(
                    address=self.machine.networks[0].guest.ip,
                    folder=self.files.folder,
                    entering=" ".join(self.entering),
                )
            )
        self._cmdline = ""
        if self.machine.direct:
            kernel = uki.sections(self.machine.image.with_suffix(".efi"))
            self.files.linux.write_bytes(kernel[".linux"])
            self.files.initrd.write_bytes(kernel[".initrd"])
            own = kernel[".cmdline"].rstrip(b"\n\0").decode()
            self._cmdline = f"{own} {self.machine.cmdline}"

    def _make(self, *argv: str) -> None:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_TIMEOUT)
        if done.returncode != 0:
            raise VmError(f"{argv[0]}: {done.stderr.strip()}")

    def _serve_disk(self) -> None:
        """What is written stays in nbdkit's memory until the guest has it flushed."""
        server = ("nbdkit", "--foreground", f"--unix={self.files.disk_socket}", "--filter=cache")
        self._serve(
            self.files.disk_socket, *server, "file", str(self.files.disk), "cache=writeback"
        )

    def _serve_tpm(self) -> None:
        control = f"type=unixio,path={self.files.tpm_socket}"
        server = ("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.files.tpm}")
        self._serve(self.files.tpm_socket, *server, "--ctrl", control)

    def _serve(self, socket: Path, *argv: str) -> None:
        """Start a helper, and wait until it listens at `socket`."""
        socket.unlink(missing_ok=True)
        helper = self._place.start(argv, self.files.output)
        self._helpers.append(helper)
        deadline = time.monotonic() + HELPER_TIMEOUT
        while not socket.exists():
            if helper.poll() is not None or time.monotonic() > deadline:
                raise VmError(f"{argv[0]} does not start: {self.files.output.read_text()}")
            time.sleep(POLL)

    def _release(self) -> None:
        """What served a machine that is off is of no use any more."""
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
        for process in (*self._helpers, self._ssh, self._qemu):
            if process is not None:
                process.terminate()
                process.wait(HELPER_TIMEOUT)
        self._helpers = []
        self._ssh = self._qemu = None
        self.files.ssh_control.unlink(missing_ok=True)

    def _wait_until(
        self, condition: Callable[[], bool], what: str, timeout: float, on: bool = False
    ) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if on and not self.is_on:
                status = self._qemu and self._qemu.returncode
                raise VmError(f"it went off before it {what}: status {status}{self._tail()}")
            if time.monotonic() > deadline:
                raise VmError(f"not within {timeout} s: it {what}{self._tail()}")
            time.sleep(POLL)

    def _tail(self) -> str:
        """The end of what was said, for a message."""
        ssh = self.files.ssh_output
        return (
            f"\nits console:\n{_last_lines(self.console())}"
            f"\nQEMU and its helpers:\n{_last_lines(self.files.output.read_text(errors='replace'))}"
            f"\nSSH:\n{_last_lines(ssh.read_text(errors='replace')) if ssh.exists() else ''}"
        )


def _last_lines(text: str) -> str:
    return "\n".join([line for line in text.splitlines() if line.strip()][-CONSOLE_LINES:])
