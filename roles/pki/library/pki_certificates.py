#!/usr/bin/python
"""Issues the certificates of an aircraft's server and seats, all of a kind in one go."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.pki_files import sync, write
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DOCUMENTATION = """
module: pki_certificates
author: The ife authors
short_description: Issues the certificates of an aircraft's server and seats
description:
  - For each name, C(<name>.crt) and C(<name>.key) in a folder, with the subject
    C(CN=<name>,OU=<registration>,O=<airline>) and an ECDSA key on the curve P-256.
  - C(<name>.crt) is the certificate followed by its issuer's, as an end of a TLS connection
    sends them.
  - What is there and right is kept. It is made anew, key and all, when it is missing, broken,
    about to end, of another issuer, or different from what is asked for, or when others can
    read the key.
options:
  directory:
    description: Where the files go. It must be there.
    type: path
    required: true
  names:
    description: The common names, which are the files' names too.
    type: list
    elements: str
    required: true
  purpose:
    description: Which end of a TLS connection the certificate is for.
    type: str
    choices: [client, server]
    required: true
  dns_names:
    description: DNS names, as subject alternative names.
    type: list
    elements: str
    default: []
  addresses:
    description: IP addresses, as subject alternative names.
    type: list
    elements: str
    default: []
  registration:
    description: The aircraft's.
    type: str
    required: true
  airline:
    description: The airline's name.
    type: str
    required: true
  issuer_certificate:
    description: The path of the issuer's certificate.
    type: path
    required: true
  issuer_key:
    description: The path of the issuer's key.
    type: path
    required: true
  issuer_passphrase:
    description: Of the issuer's key; empty when it has none.
    type: str
    default: ""
  days:
    description: How long a new certificate is valid.
    type: int
    required: true
  renew_days:
    description: A certificate that ends within these days is made anew.
    type: int
    required: true
attributes:
  check_mode:
    support: full
"""

EXAMPLES = """
- name: Issue the seats' certificates
  pki_certificates:
    directory: pki/seats
    names: [12A, 12C]
    purpose: client
    registration: EC-LAB
    airline: Example Airline
    issuer_certificate: pki/offline/airline.crt
    issuer_key: pki/offline/airline.key
    days: 730
    renew_days: 90
"""

RETURN = """
made:
  description: Why each certificate was made, by name.
  returned: always
  type: dict
  sample: {12C: it is missing}
"""

BACKDATED = timedelta(days=365)
"""A certificate is valid from before it was made: an aircraft's clock may be behind, by as much as
its image is older than the certificate."""

PURPOSES = {
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
}


@dataclass(frozen=True)
class Issuer:
    """The authority that signs."""

    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True)
class Request:
    """What every certificate of a run has, but for its name."""

    registration: str
    airline: str
    purpose: x509.ObjectIdentifier
    alternative_names: tuple[x509.GeneralName, ...]
    days: int
    renew_days: int

    def subject(self, name: str) -> x509.Name:
        """``CN=<name>,OU=<registration>,O=<airline>`` in RFC 4514's order, which is backwards."""
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.airline),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, self.registration),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )

    def extensions(self) -> Iterator[tuple[x509.ExtensionType, bool]]:
        """What the certificate may be used for, each with whether it is critical."""
        yield x509.BasicConstraints(ca=False, path_length=None), True
        yield x509.KeyUsage(True, *[False] * 8), True  # a digital signature and nothing else
        yield x509.ExtendedKeyUsage([self.purpose]), False
        if self.alternative_names:
            yield x509.SubjectAlternativeName(self.alternative_names), False


def fault(directory: Path, name: str, request: Request, issuer: Issuer) -> str | None:
    """Why the certificate that is there will not do; None if it will."""
    certificate_file, key_file = directory / f"{name}.crt", directory / f"{name}.key"
    try:
        text = certificate_file.read_bytes()
        certificate = x509.load_pem_x509_certificate(text)
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        extensions = {type(entry.value): entry.value for entry in certificate.extensions}
        certificate.verify_directly_issued_by(issuer.certificate)
    except FileNotFoundError:
        return "it is missing"
    except InvalidSignature:
        return "another authority issued it"
    except (ValueError, TypeError) as error:
        return f"it is broken or of another authority: {error}"
    if key.public_key() != certificate.public_key():
        return "the key is another's"
    if key_file.stat().st_mode & 0o077:
        return "others could read its key"
    if not text.endswith(issuer.pem):
        return "its issuer's certificate does not follow it"
    return difference(certificate, extensions, request.subject(name), request) or lateness(
        certificate, request.renew_days
    )


