"""Imports that are cut off, filled up, lied to: what is in force is whole and signed throughout."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from apps.common.content import CATALOGUE, METADATA, Kind, Progress, object_path
from apps.common.testing import small_disk
from apps.content_sync import importer
from apps.content_sync.importer import Importer, verify
from apps.content_sync.source import (
    FolderSource,
    GoneError,
    NotThereError,
    Reader,
    SocketSource,
    Source,
)
from apps.content_sync.store import StoreError
from apps.content_sync.trust import RefusedError
from tests.content.helpers import Aircraft, DiskReader, Ground, shown

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes root rights")
RANDOM = random.Random(7)  # noqa: S311 - a test is to be the same each time


def _bytes(count: int) -> bytes:
    return RANDOM.randbytes(count)


def _signed(ground: Ground) -> dict[str, str]:
    return {name: file.digest for name, file in ground.repository.files().items()}


def _lengths(ground: Ground) -> int:
    return sum({f.digest: f.length for f in ground.repository.files().values()}.values())


# -- cut off ----------------------------------------------------------------------------------


def test_a_disk_yanked_at_any_byte_goes_on_and_copies_nothing_twice(
    ground: Ground, aircraft: Aircraft, short_tmp: Path
) -> None:
    for number in range(4):
        ground.add("films", f"film-{number}", {f"{number}.mp4": _bytes(3_000_000)})
    ground.publish("news", "today", {"today.pdf": _bytes(200_000)})
    total, yanks = _lengths(ground), 0
    with DiskReader(ground.published, short_tmp / "s") as disk:
        while True:
            disk.yank_after = disk.given + RANDOM.randrange(1_500_000)
            source = SocketSource(short_tmp / "s", "disk")
            try:
                aircraft.load(source)
                break
            except GoneError:
                yanks += 1
            finally:
                source.close()
            assert set(aircraft.tree().items()) <= set(_signed(ground).items())
            if yanks % 3 == 0:
                aircraft.start()
        # The catalogues are read to be believed, and once more to be kept.
        catalogues = sum(
            file.length for name, file in ground.repository.files().items() if "catalogue" in name
        )
        assert total <= disk.given <= total + (yanks + 1) * catalogues
    assert yanks >= 8
    assert aircraft.tree() == _signed(ground)


@needs_root
def test_a_full_disk_keeps_nobody_from_starting(ground: Ground, tmp_path: Path) -> None:
    """Whoever has filled it: what is on board can be shown, verified and gone back from."""
    ground.publish("news", "today", {"today.pdf": b"of today"})
    with small_disk(tmp_path / "store", "4M") as folder:
        aircraft = Aircraft(folder, ground.root)
        aircraft.load(ground.source())
        trusted = aircraft.trust.trusted
        with suppress(OSError), (folder / "ballast").open("wb", buffering=0) as ballast:
            while ballast.write(bytes(4096)):
                pass
        aircraft.start()
        assert aircraft.trust.trusted == trusted
        assert not aircraft.trust.trouble
        assert aircraft.shows("news/today.pdf") == b"of today"
        ground.publish("news", "today", {"today.pdf": bytes(100_000)})
        with pytest.raises(OSError, match="No space left"):
            aircraft.load(ground.source())
        (folder / "ballast").unlink()
        aircraft.load(ground.source())
        assert aircraft.tree() == _signed(ground)


def test_a_file_in_a_bad_spot_costs_nothing_else(
    ground: Ground, aircraft: Aircraft, short_tmp: Path
) -> None:
    for number in range(3):
        ground.add("films", f"film-{number}", {f"{number}.mp4": _bytes(300_000 + number)})
    ground.publish("news", "today", {"today.pdf": _bytes(200_000)})
    bad = ground.repository.files()["films/1.mp4"].digest
    with DiskReader(ground.published, short_tmp / "s") as disk:
        disk.bad_spot = object_path(bad)
        source = SocketSource(short_tmp / "s", "disk")
        outcome = aircraft.load(source)
        assert (outcome.wrong, outcome.absent, outcome.missing) == ((bad,), (), 1)
        assert set(_signed(ground)) - set(aircraft.tree()) >= {"films/1.mp4"}
        assert aircraft.tree()["news/today.pdf"] == _signed(ground)["news/today.pdf"]
        assert aircraft.store.has(ground.repository.files()["films/2.mp4"].digest)
        before, disk.bad_spot = disk.given, ""
        aircraft.load(source)
        source.close()
        # What came of it is used.
        assert disk.given - before < 200_000
    assert aircraft.tree() == _signed(ground)


def test_where_it_broke_off_is_tried_after_all_else(
    ground: Ground, aircraft: Aircraft, short_tmp: Path
) -> None:
    """Where a disk hangs, and its reader is ended, what comes behind that is not lost for good."""
    for number in range(3):
        ground.add("films", f"film-{number}", {f"{number}.mp4": _bytes(300_000 + number)})
    ground.repository.sign()
    with DiskReader(ground.published, short_tmp / "s") as disk:
        for _ in range(2):
            # In the middle of the first, and then never of anything but that.
            stuck = ground.repository.files()["films/0.mp4"].digest
            disk.bad_spot = object_path(stuck)
            source = SocketSource(short_tmp / "s", "disk")
            source.is_there = lambda: False  # type: ignore[method-assign]  # its reader is gone
            with pytest.raises(GoneError):
                aircraft.load(source)
            source.close()
    assert not aircraft.store.has(stuck)
    for number in (1, 2):
        assert aircraft.store.has(ground.repository.files()[f"films/{number}.mp4"].digest)


def test_an_import_killed_at_any_moment(ground: Ground, tmp_path: Path) -> None:
    """80 times: what is in force is always one of the sets, and the next import completes it."""
    store = tmp_path / "store"
    allowed: list[dict[str, str]] = [{}]
    kills, number = 0, 0
    while kills < 80:
        number += 1
        ground.add("films", f"film-{number % 3}", {f"{number % 3}.mp4": _bytes(2_000_000)})
        ground.publish("news", "today", {"today.pdf": _bytes(50_000)})
        new = _signed(ground)
        # Today's news may be ahead of the films.
        ahead = {n: d for n, d in allowed[-1].items() if not n.startswith("news/")}
        ahead |= {n: d for n, d in new.items() if n.startswith("news/")}
        allowed = [allowed[-1], ahead, new]
        done, patience = False, 0.12
        while not done:
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    Aircraft(store, ground.root).load(ground.source())
                    status = 0
                finally:
                    os._exit(status)
            # A disk that is slow today has to come to an end, too.
            time.sleep(RANDOM.uniform(0, patience))
            patience *= 1.1
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            kills += status == signal.SIGKILL
            done = status == 0
            assert status in {0, signal.SIGKILL}
            assert shown(store) in allowed
    assert Aircraft(store, ground.root).tree() == _signed(ground)


def test_what_a_power_cut_has_left_of_a_file_is_found_out(
    ground: Ground, aircraft: Aircraft
) -> None:
    """A tail of zeros where the file system had a length, but no bytes yet."""
    data = _bytes(3_000_000)
    ground.publish("films", "film", {"film.mp4": data})
    digest = ground.repository.files()["films/film.mp4"].digest
    aircraft.store.partial(digest).write_bytes(data[:1_000_000] + bytes(500_000))
    assert aircraft.load(ground.source()).in_force
    assert aircraft.shows("films/film.mp4") == data


# -- room -------------------------------------------------------------------------------------


class _Filling(Source):
    """Serves a folder, and fills the store's disk meanwhile."""

    name = "filling"

    def __init__(self, inner: Source, filler: Path) -> None:
        self._inner = inner
        self._filler = filler

    @contextmanager
    def open(self, path: str, offset: int) -> Iterator[Reader]:
        with self._inner.open(path, offset) as reader:
            yield reader
        if path.startswith("objects") and not self._filler.exists():
            with self._filler.open("wb") as file, suppress(OSError):
                while True:
                    os.write(file.fileno(), bytes(65_536))


