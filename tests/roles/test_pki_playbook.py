"""playbooks/pki.yml makes what the protocol asks for, and leaves alone what is right."""

from __future__ import annotations

import stat
import subprocess
import time
from pathlib import Path

from nacl.signing import SigningKey

from apps.common.pa import Signer
from apps.common.protocol import FrameSigner
from apps.player.keys import read_keys
from tests.roles.helpers import AIRLINE, SEATS, SESAME, Pki, Run, load_module

SEATS_TASK = "Issue the seats' certificates"
SERVER_TASK = "Issue the server's certificate"


def _openssl(*arguments: str | Path) -> str:
    done = subprocess.run(
        ["openssl", *arguments], capture_output=True, text=True, timeout=10, check=False
    )
    return done.stdout + done.stderr


def _verify(pki: Pki, certificate: str, *options: str) -> str:
    folder = pki.directory
    return _openssl(
        "verify", "-x509_strict", *options,
        "-CAfile", folder / "root.crt", "-untrusted", folder / "airline.crt", folder / certificate,
    )  # fmt: skip


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_seat_has_a_certificate_that_openssl_takes_for_a_client(pki: Pki) -> None:
    assert sorted(p.name for p in (pki.directory / "seats").iterdir()) == sorted(
        f"{seat}.{kind}" for seat in SEATS for kind in ("crt", "key")
    )
    for seat in SEATS:
        certificate = f"seats/{seat}.crt"
        assert _verify(pki, certificate, "-purpose", "sslclient").endswith(": OK\n")
        assert "unsuitable certificate purpose" in _verify(
            pki, certificate, "-purpose", "sslserver"
        )
        subject = _openssl(
            "x509", "-in", pki.directory / certificate, "-noout", "-subject",
            "-nameopt", "RFC2253",
        )  # fmt: skip
        assert subject == f"subject=CN={seat},OU=EC-LAB,O={AIRLINE}\n"


def test_the_server_has_a_certificate_for_its_names_and_addresses(pki: Pki) -> None:
    server = ("server.crt", "-purpose", "sslserver")
    assert _verify(pki, *server, "-verify_hostname", "localhost").endswith(": OK\n")
    assert _verify(pki, *server, "-verify_ip", "127.0.0.1").endswith(": OK\n")
    assert "IP address mismatch" in _verify(pki, *server, "-verify_ip", "127.0.0.2")
    assert "unsuitable certificate purpose" in _verify(pki, "server.crt", "-purpose", "sslclient")


def test_certificates_are_valid_for_a_clock_that_is_a_year_behind(pki: Pki) -> None:
    then = ("-attime", str(int(time.time()) - 364 * 24 * 3600))
    for certificate in ("server.crt", "seats/1A.crt"):
        assert _verify(pki, certificate, *then).endswith(": OK\n")


def test_the_airlines_authority_speaks_for_no_other_airline(pki: Pki, tmp_path: Path) -> None:
    certificates = load_module("pki_certificates")
    airline = certificates.load_issuer(
        pki.authority / "airline.crt", pki.authority / "airline.key", SESAME
    )
    request = certificates.Request(
        "EC-LAB", "Other Airline", certificates.PURPOSES["client"], (), days=10, renew_days=1
    )
    certificates.issue(tmp_path, "1A", request, airline)
    assert "permitted subtree violation" in _verify(pki, str(tmp_path / "1A.crt"))


def test_no_secret_can_be_read_by_others(pki: Pki) -> None:
    secrets = [*pki.directory.rglob("*.key"), *pki.authority.glob("*.key")]
    secrets.append(pki.directory / "gate_ssh")
    # Of each seat; of the server, the gate, commands, the PA, usage, the authorities; and SSH.
    assert len(secrets) == len(SEATS) + 7 + 1
    assert {_mode(path) for path in secrets} == {0o600}
    assert _mode(pki.authority) == 0o700


