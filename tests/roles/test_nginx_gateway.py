"""The real nginx with the role's configuration: who gets in, as whom, and what the rest is told."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from apps.common.testing import wait_until
from apps.seat_control import testing as seat_control
from tests.roles.helpers import AIRLINE, ROOT, SESAME, Pki, load_module, render

certificates = load_module("pki_certificates")

STATUS = "/api/v1/seats/1A/status"
REVOKED_SEAT = "2A"
SPOOFED = {
    "Ife-Seat": "3C",
    "Ife-Crew": "mallory",
    "Ife-Asked": "9999999999.000 600",
    "Ife_Seat": "3C",
    "Ife_Crew": "mallory",
    "Ife_Asked": "9999999999.000 600",
}
SESSION = {"Cookie": "session=anna"}

SHORT, LONG = "/api/v1/announcements/30/audio", "/api/v1/announcements/1800/audio"
RECORDINGS = {SHORT: 30 * 96_000, LONG: 1800 * 96_000}
"""Bytes of recordings of half a minute and of half an hour."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        if self.path == "/session/check":
            self._check_session()
        elif self.path == "/api/v1/events":
            self._events()
        elif self.path in RECORDINGS:
            self._recording(RECORDINGS[self.path])
        else:
            self._echo()

    def do_POST(self) -> None:
        self.do_GET()

    def _check_session(self) -> None:
        self.server.upstream.session_checks.append(dict(self.headers))
        cookie = self.headers.get("Cookie", "")
        self.send_response({"session=anna": 204, "session=forged": 403}.get(cookie, 401))
        if cookie == "session=anna":
            self.send_header("Ife-Crew", "anna")
        self.end_headers()

    def _events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b"data: one\n\n")
        self.wfile.flush()
        assert self.server.upstream.more.wait(10)
        self.wfile.write(b"data: two\n\n")

    def _recording(self, size: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        with suppress(OSError):  # its reader has gone
            self.wfile.write(bytes(size))
            self.server.upstream.given.set()

    def _echo(self) -> None:
        self.server.upstream.asked.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        asked = {
            "method": self.command,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": body.decode(),
        }
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(asked).encode())

    def log_message(self, *_: object) -> None:
        pass

    def address_string(self) -> str:
        return "nginx"


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, upstream: Upstream) -> None:
        super().__init__(str(upstream.path), _Handler)
        self.upstream = upstream


class Upstream:
    """An app behind nginx: a real HTTP server on a Unix socket, which answers what it was asked.

    ``/session/check`` knows a session, as crew_web does. ``/api/v1/events`` sends one event,
    and the next only when `more` is set. `given` is set when a recording was written whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.more = threading.Event()
        self.given = threading.Event()
        self.session_checks: list[Mapping[str, str]] = []
        self.asked: list[str] = []

    def start(self) -> None:
        """Listen."""
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        """Be gone, as an app that crashed."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.path.unlink()

    @contextmanager
    def gone(self) -> Iterator[None]:
        """For a while."""
        self.stop()
        try:
            yield
        finally:
            self.start()


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def problem(self) -> tuple[int, str]:
        """Status and type of the problem document (RFC 9457) that this must be."""
        assert self.headers["content-type"] == "application/problem+json"
        document = self.json
        assert document["status"] == self.status
        assert document["detail"]
        return self.status, document["type"].removeprefix("urn:ife:problem:")


@dataclass
class Gateway:
    """The running nginx, and clients for it."""

    folder: Path
    pki: Pki
    cabin_port: int
    crew_port: int
    media_port: int
    seat_control: Upstream
    crew_web: Upstream
    pa_audio: Upstream
    vlc_stream: Upstream
    configuration: Path = field(init=False)

    def context(self, certificate: Path | None = None) -> ssl.SSLContext:
        """TLS as a client that trusts the root, with a certificate of its own or without."""
        context = ssl.create_default_context(cafile=self.pki.directory / "root.crt")
        if certificate:
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        return context

    def cabin(self, certificate: Path | None = None) -> http.client.HTTPSConnection:
        """A seat's connection; as 1A of this aircraft it has the right certificate."""
        return http.client.HTTPSConnection(
            "localhost", self.cabin_port, timeout=10, context=self.context(certificate)
        )

    def crew(self, address: str = "127.0.0.1") -> http.client.HTTPSConnection:
        """The connection of a panel with this address."""
        return http.client.HTTPSConnection(
            "localhost",
            self.crew_port,
            timeout=10,
            source_address=(address, 0),
            context=self.context(),
        )

    def seat(self, name: str) -> Path:
        """The certificate of one of our seats."""
        return self.pki.directory / f"seats/{name}.crt"


