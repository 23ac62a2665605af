"""What a caller is told when the other app is away, hangs or talks nonsense.

The end-to-end tests have it there and well.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from apps.common import calls, web
from apps.common.calls import RefusedError, SeatControl, UnavailableError
from apps.common.commands import CommandRequest, Mute, Selector

COMMAND = CommandRequest(selector=Selector(all=True), action=Mute(muted=True))


@contextmanager
def listener(path: Path, behave: Callable[[socket.socket], None]) -> Iterator[SeatControl]:
    """Something at seat control's socket that takes one connection and behaves so."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(10)

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(10)
                request = connection.recv(65536)
                while request.startswith(b"POST") and not request.endswith(b"}"):
                    # The body comes after the head.
                    request += connection.recv(65536)
                behave(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield SeatControl(path)
        finally:
            thread.join(timeout=10)


def answering(status: str, body: str) -> Callable[[socket.socket], None]:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n"
    return lambda connection: connection.sendall((head + body).encode())


def test_where_nobody_listens_nothing_was_sent(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="takes no connection") as caught:
        SeatControl(tmp_path / "nobody.sock").issue("anna", COMMAND)
    assert not caught.value.maybe_done


def test_a_socket_left_behind_takes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(UnavailableError) as caught:
        SeatControl(path).issue("anna", COMMAND)
    assert not caught.value.maybe_done


@pytest.mark.parametrize(
    "behave",
    [
        lambda connection: None,
        lambda connection: connection.sendall(b"nonsense\r\n\r\n"),
        lambda connection: connection.sendall(b"HTTP/1.1 202 OK\r\nContent-Length: 99\r\n\r\n{"),
        answering("202 Accepted", "{}"),
        answering("500 Internal Server Error", "oh"),
    ],
    ids=["breaks off", "nonsense", "half", "no fields", "error"],
)
def test_after_it_was_sent_nobody_knows(
    tmp_path: Path, behave: Callable[[socket.socket], None]
) -> None:
    with listener(tmp_path / "s", behave) as control, pytest.raises(UnavailableError) as caught:
        control.issue("anna", COMMAND)
    assert caught.value.maybe_done


def test_one_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "TIMEOUT", 0.2)
    done = threading.Event()

    def hang(_: socket.socket) -> None:
        done.wait(10)

    with listener(tmp_path / "s", hang) as control:
        with pytest.raises(UnavailableError, match="timed out") as caught:
            control.report("anna", 1)
        done.set()
    assert caught.value.maybe_done


def test_the_other_app_knows_when_a_call_was_given_up(
    tmp_path: Path,
) -> None:
    """It may get to it late: the request waits at its socket while it is away."""
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        began = time.time()
        with pytest.raises(UnavailableError):
            SeatControl(path, timeout=0.5).issue("anna", COMMAND)
        connection, _ = listening.accept()
        with connection:
            (asked,) = re.findall(r"\r\nIfe-Asked: (.*)\r\n", connection.recv(65536).decode())
    assert abs(float(asked.split()[0]) - began) < 0.4
    assert web.is_too_late(asked)
    assert not web.is_too_late(f"{time.time():.3f} 30")
    assert not any(map(web.is_too_late, ("", "1.000", "one 2", "nan 2")))


def test_a_problem_document_is_a_refusal(tmp_path: Path) -> None:
    body = '{"type": "urn:ife:problem:not-armed", "title": "x", "status": 428, "detail": "arm it"}'
    behave = answering("428 Precondition Required", body)
    with listener(tmp_path / "s", behave) as control, pytest.raises(RefusedError) as caught:
        control.issue("anna", COMMAND)
    assert (caught.value.status, caught.value.slug) == (428, "not-armed")
    assert str(caught.value) == "arm it"