def difference(
    certificate: x509.Certificate,
    extensions: dict[type, x509.ExtensionType],
    subject: x509.Name,
    request: Request,
) -> str | None:
    """What the certificate says that is not asked for."""
    if certificate.subject != subject:
        return f"its subject is {certificate.subject.rfc4514_string()}"
    wanted = {type(value): value for value, _critical in request.extensions()}
    for kind in (*wanted, x509.SubjectAlternativeName):
        if extensions.get(kind) != wanted.get(kind):
            return f"it has another {kind.__name__}"
    return None


def lateness(certificate: x509.Certificate, renew_days: int) -> str | None:
    """Why the certificate is not valid for long enough."""
    now = datetime.now(UTC)
    if certificate.not_valid_before_utc > now:
        return f"it begins only on {certificate.not_valid_before_utc:%Y-%m-%d}"
    if certificate.not_valid_after_utc < now + timedelta(days=renew_days):
        return f"it ends on {certificate.not_valid_after_utc:%Y-%m-%d}"
    return None


def issue(directory: Path, name: str, request: Request, issuer: Issuer) -> None:
    """Make a key and a certificate.

    The key is written first: should the run end between the two, they do not match, and the
    next run makes both again.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC).replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(request.subject(name))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - BACKDATED, issuer.certificate.not_valid_before_utc))
        .not_valid_after(
            min(now + timedelta(days=request.days), issuer.certificate.not_valid_after_utc)
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.certificate.public_key()),
            critical=False,
        )
    )
    for extension, critical in request.extensions():
        builder = builder.add_extension(extension, critical=critical)
    certificate = builder.sign(issuer.key, hashes.SHA256())
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write(directory / f"{name}.key", key_pem, 0o600)
    certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)
    write(directory / f"{name}.crt", certificate_pem + issuer.pem, 0o644)


def load_issuer(certificate: str, key: str, passphrase: str) -> Issuer:
    """The authority.

    Raises:
        OSError: a file cannot be read.
        ValueError: one is broken, or the passphrase is wrong.
        TypeError: a passphrase is missing, or there is one too many.
    """
    return Issuer(
        x509.load_pem_x509_certificate(Path(certificate).read_bytes()),
        serialization.load_pem_private_key(
            Path(key).read_bytes(), password=passphrase.encode() or None
        ),
    )


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "names": {"type": "list", "elements": "str", "required": True},
            "purpose": {"type": "str", "choices": ["client", "server"], "required": True},
            "dns_names": {"type": "list", "elements": "str", "default": []},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "registration": {"type": "str", "required": True},
            "airline": {"type": "str", "required": True},
            "issuer_certificate": {"type": "path", "required": True},
            "issuer_key": {"type": "path", "required": True, "no_log": False},
            "issuer_passphrase": {"type": "str", "default": "", "no_log": True},
            "days": {"type": "int", "required": True},
            "renew_days": {"type": "int", "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    directory = Path(given["directory"])
    try:
        issuer = load_issuer(
            given["issuer_certificate"], given["issuer_key"], given["issuer_passphrase"]
        )
        request = Request(
            registration=given["registration"],
            airline=given["airline"],
            purpose=PURPOSES[given["purpose"]],
            alternative_names=(
                *map(x509.DNSName, given["dns_names"]),
                *(x509.IPAddress(ipaddress.ip_address(text)) for text in given["addresses"]),
            ),
            days=given["days"],
            renew_days=given["renew_days"],
        )
        organisations = issuer.certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        if [entry.value for entry in organisations] != [request.airline]:
            module.fail_json(
                f"{given['issuer_certificate']} is not of {request.airline}: each airline has an "
                "authority of its own, in a folder of its own"
            )
        end = issuer.certificate.not_valid_after_utc
        if end < datetime.now(UTC) + timedelta(days=request.renew_days):
            module.fail_json(
                f"{given['issuer_certificate']} ends on {end:%Y-%m-%d}, so what it signs would end "
                "too soon: remove it, run again, and bring every certificate to its aircraft"
            )
        made = {
            name: why
            for name in given["names"]
            if (why := fault(directory, name, request, issuer)) is not None
        }
        if made and not module.check_mode:
            for name in made:
                issue(directory, name, request, issuer)
            sync(directory)
    except (OSError, ValueError, TypeError) as error:
        module.fail_json(f"cannot issue certificates into {directory}: {error}")
    module.exit_json(changed=bool(made), made=made)


if __name__ == "__main__":
    main()