def ask(
    connection: http.client.HTTPConnection,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    close: bool = True,
) -> Answer:
    """Make one request."""
    try:
        connection.request(method, path, body, dict(headers or {}))
        return answer_of(connection)
    finally:
        if close:
            connection.close()


def answer_of(connection: http.client.HTTPConnection) -> Answer:
    """The answer to the request that was made on this connection."""
    answer = connection.getresponse()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return Answer(answer.status, headers, answer.read())


def begin_post(connection: http.client.HTTPConnection, path: str) -> None:
    """Send the first byte of a body of 4,000, which then takes its time."""
    connection.putrequest("POST", path)
    connection.putheader("Content-Length", "4000")
    connection.endheaders(b"{")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(pki: Pki, connections: int | None = None) -> Iterator[Gateway]:
    """A real nginx before two upstreams; with so many connections, where that is said."""
    with ExitStack() as stack:
        top = stack.enter_context(tempfile.TemporaryDirectory(prefix="ife-"))
        # A short path, for the sockets; with a space in it, which must do no harm.
        folder = Path(top) / "a b"
        (folder / "static").mkdir(parents=True)
        (folder / "static/page.js").write_text("let page;\n" * 1000)
        (folder / "titles").mkdir()
        (folder / "titles/film-12").write_bytes(bytes(range(256)) * 4)
        (folder / "secret").write_text("not a title")
        running = Gateway(
            folder,
            pki,
            _free_port(),
            _free_port(),
            _free_port(),
            Upstream(folder / "seat_control.sock"),
            Upstream(folder / "crew_web.sock"),
            Upstream(folder / "pa_audio.sock"),
            Upstream(folder / "vlc_stream.sock"),
        )
        running.configuration = _configuration(running)
        if connections is not None:
            text, changes = re.subn(
                r"worker_connections \d+;",
                f"worker_connections {connections};",
                running.configuration.read_text(),
            )
            assert changes == 1
            running.configuration.write_text(text)
        for upstream in (
            running.seat_control,
            running.crew_web,
            running.pa_audio,
            running.vlc_stream,
        ):
            upstream.start()
            stack.callback(upstream.stop)
        nginx = subprocess.Popen(
            [_program(), "-e", "stderr", "-c", running.configuration, "-g", "daemon off;"],
            stderr=subprocess.PIPE,
        )
        stack.callback(nginx.communicate, timeout=10)
        stack.callback(nginx.terminate)
        wait_until(lambda: _listens(running.crew_port), "nginx listens")
        yield running


def _configuration(running: Gateway) -> Path:
    pki, folder = running.pki, running.folder
    return render(
        folder,
        "nginx",
        "nginx.conf.j2",
        registration=pki.registration,
        nginx_airline=AIRLINE,
        nginx_user="root" if os.geteuid() == 0 else "",
        nginx_group="root",
        nginx_worker_processes=1,
        nginx_pid_file=folder / "nginx.pid",
        nginx_error_log=folder / "error.log",
        nginx_temp_directory=folder,
        nginx_cache_directory=folder / "cache",
        nginx_certificate=pki.directory / "server.crt",
        nginx_certificate_key=pki.directory / "server.key",
        nginx_seats_authority=pki.directory / "root.crt",
        nginx_revoked_serials=[_serial(running.seat(REVOKED_SEAT))],
        nginx_cabin_listen=f"127.0.0.1:{running.cabin_port}",
        nginx_crew_listen=f"127.0.0.1:{running.crew_port}",
        nginx_seat_control_socket=running.seat_control.path,
        nginx_crew_web_socket=running.crew_web.path,
        nginx_pa_audio_socket=running.pa_audio.path,
        nginx_vlc_stream_socket=running.vlc_stream.path,
        nginx_media_listen=f"127.0.0.1:{running.media_port}",
        nginx_media_directory=folder / "titles",
        nginx_crew_static=folder / "static",
    )


