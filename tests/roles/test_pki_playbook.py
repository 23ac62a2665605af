"""playbooks/pki.yml makes what the protocol asks for, and leaves alone what is right."""

from __future__ import annotations

import base64
import shutil
import stat
import subprocess
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from apps.common.protocol import FrameSigner
from tests.roles.helpers import AIRLINE, SEATS, Pki, Run

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


def test_no_secret_can_be_read_by_others(pki: Pki) -> None:
    secrets = [*pki.directory.rglob("*.key"), *pki.authority.glob("*.key")]
    assert len(secrets) == len(SEATS) + 4
    assert {_mode(path) for path in secrets} == {0o600}
    assert _mode(pki.authority) == 0o700


def test_the_command_key_is_what_seat_control_and_the_seats_read(pki: Pki) -> None:
    signer = FrameSigner((pki.directory / "command.key").read_bytes())
    (line,) = (pki.directory / "command.pub").read_text().splitlines()
    assert base64.urlsafe_b64decode(line + "=") == signer.public_key


def test_a_second_run_changes_nothing(first_run: tuple[Pki, Run]) -> None:
    pki, run = first_run
    assert {SEATS_TASK, SERVER_TASK} <= run.changed
    before = _contents(pki.directory.parent)
    again = pki.run()
    assert (again.failed, again.changed) == (False, set())
    assert _contents(pki.directory.parent) == before


def test_what_is_wrong_is_made_anew_and_the_rest_is_kept(pki: Pki, other_pki: Pki) -> None:
    seats = pki.directory / "seats"
    (seats / "1A.key").unlink()
    (seats / "1C.crt").write_bytes((seats / "1C.crt").read_bytes()[:300])
    (seats / "2A.key").chmod(0o644)
    for kind in ("crt", "key"):
        shutil.copy(other_pki.directory / f"seats/2C.{kind}", seats / f"2C.{kind}")
    shutil.copy(seats / "3C.crt", seats / "3A.crt")
    before = _contents(pki.directory)

    check = pki.run("--check")
    assert _contents(pki.directory) == before
    run = pki.run()

    assert not run.failed, run.errors
    assert check.changed == run.changed == {SEATS_TASK}
    why = run.results[SEATS_TASK]["made"]
    assert check.results[SEATS_TASK]["made"] == why
    assert why.pop("1C").startswith("it is broken")
    assert why == {
        "1A": "it is missing",
        "2A": "others could read its key",
        "2C": f"its subject is CN=2C,OU=EC-TWO,O={AIRLINE}",
        "3A": "the key is another's",
    }
    for seat in SEATS:
        assert _verify(pki, f"seats/{seat}.crt", "-purpose", "sslclient").endswith(": OK\n")
    kept = {str(seats / f"3C.{kind}") for kind in ("crt", "key")}
    after = _contents(pki.directory)
    assert {name for name in kept if after[name] == before[name]} == kept


def test_what_ends_soon_or_is_another_authoritys_is_made_anew(pki: Pki, tmp_path: Path) -> None:
    folder = shutil.copytree(pki.directory.parent, tmp_path / "copy")
    copy = Pki(folder / "EC-LAB", "EC-LAB", folder / "offline", pki.layout)
    soon = copy.run(pki_renew_days=750, pki_seat_days=800, pki_server_days=740 + 20)
    assert soon.changed == {SEATS_TASK, SERVER_TASK}
    assert {why[:11] for why in soon.results[SEATS_TASK]["made"].values()} == {"it ends on "}

    shutil.rmtree(copy.authority)
    (copy.directory / "command.pub").write_text("A" * 43 + "\nnot a key\n")
    anew = copy.run()
    assert anew.results[SERVER_TASK]["made"] == {"server": "another authority issued it"}
    assert set(anew.results[SEATS_TASK]["made"]) == set(SEATS)
    assert _verify(copy, "seats/1A.crt").endswith(": OK\n")
    # Our own key first, then the one before it, and no third.
    public = Ed25519PrivateKey.from_private_bytes((copy.directory / "command.key").read_bytes())
    own = base64.urlsafe_b64encode(public.public_key().public_bytes_raw()).decode().rstrip("=")
    assert (copy.directory / "command.pub").read_text().split() == [own, "A" * 43]


def test_an_authority_is_never_replaced(pki: Pki) -> None:
    before = _contents(pki.authority)
    wrong = pki.run(pki_authority_passphrase="not the right one")
    other = pki.run(pki_airline="Another Airline")
    assert wrong.failed
    assert other.failed
    assert f"is not of {'Another Airline'}" in other.output
    assert _contents(pki.authority) == before


def test_the_authoritys_keys_are_encrypted_with_a_passphrase(pki: Pki, tmp_path: Path) -> None:
    copy = Pki(tmp_path / "EC-LAB", "EC-LAB", tmp_path / "offline", pki.layout)
    run = copy.run(pki_authority_passphrase="open sesame")
    assert not run.failed, run.errors
    assert "open sesame" not in run.output
    for name in ("root", "airline"):
        text = (copy.authority / f"{name}.key").read_text()
        assert text.startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert _verify(copy, "seats/1A.crt").endswith(": OK\n")


def test_a_check_of_an_empty_folder_makes_nothing(pki: Pki, tmp_path: Path) -> None:
    empty = Pki(tmp_path / "EC-LAB", "EC-LAB", tmp_path / "offline", pki.layout)
    run = empty.run("--check")
    assert (run.failed, bool(run.changed)) == (False, True)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_layout_is_told_with_its_line(pki: Pki, tmp_path: Path) -> None:
    layout = tmp_path / "wrong.yml"
    layout.write_text(pki.layout.read_text().replace("letters: AC", "letters: AI"))
    run = pki.run(pki_layout=str(layout))
    assert run.failed
    assert "wrong.yml:6" in run.output
