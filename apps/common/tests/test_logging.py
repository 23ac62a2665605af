"""Records go to standard error as lines, or to the journal with their fields."""

from __future__ import annotations

import logging
import os
import socket
import struct
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from apps.common.log import Refusals

BEGIN = """
import logging, sys
from pathlib import Path
from logging_journald import JournaldLogHandler
from apps.common import log
JournaldLogHandler.SOCKET_PATH = path = Path(sys.argv[1])
log.setup("info")
logger = logging.getLogger("lamp")
"""

PROGRAM = (
    BEGIN
    + """
logger.debug("not this")
logger.info("it is %s", "on", extra={"seat": "12C", "volume": 30})
logger.warning("first\\nsecond\\x1b[31m", extra={"detail": "third\\n2026 ERROR forged"})
try:
    1 / 0
except ZeroDivisionError:
    logger.exception("it broke")
"""
)

STANDS_STILL = f"""
import socket, sys
def journal():
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(sys.argv[1])
    return sock
first = journal()
{BEGIN}
for number in range(3000):
    logger.info("%d", number)
assert b"MESSAGE=0\\n" in first.recv(65536)
# It is started anew, and stands still again.
first.close()
path.unlink()
second = journal()
for number in range(3000):
    logger.info("%d", number)
assert b"MESSAGE=0\\n" in second.recv(65536)
"""


def run(folder: Path, journal_stream: str = "", program: str = PROGRAM) -> list[str]:
    """The lines that a program writes to standard error."""
    written = folder / "stderr"
    with written.open("wb") as stderr:
        if journal_stream == "its own":
            found = os.fstat(stderr.fileno())
            journal_stream = f"{found.st_dev}:{found.st_ino}"
        subprocess.run(
            [sys.executable, "-c", program, str(folder / "journal.sock")],
            stderr=stderr,
            env={**os.environ, "JOURNAL_STREAM": journal_stream},
            timeout=30,
            check=True,
        )
    return written.read_text().splitlines()


def test_elsewhere_a_record_is_a_line_with_its_fields_at_the_end(tmp_path: Path) -> None:
    lines = run(tmp_path)
    when, _, rest = lines[0].partition(" INFO ")
    assert datetime.strptime(when, "%Y-%m-%d %H:%M:%S,%f").astimezone()
    assert rest == "   lamp: it is on seat=12C volume=30"
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "not this" not in "".join(lines)


def test_what_a_peer_sent_cannot_begin_a_line(tmp_path: Path) -> None:
    lines = run(tmp_path)
    assert lines[1].endswith(r"WARNING lamp: first\nsecond\x1b[31m detail=third\n2026 ERROR forged")


def fields_of(datagram: bytes) -> dict[str, str]:
    """A record in the journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""
    fields: dict[str, str] = {}
    while datagram:
        name, end, rest = datagram.partition(b"\n")
        if b"=" in name:
            key, _, value = name.partition(b"=")
        else:
            key = name
            (length,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + length], rest[8 + length + 1 :]
        assert end
        fields[key.decode()] = value.decode()
        datagram = rest
    return fields


def test_under_systemd_the_journal_gets_every_field(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "journal.sock"))
        journal.settimeout(5)
        assert run(tmp_path, "its own") == []
        records = [fields_of(journal.recv(65536)) for _ in range(3)]
    info, warning, error = records
    assert info["MESSAGE"] == "it is on"
    assert info["PRIORITY"] == "6"
    assert info["LOGGER_NAME"] == "lamp"
    assert info["EXTRA_SEAT"] == "12C"
    assert info["EXTRA_VOLUME"] == "30"
    assert warning["PRIORITY"] == "4"
    assert warning["MESSAGE"] == "first\nsecond\x1b[31m"
    assert warning["EXTRA_DETAIL"] == "third\n2026 ERROR forged"
    assert error["PRIORITY"] == "3"
    assert "ZeroDivisionError: division by zero" in error["TRACEBACK"]


def test_a_journal_that_stands_still_holds_nobody_up(tmp_path: Path) -> None:
    assert run(tmp_path, "its own", STANDS_STILL) == []


def test_a_child_whose_standard_error_is_elsewhere_writes_lines(tmp_path: Path) -> None:
    # It inherits JOURNAL_STREAM, which then names another stream than its own (systemd.exec(5)).
    assert run(tmp_path, "1:2") != []


def test_refusals_are_counted_and_the_first_of_each_kind_and_source_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refusals = Refusals(logging.getLogger("lamp"))
    for _ in range(100):
        refusals.add("forged", "12C", "the signature is wrong")
    refusals.add("forged", "12D", "the signature is wrong")
    refusals.add("oversize", "12C", "1401 bytes")
    assert refusals.counts() == {"forged": 101, "oversize": 1}
    logged = [(vars(record)["kind"], vars(record)["source"]) for record in caplog.records]
    assert logged == [("forged", "12C"), ("forged", "12D"), ("oversize", "12C")]


def test_refusals_from_ever_new_sources_fill_neither_journal_nor_memory(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refusals = Refusals(logging.getLogger("lamp"))
    for number in range(3 * Refusals.MAX_SOURCES):
        refusals.add("forged", f"10.0.0.{number}", "the signature is wrong")
    assert refusals.counts() == {"forged": 3 * Refusals.MAX_SOURCES}
    assert len(caplog.records) == Refusals.MAX_SOURCES


def test_after_a_while_what_is_refused_is_logged_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand devices that somebody plugged in do not hide the next for ever."""
    monkeypatch.setattr(Refusals, "MAX_SOURCES", 2)
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    refusals = Refusals(logging.getLogger("lamp"))

    def logged(source: str) -> bool:
        caplog.clear()
        refusals.add("forged", source, "it is forged")
        return bool(caplog.records)

    assert [logged(source) for source in ("a", "b", "c")] == [True, True, False]
    clock[0] = Refusals.FORGET_AFTER
    assert [logged(source) for source in ("c", "a", "c", "b")] == [True, True, False, False]
