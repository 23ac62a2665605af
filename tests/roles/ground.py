"""The ground for tests: the Hangar's keys beside those of two aircraft, and its sshd."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from apps.common.testing import PostgresServer, is_open, wait_until
from bench.gate.hangar import Keys
from tests.roles.helpers import AIRLINE, ROOT, SESAME, Pki, ansible_playbook, render

PASSPHRASE = "open the hangar"  # noqa: S105 - of keys that are thrown away
ACCOUNT = "ife-ec-lab"

_PLAYBOOK = """\
- hosts: localhost
  connection: local
  gather_facts: false
  vars_files: ["{{ role }}/defaults/main.yml", "{{ role }}/vars/main.yml"]
  tasks:
    - name: Make the Hangar's keys
      ansible.builtin.include_role: {name: pki, tasks_from: hangar}
    - name: Say which aircraft there are
      ansible.builtin.template:
        src: "{{ role }}/templates/fleet.json.j2"
        dest: "{{ fleet_file }}"
        mode: "0644"
"""


@dataclass(frozen=True)
class Ground:
    """What the role pki made for the Hangar, and for each aircraft; and a fleet file of them."""

    hangar: Path
    aircraft: dict[str, Path]
    fleet_file: Path

    def certificate(self, name: str) -> Path | None:
        """One by whose it is, ``EC-LAB/gate``, without its ending; none where there is no name."""
        whose, _, path = name.partition("/")
        return {"hangar": self.hangar, **self.aircraft}[whose] / path if name else None

    def browser(self, url: str, certificate: str) -> httpx.Client:
        """A client that trusts the root, with a certificate as `certificate` finds it."""
        trust = ssl.create_default_context(cafile=self.hangar / "root.crt")
        if found := self.certificate(certificate):
            trust.load_cert_chain(found.with_suffix(".crt"), found.with_suffix(".key"))
        return httpx.Client(base_url=url, verify=trust, trust_env=False, timeout=20)

    @property
    def keys(self) -> Keys:
        """All of it, for `bench.gate.hangar`."""
        return Keys(AIRLINE, self.hangar, self.aircraft)


def make(folder: Path, *aircraft: Pki) -> Ground:
    """Have the playbook make the Hangar's keys."""
    playbook = folder / "hangar.yml"
    playbook.write_text(_PLAYBOOK)
    ground = Ground(
        folder / "hangar",
        {pki.registration: pki.directory for pki in aircraft},
        folder / "fleet.json",
    )
    variables = {
        "pki_directory": str(ground.hangar),
        "pki_airline": AIRLINE,
        "pki_operators": ["anna"],
        "pki_operator_passphrase": PASSPHRASE,
        "pki_authority_directory": str(aircraft[0].authority),
        "pki_authority_passphrase": SESAME,
        "role": str(ROOT / "roles/hangar"),
        "fleet_file": str(ground.fleet_file),
        "hangar_aircraft": [
            {"registration": pki.registration, "type": "", "pki_directory": str(pki.directory)}
            for pki in aircraft
        ],
    }
    done = ansible_playbook(playbook, "--extra-vars", json.dumps(variables))
    assert done.returncode == 0, done.stdout + done.stderr
    return ground


@dataclass(frozen=True)
class HangarDatabase:
    """The Hangar's database, and the server that it is in."""

    server: PostgresServer
    name: str

    @property
    def url(self) -> str:
        """Where the Hangar finds it."""
        return self.server.url(self.name, "ife-hangar")

    def run(self, sql: str) -> str:
        """As `PostgresServer.run`."""
        return self.server.run(self.name, sql)


