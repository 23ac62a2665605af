"""A certificate authority of the tests' own, and what a player needs to start."""

from __future__ import annotations

import base64
import datetime as dt
import socket
import ssl
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from apps.common.protocol import FrameSigner
from apps.player.settings import PlayerSettings


class Authority:
    """Makes certificates in a folder: ``ca.crt``, and ``<name>.crt`` with ``<name>.key``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca_file = folder / "ca.crt"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])
        extensions = [x509.BasicConstraints(ca=True, path_length=0)]
        ca = self._certificate(self._name, self._key.public_key(), extensions)
        self.ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))

    def make(self, name: str) -> tuple[Path, Path]:
        """A certificate for `name`, good for 127.0.0.1 too, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, name),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "EC-LAB"),
            ]
        )
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        certificate = self._certificate(subject, key.public_key(), [names])
        certificate_file = self.folder / f"{name}.crt"
        key_file = self.folder / f"{name}.key"
        certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate_file, key_file

    def _certificate(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        extensions: Sequence[x509.ExtensionType],
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256())


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session")
def server_tls(authority: Authority) -> ssl.SSLContext:
    """A server that wants to see a seat's certificate, as nginx does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.make("server"))
    context.load_verify_locations(authority.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.fixture(scope="session")
def signer() -> FrameSigner:
    return FrameSigner(bytes(range(32)))


@pytest.fixture
def group() -> tuple[IPv4Address, int]:
    """A group and a port that no other test uses at the time."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return IPv4Address(f"239.192.{port // 256}.{port % 256}"), port


MakeSettings = Callable[..., PlayerSettings]


@pytest.fixture
def make_settings(
    tmp_path: Path,
    authority: Authority,
    signer: FrameSigner,
    group: tuple[IPv4Address, int],
) -> MakeSettings:
    """Settings of a seat, with all files that they name; keywords override."""
    keys = tmp_path / "command.keys"
    keys.write_text(base64.urlsafe_b64encode(signer.public_key).decode().rstrip("=") + "\n")

    def make(seat: str = "12C", **changes: object) -> PlayerSettings:
        state = tmp_path / f"state-{seat}"
        state.mkdir(exist_ok=True)
        certificate, key = authority.make(seat)
        values: dict[str, object] = {
            "registration": "EC-LAB",
            "seat": seat,
            "boot_id": "0f" * 16,
            "state_directory": state,
            "server_url": "https://127.0.0.1:1",
            "ca_file": authority.ca_file,
            "seat_certificate": certificate,
            "seat_key": key,
            "command_public_keys_file": keys,
            "multicast_interface": "lo",
            "multicast_source": "127.0.0.1",
            "multicast_group": group[0],
            "multicast_port": group[1],
            "pa_area": 2,
            "media_url": "http://127.0.0.1:1/media",
        }
        return PlayerSettings.model_validate(values | changes)

    return make
