"""What a virtual machine is made of, and QEMU's command line for it; nothing is started here."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Self

from image.vm.accelerator import FIRMWARE, Accelerator

NETWORKS = ("cabin", "wireless", "crew", "ground", "avionics")
"""An aircraft's. The position of a name is the end of its MAC address, so that it never changes."""

GROUND = "ground"
"""The one where addresses are given out by DHCP, as at a gate."""

GUEST_NETWORK = """\
[Match]
MACAddress={mac}
[Network]
Address={address}
"""


@dataclass(frozen=True)
class Network:
    """A network between this machine and the guest: a bridge with the guest's tap.

    Attributes:
        name: one of `NETWORKS`; also the bridge's name.
        host: the address of the bridge. The guest gets the next one.
    """

    name: str
    host: IPv4Interface

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``NAME=ADDRESS``, like ``crew=198.18.3.1/24``.

        Raises:
            ValueError: it is not that.
        """
        name, _, address = text.partition("=")
        if name not in NETWORKS:
            raise ValueError(f"there is no network {name!r}, only {', '.join(NETWORKS)}")
        network = cls(name, IPv4Interface(address))
        if network.guest.network != network.host.network:
            raise ValueError(f"{address} leaves the guest no address after it")
        return network

    @property
    def guest(self) -> IPv4Interface:
        """The guest's address: on the ground by DHCP, else until it is configured otherwise."""
        return IPv4Interface(f"{self.host.ip + 1}/{self.host.network.prefixlen}")

    @property
    def mac(self) -> str:
        """Of the guest's interface."""
        return f"52:54:00:1f:e0:{NETWORKS.index(self.name) + 1:02x}"

    @property
    def tap(self) -> str:
        """The name of the guest's port on the bridge."""
        return f"{self.name}-vm"


@dataclass(frozen=True)
class Machine:
    """A virtual machine, as it is to be.

    Attributes:
        image: the disk image to boot, ``.raw`` or ``.qcow2``; it is only read.
        disk_gib: what the guest sees as the size of its disk.
        memory: in MiB.
        networks: SSH goes over the first.
        credentials: systemd's, by name, beside those for SSH and the networks' addresses.
        lets_in: whether one of them is root's SSH key.
        tpm: whether it has a TPM 2.0.
        variables: a file with OVMF's variables, of which the machine gets a copy. Given one, its
            firmware is the one with Secure Boot.
        direct: start the kernel that lies beside the image (``.efi``) without any firmware, which
            is faster.
        cmdline: more for the kernel's command line; takes `direct`.
    """

    image: Path
    disk_gib: int = 8
    memory: int = 2048
    cpus: int = 2
    networks: tuple[Network, ...] = ()
    credentials: Mapping[str, str] = field(default_factory=dict)
    lets_in: bool = True
    tpm: bool = False
    variables: Path | None = None
    direct: bool = False
    cmdline: str = ""


@dataclass(frozen=True)
class Files:
    """What lies in a virtual machine's folder.

    Attributes:
        console: all that comes over the serial console, of every boot; it may lie elsewhere.
    """

    folder: Path
    console: Path

    @property
    def disk(self) -> Path:
        """What differs from the image."""
        return self.folder / "disk.qcow2"

    @property
    def disk_socket(self) -> Path:
        """Where nbdkit serves `disk`."""
        return self.folder / "disk.sock"

    @property
    def variables(self) -> Path:
        """OVMF's, of this machine."""
        return self.folder / "variables.fd"

    @property
    def output(self) -> Path:
        """What QEMU and its helpers said."""
        return self.folder / "output.log"

    @property
    def monitor(self) -> Path:
        """The socket where QEMU takes commands (QMP)."""
        return self.folder / "monitor.sock"

    @property
    def tpm(self) -> Path:
        """The folder that is the TPM's memory."""
        return self.folder / "tpm"

    @property
    def tpm_socket(self) -> Path:
        """Where swtpm serves it."""
        return self.folder / "tpm.sock"

    @property
    def linux(self) -> Path:
        """The kernel, for a direct boot."""
        return self.folder / "linux"

    @property
    def initrd(self) -> Path:
        """Its initial RAM disk."""
        return self.folder / "initrd"

    @property
    def key(self) -> Path:
        """Root's SSH key; the public one lies beside it."""
        return self.folder / "key"

    @property
    def ssh_config(self) -> Path:
        """With which SSH knows the machine as ``vm``."""
        return self.folder / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        """The host key that the machine showed first."""
        return self.folder / "known_hosts"

    @property
    def leases(self) -> Path:
        """What DHCP has given out."""
        return self.folder / "leases"

    @property
    def ssh_output(self) -> Path:
        """What SSH said when it last tried to log in."""
        return self.folder / "ssh.log"

    @property
    def ssh_control(self) -> Path:
        """The socket of the SSH connection that all commands share."""
        return self.folder / "ssh.sock"


