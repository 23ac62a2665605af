"""Disks as a reader sees them: the real process on images, good ones and such that mean harm."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from apps.common.testing import kill_group, listens, wait_until
from apps.usb_lockdown.reader import disk as reader_disk
from apps.usb_lockdown.reader.disk import MAX_METADATA, CrewDisk, UnreadableError
from apps.usb_lockdown.reader.http import CLIENTS
from apps.usb_lockdown.reading import DiskReader
from apps.usb_lockdown.sysfs import Unit
from apps.usb_lockdown.tests import images
from apps.usb_lockdown.tests.reading import Connection, Reading, get

FILM = b"".join(number.to_bytes(4, "big") for number in range(700_000))
"""Some chunks long, and no part of it like another."""

NAME = hashlib.sha256(FILM).hexdigest()
OBJECT = f"objects/{NAME[:2]}/{NAME}"
ROOT = "metadata/1.root.json"
MEMORY = 192 << 20
"""What the unit may take."""


@pytest.fixture(scope="module", params=images.KINDS)
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind: str = request.param
    folder = tmp_path_factory.mktemp(kind)
    return images.make(folder / "disk.img", kind, images.content(FILM, b"", b"short"))


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return tmp_path / "disk.sock"


def on_ext4(tmp_path: Path, *commands: str) -> Path:
    """A disk on which debugfs has done something afterwards."""
    image = images.make(tmp_path / "disk.img", "ext4", images.content(FILM))
    images.run("debugfs", "-w", "-f", "-", image, given="\n".join(commands) + "\n")
    return image


# -- what is there is served ------------------------------------------------------------------


def test_files_are_served_whole(image: Path, at: Path) -> None:
    with Reading(image, at) as reading:
        assert reading.said == {"state": "ready"}
        for name, data in images.content(FILM, b"", b"short").items():
            assert reading.get(name) == (200, data)


@pytest.mark.parametrize("begin", [0, 1, 1 << 20, (1 << 20) - 1, len(FILM) - 1])
def test_a_file_is_taken_up_where_it_was_left(image: Path, at: Path, begin: int) -> None:
    with Reading(image, at) as reading:
        assert reading.get(OBJECT, Range=f"bytes={begin}-") == (206, FILM[begin:])
        end = min(begin + 70_000, len(FILM))
        assert reading.get(OBJECT, Range=f"bytes={begin}-{end - 1}") == (206, FILM[begin:end])


def test_ranges_that_make_no_sense(image: Path, at: Path) -> None:
    with Reading(image, at) as reading:
        for wrong in (f"{len(FILM)}-", "5-4", "999999999999999-"):
            assert reading.get(OBJECT, Range=f"bytes={wrong}")[0] == 416
        # As the RFC wants it, what is not understood is passed over.
        for strange in ("bytes=-5", "bytes=0-1,3-4", "lines=1-", "bytes=" + "9" * 100 + "-"):
            assert reading.get(OBJECT, Range=strange) == (200, FILM)


def test_one_connection_serves_many_requests(image: Path, at: Path) -> None:
    with Reading(image, at) as reading:
        connection = Connection(reading.at)
        for _ in range(3):
            connection.request("HEAD", f"/{OBJECT}")
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b"")
            assert answer.headers["Content-Length"] == str(len(FILM))
            connection.request("GET", f"/{ROOT}", headers={"Range": "bytes=1-2"})
            answer = connection.getresponse()
            assert answer.read() == b'"s'
            assert answer.headers["Content-Range"] == "bytes 1-2/14"
        connection.close()


def test_more_clients_than_are_served_wait_for_their_turn(image: Path, at: Path) -> None:
    with Reading(image, at) as reading, ThreadPoolExecutor(2 * CLIENTS) as pool:
        answers = pool.map(lambda _: reading.get(OBJECT), range(4 * CLIENTS))
        assert set(answers) == {(200, FILM)}
        assert reading.most_memory() < MEMORY


@pytest.mark.parametrize("table", ["dos", "gpt"])
def test_a_disk_with_partitions(image: Path, at: Path, tmp_path: Path, table: str) -> None:
    """The content is in the second one."""
    disk = tmp_path / "whole.img"
    with disk.open("wb") as file:
        file.truncate(32 << 20)
    script = f"label: {table}\nstart=2048, size=4096\nstart=8192, size=16384\n"
    images.run("sfdisk", "--quiet", disk, given=script)
    with disk.open("r+b") as file:
        file.seek(8192 * 512)
        file.write(image.read_bytes())
    with Reading(disk, at) as reading:
        assert reading.said == {"state": "ready"}
        assert reading.get(OBJECT) == (200, FILM)


# -- what is not there, or not to be served, is not -------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "metadata/2.root.json",
        f"objects/{NAME[:2]}/{NAME[:-1]}0",
        f"objects/00/{NAME}",
        f"objects/{NAME[:2]}",
        f"objects/{NAME[:2]}/{NAME.upper()}",
        "objects",
        "metadata",
        "metadata/",
        "",
        "/",
        "metadata/../metadata/1.root.json",
        "metadata/..",
        "metadata/.",
        "metadata/./1.root.json",
        "../../etc/passwd",
        "/etc/passwd",
        "metadata//1.root.json",
        "metadata/1.root.json/",
        "metadata/1.root.json?x",
        "metadata/1%2eroot.json",
        "metadata/1.root.json:stream",
        "metadata/" + "x" * 200,
        "lost+found",
        "$MBR",
        "$OrphanFiles/x",
    ],
)
def test_names_that_are_none(image: Path, at: Path, name: str) -> None:
    with Reading(image, at) as reading:
        assert reading.get(name)[0] == 404
        assert reading.get(ROOT)[0] == 200


def test_requests_that_are_none(image: Path, at: Path) -> None:
    with Reading(image, at) as reading:
        connection = Connection(reading.at)
        connection.request("POST", f"/{ROOT}")
        assert connection.getresponse().status == 501
        connection.close()
        for rubbish in (b"\0" * 100, b"GET\r\n\r\n", b"GET /" + b"x" * 70_000 + b"\r\n"):
            connection = Connection(reading.at)
            connection.connect()
            # It need not hear all of it.
            with contextlib.suppress(BrokenPipeError):
                connection.sock.sendall(rubbish)
            connection.close()
        assert reading.get(ROOT)[0] == 200


def test_links_devices_and_pipes_are_not_files(tmp_path: Path, at: Path) -> None:
    image = on_ext4(
        tmp_path,
        "cd metadata",
        "symlink link.json 1.root.json",
        "symlink passwd.json /etc/passwd",
        "mknod disk.json b 8 0",
        "mknod memory.json c 1 1",
        "mknod pipe.json p",
        "mkdir folder.json",
        "cd ../objects",
        f"symlink 00 {NAME[:2]}",
    )
    with Reading(image, at) as reading:
        for name in ("link", "passwd", "disk", "memory", "pipe", "folder"):
            assert reading.get(f"metadata/{name}.json")[0] == 404
        assert reading.get(f"objects/00/00{NAME[2:]}")[0] == 404
        assert reading.get(OBJECT) == (200, FILM)


def test_a_folder_that_is_a_link_has_no_content(tmp_path: Path, at: Path) -> None:
    images.make(tmp_path / "disk.img", "ext4", {"real/1.root.json": b"{}"})
    given = "symlink metadata real\n"
    images.run("debugfs", "-w", "-f", "-", tmp_path / "disk.img", given=given)
    with Reading(tmp_path / "disk.img", at) as reading:
        assert reading.said["state"] == "unreadable"


def test_a_file_that_says_it_is_larger_than_the_disk(tmp_path: Path, at: Path) -> None:
    image = on_ext4(
        tmp_path,
        f"set_inode_field {OBJECT} size {10 << 40}",
        f"set_inode_field {ROOT} size {MAX_METADATA + 1}",
    )
    with Reading(image, at) as reading:
        assert reading.get(OBJECT)[0] == 404
        assert reading.get(ROOT)[0] == 404
        assert reading.get("metadata/timestamp.json")[0] == 200


def test_a_hole_is_zeros(tmp_path: Path, at: Path) -> None:
    """What a file has in front of a disk's size is all there is of it."""
    image = on_ext4(tmp_path, f"set_inode_field {OBJECT} size {7 << 20}")
    with Reading(image, at) as reading:
        status, body = reading.get(OBJECT)
        assert (status, len(body)) == (200, 7 << 20)
        assert body.startswith(FILM)
        assert not any(body[len(FILM) + 4096 :])