@needs_root
def test_a_disk_that_fills_up(ground: Ground, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "12000000") as small:
        ground.publish("films", "film", {"film.mp4": _bytes(1_000_000)})
        aircraft = Aircraft(small / "store", ground.root)
        aircraft.load(ground.source())
        before = aircraft.tree()
        ground.add("films", "film", {"film.mp4": _bytes(3_000_000)})
        ground.publish("films", "other", {"other.mp4": _bytes(2_000_000)})
        filler = small / "filler"
        with pytest.raises(OSError, match="No space"):
            aircraft.load(_Filling(ground.source(), filler))
        assert aircraft.tree() == before
        aircraft.start()
        assert aircraft.tree() == before
        filler.unlink()
        assert aircraft.load(ground.source()).in_force
        assert aircraft.tree() == _signed(ground)


@needs_root
def test_what_does_not_fit_is_refused_before_the_first_byte(ground: Ground, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "12000000") as small:
        ground.publish("films", "film", {"film.mp4": _bytes(1_000_000)})
        aircraft = Aircraft(small / "store", ground.root)
        aircraft.load(ground.source())
        before = aircraft.tree()
        ground.publish("films", "film", {"film.mp4": _bytes(15_000_000)})
        with pytest.raises(StoreError, match="no room"):
            aircraft.load(ground.source())
        assert aircraft.tree() == before
        assert list((small / "store/partial").iterdir()) == []


