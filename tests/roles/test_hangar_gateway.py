"""The real Hangar: nginx with the role's configuration, gunicorn, PostgreSQL, sshd; who gets in."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from dotenv import dotenv_values
from nacl.signing import SigningKey

from apps.common import gate, usage
from apps.common.gate import Heartbeat, Outcome, Space
from apps.common.testing import wait_until
from apps.common.usage import BatchHead, Sale
from apps.content_sync.hangar import HangarClient, HangarError, RefusedError
from apps.content_sync.pace import Pace
from apps.hangar import aircraft
from apps.hangar.settings import HangarSettings
from bench.gate.hangar import LOOPBACK, Hangar
from tests.roles.ground import PASSPHRASE, Ground, sshd
from tests.roles.helpers import render

SPOOFED = {"Ife-Aircraft": "EC-LAB", "Ife-Operator": "mallory", "Ife_Operator": "mallory"}

# The first of them has the certificates made, by three runs of playbooks.
pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def client(ground: Ground, hangar: Hangar) -> Iterator[HangarClient]:
    """The client of an aircraft, EC-LAB."""
    keys = ground.aircraft["EC-LAB"]
    pace = Pace(100_000_000)
    made = HangarClient(
        hangar.url, LOOPBACK, keys / "root.crt", keys / "gate.crt", keys / "gate.key", pace
    )
    with closing(made):
        yield made


def _heartbeat(registration: str = "EC-LAB", **more: object) -> Heartbeat:
    return Heartbeat.model_validate(
        {
            "registration": registration,
            "at": usage.now(),
            "boot_id": "a" * 32,
            "space": Space(free=1, total=2),
            **more,
        }
    )


def _batch(pki: Path, number: int = 1) -> bytes:
    key = SigningKey((pki / "usage.key").read_bytes())
    head = BatchHead(registration="EC-LAB", spool=uuid4(), number=number, kind="sale")
    sale = Sale(item="cola", quantity=1, amount=350, currency="EUR", payment="card")
    return usage.seal(key, head, [usage.line(sale)])


def test_an_aircraft_and_an_operator_meet(
    ground: Ground, hangar: Hangar, client: HangarClient
) -> None:
    """All the way: the aircraft's own client, nginx, the app, the operator's browser."""
    assert client.send_heartbeat(_heartbeat()).requests == ()
    with ground.browser(hangar.url, "hangar/operators/anna") as anna:
        # Another worker may have heard it than is asked: that one knows it within a second.
        wait_until(lambda: "online" in anna.get("/aircraft/EC-LAB").text, "it is online", every=0.1)
        asked = anna.post(
            "/aircraft/EC-LAB/requests",
            data={"kind": "send_logs"},
            headers={"Origin": hangar.url, "Sec-Fetch-Site": "same-origin"},
        )
        assert asked.status_code == 303
        wait_until(lambda: client.send_heartbeat(_heartbeat()).requests, "it is told", every=0.1)
        (request,) = client.send_heartbeat(_heartbeat()).requests
        assert request.kind == "send_logs"
        with ground.browser(hangar.url, "EC-LAB/gate") as lab:
            sent = lab.put(f"{gate.LOGS_PATH}/{request.id}", content=bytes(5_000_000))
            assert sent.status_code == 204
        done = Outcome(id=request.id, state="done")
        client.send_heartbeat(_heartbeat(outcomes=(done,)))
        wait_until(
            lambda: not client.send_heartbeat(_heartbeat()).requests, "no more is told", every=0.1
        )
        assert len(anna.get(f"/aircraft/EC-LAB/logs/{request.id}").content) == 5_000_000
    raw = _batch(ground.aircraft["EC-LAB"])
    assert client.put_batch(1, raw).again is False
    assert client.put_batch(1, raw).again is True


def test_refusals_reach_the_aircraft_with_their_kind(ground: Ground, client: HangarClient) -> None:
    with pytest.raises(RefusedError, match="signature") as refused:
        client.put_batch(1, _batch(ground.aircraft["EC-TWO"]))
    assert refused.value.slug == "forged"
    with pytest.raises(RefusedError) as refused:
        client.put_batch(1, bytes(1_200_000))
    assert refused.value.slug == "too-large"
    with pytest.raises(RefusedError) as refused:
        client.send_heartbeat(_heartbeat("EC-TWO"))
    assert refused.value.slug == "other-aircraft"


@pytest.mark.parametrize(
    ("certificate", "path", "status"),
    [
        ("EC-LAB/gate", "/", 403),
        ("EC-LAB/gate", "/aircraft/EC-LAB", 403),
        ("EC-LAB/gate", "/api/v1/fleet", 403),
        ("EC-LAB/seats/1A", "/", 403),
        ("EC-TWO/gate", "/", 403),
        ("hangar/operators/anna", "/", 200),
        ("hangar/operators/anna", "/healthz", 404),
        ("", "/", 401),
    ],
)
def test_pages_are_for_operators(
    ground: Ground, hangar: Hangar, certificate: str, path: str, status: int
) -> None:
    with ground.browser(hangar.url, certificate) as client:
        # What a client says of itself counts for nothing.
        assert client.get(path, headers=SPOOFED).status_code == status


@pytest.mark.parametrize(
    "certificate", ["EC-LAB/seats/1A", "hangar/operators/anna", "EC-TWO/gate", ""]
)
@pytest.mark.parametrize("path", [gate.HEARTBEATS_PATH, f"{gate.BATCHES_PATH}/1"])
def test_only_an_aircraft_speaks_for_an_aircraft(
    ground: Ground, hangar: Hangar, certificate: str, path: str
) -> None:
    method = "POST" if path == gate.HEARTBEATS_PATH else "PUT"
    with ground.browser(hangar.url, certificate) as client:
        answer = client.request(method, path, content=b"{}", headers=SPOOFED)
        assert answer.status_code in (401, 403)
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_certificate_of_another_root_is_none(
    ground: Ground, hangar: Hangar, tmp_path: Path
) -> None:
    stranger = tmp_path / "gate"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", "/O=Example Airline 2/OU=EC-LAB/CN=gate"),
            *("-keyout", stranger.with_suffix(".key"), "-out", stranger.with_suffix(".crt")),
        ],
        check=True,
        capture_output=True,
        timeout=10,
    )
    trust = ssl.create_default_context(cafile=ground.hangar / "root.crt")
    trust.load_cert_chain(stranger.with_suffix(".crt"), stranger.with_suffix(".key"))
    with httpx.Client(base_url=hangar.url, verify=trust, trust_env=False) as client:
        answer = client.post(gate.HEARTBEATS_PATH, content=_heartbeat().model_dump_json())
        assert answer.status_code == 403


def test_no_name_is_looked_up_to_reach_it(
    client: HangarClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unit may speak to its address alone, and so to nobody who knows names."""

    def look_up(host: str, *more: object, **also: object) -> list[Any]:
        assert host == str(LOOPBACK)
        return looked_up(host, *more, **also)  # type: ignore[arg-type]

    looked_up = socket.getaddrinfo
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", look_up)
        assert client.send_heartbeat(_heartbeat()).requests == ()


