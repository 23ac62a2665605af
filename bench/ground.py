"""The ground beside the bench's aircraft: the Hangar, its nginx, and its sshd for rsync.

The gate's cable is this machine's loopback interface; what opens the gate is weight on wheels
(`bench.ramp`). On the ground each aircraft has an account of its own for rsync; a workstation gets
none, so here it is whoever runs the bench, with a key that may run nothing but rrsync on the
repository.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
from pathlib import Path

from bench import pki, render, services
from bench.host import Host
from bench.instance import AIRLINE, REGISTRATION, Instance, Paths
from bench.people import write_private
from bench.preflight import find
from bench.supervise import Program

ROOT = Path(__file__).parent.parent
OPERATOR = "anna"
HOST = "127.0.0.1"
INTERFACE = "lo"
KBIT = 16_000
"""What content may take of the gate's link: as slow as to be watched."""


def certificates(instance: Instance) -> bool:
    """Have the role make the Hangar's keys; False when all were there."""
    folder = instance.paths.pki / "hangar"
    stamp = folder / "made"
    # The root that they lead to may be another by now.
    root = (instance.paths.pki / "root.crt").read_bytes()
    if pki.is_made(stamp, root):
        return False
    folder.mkdir(mode=0o700, exist_ok=True)
    passphrase = folder / "passphrase"
    if not passphrase.exists():
        write_private(passphrase, secrets.token_urlsafe(9).encode())
    variables = {
        "pki_directory": str(folder),
        "pki_airline": AIRLINE,
        "pki_authority_directory": str(instance.paths.pki / "offline"),
        "pki_operators": [OPERATOR],
        "pki_operator_passphrase": passphrase.read_text(),
        "pki_server_names": ["localhost"],
        "pki_server_addresses": [HOST],
    }
    pki.make(instance.paths, ROOT / "bench/hangar.yml", variables, stamp, root)
    return True


def write_settings(paths: Paths) -> dict[str, object]:
    """The Hangar's files; its environment."""
    keys = (paths.pki / "usage.pub").read_text().split()
    aircraft = {"registration": REGISTRATION, "type": "Airbus A330-300", "usage_keys": keys}
    fleet = paths.etc / "ife/fleet.json"
    fleet.write_text(json.dumps({"aircraft": [aircraft]}))
    return {
        "IFE_FLEET_FILE": fleet,
        "IFE_CONTENT_DIRECTORY": paths.ground / "repository",
        "IFE_DATABASE_URL": services.database_url(paths, "hangar", "ife-hangar"),
    }


def gate_settings(instance: Instance, credentials: Path) -> dict[str, object]:
    """What content_sync is told of the gate; its keys are in `credentials`."""
    paths = instance.paths
    host_key = (paths.pki / "hangar/ssh_host_ed25519_key.pub").read_text()
    known_hosts = paths.etc / "ife/hangar.known_hosts"
    known_hosts.write_text(f"hangar {host_key}")
    return {
        "IFE_HANGAR_ADDRESS": HOST,
        "IFE_HANGAR_SSH_PORT": instance.ssh_port,
        "IFE_HANGAR_USER": pwd.getpwuid(os.geteuid()).pw_name,
        "IFE_HANGAR_KNOWN_HOSTS": known_hosts,
        "IFE_HANGAR_URL": instance.hangar_url,
        "IFE_HANGAR_AUTHORITY": paths.pki / "root.crt",
        "IFE_GROUND_INTERFACE": INTERFACE,
        "IFE_GATE_BANDWIDTH": KBIT,
        "IFE_GATE_MINUTES": 5,
        "IFE_GATE_CERTIFICATE": credentials / "gate.crt",
        "IFE_GATE_KEY": credentials / "gate.key",
        "IFE_GATE_SSH_KEY": credentials / "gate_ssh.key",
        "IFE_USAGE_KEY": credentials / "usage.key",
    }


def programs(instance: Instance, host: Host) -> list[Program]:
    """The Hangar's nginx, and its sshd."""
    return [_nginx(instance, host), _sshd(instance, host)]


def _nginx(instance: Instance, host: Host) -> Program:
    paths = instance.paths
    temporary = paths.run / "hangar_nginx"
    temporary.mkdir(mode=0o755, exist_ok=True)
    hangar = paths.pki / "hangar"
    configuration = paths.etc / "hangar_nginx.conf"
    configuration.write_text(
        render.render(
            "hangar",
            "nginx.conf.j2",
            hangar_airline=AIRLINE,
            hangar_listen=f"{HOST}:{instance.hangar_port}",
            hangar_nginx_user=host.user("www-data"),
            hangar_nginx_pid_file=paths.run / "hangar_nginx.pid",
            hangar_nginx_temp_directory=temporary,
            hangar_certificate=hangar / "hangar.crt",
            hangar_certificate_key=hangar / "hangar.key",
            hangar_authority=hangar / "root.crt",
            hangar_socket=paths.run / "ife/hangar.sock",
        )
    )
    command = (services.program("nginx"), "-e", "stderr", "-c", str(configuration))
    return Program(name="hangar_nginx", argv=(*command, "-g", "daemon off;"), priority=2)


def _sshd(instance: Instance, host: Host) -> Program:
    paths = instance.paths
    key = (paths.pki / "gate_ssh.pub").read_text()
    authorized = paths.etc / "authorized_keys"
    repository = paths.ground / "repository"
    rrsync = find("rrsync")
    authorized.write_text(f'restrict,command="{rrsync} -ro -no-lock {repository}" {key}')
    configuration = paths.etc / "sshd.conf"
    configuration.write_text(
        f"ListenAddress {HOST}:{instance.ssh_port}\n"
        f"HostKey {paths.pki}/hangar/ssh_host_ed25519_key\n"
        f"AuthorizedKeysFile {authorized}\n"
        "AuthenticationMethods publickey\nPermitRootLogin forced-commands-only\n"
        # The bench's folder is in one where everybody may make others.
        "StrictModes no\nUsePAM no\nPidFile none\n"
        # A bash that is not the outermost reads no .bashrc: root's may take its time.
        "SetEnv SHLVL=2\n"
        "ClientAliveInterval 5\nClientAliveCountMax 2\n"
    )
    if host.as_root:
        # Its own, of which it wants nothing but that it is there (sshd(8)).
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    return Program(
        name="sshd", argv=(services.program("sshd"), "-D", "-e", "-f", str(configuration))
    )
