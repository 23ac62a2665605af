"""The unit's own ssh between two network namespaces, the aircraft and the ground, with real sshd.

systemd-networkd runs in the aircraft's namespace with the configuration of the role network, in a
/run of its own, so that the unit waits for a ground link as it does on an aircraft. The ground's
sshd has the restrictions that roles/tunnel/README.md tells to set.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values
from pyroute2 import NetNS

from apps.common.testing import wait_until
from bench import units
from bench.namespace import Namespace
from tests.roles.ground import write_for_here
from tests.roles.helpers import ROOT, render, told_by_preflight

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="making namespaces takes root rights")

GROUND, AIRCRAFT = "10.24.0.1", "10.24.0.2"
PORT = 20042
"""The aircraft's, on the ground."""

DEAD = 20
"""Seconds within which a link that has fallen silent ends the tunnel, as the README says."""

BACK = 20
"""Seconds after which an aircraft comes back at the earliest: RestartSec=."""

NAMES = ("ground", "another", "ssh_host_ed25519_key", "tunnel.key", "authority", "engineer")
"""Keys: of the ground's sshd, of another one, of the aircraft's sshd, of the tunnel, of who signs
for engineers, of an engineer."""

SOCKET = "/tmp/ife-test-tunnel"  # noqa: S108 - nobody gets it
"""Where any account may make a socket."""

SILENT, CLOSED = 2222, 2223
"""Ports of the ground: one that takes connections and says nothing, and one that refuses them."""


def _readme(block: str) -> str:
    """What the README tells to set on the ground."""
    match = re.search(
        rf"```{block}\n(.*?)```", (ROOT / "roles/tunnel/README.md").read_text(), re.DOTALL
    )
    assert match
    return match[1]


def _command(folder: Path, variables: Mapping[str, str | None]) -> list[str]:
    """The unit's, with its settings from `variables`, its key and the pinned keys in `folder`."""
    where = units.Where(prefixes={}, specifiers={}, credentials=folder)
    unit = units.load(ROOT / "units", "tunnel", where)
    return [
        string.Template(word).safe_substitute(variables).replace("/etc/ife", str(folder))
        for word in unit.argv
    ]