def _serial(certificate: Path) -> str:
    """As `openssl x509 -noout -serial` prints it."""
    done = subprocess.run(
        ["openssl", "x509", "-noout", "-serial", "-in", certificate],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return done.stdout.strip().removeprefix("serial=")


@pytest.fixture(scope="module")
def gateway(pki: Pki) -> Iterator[Gateway]:
    """The nginx that most tests share."""
    with _running(pki) as running:
        yield running


def _program() -> str:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "nginx is not there: run `make install`"
    return program


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_nginx_has_nothing_to_say_of_the_configuration(gateway: Gateway) -> None:
    done = subprocess.run(
        [_program(), "-t", "-q", "-e", "stderr", "-c", gateway.configuration],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- the cabin ------------------------------------------------------------------------------


def test_a_seat_comes_in_as_itself_whatever_it_says(gateway: Gateway) -> None:
    answer = ask(gateway.cabin(gateway.seat("1A")), STATUS, "POST", b"{}", SPOOFED)
    asked = answer.json
    assert (asked["method"], asked["path"], asked["body"]) == ("POST", STATUS, "{}")
    assert asked["headers"]["ife-seat"] == "1A"
    made_up = {"ife-crew", "ife-asked", "ife_seat", "ife_crew", "ife_asked"}
    assert not made_up & set(asked["headers"])


def test_a_seat_keeps_its_connection(gateway: Gateway) -> None:
    connection = gateway.cabin(gateway.seat("1A"))
    assert ask(connection, STATUS, "POST", b"{}", close=False).status == 200
    used = connection.sock
    assert used is not None
    assert ask(connection, STATUS, "POST", b"{}", close=False).status == 200
    assert connection.sock is used
    connection.close()


def test_whoever_shows_no_certificate_is_refused(gateway: Gateway) -> None:
    answer = ask(gateway.cabin(), STATUS, "POST", b"{}", SPOOFED)
    assert answer.problem == (401, "no-certificate")


def test_a_seat_of_another_aircraft_is_nobody_here(gateway: Gateway, other_pki: Pki) -> None:
    answer = ask(
        gateway.cabin(other_pki.directory / "seats/1A.crt"), STATUS, "POST", b"{}", SPOOFED
    )
    assert "ife-seat" not in answer.json["headers"]


def test_a_revoked_certificate_is_nobodys(gateway: Gateway) -> None:
    answer = ask(gateway.cabin(gateway.seat(REVOKED_SEAT)), STATUS, "POST", b"{}", SPOOFED)
    assert "ife-seat" not in answer.json["headers"]


def test_the_servers_certificate_is_no_clients(gateway: Gateway) -> None:
    answer = ask(gateway.cabin(gateway.pki.directory / "server.crt"), STATUS, "POST", b"{}")
    assert answer.problem == (403, "wrong-certificate")


@pytest.fixture
def issue_from(tmp_path: Path) -> Callable[[Any], Path]:
    """Has an authority issue a certificate for our own seat 1A."""

    def issue(issuer: Any) -> Path:
        request = certificates.Request(
            "EC-LAB", AIRLINE, certificates.PURPOSES["client"], (), days=10, renew_days=1
        )
        certificates.issue(tmp_path, "1A", request, issuer)
        return tmp_path / "1A.crt"

    return issue


def _authority(name: str, signer: Any = None) -> Any:
    """An authority of its own; below the root where `signer` is that."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, name),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name} aircraft"),
        ]
    )
    permitted = [x509.DirectoryName(x509.Name([next(iter(subject))]))]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.certificate.subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
        .sign(signer.key if signer else key, hashes.SHA256())
    )
    return certificates.Issuer(certificate, key)


def test_an_authority_of_somebody_else_is_not_believed(
    gateway: Gateway, issue_from: Callable[[Any], Path]
) -> None:
    forged = issue_from(_authority(AIRLINE))
    answer = ask(gateway.cabin(forged), STATUS, "POST", b"{}")
    assert answer.problem == (403, "wrong-certificate")


def test_another_airline_of_the_same_root_cannot_speak_for_us(
    gateway: Gateway, issue_from: Callable[[Any], Path]
) -> None:
    folder = gateway.pki.authority
    root = certificates.load_issuer(folder / "root.crt", folder / "root.key", SESAME)
    renewed = issue_from(_authority(AIRLINE, root))
    answer = ask(gateway.cabin(renewed), STATUS, "POST", b"{}")
    assert answer.json["headers"]["ife-seat"] == "1A"
    forged = issue_from(_authority("Other Airline", root))
    answer = ask(gateway.cabin(forged), STATUS, "POST", b"{}")
    assert answer.problem == (403, "wrong-certificate")


def test_a_certificate_that_has_ended_is_refused(gateway: Gateway, tmp_path: Path) -> None:
    folder = gateway.pki.authority
    airline = certificates.load_issuer(folder / "airline.crt", folder / "airline.key", SESAME)
    request = certificates.Request(
        "EC-LAB", AIRLINE, certificates.PURPOSES["client"], (), days=0, renew_days=0
    )
    certificates.issue(tmp_path, "1A", request, airline)
    wait_until(lambda: certificates.lateness(_load(tmp_path / "1A.crt"), 0), "it ends")
    answer = ask(gateway.cabin(tmp_path / "1A.crt"), STATUS, "POST", b"{}")
    assert answer.problem == (403, "wrong-certificate")


def _load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/v1/cabin",
        "/api/v1/commands",
        "/api/v1/events",
        "/api/v1/seats/1A",
        "/api/v1/seats/1I/status",
        "/api/v1/seats/001A/status",
        "/api/v1/seats/1A/status/",
        "/api/v1/seats/1A/../../commands",
        "/_problem/malformed",
        "/static/page.js",
    ],
)
def test_a_seat_gets_nowhere_else(gateway: Gateway, path: str) -> None:
    answer = ask(gateway.cabin(gateway.seat("1A")), path, "POST", b"{}")
    assert answer.problem == (404, "not-found")


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/cabin/../seats/1A/status",
        "/api/v1/seats/%31A/status",
        "//api//v1/seats/1A/status",
        f"{STATUS}?crew=1",
    ],
)
def test_what_is_passed_on_is_what_was_checked(gateway: Gateway, path: str) -> None:
    assert ask(gateway.cabin(gateway.seat("1A")), path, "POST", b"{}").json["path"] == STATUS


def test_a_status_is_posted(gateway: Gateway) -> None:
    assert ask(gateway.cabin(gateway.seat("1A")), STATUS).problem == (405, "method-not-allowed")


def test_a_large_status_is_refused(gateway: Gateway) -> None:
    connection = gateway.cabin(gateway.seat("1A"))
    assert ask(connection, STATUS, "POST", b"x" * 4096).status == 200
    assert ask(connection, STATUS, "POST", b"x" * 4097).problem == (413, "too-large")


def test_what_is_no_http_is_refused(gateway: Gateway) -> None:
    with (
        socket.create_connection(("127.0.0.1", gateway.cabin_port), timeout=10) as plain,
        gateway.context(gateway.seat("1A")).wrap_socket(
            plain, server_hostname="localhost"
        ) as connection,
    ):
        connection.sendall(b"POST /api/v1/seats/1A/status HTTP/1.1\r\nContent-Length: x\r\n\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        assert Answer(answer.status, headers, answer.read()).problem == (400, "malformed")


def test_a_seat_that_floods_disturbs_itself_only(gateway: Gateway) -> None:
    refused: list[Answer] = []
    with closing(gateway.cabin(gateway.seat("2A"))) as flooding:
        # A slow machine takes its time for those that it accepts.
        for _ in range(1000):
            answer = ask(flooding, "/api/v1/seats/2A/status", "POST", b"{}", close=False)
            if answer.status == 429:
                refused.append(answer)
            if len(refused) > 20:
                break
    assert len(refused) > 20
    assert refused[0].problem == (429, "too-many-requests")
    other = ask(gateway.cabin(gateway.seat("2C")), "/api/v1/seats/2C/status", "POST", b"{}")
    assert other.json["headers"]["ife-seat"] == "2C"


def test_a_certificate_has_four_requests_under_way_at_most(gateway: Gateway) -> None:
    path = "/api/v1/seats/3C/status"
    slow = [gateway.cabin(gateway.seat("3C")) for _ in range(4)]
    for connection in slow:
        begin_post(connection, path)
    fifth = ask(gateway.cabin(gateway.seat("3C")), path, "POST", b"{}")
    assert fifth.problem == (429, "too-many-requests")
    slow[0].send(b" " * 3999)
    assert answer_of(slow[0]).json["headers"]["ife-seat"] == "3C"
    assert ask(slow[0], path, "POST", b"{}").status == 200
    for connection in slow:
        connection.close()


def test_a_seat_with_slow_requests_leaves_connections_for_the_others(pki: Pki) -> None:
    with _running(pki, connections=40) as gateway, ExitStack() as stack:
        slow = [gateway.cabin(gateway.seat("1A")) for _ in range(60)]
        for connection in slow:
            stack.callback(connection.close)
            with suppress(OSError):
                begin_post(connection, STATUS)

        def other_is_answered() -> bool:
            # Without a socket are those that were not even let in.
            for connection in slow:
                with suppress(OSError):
                    if connection.sock is not None:
                        connection.sock.sendall(b" ")
            with suppress(OSError):
                answer = ask(gateway.cabin(gateway.seat("2A")), STATUS, "POST", b"{}")
                return answer.status == 200
            return False

        wait_until(other_is_answered, "another seat is answered", 8)
        assert ask(gateway.crew(), "/").status == 200


SEATS_ASK_FOR = ("/api/v1/channels", "/api/v1/announcements", "/api/v1/announcements/17/audio")


@pytest.mark.parametrize("path", SEATS_ASK_FOR)
def test_a_seat_asks_for_channels_and_announcements(gateway: Gateway, path: str) -> None:
    answer = ask(gateway.cabin(gateway.seat("1A")), path, headers=SPOOFED)
    assert answer.json["path"] == path
    assert answer.json["headers"]["ife-seat"] == "1A"
    assert not {"ife-crew", "ife-asked"} & set(answer.json["headers"])


@pytest.mark.parametrize("path", SEATS_ASK_FOR)
def test_who_is_no_seat_of_ours_is_not_told_of_them(gateway: Gateway, path: str) -> None:
    certificate = gateway.seat(REVOKED_SEAT)
    refused = ask(gateway.cabin(certificate), path)
    assert refused.problem == (403, "wrong-certificate")
    assert ask(gateway.cabin(), path).problem == (401, "no-certificate")
    posted = ask(gateway.cabin(gateway.seat("1A")), path, "POST", b"{}")
    assert posted.problem == (405, "method-not-allowed")


@pytest.mark.parametrize(
    ("path", "app"),
    [
        ("/api/v1/pa/listen", "pa_audio"),
        ("/api/v1/announcements/17/audio", "pa_audio"),
        ("/api/v1/channels/channel-news/picture", "vlc_stream"),
    ],
)
def test_the_crew_hear_and_see_what_the_seats_do(gateway: Gateway, path: str, app: str) -> None:
    answer = ask(gateway.crew(), path, headers=SESSION | SPOOFED)
    assert (answer.json["path"], answer.json["headers"]["ife-crew"]) == (path, "anna")
    assert "cookie" not in answer.json["headers"]
    assert ask(gateway.crew(), path).problem == (401, "no-crew")
    upstream: Upstream = getattr(gateway, app)
    with upstream.gone():
        assert ask(gateway.crew(), path, headers=SESSION).problem == (502, "unavailable")


def test_few_seats_and_few_of_the_crew_read_recordings_at_a_time(gateway: Gateway) -> None:
    with ExitStack() as stack:

        def begin(connection: http.client.HTTPSConnection) -> None:
            stack.callback(connection.close)
            connection.request("GET", LONG, headers=SESSION)
            # Its head alone: the rest of it waits on its way.
            assert connection.sock.recv(12) == b"HTTP/1.1 200"

        for seat in ("1A", "1C"):
            for _ in range(4):
                begin(gateway.cabin(gateway.seat(seat)))
        other = gateway.seat("3A")
        refused = ask(gateway.cabin(other), "/api/v1/announcements/17/audio")
        assert refused.problem == (429, "too-many-requests")
        assert ask(gateway.cabin(other), "/api/v1/announcements").status == 200
        for _ in range(4):
            begin(gateway.crew("127.0.0.8"))
        fifth = ask(gateway.crew("127.0.0.9"), LONG, headers=SESSION)
        assert fifth.problem == (429, "too-many-requests")
    wait_until(
        lambda: all(
            ask(gateway.cabin(gateway.seat(seat)), "/api/v1/announcements/17/audio").status == 200
            for seat in ("1A", "1C", "3A")
        ),
        "their places are free again",
        every=0.1,
    )


def test_pa_audio_is_asked_for_its_list_once_a_second_by_all_seats_together(
    gateway: Gateway,
) -> None:
    path, asked = "/api/v1/announcements", gateway.pa_audio.asked

    def list_for(seat: str) -> int:
        return ask(gateway.cabin(gateway.seat(seat)), path).status

    asked.clear()
    began = time.monotonic()
    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(list_for, 4 * ("1A", "1C", "3A"))) == {200}
    assert asked.count(path) <= 1 + (time.monotonic() - began)
    before = asked.count(path)
    wait_until(
        lambda: list_for("1A") == 200 and asked.count(path) > before,
        "it is asked again",
        3,
        every=0.1,
    )


def test_who_reads_a_recording_slowly_holds_nothing_of_pa_audio(gateway: Gateway) -> None:
    gateway.pa_audio.given.clear()
    connection = gateway.cabin(gateway.seat("3A"))
    connection.request("GET", SHORT)
    assert gateway.pa_audio.given.wait(5)
    connection.close()


def media(gateway: Gateway, path: str, method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.media_port, timeout=10)
    return ask(connection, path, method, headers=headers)


def test_a_title_is_read_from_where_the_passenger_jumps_to(gateway: Gateway) -> None:
    assert media(gateway, "/media/film-12").body == bytes(range(256)) * 4
    part = media(gateway, "/media/film-12", Range="bytes=100-103")
    assert (part.status, part.body) == (206, bytes([100, 101, 102, 103]))


@pytest.mark.parametrize(
    "path",
    ["/", "/media/", "/media/film-13", "/media/../secret", "/media/%2e%2e/secret", "/secret"],
)
def test_nothing_but_titles_is_given_away(gateway: Gateway, path: str) -> None:
    assert media(gateway, path).status in {400, 404}


def test_titles_are_only_read(gateway: Gateway) -> None:
    assert media(gateway, "/media/film-12", "PUT").status == 403


@pytest.mark.parametrize("sent", [b"", b"POST /api/v1/seats"], ids=["nothing", "a part"])
def test_a_seat_that_does_not_ask_is_cut_soon(gateway: Gateway, sent: bytes) -> None:
    """Within 3 s; a timeout of the test's own is an error."""
    connection = gateway.cabin(gateway.seat("1A"))
    connection.timeout = 6
    connection.connect()
    connection.sock.sendall(sent)
    assert _is_cut(connection)


def test_a_status_that_stalls_is_cut_soon(gateway: Gateway) -> None:
    """After 2 s without a byte of it."""
    connection = gateway.cabin(gateway.seat("1A"))
    connection.timeout = 6
    begin_post(connection, STATUS)
    assert _is_cut(connection)


def _is_cut(connection: http.client.HTTPSConnection) -> bool:
    try:
        return connection.sock.recv(1) == b""
    except (ConnectionResetError, ssl.SSLEOFError):
        return True
    finally:
        connection.close()


def test_a_status_that_meets_the_end_of_a_kept_connection_is_sent_again(gateway: Gateway) -> None:
    """As when seat control restarts."""
    connection = gateway.cabin(gateway.seat("3A"))
    path = gateway.seat_control.path
    with gateway.seat_control.gone(), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        server = threading.Thread(target=_answer_but_the_second, args=(listener,))
        server.start()
        for _ in range(2):
            answer = ask(connection, "/api/v1/seats/3A/status", "POST", b"{}", close=False)
            assert (answer.status, answer.body) == (200, b"")
        server.join(10)
        path.unlink()
    connection.close()


def _answer_but_the_second(listener: socket.socket) -> None:
    """Answer a request, end its connection when the next comes, and answer that on a new one."""
    listener.settimeout(10)
    kept, _ = listener.accept()
    with kept:
        kept.recv(4096)
        kept.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        kept.recv(4096)
    new, _ = listener.accept()
    with new:
        new.recv(4096)
        new.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.timeout(120)
def test_a_restart_of_seat_control_loses_no_status(gateway: Gateway, tmp_path: Path) -> None:
    """Its socket stays open meanwhile, as systemd holds it, and nginx waits there."""

    def end(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        process.wait(10)

    path = gateway.seat_control.path
    server = f"localhost:{gateway.cabin_port}"
    reporting = [sys.executable, "-m", "tests.vm.reporting", server]
    with (
        gateway.seat_control.gone(),
        ExitStack() as stack,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind(str(path))
        stack.callback(path.unlink)
        listener.listen(1024)
        running = _seat_control(tmp_path, listener)
        stack.callback(lambda: end(running))
        with subprocess.Popen(
            [*reporting, str(gateway.pki.directory), "1A", "1C", "3A", "3C"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as seats:
            assert seats.stdout is not None
            assert seats.stdout.readline() == "reporting\n"
            for _ in range(2):
                end(running)
                running = _seat_control(tmp_path, listener)
                # Another seat waits until it is there, as nginx does.
                another = gateway.cabin(gateway.seat("2C"))
                another.timeout = 40
                assert ask(another, STATUS, "POST", b"{}").status == 403
            told = json.loads(seats.communicate(timeout=20)[0])
    assert told["failures"] == {}
    assert min(told["answered"].values()) >= 3


def _seat_control(folder: Path, listener: socket.socket) -> subprocess.Popen[bytes]:
    """The app, as the bench starts it, and systemd."""
    launch = ["-m", "bench.launch", "--socket", "--pid-file", str(folder / "pid"), "--"]
    return subprocess.Popen(
        [sys.executable, *launch, *seat_control.GUNICORN, "apps.seat_control.asgi:app"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **seat_control.variables(folder)},
        stdin=listener.fileno(),
        stderr=subprocess.DEVNULL,
    )


def test_a_seat_is_told_when_seat_control_is_away(gateway: Gateway) -> None:
    connection = gateway.cabin(gateway.seat("3A"))
    with gateway.seat_control.gone():
        answer = ask(connection, "/api/v1/seats/3A/status", "POST", b"{}", close=False)
        assert answer.problem == (502, "unavailable")
    answer = ask(connection, "/api/v1/seats/3A/status", "POST", b"{}")
    assert answer.json["headers"]["ife-seat"] == "3A"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_older_players_may_speak_tls_1_2(gateway: Gateway, version: ssl.TLSVersion) -> None:
    context = gateway.context(gateway.seat("1A"))
    context.maximum_version = version
    connection = http.client.HTTPSConnection(
        "localhost", gateway.cabin_port, timeout=10, context=context
    )
    assert ask(connection, STATUS, "POST", b"{}").json["headers"]["ife-seat"] == "1A"


# -- the crew -------------------------------------------------------------------------------


def test_the_crews_page_is_told_nothing_that_its_reader_made_up(gateway: Gateway) -> None:
    made_up = SPOOFED | {"X-Forwarded-For": "10.1.2.3"}
    asked = ask(gateway.crew(), "/login?next=1", headers=made_up).json
    assert asked["path"] == "/login?next=1"
    assert asked["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert asked["headers"]["host"] == f"localhost:{gateway.crew_port}"
    assert not {"ife-seat", "ife-crew", "ife_seat", "ife_crew"} & set(asked["headers"])


@pytest.mark.parametrize(
    ("path", "seconds"), [("/commands", 4), ("/session", 60), ("/api/v1/commands", 60)]
)
def test_it_is_told_when_the_crew_asked_and_how_long_they_wait(
    gateway: Gateway, path: str, seconds: int
) -> None:
    """Their patience begins when nginx has the request, not when it passes it on."""
    connection = gateway.crew()
    began = time.time()
    connection.putrequest("POST", path)
    for name, value in (SPOOFED | SESSION | {"Content-Length": "2"}).items():
        connection.putheader(name, value)
    connection.endheaders(b"{")
    time.sleep(1)
    connection.send(b"}")
    asked, waited_for = answer_of(connection).json["headers"]["ife-asked"].split(" ")
    connection.close()
    assert abs(float(asked) - began) < 0.9
    assert waited_for == str(seconds)


def test_the_crews_api_needs_a_session(gateway: Gateway) -> None:
    assert ask(gateway.crew(), "/api/v1/cabin", headers=SPOOFED).problem == (401, "no-crew")
    assert ask(gateway.crew(), "/api/v1/events", headers=SPOOFED).problem == (401, "no-crew")
    forged = {"Cookie": "session=forged"}
    answer = ask(gateway.crew(), "/api/v1/commands", "POST", b"{}", forged)
    assert answer.problem == (403, "forbidden")


def test_seat_control_is_told_who_of_the_crew_asks(gateway: Gateway) -> None:
    gateway.crew_web.session_checks.clear()
    path = "/api/v1/commands?dry=1"
    asked = ask(gateway.crew(), path, "POST", b'{"all":true}', SPOOFED | SESSION).json
    assert (asked["method"], asked["path"], asked["body"]) == ("POST", path, '{"all":true}')
    assert asked["headers"]["ife-crew"] == "anna"
    # Neither a seat, nor anybody else, nor the secret of the session.
    assert not {"ife-seat", "ife_seat", "ife_crew", "ife_asked", "cookie"} & set(asked["headers"])
    (check,) = gateway.crew_web.session_checks
    assert (check["X-Original-Method"], check["X-Original-URI"]) == ("POST", path)
    assert not {"Content-Length", "Ife-Crew", "Ife-Seat", "Ife-Asked"} & set(check)


def test_the_session_check_cannot_be_asked_by_its_inner_name(gateway: Gateway) -> None:
    assert ask(gateway.crew(), "/_session", headers=SESSION).problem == (404, "not-found")


@pytest.mark.parametrize("path", [STATUS, "/api/v1/%73eats/1A/status", "/api/v2/cabin", "/api/"])
def test_the_crew_does_not_report_for_seats(gateway: Gateway, path: str) -> None:
    answer = ask(gateway.crew(), path, "POST", b"{}", SESSION)
    assert answer.problem == (404, "not-found")


def test_a_large_command_is_refused(gateway: Gateway) -> None:
    path = "/api/v1/commands"
    answer = ask(gateway.crew(), path, "POST", b"x" * 65536, SESSION)
    assert answer.status == 200
    answer = ask(gateway.crew(), path, "POST", b"x" * 65537, SESSION)
    assert answer.problem == (413, "too-large")


def test_a_flood_of_log_ins_is_refused_and_others_log_in(gateway: Gateway) -> None:
    log_in = ("/session", "POST", b"person=anna&pin=1234")
    answers = [ask(gateway.crew("127.0.0.2"), *log_in) for _ in range(12)]
    assert {answer.status for answer in answers[:6]} == {200}
    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    assert ask(gateway.crew("127.0.0.3"), *log_in).status == 200
    assert ask(gateway.crew("127.0.0.2"), "/").status == 200
    text = _page_of_nginx(refused[0])
    # A log-in is posted; what is asked for again is the page.
    assert '<meta http-equiv="refresh" content="3;url=/">' in text
    for word in ("nothing was done", "nichts geschehen", "no se ha hecho nada", "rien n"):
        assert word in text


def test_a_flood_is_refused_but_for_the_pages_files(gateway: Gateway) -> None:
    paths = ("/", "/api/v1/cabin")
    flood = [(path, gateway.crew("127.0.0.4")) for _ in range(80) for path in paths]
    # All come at once, however long the handshakes take.
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda one: one[1].connect(), flood))
    for path, connection in flood:
        connection.request("GET", path, headers=SESSION)
    files = [ask(gateway.crew("127.0.0.4"), "/static/page.js").status for _ in range(40)]
    assert set(files) == {200}
    assert ask(gateway.crew("127.0.0.5"), "/").status == 200
    answers = [(path, answer_of(connection)) for path, connection in flood]
    for _, connection in flood:
        connection.close()
    assert [answer.status for _, answer in answers[:80]] == [200] * 80
    page, api = (
        [answer for path, answer in answers if path == wanted and answer.status == 429]
        for wanted in paths
    )
    _page_of_nginx(page[0])
    assert api[0].problem == (429, "too-many-requests")


def test_an_address_has_64_requests_under_way_at_most(gateway: Gateway) -> None:
    slow = [gateway.crew("127.0.0.6") for _ in range(64)]
    for connection in slow:
        begin_post(connection, "/commands")
    wait_until(
        lambda: ask(gateway.crew("127.0.0.6"), "/").status == 429, "it has all that it may have"
    )
    assert ask(gateway.crew("127.0.0.6"), "/static/page.js").status == 200
    assert ask(gateway.crew("127.0.0.7"), "/").status == 200
    for connection in slow:
        connection.close()


def test_how_the_page_is_cannot_be_asked_from_outside(gateway: Gateway) -> None:
    assert ask(gateway.crew(), "/healthz").problem == (404, "not-found")
    assert ask(gateway.crew(), "//x/../%68ealthz").problem == (404, "not-found")


def test_an_event_arrives_when_it_happens(gateway: Gateway) -> None:
    connection = gateway.crew()
    connection.request("GET", "/api/v1/events", headers=SESSION)
    answer = connection.getresponse()
    assert answer.readline() == b"data: one\n"
    gateway.seat_control.more.set()
    assert answer.read() == b"\ndata: two\n\n"
    connection.close()


def test_static_files_are_small_and_asked_for_again(gateway: Gateway) -> None:
    first = ask(gateway.crew(), "/static/page.js", headers={"Accept-Encoding": "gzip"})
    assert first.status == 200
    assert first.headers["content-encoding"] == "gzip"
    assert first.headers["cache-control"] == "no-cache"
    assert len(first.body) < 1000
    etag = {"If-None-Match": first.headers["etag"], "Accept-Encoding": "gzip"}
    assert ask(gateway.crew(), "/static/page.js", headers=etag).status == 304
    # What lies beside the folder is not served: such a path is crew_web's, to which it is unknown.
    for path in ("/static/../nginx.conf", "/static../nginx.conf"):
        assert ask(gateway.crew(), path).json["path"] == path
    assert ask(gateway.crew(), "/static/none.js").problem == (404, "not-found")


def test_plain_http_is_sent_to_https(gateway: Gateway) -> None:
    plain = http.client.HTTPConnection("127.0.0.1", gateway.crew_port, timeout=10)
    answer = ask(plain, "/login")
    assert answer.status == 302
    assert answer.headers["location"] == f"https://127.0.0.1:{gateway.crew_port}/login"


def test_the_crew_sees_a_page_that_tries_again_when_theirs_is_away(gateway: Gateway) -> None:
    with gateway.crew_web.gone():
        page = ask(gateway.crew(), "/")
        api = ask(gateway.crew(), "/api/v1/cabin", headers=SESSION)
    assert api.problem == (502, "unavailable")
    assert page.status == 502
    assert '<meta http-equiv="refresh" content="3">' in _page_of_nginx(page)


def _page_of_nginx(page: Answer) -> str:
    """The text of a page that is nginx's own, and needs nothing else."""
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-store"
    # By this the crew's page tells it from an answer of crew_web's.
    assert "x-content-type-options" not in page.headers
    text = page.body.decode()
    assert "src=" not in text
    assert "href=" not in text
    # The policy lets this very style pass, and nothing else.
    style = re.search(r"<style>(.*)</style>", text, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in page.headers["content-security-policy"]
    return text


def test_the_api_says_when_seat_control_is_away(gateway: Gateway) -> None:
    with gateway.seat_control.gone():
        answer = ask(gateway.crew(), "/api/v1/cabin", headers=SESSION)
    assert answer.problem == (502, "unavailable")
