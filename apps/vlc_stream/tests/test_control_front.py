"""The control front: its words, and clients that mean no good, over real sockets."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.common.channels import ChannelControl, ChannelView
from apps.common.testing import wait_until
from apps.common.web import Problem
from apps.vlc_stream import front as fronts
from apps.vlc_stream.front import MAX_CLIENTS, Front, Words

NEWS = ChannelView(
    id="news",
    names={"en": "News"},
    group=IPv4Address("239.192.80.1"),
    port=5004,
    live=False,
    state="playing",
    file="monday.ts",
    position=1.5,
    duration=4.0,
    restarts=2,
    trouble="it smells",
)
DONE: list[tuple[str, ChannelControl]] = []


def control(name: str, wanted: ChannelControl) -> None:
    if name != "news":
        raise Problem(404, "no-such-channel", f"there is no channel {name}")
    DONE.append((name, wanted))


WORDS = Words(lambda: (NEWS,), control)


@pytest.fixture(autouse=True)
def _nothing_done() -> None:
    DONE.clear()


def test_show_tells_how_channels_are() -> None:
    assert WORDS.answer("show") == "show\n    media\n" + str(WORDS.answer("show news"))
    assert WORDS.answer("show news") == (
        "        news\n"
        "            type : broadcast\n"
        "            output : rtp://239.192.80.1:5004\n"
        "            state : playing\n"
        "            input : monday.ts\n"
        "            time : 1.5 of 4.0 s\n"
        "            restarts : 2\n"
        "            trouble : it smells\n"
    )
    assert WORDS.answer("show none") == "Error: none: no such channel\n"


@pytest.mark.parametrize(
    ("line", "action", "percent"),
    [
        ("control news play", "play", None),
        ("  control   news pause ", "pause", None),
        ("control news stop", "stop", None),
        ("control news seek 50", "seek", 50.0),
        ("control news seek 12.5%", "seek", 12.5),
    ],
)
def test_control(line: str, action: str, percent: float | None) -> None:
    assert WORDS.answer(line) == ""
    assert [(name, done.action, done.percent) for name, done in DONE] == [("news", action, percent)]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("control none play", "Error: there is no channel none\n"),
        ("control news seek", "Error: not understood, try help\n"),
        ("control news seek far", "Error: seek wants a number from 0 to 100\n"),
        ("control news seek 101", "Error: seek wants a number from 0 to 100\n"),
        ("control news seek nan", "Error: seek wants a number from 0 to 100\n"),
        ("control news explode", "Error: not understood, try help\n"),
        ("load /etc/passwd", "Error: not understood, try help\n"),
        ("", ""),
    ],
)
def test_what_is_not_understood(line: str, answer: str) -> None:
    assert WORDS.answer(line) == answer
    assert not DONE


@given(st.text(max_size=100))
def test_every_line_has_an_answer(line: str) -> None:
    answer = WORDS.answer(line)
    assert answer is None or answer == "" or answer.endswith("\n")


@pytest.fixture
def unix(tmp_path: Path) -> Iterator[Path]:
    front = Front(WORDS, tmp_path / "control.sock", None)
    yield tmp_path / "control.sock"
    front.close()


@pytest.fixture
def port() -> Iterator[int]:
    front = Front(WORDS, 0, b"open sesame!")
    yield front.port
    front.close()


def connect(where: Path | int) -> socket.socket:
    if isinstance(where, int):
        return socket.create_connection(("127.0.0.1", where), 10)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(str(where))
    return client


def read_until(client: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        more = client.recv(4096)
        assert more, data
        data += more
    return data


def test_on_the_unix_socket_root_is_asked_for_no_password(unix: Path) -> None:
    assert stat.S_IMODE(unix.stat().st_mode) == 0o600
    with connect(unix) as client:
        assert read_until(client, b"> ") == b"> "
        client.sendall(b"show news\r\n")
        assert b"state : playing\r\n" in read_until(client, b"\r\n> ")
        client.sendall(b"control news pause\n")
        read_until(client, b"> ")
        client.sendall(b"quit\r\n")
        assert client.recv(100) == b""
    assert DONE[0][1].action == "pause"


def test_on_the_loopback_interface_the_password_is_asked_for(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fronts, "TRY_EVERY", 0.01)
    with connect(port) as client:
        assert b"\xff\xfb\x01" in read_until(client, b"Password: ")
        # What a telnet client answers to that, and a mistake.
        client.sendall(b"\xff\xfd\x01wrong\r\n")
        read_until(client, b"Wrong password\r\nPassword: ")
        client.sendall(b"open sesame!\r\n")
        read_until(client, b"> ")
        client.sendall(b"control news stop\r\n")
        read_until(client, b"> ")
    assert DONE[0][1].action == "stop"


def test_three_wrong_passwords_are_enough(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fronts, "TRY_EVERY", 0.01)
    with connect(port) as client:
        client.sendall(b"a\r\nopen sesame\r\n\r\ncontrol news stop\r\n")
        read_until(client, b"Wrong password\r\n")
        while client.recv(4096):
            pass
    assert not DONE


def test_a_long_line_ends_it(unix: Path) -> None:
    with connect(unix) as client:
        read_until(client, b"> ")
        client.sendall(b"x" * fronts.MAX_LINE)
        assert client.recv(100) == b""


def test_who_says_nothing_is_let_go(unix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fronts._Session.timeout == fronts.IDLE
    monkeypatch.setattr(fronts._Session, "timeout", 0.1)
    with connect(unix) as client:
        read_until(client, b"> ")
        assert client.recv(100) == b""


def test_there_are_few_places_and_each_is_given_again(unix: Path) -> None:
    clients = [connect(unix) for _ in range(MAX_CLIENTS)]
    for client in clients:
        read_until(client, b"> ")
    with connect(unix) as late:
        assert late.recv(100) == b""
    for client in clients:
        client.close()

    def is_let_in() -> bool:
        with connect(unix) as client:
            return client.recv(100) == b"> "

    wait_until(is_let_in, "there is a place again")