def test_what_was_deleted_is_gone(tmp_path: Path, at: Path) -> None:
    image = on_ext4(tmp_path, f"rm {ROOT}")
    with Reading(image, at) as reading:
        assert reading.get(ROOT)[0] == 404
    fat = images.make(tmp_path / "fat.img", "fat", images.content(FILM))
    images.run("mdel", "-i", fat, "::/metadata/1.root.json")
    with Reading(fat, at) as reading:
        assert reading.get(ROOT)[0] == 404
        assert reading.get(OBJECT)[0] == 200


def test_names_that_are_no_text_do_no_harm(tmp_path: Path, at: Path) -> None:
    (tmp_path / "disk.tree/metadata").mkdir(parents=True)
    folder = os.fsencode(tmp_path / "disk.tree")
    for name in (b"\xff\xfe", b"\xc0\xaf..", "ü\u202e".encode(), b"new\nline", b"x" * 255):
        with open(folder + b"/metadata/" + name, "wb"):  # noqa: PTH123 - such names are none for pathlib
            pass
    image = images.make(tmp_path / "disk.img", "ext4", images.content(FILM))
    with Reading(image, at) as reading:
        assert reading.get(ROOT)[0] == 200
        assert reading.get("metadata/%ff%fe")[0] == 404


@pytest.mark.parametrize(
    "count", [2_000, pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(300)])]
)
def test_very_many_tiny_files_do_no_harm(tmp_path: Path, at: Path, count: int) -> None:
    many = {f"objects/{NAME[:2]}/{number:064x}": b"x" for number in range(count)}
    image = images.make(
        tmp_path / "disk.img", "exfat", many | images.content(FILM), 16 + count // 200
    )
    with Reading(image, at) as reading:
        assert reading.get(OBJECT) == (200, FILM)
        assert reading.get(f"objects/{NAME[:2]}/{NAME[:2]}{'0' * 62}")[0] == 404
        assert reading.most_memory() < MEMORY