def test_an_aircraft_speaks_to_no_other_hangar(ground: Ground, hangar: Hangar) -> None:
    """One whose certificate leads to another root, or that is called otherwise."""
    keys = ground.aircraft["EC-LAB"]
    elsewhere = HangarClient(
        hangar.url.replace("localhost", "127.0.0.2"),
        LOOPBACK,
        keys / "root.crt",
        keys / "gate.crt",
        keys / "gate.key",
        Pace(None),
    )
    with closing(elsewhere), pytest.raises(HangarError, match="does not answer"):
        elsewhere.send_heartbeat(_heartbeat())
    system = Path(ssl.get_default_verify_paths().openssl_cafile)
    if system.exists():
        trusting = HangarClient(
            hangar.url, LOOPBACK, system, keys / "gate.crt", keys / "gate.key", Pace(None)
        )
        verifies = pytest.raises(HangarError, match="CERTIFICATE_VERIFY_FAILED")
        with closing(trusting), verifies:
            trusting.send_heartbeat(_heartbeat())


@pytest.mark.skipif(os.geteuid() != 0, reason="an account for an aircraft takes root rights")
def test_an_aircraft_reads_content_by_rsync_and_does_nothing_else(
    ground: Ground, tmp_path: Path
) -> None:
    """A real sshd with the role's configuration, for an account as the role makes it."""
    with tempfile.TemporaryDirectory(prefix="ife-") as top:
        folder = Path(top)
        folder.chmod(0o755)
        content = folder / "content"
        (content / "metadata").mkdir(parents=True)
        (content / "metadata/timestamp.json").write_text("{}")
        (folder / "outside").write_text("secret")
        with sshd(ground, folder, content) as aircraft:
            got = aircraft.rsync("hangar:metadata/timestamp.json", f"{tmp_path}/")
            assert got.returncode == 0, got.stderr
            assert (tmp_path / "timestamp.json").read_text() == "{}"
            # Out of its folder, into it, and whatever else there is.
            for outside in ("../outside", f"{folder}/outside", "metadata/../../outside"):
                assert aircraft.rsync(f"hangar:{outside}", f"{tmp_path}/").returncode != 0
            assert not (tmp_path / "outside").exists()
            pushed = aircraft.rsync(f"{tmp_path}/timestamp.json", "hangar:metadata/new.json")
            assert pushed.returncode != 0
            assert not (content / "metadata/new.json").exists()
            assert "uid" not in aircraft.ssh("id").stdout
            assert aircraft.ssh("id").returncode != 0
            assert aircraft.ssh().returncode != 0
            forwarded = aircraft.ssh(
                options=["-N", "-oExitOnForwardFailure=yes", "-R127.0.0.1:0:127.0.0.1:22"]
            )
            assert "remote port forwarding failed" in forwarded.stderr


def test_the_app_reads_what_the_role_writes(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in dotenv_values(render(tmp_path, "hangar", "hangar.env.j2")).items():
        assert value is not None
        monkeypatch.setenv(name, value)
    # What the unit adds.
    monkeypatch.setenv("IFE_STATE_DIRECTORY", str(tmp_path))
    assert HangarSettings.load().fleet_file == Path("/etc/ife/fleet.json")
    fleet = aircraft.load(ground.fleet_file)
    assert sorted(fleet) == ["EC-LAB", "EC-TWO"]
    key = SigningKey((ground.aircraft["EC-LAB"] / "usage.key").read_bytes())
    assert fleet["EC-LAB"].keys() == [key.verify_key]


def test_what_an_operators_browser_takes_is_the_certificate_and_its_issuers(
    ground: Ground,
) -> None:
    shown = subprocess.run(
        [
            *("openssl", "pkcs12", "-in", ground.hangar / "operators/anna.p12", "-nokeys"),
            *("-passin", f"pass:{PASSPHRASE}"),
        ],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    ).stdout
    assert "CN = anna" in shown
    assert shown.count("BEGIN CERTIFICATE") == 2
