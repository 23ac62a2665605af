"""The files of all channels, looked at by an ffprobe that a test has in its hands."""

from __future__ import annotations

import os
import threading
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from apps.common.channels import Channel
from apps.common.testing import hung_disk, wait_until
from apps.vlc_stream import ts
from apps.vlc_stream.channel import ManagedChannel
from apps.vlc_stream.keeper import Company
from apps.vlc_stream.library import Library
from apps.vlc_stream.orders import Order, Output, Report, StartFiles
from apps.vlc_stream.process import SendingProcess


@pytest.fixture
def media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which each file is good."""
    tools = tmp_path / "tools"
    tools.mkdir()
    ffprobe = tools / "ffprobe"
    ffprobe.write_text(FFPROBE)
    ffprobe.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    folder = tmp_path / "media"
    folder.mkdir()
    return folder


FFPROBE = """#!/bin/sh
for file; do :; done
if [ -e "${file#file:}.kill" ]; then rm "${file#file:}.kill"; kill -9 $$; fi
while [ -e "${file#file:}.wait" ]; do sleep 0.05; done
echo '{"streams": [{"codec_type": "video", "codec_name": "h264"}],
       "format": {"format_name": "mpegts", "duration": "60"}}'
"""
"""It takes its time for a file as long as there is one of that name and ``.wait``, and is killed
once if there is one with ``.kill``."""


def test_a_file_that_breaks_the_look_is_broken_and_the_others_are_looked_at(
    media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def examine(path: Path) -> ts.Clip:
        raise IndexError(path.name)

    monkeypatch.setattr(ts, "examine", examine)
    for name in ("clip.ts", "film.ts"):
        (media / name).touch()
    library = Library(media, [["film.ts"]], ["clip.ts"], lambda: None)
    library.start()
    try:
        wait_until(lambda: library.looked_at, "all was looked at")
        assert library.trouble(["clip.ts"]) == "clip.ts: it cannot be looked at"
        assert library.clip("clip.ts") is None
        assert [item.path for item in library.items(["film.ts"])] == [str(media / "film.ts")]
    finally:
        library.close()


def test_each_channel_has_its_first_file_before_any_has_its_second(media: Path) -> None:
    playlists = [[f"{channel}{n}.ts" for n in range(5)] for channel in "abc"]
    for name in (name for names in playlists for name in names):
        (media / name).touch()
    # One that the look at it takes long for.
    slow = media / "a1.ts.wait"
    slow.touch()
    on_air: list[int] = []

    def note() -> None:
        on_air.append(sum(bool(library.items(names)) for names in playlists))

    library = Library(media, playlists, [], note)
    library.start()
    try:
        wait_until(lambda: on_air == [1, 2, 3], "each has its first file, and was told so")
        assert not library.looked_at
        slow.unlink()
        wait_until(lambda: library.looked_at, "all was looked at")
        assert on_air == [1, 2] + [3] * 13
    finally:
        slow.unlink(missing_ok=True)
        library.close()


def test_what_is_said_of_a_file_that_was_replaced_is_not_heard(media: Path) -> None:
    film = media / "film.ts"
    film.touch()
    library = Library(media, [["film.ts"]], [], lambda: None)
    library.start()
    try:
        wait_until(lambda: library.looked_at, "it was looked at")
        (before,) = library.items(["film.ts"])
        film.write_bytes(b"another")
        wait_until(lambda: library.items(["film.ts"]) != (before,), "it was looked at again")
        library.report_broken(before)
        (now,) = library.items(["film.ts"])
        library.report_broken(now)
        assert library.items(["film.ts"]) == ()
        assert library.trouble(["film.ts"]) == "film.ts: it could not be played"
    finally:
        library.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a disk takes root rights")
def test_a_disk_that_hangs_holds_up_nobody_who_tells_of_a_file(media: Path) -> None:
    (media / "film.ts").touch()
    library = Library(media, [["film.ts"]], [], lambda: None)
    library.start()
    try:
        wait_until(lambda: library.looked_at, "it was looked at")
        (film,) = library.items(["film.ts"])
        with hung_disk(media):
            teller = threading.Thread(target=library.report_broken, args=(film,))
            teller.start()
            teller.join(timeout=5)
            assert not teller.is_alive()
            assert library.items(["film.ts"]) == ()
    finally:
        library.close()


class Process(SendingProcess):
    """A process that takes orders, and does nothing."""

    def __init__(self, output: Output) -> None:
        super().__init__("none", output, lambda _: None, lambda: None, "INFO")
        self.told: list[Order] = []

    @property
    def alive(self) -> bool:
        return True

    def tell(self, order: Order) -> None:
        self.told.append(order)


@pytest.mark.parametrize("loop", [True, False])
def test_a_channel_without_a_loop_waits_for_its_last_file(media: Path, loop: bool) -> None:
    names = ("one.ts", "two.ts")
    for name in names:
        (media / name).touch()
    slow = media / "two.ts.wait"
    slow.touch()
    output = Output("lo", IPv4Address("127.0.0.1"), 1)
    process = Process(output)
    spec = Channel(
        names={"en": "One"}, group=IPv4Address("239.192.95.1"), playlist=names, loop=loop
    )
    known: list[int] = []

    def refresh() -> None:
        channel.refresh()
        known.append(len(library.items(names)))

    library = Library(media, [names], [], refresh)
    channel = ManagedChannel("one", spec, process, Company(), library, output)

    def plays() -> int:
        channel.tend(wire=True, may_start=True)
        starts = [order for order in process.told if isinstance(order, StartFiles)]
        return len(starts[0].items) if starts else 0

    library.start()
    try:
        wait_until(lambda: known == [1], "the first is known")
        assert plays() == (1 if loop else 0)
        slow.unlink()
        wait_until(lambda: known == [1, 2], "both are known")
        assert plays() == (1 if loop else 2)
    finally:
        slow.unlink(missing_ok=True)
        library.close()
        channel.close()


def test_a_channel_that_is_over_is_there_again_at_its_next_time(
    media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (media / "one.ts").touch()
    output = Output("lo", IPv4Address("127.0.0.1"), 1)
    process = Process(output)
    spec = Channel(
        names={"en": "One"}, group=IPv4Address("239.192.95.1"), playlist=("one.ts",), loop=False
    )
    is_on_air = True
    monkeypatch.setattr(Channel, "on_air", lambda *_: is_on_air)
    library = Library(media, [spec.playlist], [], lambda: channel.refresh())
    channel = ManagedChannel("one", spec, process, Company(), library, output)

    def runs() -> int:
        channel.tend(wire=True, may_start=True)
        return sum(isinstance(order, StartFiles) for order in process.told)

    library.start()
    try:
        wait_until(lambda: runs() == 1, "it begins")
        channel.take(Report(id="one", run=1, state="ended"))
        assert channel.view().state == "stopped"
        assert runs() == 1
        is_on_air = False
        assert runs() == 1
        assert channel.view().state == "off-air"
        is_on_air = True
        wait_until(lambda: runs() == 2, "it begins again")
    finally:
        library.close()
        channel.close()


@pytest.mark.parametrize("clips", [[], ["film.ts"]], ids=["alone", "paced, too"])
def test_a_look_that_fails_or_a_film_that_does_is_not_for_ever(
    media: Path, monkeypatch: pytest.MonkeyPatch, clips: list[str]
) -> None:
    """The disk may have hung, or memory run out; the file stays as it is."""
    monkeypatch.setattr("apps.vlc_stream.library.TRY_AGAIN", 0.1)
    monkeypatch.setattr("apps.vlc_stream.library.LOOK_EVERY", 0.1)
    for name in ("film.ts", "film.ts.kill"):
        (media / name).touch()
    library = Library(media, [["film.ts"]], clips, lambda: None)
    library.start()
    try:
        wait_until(lambda: library.trouble(["film.ts"]), "it is left out")
        wait_until(lambda: library.items(["film.ts"]), "it was looked at again")
        (item,) = library.items(["film.ts"])
        library.report_broken(item)
        assert library.items(["film.ts"]) == ()
        wait_until(lambda: library.items(["film.ts"]) == (item,), "it is offered again")
    finally:
        library.close()
