"""An aircraft and the Hangar in two network namespaces, with a poor line between them.

The Hangar has a real sshd, with rrsync as the forced command of the aircraft's key, and a folder
that is its repository. Needs root.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from nacl.signing import SigningKey
from pyroute2 import NetNS

from apps.common.testing import wait_until
from apps.content_sync.carry import Account, Wanted
from bench.namespace import Namespace
from bench.shaper import Counts, Order, Shaper

HANGAR, AIRCRAFT, ELSEWHERE = (IPv4Address(f"10.24.0.{number}") for number in (1, 2, 3))
INTERFACE = "ground0"
AIRLINE = "Example Airline"
HTTPS_PORT = 8443

POOR = Order(rate=5e6, delay=0.15, loss=0.02)
"""As many a gate is: 5 Mbit/s, 300 ms there and back, 2 % of packets vanish."""

_NUMBERS = itertools.count()


class World:
    """Both, joined; a context manager.

    Attributes:
        folder: for whatever there is; its path is short.
        repository: the Hangar's.
    """

    def __init__(self, order: Order = POOR) -> None:
        self._order = self._now = order
        self._stack = ExitStack()
        self._sshd: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _make(self) -> None:
        enter = self._stack.enter_context
        self.folder = Path(enter(tempfile.TemporaryDirectory(prefix="ife-")))
        self.folder.chmod(0o755)
        self.repository = self.folder / "hangar/repository"
        self.repository.mkdir(parents=True)
        number = next(_NUMBERS)
        self.hangar = enter(Namespace(f"h{number}"))
        self.aircraft = enter(Namespace(f"a{number}"))
        self.shaper = enter(Shaper(f"{self.aircraft.name}:{INTERFACE}", f"{self.hangar.name}:eth0"))
        self._tell(self._order)
        self._stack.callback(self._end)
        self.hangar.bring_up("lo")
        self.hangar.bring_up("eth0", f"{HANGAR}/24")
        self.aircraft.bring_up("lo")
        self.aircraft.bring_up(INTERFACE, f"{AIRCRAFT}/24")
        self._keys()
        certify(self.folder / "keys")
        self.allow()
        self.pin("hangar")
        self.start_sshd()

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _end(self) -> None:
        self.aircraft.kill_processes()
        self.hangar.kill_processes()
        if self._sshd is not None:
            self._sshd.wait(timeout=10)

    # -- the line -----------------------------------------------------------------------------

    def set(self, order: Order) -> None:
        """Have the line so."""
        self._order = order
        self._tell(order)

    def unplug(self) -> None:
        """Both ends lose their carrier."""
        self._tell(self._order.model_copy(update={"up": False}))

    def plug(self) -> None:
        """The line is there again."""
        self._tell(self._order)

    def carried(self) -> int:
        """Bytes that the line has carried, both ways."""
        counts = self._tell(self._now)
        return counts.there + counts.back

    def _tell(self, order: Order) -> Counts:
        self._now = order
        return self.shaper.set(order)

    def move(self) -> None:
        """The aircraft gets another address, and loses the one that it had."""
        with NetNS(self.aircraft.name) as route:
            (index,) = route.link_lookup(ifname=INTERFACE)
            for message in route.get_addr(family=socket.AF_INET, index=index):
                had = IPv4Address(message.get_attr("IFA_LOCAL"))
                new = ELSEWHERE if had == AIRCRAFT else AIRCRAFT
                route.addr("del", index=index, address=f"{had}/24")
                route.addr("add", index=index, address=f"{new}/24")

    # -- the Hangar ---------------------------------------------------------------------------

    def _keys(self) -> None:
        for name in ("hangar", "aircraft", "another"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", f"{name}.key"],
                cwd=self.folder,
                check=True,
                timeout=10,
            )
        (self.folder / "sshd.conf").write_text(
            f"ListenAddress {HANGAR}\nHostKey {self.folder}/hangar.key\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\nStrictModes no\n"
            # An account that every Debian has and that has a shell, which a forced command takes.
            "PermitRootLogin forced-commands-only\nPidFile none\n"
            # A bash that is not the outermost reads no .bashrc: root's may take its time.
            "SetEnv SHLVL=2\n"
            "ClientAliveInterval 5\nClientAliveCountMax 2\nMaxStartups 100:30:300\n"
        )

    def allow(self, key: str = "aircraft", folder: Path | None = None) -> None:
        """Have the Hangar let in this key, and no other, to read the repository, or this folder."""
        line = (self.folder / f"{key}.key.pub").read_text()
        allowed = f'restrict,command="rrsync -ro -no-lock {folder or self.repository}" {line}'
        (self.folder / "authorized_keys").write_text(allowed)

    def put(self, data: bytes) -> Wanted:
        """Have the Hangar publish an object."""
        wanted = Wanted(hashlib.sha256(data).hexdigest(), len(data))
        path = self.repository / wanted.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return wanted

    def pin(self, key: str) -> None:
        """Have the aircraft trust this host key, and no other."""
        text = (self.folder / f"{key}.key.pub").read_text()
        (self.folder / "known_hosts").write_text(f"hangar {text}")

    def account(self, bandwidth: int | None = None) -> Account:
        """As which the aircraft logs in."""
        return Account(
            HANGAR,
            22,
            "root",
            self.folder / "aircraft.key",
            self.folder / "known_hosts",
            INTERFACE,
            bandwidth,
        )

    def start_sshd(self) -> None:
        """Start it, and wait until it listens."""
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with (self.folder / "sshd.log").open("a") as log:
            self._sshd = self.hangar.run(
                subprocess.Popen,
                ["/usr/sbin/sshd", "-D", "-e", "-f", self.folder / "sshd.conf"],
                stderr=log,
                text=True,
            )
        wait_until(lambda: self.listens(22), "the Hangar's sshd listens")

    @contextlib.contextmanager
    def relay(self, port: int) -> Iterator[None]:
        """Who comes to the Hangar's HTTPS port, comes to a port of this machine's own."""
        server = self.hangar.run(socket.create_server, (str(HANGAR), HTTPS_PORT))
        with _Relay(server, port):
            yield

    def kill_hangar(self) -> None:
        """End all that runs there by SIGKILL."""
        self.hangar.kill_processes()
        if self._sshd is not None:
            self._sshd.wait(timeout=10)

    def listens(self, port: int) -> bool:
        """Whether somebody takes connections at this TCP port of the Hangar."""
        sockets = self.hangar.run(Path("/proc/thread-self/net/tcp").read_text)
        return f":{port:04X} 00000000:0000 0A" in sockets


def certify(folder: Path) -> None:
    """Make keys and certificates as the role pki does, of one root and of the airline `AIRLINE`.

    They are the Hangar's, an operator's (``anna``), and EC-LAB's: for TLS and for usage.
    """
    folder.mkdir()
    root_key = ec.generate_private_key(ec.SECP256R1())
    root_name = _name("root")
    root = _certificate(root_name, root_name, root_key, root_key).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    _write(folder / "root.crt", root.sign(root_key, hashes.SHA256()))
    for name, unit in (("hangar", "hangar"), ("anna", "operators"), ("gate", "EC-LAB")):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(_name(name, unit), root_name, key, root_key).add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(HANGAR), x509.DNSName("localhost")]),
            critical=False,
        )
        _write(folder / f"{name}.crt", certificate.sign(root_key, hashes.SHA256()))
        path = folder / f"{name}.key"
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        path.chmod(0o600)
    usage = SigningKey.generate()
    (folder / "usage.key").write_bytes(bytes(usage))
    public = base64.urlsafe_b64encode(bytes(usage.verify_key)).decode().rstrip("=")
    (folder / "usage.pub").write_text(f"{public}\n")


def _name(common: str, unit: str = "") -> x509.Name:
    names = [(NameOID.ORGANIZATION_NAME, AIRLINE), (NameOID.ORGANIZATIONAL_UNIT_NAME, unit)]
    names.append((NameOID.COMMON_NAME, common))
    return x509.Name([x509.NameAttribute(kind, name) for kind, name in names if name])


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _write(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(Encoding.PEM))


class _Relay:
    """Takes who comes to a listening socket to a port of this machine's own; a context manager."""

    def __init__(self, server: socket.socket, port: int) -> None:
        self._server = server
        self._port = port
        self._sockets = [server]
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            for sock in self._sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            thread.join(timeout=10)
        for sock in self._sockets:
            sock.close()

    def _accept(self) -> None:
        # Ends when the server is shut down.
        with contextlib.suppress(OSError):
            while True:
                near = self._server.accept()[0]
                self._sockets.append(near)
                far = socket.create_connection(("127.0.0.1", self._port))
                self._sockets.append(far)
                for pair in ((near, far), (far, near)):
                    thread = threading.Thread(target=_pump, args=pair)
                    self._threads.append(thread)
                    thread.start()


def _pump(source: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            to.sendall(data)
    with contextlib.suppress(OSError):
        to.shutdown(socket.SHUT_WR)