@dataclass(frozen=True)
class Line:
    """An aircraft and the ground, joined by a cable. `folder` has keys and configuration."""

    folder: Path
    ground: Namespace
    aircraft: Namespace
    networkd: int

    @contextlib.contextmanager
    def unit(self, pinned: str = "ground", port: int = 22) -> Iterator[subprocess.Popen[str]]:
        """The unit's command, run by a user of no rights. `pinned` is the host key expected."""
        settings = {
            "tunnel_host": GROUND,
            "tunnel_port": port,
            "tunnel_user": "nobody",
            "tunnel_host_keys": [(self.folder / f"{pinned}.pub").read_text().strip()],
            "tunnel_remote_port": PORT,
        }
        render(self.folder, "tunnel", "tunnel.known_hosts.j2", **settings)
        variables = dotenv_values(render(self.folder, "tunnel", "tunnel.env.j2", **settings))
        process = self.aircraft.run(
            subprocess.Popen,
            [
                *("nsenter", f"--mount=/proc/{self.networkd}/ns/mnt"),
                *("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"),
                *("--no-new-privs", "--bounding-set=-all", "--"),
                *_command(self.folder, variables),
            ],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with process:
            try:
                yield process
            finally:
                # All of it at once, as systemd does by control group.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    @contextlib.contextmanager
    def tunnel(self) -> Iterator[None]:
        """The unit's command, and the tunnel is there."""
        with self.unit():
            wait_until(self.listens, "the ground has the aircraft's port")
            yield
        wait_until(lambda: not self.listens(), "the ground has freed the port")

    def listens(self) -> bool:
        """Whether the aircraft's port is there on the ground."""
        sockets = self.ground.run(Path("/proc/thread-self/net/tcp").read_text)
        return f"0100007F:{PORT:04X} 00000000:0000 0A" in sockets

    def engineer(self) -> subprocess.CompletedProcess[str]:
        """Log in on the aircraft from the ground, with a key that an authority has signed."""
        known = self.folder / "engineer.known_hosts"
        known.write_text(f"ec-lab {(self.folder / 'ssh_host_ed25519_key.pub').read_text()}")
        return self._ssh(
            self.ground,
            "engineer",
            *("-o", f"UserKnownHostsFile={known}", "-o", "HostKeyAlias=ec-lab"),
            *("-p", str(PORT), "root@127.0.0.1", "readlink /proc/self/ns/net"),
        )

    def intruder(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Do something else on the ground with the aircraft's key."""
        known = self.folder / "tunnel.known_hosts"
        return self._ssh(
            self.aircraft,
            "tunnel.key",
            *("-o", f"UserKnownHostsFile={known}", "-o", "HostKeyAlias=ground"),
            *("-o", "ExitOnForwardFailure=yes", *arguments),
        )

    def _ssh(self, where: Namespace, key: str, *more: str) -> subprocess.CompletedProcess[str]:
        return where.run(
            subprocess.run,
            [
                *("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "IdentityAgent=none"),
                *("-o", f"IdentityFile={self.folder / key}", *more),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
        )


def _connects(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    process.wait(timeout=10)


def _sshd(stack: ExitStack, where: Namespace, configuration: Path) -> None:
    """Run it, as Debian does but for where its files are."""
    log = stack.enter_context(configuration.with_suffix(".log").open("w"))
    command = ["/usr/sbin/sshd", "-D", "-e", "-f", configuration]
    command += ["-o", "PidFile=none", "-o", "UsePAM=yes", "-o", "StrictModes=no"]
    # A bash that is not the outermost reads no .bashrc: root's may take its time.
    command += ["-o", "SetEnv=SHLVL=2"]
    process = where.run(subprocess.Popen, command, stderr=log)
    stack.callback(_end, process)


def _ssh_keygen(*arguments: str | Path) -> None:
    subprocess.run(["ssh-keygen", "-q", *arguments], check=True, timeout=10)


def _keys(folder: Path) -> None:
    """Make `NAMES`, the engineer's signed, and the tunnel's a second time, as a credential."""
    for name in NAMES:
        _ssh_keygen("-t", "ed25519", "-N", "", "-C", name, "-f", folder / name)
    signed = folder / "engineer.pub"
    _ssh_keygen("-s", folder / "authority", "-I", "engineer", "-n", "root", signed)
    # As systemd hands a credential over: readable, and not the service's own.
    credential = folder / "tunnel/tunnel.key"
    credential.parent.mkdir(mode=0o755)
    shutil.copyfile(folder / "tunnel.key", credential)
    credential.chmod(0o644)


def _ground_sshd(folder: Path) -> Path:
    """Its configuration, with what the README tells. The account is one that every Debian has."""
    key = (folder / "tunnel.key.pub").read_text()
    line = re.sub("ssh-ed25519 .*\n", lambda _: key, _readme("authorized_keys"))
    (folder / "authorized_keys").write_text(line)
    file = folder / "ground.conf"
    file.write_text(
        f"ListenAddress {GROUND}\nHostKey {folder}/ground\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nSubsystem sftp internal-sftp\n"
        + _readme("sshd_config").replace("Match User aircraft", "Match User nobody")
    )
    return file


def _aircraft_sshd(folder: Path) -> Path:
    authority = (folder / "authority.pub").read_text().strip()
    render(folder, "hardening", "user_authorities.pub.j2", hardening_ssh_authorities=[authority])
    (folder / "user_authorities.pub").rename(folder / "ife_user_authorities.pub")
    file = render(folder, "hardening", "sshd.conf.j2")
    write_for_here(file, folder)
    return file


def _networkd(stack: ExitStack, folder: Path, aircraft: Namespace) -> int:
    """Run it in a /run of its own, and with no udev to wait for; its process."""
    interface = {"name": "ground", "path": "-", "address": "dhcp"}
    file = render(folder, "network", "interface.network.j2", item=interface)
    # A veth has no path, and nobody here serves DHCP.
    text = file.read_text().replace("Path=-", "Name=ground0")
    file.write_text(text.replace("DHCP=ipv4", f"Address={AIRCRAFT}/24"))
    script = f"""
        mount -t tmpfs tmpfs /run
        mount -t sysfs -o ro sysfs /sys
        install -d -o systemd-network -g systemd-network /run/systemd/netif
        install -D -m 644 {file} /run/systemd/network/10-ground0.network
        exec /usr/lib/systemd/systemd-networkd
    """
    command = ["unshare", "--mount", "sh", "-ec", script]
    with (folder / "networkd.log").open("w") as log:
        process = aircraft.run(subprocess.Popen, command, stderr=log)
    stack.callback(_end, process)
    run = Path(f"/proc/{process.pid}/root/run")
    wait_until(
        lambda: not run.samefile("/run") and (run / "systemd/netif/state").exists(),
        "networkd says how the networks are",
    )
    return process.pid


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    """The aircraft with its networks and its sshd, the ground with its own, the cable in."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ife-")))
        folder.chmod(0o755)
        _keys(folder)
        ground = stack.enter_context(Namespace("ground"))
        aircraft = stack.enter_context(Namespace("aircraft"))
        with NetNS(aircraft.name) as route:
            peer = {"ifname": "eth0", "net_ns_fd": ground.name}
            route.link("add", ifname="ground0", kind="veth", peer=peer)
        ground.bring_up("lo")
        ground.bring_up("eth0", f"{GROUND}/24")
        aircraft.bring_up("lo")
        networkd = _networkd(stack, folder, aircraft)
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        _sshd(stack, ground, _ground_sshd(folder))
        _sshd(stack, aircraft, _aircraft_sshd(folder))
        stack.enter_context(ground.run(socket.create_server, (GROUND, SILENT)))
        wait_until(lambda: ground.run(_connects, (GROUND, 22)), "the ground's sshd listens")
        wait_until(lambda: aircraft.run(_connects, ("127.0.0.1", 22)), "the aircraft's listens")
        yield Line(folder, ground, aircraft, networkd)


@as_root
def test_an_engineer_on_the_ground_reaches_the_aircraft(line: Line) -> None:
    with line.tunnel():
        done = line.engineer()
    here = line.aircraft.run(os.readlink, "/proc/thread-self/ns/net")
    assert (done.returncode, done.stdout.strip()) == (0, here), done.stderr


@as_root
def test_a_ground_with_another_host_key_is_refused(line: Line) -> None:
    with line.unit(pinned="another") as process:
        said = process.communicate(timeout=10)[1]
    assert process.returncode == 255
    assert "Host key verification failed" in said
    assert "Authenticated" not in said


@as_root
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nobody@10.24.0.1"], "open failed"),
        (["-tt", "nobody@10.24.0.1"], "open failed"),
        (["nobody@10.24.0.1", "id"], "open failed"),
        (["-s", "nobody@10.24.0.1", "sftp"], "open failed"),
        (["-W", "10.24.0.1:22", "nobody@10.24.0.1"], "stdio forwarding failed"),
        (["-N", "-R", "127.0.0.1:20043:127.0.0.1:22", "nobody@10.24.0.1"], "forwarding failed"),
        (["-N", "-R", "10.24.0.1:20042:127.0.0.1:22", "nobody@10.24.0.1"], "forwarding failed"),
        (["-N", "-R", f"{SOCKET}:127.0.0.1:22", "nobody@10.24.0.1"], "forwarding failed"),
    ],
    ids=str,
)
def test_the_aircrafts_key_does_nothing_else_on_the_ground(
    line: Line, arguments: list[str], told: str
) -> None:
    """No terminal, command or file, no way to other ports of the ground, no port but its own."""
    with line.tunnel():
        done = line.intruder(*arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    assert told in done.stderr


@as_root
def test_it_waits_for_the_ground_and_comes_back_after_a_cut(line: Line) -> None:
    line.ground.set_down("eth0")
    state = Path(f"/proc/{line.networkd}/root/run/systemd/netif/state")
    wait_until(lambda: "OPER_STATE=routable" not in state.read_text(), "networkd has noticed")
    with line.unit() as process:
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            wait_until(children.read_text, "it waits")
            (waiting,) = children.read_text().split()
            assert "wait-online" in Path(f"/proc/{waiting}/cmdline").read_text()
            line.ground.bring_up("eth0")
            wait_until(line.listens, "the tunnel is there")
            line.ground.set_down("eth0")
            cut = time.monotonic()
            said = process.communicate(timeout=DEAD + 5)[1]
            assert time.monotonic() - cut < DEAD + 1
            assert "Timeout, server 10.24.0.1 not responding" in said
            # Though it hears nothing of the end. It comes back by another address, perhaps.
            wait_until(lambda: not line.listens(), "the ground has freed the port", BACK)
        finally:
            line.ground.bring_up("eth0")
    with line.tunnel():
        assert line.engineer().returncode == 0


@as_root
@pytest.mark.parametrize(
    ("port", "told", "within"),
    [(CLOSED, "Connection refused", 2), (SILENT, "Connection timed out", 11)],
)
def test_it_does_not_hang_where_the_ground_does_not_answer(
    line: Line, port: int, told: str, within: int
) -> None:
    with line.unit(port=port) as process:
        command = Path(f"/proc/{process.pid}/cmdline")
        # It is empty when that has ended already.
        wait_until(lambda: Path(command.read_text().partition("\0")[0]).name in {"ssh", ""}, "ssh")
        started = time.monotonic()
        said = process.communicate(timeout=20)[1]
    assert process.returncode == 255
    assert told in said
    assert time.monotonic() - started < within


def test_the_drop_in_of_the_role_counts_more_than_the_one_that_units_share() -> None:
    """Both say RestartSec=, and systemd reads drop-ins by their names."""
    (own,) = re.findall(
        r"dest: /etc/systemd/system/ife-tunnel.service.d/(.*)",
        (ROOT / "roles/tunnel/tasks/main.yml").read_text(),
    )
    shared = [path.name for path in (ROOT / "units/ife-.service.d").iterdir()]
    assert own > max(shared)


# -- preflight ---------------------------------------------------------------------------------

TAKEN = PORT + 1
"""The port of another aircraft."""

HOST_KEY = f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 43} ground"
WRONG: dict[str, tuple[dict[str, object], str]] = {
    "name": ({"tunnel_host": "ground.example.com"}, "tunnel_host must be an IPv4 address"),
    "byte": ({"tunnel_host": "10.24.0.256"}, "tunnel_host must be an IPv4 address"),
    "line": ({"tunnel_host": "10.24.0.1\nA=b"}, "tunnel_host must be an IPv4 address"),
    "port": ({"tunnel_port": 65536}, "tunnel_port 1 to 65535"),
    "user": ({"tunnel_user": "-oProxyCommand=id"}, "tunnel_user the name of an account"),
    "remote": ({"tunnel_remote_port": 0}, "tunnel_remote_port must be the aircraft's own"),
    "text": ({"tunnel_remote_port": "many"}, "tunnel_remote_port"),
    "none": ({"tunnel_host_keys": []}, "tunnel_host_keys must be public keys"),
    "rsa": ({"tunnel_host_keys": [HOST_KEY, "ssh-rsa AAAA"]}, "tunnel_host_keys must be"),
    "away": ({"tunnel_key": "/nowhere"}, "tunnel_key must be the file of a private key"),
    "public": ({"tunnel_key": "engineer.pub"}, "tunnel_key must be the file of a private key"),
    "network": ({"network_interfaces": []}, "tunnel_host needs a network called ground"),
    "taken": ({"tunnel_remote_port": TAKEN}, "another host has"),
}
"""What is wrong with an aircraft, and what is told."""


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What was told of each aircraft that failed the role's preflight."""
    folder = tmp_path_factory.mktemp("preflight")
    _keys(folder)
    right = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "network_interfaces": [{"name": "cabin"}, {"name": "ground"}],
        "tunnel_host": "10.24.0.1",
        "tunnel_host_keys": [HOST_KEY],
        "tunnel_key": str(folder / "tunnel.key"),
    }
    hosts: dict[str, dict[str, object]] = {
        name: right | {"tunnel_remote_port": PORT + number} | wrong
        for number, (name, (wrong, _)) in enumerate(WRONG.items(), 2)
    }
    hosts["public"]["tunnel_key"] = str(folder / "engineer.pub")
    off = {"ansible_connection": "local", "tunnel_remote_port": TAKEN}
    hosts |= {"right": right | {"tunnel_remote_port": PORT}, "off": off}
    return told_by_preflight(
        folder, {name: host | {"checked": "tunnel"} for name, host in hosts.items()}
    )


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_variable_is_told(checked: dict[str, str], name: str) -> None:
    assert WRONG[name][1] in checked[name]


def test_right_variables_and_no_tunnel_at_all_pass(checked: dict[str, str]) -> None:
    assert set(checked) == set(WRONG)