def test_the_pa_key_is_what_pa_audio_and_the_seats_read(pki: Pki) -> None:
    signer = Signer((pki.directory / "pa.key").read_bytes())
    assert read_keys(pki.directory / "pa.pub") == [signer.public_key]


def test_the_command_key_is_what_seat_control_and_the_seats_read(pki: Pki) -> None:
    signer = FrameSigner((pki.directory / "command.key").read_bytes())
    assert read_keys(pki.directory / "command.pub") == [signer.public_key]


def test_the_gates_certificate_is_the_aircrafts_and_its_ssh_key_opensshs(pki: Pki) -> None:
    assert _verify(pki, "gate.crt", "-purpose", "sslclient").endswith(": OK\n")
    shown = _openssl(
        "x509", "-in", pki.directory / "gate.crt", "-noout", "-subject", "-nameopt", "RFC2253"
    )
    assert shown == f"subject=CN=gate,OU=EC-LAB,O={AIRLINE}\n"
    done = subprocess.run(
        ["ssh-keygen", "-y", "-f", pki.directory / "gate_ssh"],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    assert (pki.directory / "gate_ssh.pub").read_text() == f"{done.stdout.strip()} EC-LAB"


def test_the_usage_key_is_what_signs_and_what_the_hangar_reads(pki: Pki) -> None:
    key = SigningKey((pki.directory / "usage.key").read_bytes())
    assert read_keys(pki.directory / "usage.pub") == [bytes(key.verify_key)]


def test_a_second_run_changes_nothing(first_run: tuple[Pki, Run]) -> None:
    pki, run = first_run
    assert {SEATS_TASK, SERVER_TASK} <= run.changed
    before = _contents(pki.directory.parent)
    again = pki.run()
    assert (again.failed, again.changed) == (False, set())
    assert _contents(pki.directory.parent) == before


def test_what_is_wrong_is_made_anew_and_the_rest_is_kept(pki: Pki) -> None:
    seats = pki.directory / "seats"
    (seats / "1A.key").unlink()
    before = _contents(pki.directory)

    check = pki.run("--check", "--tags=aircraft")
    assert _contents(pki.directory) == before
    run = pki.run("--tags=aircraft")

    assert not run.failed, run.errors
    assert check.changed == run.changed == {SEATS_TASK}
    assert (
        check.results[SEATS_TASK]["made"]
        == run.results[SEATS_TASK]["made"]
        == {"1A": "it is missing"}
    )
    assert _verify(pki, "seats/1A.crt", "-purpose", "sslclient").endswith(": OK\n")
    del before[str(seats / "1A.crt")]
    assert before.items() <= _contents(pki.directory).items()


def test_an_authority_is_never_replaced(pki: Pki) -> None:
    before = _contents(pki.authority)
    wrong = pki.run("--tags=authorities", pki_authority_passphrase="not the right one")
    other = pki.run("--tags=aircraft", pki_airline="Another Airline")
    assert wrong.failed
    assert other.failed
    assert "is not of Another Airline" in other.errors[0]
    assert _contents(pki.authority) == before


def test_the_authoritys_keys_are_encrypted(first_run: tuple[Pki, Run]) -> None:
    pki, run = first_run
    assert SESAME not in run.output
    for name in ("root", "airline"):
        text = (pki.authority / f"{name}.key").read_text()
        assert text.startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")


def test_a_check_of_an_empty_folder_makes_nothing(pki: Pki, tmp_path: Path) -> None:
    empty = Pki(tmp_path / "EC-LAB", "EC-LAB", tmp_path / "offline", pki.layout)
    run = empty.run("--check")
    assert (run.failed, bool(run.changed)) == (False, True)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_layout_is_told_with_its_line(pki: Pki, tmp_path: Path) -> None:
    layout = tmp_path / "wrong.yml"
    layout.write_text(pki.layout.read_text().replace("letters: AC", "letters: AI"))
    new = Pki(tmp_path / "EC-LAB", "EC-LAB", tmp_path / "offline", layout)
    run = new.run()
    assert "wrong.yml:6: " in run.errors[0]
    assert not new.authority.exists()