@needs_root
def test_a_film_that_can_never_fit_costs_nothing_else(ground: Ground, tmp_path: Path) -> None:
    """The way back stays, and the other kinds come."""
    with small_disk(tmp_path / "small", "12000000") as small:
        aircraft = Aircraft(small / "store", ground.root)
        for count in (1_000_000, 2_000_000):
            ground.publish("films", "film", {"film.mp4": _bytes(count)})
            aircraft.load(ground.source())
        former, film = aircraft.store.former, aircraft.shows("films/film.mp4")
        ground.publish("films", "other", {"other.mp4": _bytes(15_000_000)})
        with pytest.raises(StoreError, match="no room for its films"):
            aircraft.load(ground.source())
        assert aircraft.store.former == former
        ground.publish("news", "today", {"today.pdf": b"news"})
        with pytest.raises(StoreError, match=r"no room for its films: that takes 15\.0 MB"):
            aircraft.load(ground.source())
        assert aircraft.shows("news/today.pdf") == b"news"
        assert aircraft.shows("films/film.mp4") == film
        assert aircraft.store.former, "the set before, with what there was of it"
        ground.repository.retire("films", {"other"})
        ground.repository.sign()
        aircraft.load(ground.source())
        assert aircraft.tree() == _signed(ground)


@needs_root
def test_for_what_does_not_fit_beside_a_film_in_use_the_way_back_stays(
    ground: Ground, tmp_path: Path
) -> None:
    """The former film would go, and its room would not come: somebody is watching it."""
    with small_disk(tmp_path / "small", "12000000") as small:
        aircraft = Aircraft(small / "store", ground.root)
        for _ in range(2):
            ground.publish("films", "film", {"film.mp4": _bytes(5_000_000)})
            aircraft.load(ground.source())
        former = aircraft.store.former
        assert former is not None
        ground.publish("films", "film", {"film.mp4": _bytes(5_000_000)})
        threads = threading.active_count()
        with aircraft.store.object(former.files["films/film.mp4"].digest).open("rb"):
            with pytest.raises(StoreError, match="no room"):
                aircraft.load(ground.source())
            assert aircraft.store.former == former
        assert threading.active_count() == threads
        aircraft.load(ground.source())
        assert aircraft.tree() == _signed(ground)


