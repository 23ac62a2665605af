"""What is held survives a kill at any instant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from apps.common.protocol import Held
from apps.player.channel_list import ChannelList
from apps.player.store import HeldStore, Played, PlayedStore

WRITER = """
import sys
from pathlib import Path
from apps.common.protocol import Held
from apps.player.channel_list import ChannelList
from apps.player.store import HeldStore, Played, PlayedStore
store = HeldStore(Path(sys.argv[1]))
seq = int(sys.argv[2])
while True:
    seq += 1
    store.save(Held(epoch=7, seq=seq))
    print(seq, flush=True)
"""


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    held = Held(epoch=1_764_000_000, seq=17)
    HeldStore(tmp_path).save(held)
    assert HeldStore(tmp_path).load() == held


def test_a_new_player_holds_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert HeldStore(tmp_path).load() == Held(epoch=0, seq=0)
    assert "beginning anew" in caplog.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.binary(max_size=60))
@example(b"")
@example(b'{"epoch":7}')
@example(b'{"epoch":-1,"seq":3}')
@example(b'{"epoch":7,"seq":"3"}')
@example(b'{"epoch":7,"seq":3')
def test_a_damaged_file_is_a_new_player(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "held.json").write_bytes(content)
    assert HeldStore(tmp_path).load() == Held(epoch=0, seq=0)


def test_a_damaged_file_is_said_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "held.json").write_bytes(b"\0" * 30)
    HeldStore(tmp_path).load()
    assert "cannot be read" in caplog.text


def test_a_failed_save_leaves_what_was_saved_before(tmp_path: Path) -> None:
    store = HeldStore(tmp_path)
    store.save(Held(epoch=7, seq=1))
    (tmp_path / ".held.json.new").mkdir()
    with pytest.raises(OSError, match=r"\.held\.json\.new"):
        store.save(Held(epoch=7, seq=2))
    assert store.load() == Held(epoch=7, seq=1)


def test_a_save_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut cannot be had in a test, but the order of the calls that survive it can."""
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(number: int) -> None:
        order.append(f"fsync {Path(f'/proc/self/fd/{number}').readlink().name}")
        fsync(number)

    def note_replace(path: Path, target: Path) -> Path:
        order.append("replace")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    HeldStore(tmp_path).save(Held(epoch=7, seq=1))
    assert order == ["fsync .held.json.new", "replace", f"fsync {tmp_path.name}"]


def test_a_killed_writer_leaves_the_last_or_the_one_before(tmp_path: Path) -> None:
    seq = 0
    for attempt in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(seq)],
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            told = int(process.stdout.readline())
            time.sleep(0.01 * attempt)
            process.kill()
            told = max([told, *(int(line) for line in process.stdout if line.endswith("\n"))])
        held = HeldStore(tmp_path).load()
        assert held.epoch == 7
        # What was said to be saved is saved; the kill came during the one after it.
        assert held.seq in {told, told + 1}
        seq = held.seq


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    HeldStore(tmp_path).save(Held(epoch=7, seq=3))
    assert json.loads((tmp_path / "held.json").read_text()) == {"epoch": 7, "seq": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["held.json"]


def test_what_plays_is_remembered_in_the_same_boot_only(tmp_path: Path) -> None:
    store = PlayedStore(tmp_path, "0f" * 16)
    assert store.load() is None
    store.save("film-1", 12.5, paused=True)
    assert PlayedStore(tmp_path, "0f" * 16).load() == Played(
        boot_id="0f" * 16, media="film-1", position=12.5, paused=True
    )
    assert PlayedStore(tmp_path, "1f" * 16).load() is None
    store.save(None, None, paused=False)
    assert store.load() is None
    (tmp_path / "played.json").write_text('{"boot_id": ')
    assert store.load() is None


def channels(*ids: str, group: str = "239.192.80.1") -> bytes:
    view = {"names": {"en": "News"}, "group": group, "port": 5004, "live": False}
    return json.dumps(
        {
            "source": "198.18.0.1",
            "channels": [view | {"id": name, "state": "playing"} for name in ids],
            "imposed": [],
        }
    ).encode()


def test_the_channels_are_kept_for_when_the_server_is_away(tmp_path: Path) -> None:
    known = ChannelList(tmp_path)
    assert known.url("news") is None
    assert known.update(channels("news"))
    assert not known.update(channels("news")), "that is no news"
    paused = channels("news").replace(b"playing", b"paused")
    assert not known.update(paused), "nor is that, for where it is"
    known.save()
    again = ChannelList(tmp_path)
    assert again.url("news") == "rtp://198.18.0.1@239.192.80.1:5004"
    # One that is gone may still be in use.
    assert again.update(channels("sports", group="239.192.80.2"))
    assert again.url("news") is not None


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"source": "x"}'])
def test_channels_that_are_none_change_nothing(tmp_path: Path, text: bytes) -> None:
    known = ChannelList(tmp_path)
    known.update(channels("news"))
    with pytest.raises(ValidationError):
        known.update(text)
    assert known.url("news") is not None
    (tmp_path / "channels.json").write_bytes(text)
    assert ChannelList(tmp_path).url("news") is None