def command(
    machine: Machine,
    files: Files,
    accelerator: Accelerator,
    credentials: Mapping[str, str],
    cmdline: str,
) -> list[str]:
    """QEMU's command line.

    Args:
        machine: what it is to be.
        files: where its files are.
        accelerator: what runs the guest's processors.
        credentials: all of them, by name.
        cmdline: the kernel's whole command line, for a direct boot.
    """
    secure = machine.variables is not None
    return [
        "qemu-system-x86_64",
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", f"q35,smm={'on' if secure else 'off'}"),
        *accelerator.options,
        *("-m", f"{machine.memory}M", "-smp", str(machine.cpus)),
        # It connects to us, and we listen before it starts: nobody has to wait or retry.
        *("-qmp", f"unix:{files.monitor}"),
        *("-chardev", f"file,id=console,path={files.console},append=on"),
        *("-serial", "chardev:console"),
        *("-device", "VGA"),
        *("-device", "virtio-rng-pci"),
        # For sound and serial devices that are plugged in.
        *("-audiodev", "none,id=silence", "-chardev", "null,id=silence"),
        # Where inventory/lab has it, whatever else the machine is made of.
        *("-device", "qemu-xhci,id=usb,addr=1d"),
        *_start(machine, files, cmdline),
        *_disk(machine, files),
        *(option for network in machine.networks for option in _network(network)),
        *(_tpm(files) if machine.tpm else ()),
        *(option for name, value in credentials.items() for option in _credential(name, value)),
    ]


def network_credentials(machine: Machine) -> dict[str, str]:
    """Give each interface its address, unless the guest has a configuration of its own for it.

    systemd-network-generator(8) makes files in ``/run/systemd/network`` of these, and of all that
    match an interface the first by name counts: ``90-`` comes after an aircraft's own, and before
    that of a server that nobody has provisioned.
    """
    return {
        f"network.network.90-{network.name}": GUEST_NETWORK.format(
            mac=network.mac, address=network.guest
        )
        for network in machine.networks
        if network.name != GROUND
    }


def dhcp_server(network: Network, files: Files) -> list[str]:
    """The command line of what gives the guest its address on a network, and nobody else one."""
    return [
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0"),
        *(f"--interface={network.name}", "--bind-interfaces", "--no-ping"),
        *(f"--dhcp-range={network.guest.ip},static,infinite", "--dhcp-option=option:router"),
        f"--dhcp-host={network.mac},{network.guest.ip}",
        *(f"--dhcp-leasefile={files.leases}", f"--pid-file={files.folder / 'dnsmasq.pid'}"),
    ]


def _start(machine: Machine, files: Files, cmdline: str) -> Iterator[str]:
    if machine.direct:
        yield from ("-kernel", str(files.linux), "-initrd", str(files.initrd), "-append", cmdline)
        return
    secure = machine.variables is not None
    code = FIRMWARE / ("OVMF_CODE_4M.secboot.fd" if secure else "OVMF_CODE_4M.fd")
    yield from ("-drive", f"if=pflash,format=raw,readonly=on,file={code}")
    yield from ("-drive", f"if=pflash,format=raw,file={files.variables}")
    if secure:
        yield from ("-global", "driver=cfi.pflash01,property=secure,value=on")


def _disk(machine: Machine, files: Files) -> Iterator[str]:
    server = {"type": "unix", "path": str(files.disk_socket)}
    yield from ("-blockdev", json.dumps({"driver": "nbd", "node-name": "nbd", "server": server}))
    yield from ("-blockdev", "driver=qcow2,node-name=disk,file=nbd,discard=unmap")
    first = "" if machine.direct else ",bootindex=0"
    yield from ("-device", f"virtio-blk-pci,drive=disk,serial=disk,write-cache=on{first}")


def _network(network: Network) -> Iterator[str]:
    name = network.name
    yield from ("-netdev", f"tap,id={name},ifname={network.tap},script=no,downscript=no")
    # Without a ROM: nothing is to boot from the network.
    yield from ("-device", f"virtio-net-pci,netdev={name},mac={network.mac},romfile=")


def _tpm(files: Files) -> Iterator[str]:
    yield from ("-chardev", f"socket,id=tpm,path={files.tpm_socket}")
    yield from ("-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm")


def _credential(name: str, value: str) -> Iterator[str]:
    encoded = base64.b64encode(value.encode()).decode()
    yield from ("-smbios", f"type=11,value=io.systemd.credential.binary:{name}={encoded}")