@needs_root
def test_a_disk_that_fills_up_is_noticed_before_the_end_of_the_film(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By others, after there was room."""
    monkeypatch.setattr(importer, "TELL_EVERY", 0.0)
    ground.publish("films", "film", {"film.mp4": _bytes(60_000_000)})
    told: list[Progress] = []
    with small_disk(tmp_path / "small", "20M") as small:
        aircraft = Aircraft(small / "store", ground.root)
        monkeypatch.setattr(aircraft.store, "free", lambda: 1 << 40)
        with pytest.raises(OSError, match="No space left"):
            Importer(aircraft.store, aircraft.trust, told.append).run(ground.source())
    assert told[-1].bytes_done < 50_000_000


@needs_root
def test_the_former_set_makes_room(ground: Ground, tmp_path: Path) -> None:
    """Two of three sets fit, and the oldest is not needed any more."""
    with small_disk(tmp_path / "small", "12000000") as small:
        aircraft = Aircraft(small / "store", ground.root)
        for _ in range(5):
            ground.publish("films", "film", {"film.mp4": _bytes(5_000_000)})
            aircraft.load(ground.source())
            assert aircraft.tree() == _signed(ground)


def test_a_film_of_ten_terabytes(ground: Ground, aircraft: Aircraft) -> None:
    """Signed, it does not fit; as a sparse file in place of a small one, it is not read."""
    ground.publish("films", "film", {"film.mp4": _bytes(100_000)})
    path = ground.object("films/film.mp4")
    path.unlink()
    with path.open("wb") as file:
        file.truncate(10 * 1024**4)
    began = time.monotonic()
    outcome = aircraft.load(ground.source())
    assert (len(outcome.wrong), outcome.copied < 200_000) == (1, True)
    signed = ground.load("films")
    signed.signed.version += 1
    signed.signed.targets["films/film.mp4"].length = 10 * 1024**4
    ground.force("films", signed, "films")
    with pytest.raises(StoreError, match="no room"):
        aircraft.load(ground.source())
    assert time.monotonic() - began < 10
    assert aircraft.tree() == {}


@pytest.mark.parametrize(
    "count", [1500, pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_many_tiny_files(ground: Ground, aircraft: Aircraft, count: int) -> None:
    """Half of them are the same file. A kind has 40,000 at most."""
    files = {f"{n}.txt": b"same" if n % 2 else str(n).encode() for n in range(count)}
    names = sorted(files)
    kinds: tuple[Kind, ...] = ("maps", "shop", "films")
    for part, begin in enumerate(range(0, count, 10_000)):
        piece = {name: files[name] for name in names[begin : begin + 10_000]}
        ground.add(kinds[part % len(kinds)], f"tiles-{begin}", piece)
    ground.repository.sign()
    aircraft.load(ground.source())
    assert aircraft.tree() == _signed(ground)
    assert len([name for name in aircraft.tree() if not name.endswith(CATALOGUE)]) == count


# -- what is in a folder ----------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("trick", ["link", "link to a folder", "pipe", "device", "socket"])
def test_what_is_no_plain_file_is_not_there(
    ground: Ground, aircraft: Aircraft, tmp_path: Path, trick: str
) -> None:
    """A link would have it read the server's own files, a pipe would have it wait for ever."""
    ground.publish("films", "film", {"film.mp4": b"a film"})
    path = ground.object("films/film.mp4")
    kept = path.rename(tmp_path / "kept")
    if trick == "link":
        path.symlink_to(kept)
    elif trick == "link to a folder":
        (tmp_path / "folder").mkdir()
        kept.rename(tmp_path / "folder" / path.name)
        path.parent.rmdir()
        path.parent.symlink_to(tmp_path / "folder")
    elif trick == "pipe":
        os.mkfifo(path)
    elif trick == "device":
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
    else:
        os.mknod(path, 0o600 | 0o140000)
    outcome = aircraft.load(ground.source())
    assert len(outcome.absent) == 1
    assert aircraft.tree() == {}


def test_metadata_that_is_a_link_is_not_there(ground: Ground, aircraft: Aircraft) -> None:
    path = ground.published / METADATA / "timestamp.json"
    path.rename(path.with_name("x"))
    path.symlink_to("x")
    with pytest.raises(NotThereError):
        aircraft.load(ground.source())


def test_an_empty_folder_is_no_content(aircraft: Aircraft, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff\xfe name")).mkdir()
    with pytest.raises(NotThereError):
        aircraft.load(FolderSource(tmp_path, "folder"))


@pytest.mark.parametrize(
    "name", ["../../../etc/shadow", "..", "a/b", "/etc/shadow", "\udcff", ".hidden", "a\nb", ""]
)
def test_a_catalogue_with_a_name_that_is_none(
    ground: Ground, aircraft: Aircraft, name: str
) -> None:
    """Though the desk has signed it."""
    ground.add("news", "today", {"today.pdf": b"news"})
    text = (
        b'{"kind":"news","airline":"EXA","entries":[{"id":"x","titles":{"en":"X"},"files":'
        b'[{"role":"data","name":' + json.dumps(name).encode() + b"}]}]}"
    )
    signed = ground.load("news")
    signed.signed.version += 1
    signed.signed.targets = ground.repository._targets("news")
    file = ground.repository._add_bytes(text)
    target = signed.signed.targets["news/catalogue.json"]
    target.hashes["sha256"], target.length = file.digest, file.length
    ground.force("news", signed, "news")
    with pytest.raises(RefusedError) as caught:
        aircraft.load(ground.source())
    assert caught.value.slug == "malformed"
    assert aircraft.tree() == {}


# -- sets -------------------------------------------------------------------------------------


def test_going_back_and_forward(ground: Ground, aircraft: Aircraft) -> None:
    ground.publish("news", "today", {"today.pdf": b"first"})
    aircraft.load(ground.source())
    first = aircraft.tree()
    with pytest.raises(StoreError):
        aircraft.store.rollback()
    ground.publish("news", "today", {"today.pdf": b"second"})
    aircraft.load(ground.source())
    second = aircraft.tree()
    aircraft.store.rollback()
    assert aircraft.tree() == first
    # What the crew went back from does not come back by itself, also after a restart.
    aircraft.start()
    assert not aircraft.load(ground.source()).in_force
    assert aircraft.tree() == first
    aircraft.store.rollback()
    assert aircraft.tree() == second
    aircraft.store.rollback()
    ground.publish("news", "today", {"today.pdf": b"third"})
    aircraft.load(ground.source())
    assert aircraft.shows("news/today.pdf") == b"third"
    aircraft.store.rollback()
    assert aircraft.tree() == first


def _renew(ground: Ground, aircraft: Aircraft) -> None:
    """A month goes by, and the ground signs anew though nothing has changed."""
    before = ground.repository.version
    ground.now = aircraft.now = ground.now + timedelta(days=31)
    ground.repository.sign()
    assert ground.repository.version > before


def test_going_back_is_not_undone_by_a_set_that_was_only_renewed(
    ground: Ground, aircraft: Aircraft
) -> None:
    ground.add("films", "film", {"film.mp4": b"a film"})
    for words in (b"first", b"second"):
        ground.publish("news", "today", {"today.pdf": words})
        aircraft.load(ground.source())
    aircraft.store.rollback()
    for _ in range(2):
        _renew(ground, aircraft)
        assert not aircraft.load(ground.source()).in_force
        assert aircraft.shows("news/today.pdf") == b"first"
    # Each kind is renewed, too, once a year.
    ground.repository.expire("news", 365)
    assert not aircraft.load(ground.source()).in_force
    ground.publish("news", "today", {"today.pdf": b"third"})
    assert aircraft.load(ground.source()).in_force
    assert aircraft.tree() == _signed(ground)


def test_going_back_from_a_set_that_still_came_is_not_undone_by_its_renewal(
    ground: Ground, aircraft: Aircraft
) -> None:
    ground.add("films", "film", {"film.mp4": b"a film"})
    ground.publish("news", "today", {"today.pdf": b"first"})
    aircraft.load(ground.source())
    first = aircraft.tree()
    ground.add("films", "other", {"other.mp4": b"another film"})
    ground.publish("news", "today", {"today.pdf": b"second"})
    late = ground.object("films/other.mp4")
    kept = late.rename(late.with_name("late"))
    aircraft.load(ground.source())
    assert aircraft.shows("news/today.pdf") == b"second"
    aircraft.store.rollback()
    kept.rename(late)
    for _ in range(2):
        _renew(ground, aircraft)
        assert not aircraft.load(ground.source()).in_force
        assert aircraft.tree() == first
    ground.repository.expire("news", 365)
    assert not aircraft.load(ground.source()).in_force
    ground.publish("news", "today", {"today.pdf": b"third"})
    assert aircraft.load(ground.source()).in_force
    assert aircraft.tree() == _signed(ground)


def test_a_set_that_was_only_renewed_is_in_force_and_leaves_the_way_back(
    ground: Ground, aircraft: Aircraft
) -> None:
    for words in (b"first", b"second"):
        ground.publish("news", "today", {"today.pdf": words})
        aircraft.load(ground.source())
    for _ in range(2):
        _renew(ground, aircraft)
        assert aircraft.load(ground.source()).in_force
        assert aircraft.store.current
        assert aircraft.store.current.version == ground.repository.version
    aircraft.store.rollback()
    assert aircraft.shows("news/today.pdf") == b"first"


def test_the_crew_go_back_while_a_set_is_put_in_force(
    ground: Ground, aircraft: Aircraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Theirs is the last word: it waits for the switch, and is not undone by it."""
    for words in (b"zero", b"one"):
        ground.publish("news", "today", {"today.pdf": words})
        aircraft.load(ground.source())
    ground.publish("news", "today", {"today.pdf": b"two"})
    crew: list[threading.Thread] = []
    compose = aircraft.store.compose

    def composing(*given: Any) -> Any:
        crew.append(threading.Thread(target=aircraft.store.rollback))
        crew[-1].start()
        crew[-1].join(timeout=0.2)
        return compose(*given)

    monkeypatch.setattr(aircraft.store, "compose", composing)
    aircraft.load(ground.source())
    for one in crew:
        one.join(timeout=10)
    assert crew
    assert aircraft.shows("news/today.pdf") == b"one"


def test_the_news_do_not_wait_for_the_films(
    ground: Ground, aircraft: Aircraft, short_tmp: Path
) -> None:
    ground.add("films", "film", {"film.mp4": b"an old film"})
    ground.publish("news", "today", {"today.pdf": b"yesterday"})
    aircraft.load(ground.source())
    before = aircraft.tree()
    ground.add("films", "film", {"film.mp4": _bytes(2_000_000)})
    ground.publish("news", "today", {"today.pdf": b"today"})
    with DiskReader(ground.published, short_tmp / "s") as disk:
        disk.yank_after = 1_000_000
        source = SocketSource(short_tmp / "s", "disk")
        with pytest.raises(GoneError):
            aircraft.load(source)
        source.close()
    assert aircraft.shows("news/today.pdf") == b"today"
    assert aircraft.shows("films/film.mp4") == b"an old film"
    assert aircraft.store.current is not None
    assert aircraft.store.current.missing == 1
    assert aircraft.load(ground.source()).in_force
    assert aircraft.tree() == _signed(ground)
    # It has grown in two steps, and goes back in one.
    aircraft.store.rollback()
    assert aircraft.tree() == before


def test_going_back_brings_no_damaged_file_back(ground: Ground, aircraft: Aircraft) -> None:
    """The former set has the name of the object that was removed, until it is in force."""
    ground.add("films", "film", {"film.mp4": b"a film"})
    ground.publish("news", "today", {"today.pdf": b"yesterday"})
    aircraft.load(ground.source())
    ground.publish("news", "today", {"today.pdf": b"today"})
    aircraft.load(ground.source())
    store = aircraft.store
    digest = ground.repository.files()["films/film.mp4"].digest
    store.object(digest).chmod(0o644)
    store.object(digest).write_bytes(b"decayed")
    for path, _, is_damaged in store.damaged():
        if is_damaged:
            store.discard(path)
    store.leave_out_what_is_gone(None)
    assert store.rollback().missing == 1
    assert set(aircraft.tree()) == {"films/catalogue.json", "news/catalogue.json", "news/today.pdf"}
    assert aircraft.shows("news/today.pdf") == b"yesterday"
    store.rollback()
    aircraft.load(ground.source())
    store.rollback()
    assert aircraft.shows("news/today.pdf") == b"yesterday"
    assert "films/film.mp4" not in aircraft.tree()


def test_part_of_a_kind_is_whole_entries(ground: Ground, aircraft: Aircraft) -> None:
    """At the end of a turnaround: what is there of the films, each with all of its files."""
    ground.add("films", "one", {"one.mp4": b"1", "one.srt": b"one"})
    ground.publish("films", "two", {"two.mp4": b"2", "two.srt": b"two"})
    ground.object("films/two.srt").unlink()
    assert not aircraft.load(ground.source()).in_force
    outcome = aircraft.load(ground.source(), kinds={"films"}, partly=True)
    assert (outcome.in_force, len(outcome.absent)) == (True, 1)
    assert set(aircraft.tree()) == {"films/catalogue.json", "films/one.mp4", "films/one.srt"}


@pytest.mark.parametrize("kind", ["firmware", "configuration"])
def test_firmware_and_configuration_wait_for_the_whole(
    ground: Ground, aircraft: Aircraft, kind: Kind
) -> None:
    """Also where all else comes in force entry by entry."""
    files = {"one.bin": b"old", "two.bin": b"old as well"}
    ground.publish(kind, "seats", files)
    aircraft.load(ground.source())
    ground.add("films", "film", {"film.mp4": b"a film"})
    ground.add(kind, "seats", {name: b"new " + data for name, data in files.items()})
    ground.publish(kind, "switches", {"three.bin": b"new"})
    late = ground.object(f"{kind}/two.bin")
    kept = late.rename(late.with_name("late"))
    assert aircraft.load(ground.source(), partly=True).in_force
    assert aircraft.shows("films/film.mp4") == b"a film"
    assert [aircraft.shows(f"{kind}/{name}") for name in files] == list(files.values())
    assert aircraft.shows(f"{kind}/three.bin") is None
    kept.rename(late)
    assert aircraft.load(ground.source(), kinds={kind}, partly=True).in_force
    assert aircraft.tree() == _signed(ground)


def test_one_kind_alone(ground: Ground, aircraft: Aircraft) -> None:
    ground.add("films", "film", {"film.mp4": b"a film"})
    ground.publish("news", "today", {"today.pdf": b"today"})
    aircraft.load(ground.source(), kinds={"news"})
    assert set(aircraft.tree()) == {"news/catalogue.json", "news/today.pdf"}
    aircraft.load(ground.source(), kinds={"films"})
    assert aircraft.tree() == _signed(ground)


def test_an_older_disk_helps_a_newer_set(
    ground: Ground, aircraft: Aircraft, tmp_path: Path
) -> None:
    """The gate has brought word of a newer set, the disk has most of its films."""
    ground.add("films", "film", {"film.mp4": b"a film"})
    ground.publish("news", "today", {"today.pdf": b"yesterday"})
    disk = ground.disk(tmp_path / "disk")
    ground.publish("news", "today", {"today.pdf": b"today"})
    aircraft.trust.look(ground.source())
    outcome = aircraft.load(disk)
    assert len(outcome.absent) == 1
    assert set(aircraft.tree()) == {"films/catalogue.json", "films/film.mp4"}
    ground.object("films/film.mp4").unlink()
    assert aircraft.load(ground.source()).in_force
    assert aircraft.tree() == _signed(ground)


def test_a_glimpse_of_a_newer_set_does_not_make_a_disk_useless(
    ground: Ground, aircraft: Aircraft, tmp_path: Path
) -> None:
    """What the newer one has changed is missing on it, and the rest of it comes in force."""
    ground.add("maps", "map", {"map.db": b"a map"})
    ground.publish("news", "today", {"today.pdf": b"yesterday"})
    aircraft.load(ground.source())
    first = aircraft.tree()
    ground.add("films", "film", {"film.mp4": b"a film"})
    ground.add("maps", "map", {"map.db": b"a new map"})
    ground.publish("news", "today", {"today.pdf": b"today"})
    disk = ground.disk(tmp_path / "disk")
    ground.add("films", "other", {"other.mp4": b"another film"})
    ground.publish("news", "today", {"today.pdf": b"tomorrow"})
    newest = ground.source()
    aircraft.trust.look(newest)
    # The next station is reached after a restart.
    aircraft.start()
    outcome = aircraft.load(disk)
    assert (outcome.older, outcome.in_force, outcome.wrong) == (True, True, ())
    assert aircraft.shows("films/film.mp4") == b"a film"
    assert aircraft.shows("maps/map.db") == b"a new map"
    # The former newspaper is better than none, and than what the ground no longer stands by.
    assert aircraft.shows("news/today.pdf") == b"yesterday"
    assert not aircraft.load(disk).in_force
    with pytest.raises(RefusedError, match="older"):
        aircraft.trust.look(disk)
    aircraft.store.rollback()
    assert aircraft.tree() == first
    aircraft.store.rollback()
    assert aircraft.load(newest).in_force
    assert aircraft.tree() == _signed(ground)


def test_files_of_ours_are_linked_not_copied(ground: Ground, aircraft: Aircraft) -> None:
    """What the gate has brought lies on the store's file system already."""
    ground.publish("films", "film", {"film.mp4": b"a film"})
    inode = ground.object("films/film.mp4").stat().st_ino
    aircraft.load(FolderSource(ground.published, "gate", ours=True))
    digest = ground.repository.files()["films/film.mp4"].digest
    assert aircraft.store.object(digest).stat().st_ino == inode
    ground.publish("films", "film", {"film.mp4": b"another"})
    path = ground.object("films/film.mp4")
    path.write_bytes(b"changed")
    outcome = aircraft.load(FolderSource(ground.published, "gate", ours=True))
    assert outcome.wrong == (path.name,)
    assert aircraft.shows("films/film.mp4") == b"a film"


# -- what goes --------------------------------------------------------------------------------


def test_what_no_set_needs_goes_but_not_while_it_is_read(
    ground: Ground, aircraft: Aircraft
) -> None:
    for number in (b"one", b"two", b"three"):
        ground.publish("films", "film", {"film.mp4": number})
        digest = ground.repository.files()["films/film.mp4"].digest
        if number == b"one":
            first = digest
        aircraft.load(ground.source())
        if number == b"two":
            watched = aircraft.store.object(first).open("rb")
    with watched:
        aircraft.store.collect()
        assert aircraft.store.has(first)
        assert watched.read() == b"one"
    assert aircraft.store.collect() > 0
    assert not aircraft.store.has(first)
    assert aircraft.shows("films/film.mp4") == b"three"
    aircraft.store.rollback()
    assert aircraft.shows("films/film.mp4") == b"two"


def test_a_file_that_decays_on_board_is_found_and_comes_again(
    ground: Ground, aircraft: Aircraft
) -> None:
    ground.add("films", "one", {"one.mp4": b"1"})
    ground.publish("films", "two", {"two.mp4": b"2"})
    aircraft.load(ground.source())
    stop = threading.Event()
    assert verify(aircraft.store, aircraft.trust, lambda _: None, stop) == ()
    digest = ground.repository.files()["films/two.mp4"].digest
    aircraft.store.object(digest).chmod(0o640)
    aircraft.store.object(digest).write_bytes(b"?")
    assert verify(aircraft.store, aircraft.trust, lambda _: None, stop) == (digest,)
    assert "films/two.mp4" not in aircraft.tree()
    assert "films/one.mp4" in aircraft.tree()
    assert aircraft.load(ground.source()).in_force
    assert aircraft.tree() == _signed(ground)


@pytest.mark.parametrize("newer", [False, True], ids=["newest", "newer-is-known"])
@pytest.mark.parametrize("name", ["films/catalogue.json", "films/one.mp4"])
def test_whatever_decays_comes_again(
    ground: Ground, aircraft: Aircraft, name: str, newer: bool
) -> None:
    """Also a catalogue, and also while a newer set is on its way."""
    ground.publish("news", "today", {"today.pdf": b"news"})
    ground.publish("films", "one", {"one.mp4": b"1"})
    aircraft.load(ground.source())
    path = aircraft.store.object(ground.repository.files()[name].digest)
    path.chmod(0o640)
    path.write_bytes(b"?")
    if newer:
        ground.publish("shop", "tea", {"tea.jpg": b"tea"})
        aircraft.trust.look(ground.source())
    stop = threading.Event()
    assert verify(aircraft.store, aircraft.trust, lambda _: None, stop) == (path.name,)
    assert name not in aircraft.tree()
    assert aircraft.shows("news/today.pdf") == b"news"
    assert aircraft.load(ground.source()).in_force
    assert aircraft.tree() == _signed(ground)


def test_what_was_found_decayed_before_a_power_cut_comes_again(
    ground: Ground, aircraft: Aircraft
) -> None:
    ground.publish("films", "one", {"one.mp4": b"1"})
    aircraft.load(ground.source())
    aircraft.store.object(ground.repository.files()["films/one.mp4"].digest).unlink()
    assert verify(aircraft.store, aircraft.trust, lambda _: None, threading.Event()) == ()
    assert aircraft.load(ground.source()).in_force
    assert aircraft.store.missing(ground.repository.files().values()) == {}


def test_another_root_begins_anew(ground: Ground, aircraft: Aircraft, tmp_path: Path) -> None:
    """The airline has lost its root: aircraft get another by their configuration."""
    ground.publish("news", "today", {"today.pdf": b"with the old root"})
    aircraft.load(ground.source())
    other = Ground(tmp_path / "other")
    other.repository.begin("EXA")
    other.publish("news", "today", {"today.pdf": b"with the new root"})
    aircraft.root = other.repository.root_path.read_bytes()
    aircraft.start()
    assert aircraft.shows("news/today.pdf") == b"with the old root"
    aircraft.load(other.source())
    assert aircraft.shows("news/today.pdf") == b"with the new root"
    with pytest.raises(RefusedError):
        aircraft.load(ground.source())


def test_a_missing_object_of_a_folder_is_told(ground: Ground, aircraft: Aircraft) -> None:
    ground.publish("films", "film", {"film.mp4": b"a film"})
    digest = ground.repository.files()["films/film.mp4"].digest
    (ground.published / object_path(digest)).unlink()
    outcome = aircraft.load(ground.source())
    assert (outcome.absent, outcome.missing) == ((digest,), 1)
