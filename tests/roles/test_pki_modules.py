"""Which certificates and keys are kept, and which are made anew, and why."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from ruamel.yaml import YAML

from tests.roles.helpers import ROOT, load_module

certificates = load_module("pki_certificates")
signing_key = load_module("pki_signing_key")

SEAT = certificates.Request("EC-LAB", "Airline", certificates.PURPOSES["client"], (), 30, 10)
KEY = base64.urlsafe_b64encode(b"k" * 32).decode().rstrip("=")
OLD = base64.urlsafe_b64encode(b"o" * 32).decode().rstrip("=")
OLDER = base64.urlsafe_b64encode(b"p" * 32).decode().rstrip("=")


def test_a_run_a_year_is_enough() -> None:
    """As docs/runbook.md has it."""
    defaults = YAML(typ="safe").load(ROOT / "roles/pki/defaults/main.yml")
    shortest = min(defaults["pki_server_days"], defaults["pki_seat_days"])
    assert 366 < defaults["pki_renew_days"] < shortest


def _authority(days: int = 100) -> Any:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Airline")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=days))
    )
    return certificates.Issuer(builder.sign(key, hashes.SHA256()), key)


AUTHORITY = _authority()
OTHER = _authority()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a right certificate for 12C."""
    certificates.issue(tmp_path, "12C", SEAT, AUTHORITY)
    return tmp_path


def _fault(folder: Path, request: Any = SEAT, authority: Any = AUTHORITY) -> str | None:
    why: str | None = certificates.fault(folder, "12C", request, authority)
    return why


def test_a_right_certificate_is_kept(folder: Path) -> None:
    assert _fault(folder) is None


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda folder: (folder / "12C.crt").unlink(), "it is missing"),
        (lambda folder: (folder / "12C.key").unlink(), "it is missing"),
        (lambda folder: (folder / "12C.crt").write_text("rubbish"), "it is broken"),
        (lambda folder: (folder / "12C.key").write_bytes(b""), "it is broken"),
        (lambda folder: (folder / "12C.key").chmod(0o640), "others could read its key"),
        (
            lambda folder: shutil.copy(_another(folder, "12D") / "12D.key", folder / "12C.key"),
            "the key is another's",
        ),
        (
            lambda folder: shutil.copytree(
                _another(folder, "12D"),
                folder,
                dirs_exist_ok=True,
                copy_function=lambda source, to: shutil.copy(source, to.replace("12D", "12C")),
            ),
            "its subject is CN=12D,OU=EC-LAB,O=Airline",
        ),
        (
            lambda folder: (folder / "12C.crt").write_bytes(
                (folder / "12C.crt").read_bytes().removesuffix(AUTHORITY.pem)
            ),
            "its issuer's certificate does not follow it",
        ),
    ],
)
def test_a_damaged_certificate_is_made_anew(
    folder: Path, damage: Callable[[Path], object], why: str
) -> None:
    damage(folder)
    assert str(_fault(folder)).startswith(why)
    certificates.issue(folder, "12C", SEAT, AUTHORITY)
    assert _fault(folder) is None


def _another(folder: Path, name: str) -> Path:
    other = folder / "other"
    other.mkdir(exist_ok=True)
    certificates.issue(other, name, SEAT, AUTHORITY)
    return other


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (replace(SEAT, registration="EC-TWO"), "its subject is CN=12C,OU=EC-LAB,O=Airline"),
        (
            replace(SEAT, purpose=certificates.PURPOSES["server"]),
            "it has another ExtendedKeyUsage",
        ),
        (
            replace(SEAT, alternative_names=(x509.DNSName("cabin"),)),
            "it has another SubjectAlternativeName",
        ),
        (replace(SEAT, renew_days=31), "it ends on "),
    ],
)
def test_a_certificate_other_than_wanted_is_made_anew(folder: Path, wanted: Any, why: str) -> None:
    assert str(_fault(folder, wanted)).startswith(why)
    certificates.issue(folder, "12C", replace(wanted, days=60), AUTHORITY)
    assert _fault(folder, wanted) is None


def test_a_name_that_is_no_longer_wanted_is_taken_away(folder: Path) -> None:
    named = replace(SEAT, alternative_names=(x509.DNSName("cabin"),))
    certificates.issue(folder, "12C", named, AUTHORITY)
    assert _fault(folder) == "it has another SubjectAlternativeName"


def test_another_authoritys_certificate_is_made_anew(folder: Path) -> None:
    assert _fault(folder, authority=OTHER) == "another authority issued it"


def test_a_certificate_does_not_outlive_its_authority(tmp_path: Path) -> None:
    authority = _authority(days=20)
    certificates.issue(tmp_path, "12C", SEAT, authority)
    certificate = x509.load_pem_x509_certificate((tmp_path / "12C.crt").read_bytes())
    assert certificate.not_valid_after_utc == authority.certificate.not_valid_after_utc


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ("", [KEY]),
        (f"{KEY}\n", [KEY]),
        (f"{OLD}\n", [KEY, OLD]),
        (f"{KEY}\n{OLD}\n", [KEY, OLD]),
        (f"{OLD}\n{OLDER}\n", [KEY, OLD]),
        (f"rubbish\n{OLD}é\n{OLD}\n", [KEY, OLD]),
    ],
)
def test_the_seats_trust_the_key_and_the_one_before_it(there: str, wanted: list[str]) -> None:
    assert signing_key.trusted(KEY, there).splitlines() == wanted


def test_a_signing_key_that_is_no_secret_or_broken_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "command.key"
    assert signing_key.read_key(path) is None
    path.write_bytes(b"k" * 32)
    path.chmod(0o644)
    with pytest.raises(ValueError, match="no secret"):
        signing_key.read_key(path)
    path.chmod(0o600)
    assert signing_key.read_key(path) == b"k" * 32
    path.write_bytes(b"k" * 31)
    with pytest.raises(ValueError, match="31 bytes"):
        signing_key.read_key(path)