# -- disks that are none ----------------------------------------------------------------------


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(1 << 20))


def _noise(path: Path) -> None:
    path.write_bytes(os.urandom(1 << 20))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _holiday(path: Path) -> None:
    images.make(path, "fat", {"DCIM/1.jpg": b"x"})


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_zeros, "no file system"),
        (_noise, "no file system"),
        (_empty, "no file system"),
        (_holiday, "no content"),
    ],
)
def test_what_has_no_content_is_told(
    tmp_path: Path, at: Path, make: Callable[[Path], None], why: str
) -> None:
    make(tmp_path / "disk.img")
    with Reading(tmp_path / "disk.img", at) as reading:
        assert reading.said["state"] == "unreadable"
        assert why in reading.said["why"]
        assert reading.process.wait(5) == 0


def test_a_disk_that_is_gone_in_the_middle_breaks_off(tmp_path: Path, at: Path) -> None:
    image = images.make(tmp_path / "disk.img", "fat", images.content(FILM))
    with Reading(image, at) as reading:
        assert reading.get(ROOT)[0] == 200
        os.truncate(image, 1 << 20)
        with pytest.raises(http.client.IncompleteRead):
            reading.get(OBJECT)


def test_a_disk_that_is_gone_is_not_taken_for_an_empty_one(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    file = os.open(image, os.O_RDONLY)
    try:
        crew_disk = CrewDisk(file, image.stat().st_size)
        film = crew_disk.open(OBJECT)
        for at in range(0, len(FILM), 1 << 16):  # until the library remembers nothing else
            film.read(at, 1)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", fail)
            with pytest.raises(OSError, match="Input/output"):
                crew_disk.open(ROOT)
        assert crew_disk.open(ROOT).size > 0
    finally:
        os.close(file)


def test_a_bad_spot_is_told_from_a_disk_that_is_gone(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel answers with the same error to both."""
    spot = image.read_bytes().index(FILM[1_500_000:1_500_512])
    pread, is_gone = os.pread, False

    def read(file: int, count: int, offset: int) -> bytes:
        if is_gone or offset <= spot < offset + count:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(file, count, offset)

    monkeypatch.setattr(os, "pread", read)
    file = os.open(image, os.O_RDONLY)
    try:
        crew_disk = CrewDisk(file, image.stat().st_size)
        film = crew_disk.open(OBJECT)
        assert film.read(0, 1 << 16) == FILM[: 1 << 16]
        for _ in range(2):
            with pytest.raises(OSError, match=r"read|early"):
                film.read(1_500_000, 512)
            assert crew_disk.open(ROOT).size > 0
        is_gone = True
        with pytest.raises(OSError, match=r"read|early"):
            film.read(1_500_000, 512)
        # Though the library remembers all that it takes to find it.
        with pytest.raises(OSError, match="Input/output"):
            crew_disk.open(ROOT)
    finally:
        os.close(file)


def test_a_file_system_that_takes_too_much_reading_is_given_up(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = os.open(image, os.O_RDONLY)
    try:
        CrewDisk(file, image.stat().st_size)
        monkeypatch.setattr(reader_disk, "LOOK_BYTES", 1024)
        with pytest.raises(UnreadableError):
            CrewDisk(file, image.stat().st_size)
    finally:
        os.close(file)


def test_a_look_that_hangs_ends_the_process() -> None:
    hangs = (
        "import time; from apps.usb_lockdown.reader.disk import Patience\n"
        "with Patience(60): pass\n"
        "with Patience(0.2): time.sleep(60)"
    )
    done = subprocess.run([sys.executable, "-c", hangs], timeout=30, check=False)
    assert done.returncode == -signal.SIGALRM


def test_a_disk_that_may_be_written_to_is_not_taken(image: Path, at: Path, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, image.open("r+b") as writable:
        process = subprocess.Popen(
            [sys.executable, "-m", "apps.usb_lockdown.reader"],
            stdin=theirs.fileno(),
            stderr=subprocess.PIPE,
        )
        files = [writable.fileno(), theirs.fileno()]
        socket.send_fds(ours, [json.dumps({"bytes": 1}).encode()], files)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"for reading alone" in said


# -- from the other side ----------------------------------------------------------------------


def _disk_reader(starter: Path, image: Path, at: Path, device: str = "0:0") -> DiskReader:
    unit = Unit("0", "sda", image.stat().st_size, device)
    return DiskReader(starter, image, unit, at, lambda: None)


def test_a_reader_is_started_followed_and_ended(starter: Path, image: Path, at: Path) -> None:
    reader = _disk_reader(starter, image, at)
    wait_until(lambda: reader.state != "reading", "it has looked", 20)
    assert (reader.state, reader.why) == ("ready", None)
    assert at.stat().st_mode & 0o777 == 0o660
    assert get(at, OBJECT) == (200, FILM)
    reader.close()
    assert not at.exists()
    assert reader.state == "ready", "whoever closes it knows"


def test_two_disks_are_read_at_the_same_time(starter: Path, image: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "front.sock", tmp_path / "aft.sock"]
    readers = [_disk_reader(starter, image, path) for path in paths]
    wait_until(lambda: all(reader.state == "ready" for reader in readers), "both are ready", 20)
    assert [get(path, ROOT)[0] for path in paths] == [200, 200]
    readers[0].close()
    assert get(paths[1], ROOT)[0] == 200
    readers[1].close()


def test_why_a_disk_is_unreadable_comes_through(starter: Path, at: Path, tmp_path: Path) -> None:
    _noise(tmp_path / "disk.img")
    reader = _disk_reader(starter, tmp_path / "disk.img", at)
    wait_until(lambda: reader.state == "unreadable", "it is told", 20)
    wait_until(lambda: "no file system" in (reader.why or ""), "and why")
    reader.close()


@contextlib.contextmanager
def _started(at: Path, *command: str) -> Iterator[None]:
    """Something else in the reader's place."""
    process = subprocess.Popen(
        ["systemd-socket-activate", "--accept", "--inetd", f"--listen={at}", *command],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: listens(at), "it listens")
        yield
    finally:
        kill_group(process)


def test_a_reader_that_dies_is_told(image: Path, at: Path, tmp_path: Path) -> None:
    with _started(tmp_path / "dies.sock", "/bin/false"):
        reader = _disk_reader(tmp_path / "dies.sock", image, at)
        wait_until(lambda: reader.state == "unreadable", "it is told")
        reader.close()


def test_a_reader_that_says_this_and_that_without_end_is_not_believed(
    image: Path, at: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It has read the disk, so it may be somebody else's by now."""
    says = 'while echo "{\\"state\\": \\"ready\\"}"; do :; done'
    with _started(tmp_path / "says.sock", "/bin/sh", "-c", says):
        reader = _disk_reader(tmp_path / "says.sock", image, at)
        wait_until(lambda: reader.state == "unreadable", "it is told")
        assert len([one for one in caplog.records if "a disk is" in one.getMessage()]) <= 3
        reader.close()


def test_without_a_reader_the_disk_is_unreadable(image: Path, at: Path, tmp_path: Path) -> None:
    reader = _disk_reader(tmp_path / "nobody.sock", image, at)
    wait_until(lambda: reader.state == "unreadable", "it is told")
    assert "no process" in (reader.why or "")
    reader.close()


def test_the_file_of_another_disk_is_not_handed_over(starter: Path, image: Path, at: Path) -> None:
    """Between what sysfs says and the opening of the file, disks can be changed."""
    reader = _disk_reader(starter, image, at, device="8:16")
    wait_until(lambda: reader.state == "unreadable", "it is told")
    assert "another disk" in (reader.why or "")
    reader.close()