@dataclass(frozen=True)
class SshClient:
    """EC-LAB's, to the Hangar's sshd."""

    port: int
    key: Path
    known_hosts: Path

    @property
    def _ssh(self) -> list[str]:
        return [
            *("ssh", "-F", "none", "-p", str(self.port), "-i", str(self.key)),
            *("-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "GlobalKnownHostsFile=none"),
            *("-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"),
            *("-o", "IdentitiesOnly=yes", "-l", ACCOUNT),
        ]

    def rsync(self, source: str, target: str) -> subprocess.CompletedProcess[str]:
        """Copy; a path of the Hangar begins with ``hangar:``."""
        places = [place.replace("hangar:", "127.0.0.1:", 1) for place in (source, target)]
        return _run("rsync", "--rsh", " ".join(self._ssh), *places)

    def ssh(self, *command: str, options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Ask for something else."""
        return _run(*self._ssh, *options, "127.0.0.1", *command)


@contextmanager
def sshd(ground: Ground, folder: Path, content: Path) -> Iterator[SshClient]:
    """`serve_content` on this machine, and EC-LAB's client for it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    known_hosts = folder / "known_hosts"
    public = (ground.hangar / "ssh_host_ed25519_key.pub").read_text()
    known_hosts.write_text(f"[127.0.0.1]:{port} {public}")
    with serve_content(ground, folder, content, "127.0.0.1", port):
        yield SshClient(port, ground.aircraft["EC-LAB"] / "gate_ssh", known_hosts)


@contextmanager
def serve_content(
    ground: Ground,
    folder: Path,
    content: Path,
    address: str,
    port: int,
    entering: Sequence[str] = (),
) -> Iterator[None]:
    """A real sshd with the role's configuration and keys, and an account as the role makes it.

    The account is in a mount namespace of sshd's own: this machine gets none.

    Args:
        ground: whose keys it has.
        folder: for its files.
        content: what may be read; so may each folder above it, by anybody.
        address: where it listens.
        port: of TCP.
        entering: what to put before a command to run it in the network where that address is.
    """
    (folder / "ife_aircraft").mkdir()
    shutil.copyfile(ground.aircraft["EC-LAB"] / "gate_ssh.pub", folder / "ife_aircraft" / ACCOUNT)
    host_key = folder / "ssh_host_ed25519_key"
    shutil.copyfile(ground.hangar / host_key.name, host_key)
    host_key.chmod(0o600)
    file = render(folder, "hangar", "sshd.conf.j2", hangar_content_directory=content)
    write_for_here(file, folder)
    for name, line in (
        ("passwd", f"{ACCOUNT}:x:64999:64999::/nonexistent:/bin/sh"),
        ("group", "ife-aircraft:x:64999:"),
        ("shadow", f"{ACCOUNT}:*:20000::::::"),
    ):
        (folder / name).write_text(f"{(Path('/etc') / name).read_text()}{line}\n")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    script = f"""
        for name in passwd group shadow; do mount --bind {folder}/$name /etc/$name; done
        exec /usr/sbin/sshd -D -e -f {file} -o PidFile=none -o StrictModes=no \\
            -o ListenAddress={address}:{port}
    """
    with (folder / "sshd.log").open("w") as log:
        command = [*entering, "unshare", "--mount", "sh", "-ec", script]
        process = subprocess.Popen(command, stderr=log)
    try:
        wait_until(lambda: is_open(address, port, entering), "sshd listens")
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


def write_for_here(file: Path, folder: Path) -> None:
    """Have this machine's sshd read what is for Debian 13's: keys in a folder, what it knows."""
    text = file.read_text().replace("/etc/ssh/", f"{folder}/")
    if not knows_penalties():
        text = re.sub("(?m)^PerSourcePenalties .*\n", "", text)
    file.write_text(text)


def sshd_told(file: Path, folder: Path) -> list[str]:
    """The settings, in small letters, of an sshd that has its keys in a folder (``sshd -T``)."""
    key = folder / "ssh_host_ed25519_key"
    assert _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)).returncode == 0
    write_for_here(file, folder)
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    done = _run("/usr/sbin/sshd", "-T", "-f", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.lower().splitlines()


def knows_penalties() -> bool:
    """Whether this machine's sshd penalises sources: Debian 13's does, Debian 12's does not."""
    told = re.search(r"OpenSSH_(\d+)\.(\d+)", _run("/usr/sbin/sshd", "-V").stderr)
    assert told is not None
    return (int(told[1]), int(told[2])) >= (9, 8)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
