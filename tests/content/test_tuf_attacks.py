"""The attacks of TUF's specification (1.0.33, 1.5.2) and paper, each on a real repository.

The attacker has what a crew disk or the way to it gives: any bytes, any older repository, and where
a test says so some of the keys.
"""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, TargetFile, Targets

from apps.common.content import KINDS, MAX_KIND, METADATA, object_path
from apps.content_sync import trust
from apps.content_sync.source import (
    FolderSource,
    GoneError,
    NotThereError,
    Reader,
    SocketSource,
    Source,
    TooSlowError,
)
from apps.content_sync.trust import RefusedError
from apps.publish import repository
from apps.publish.keys import Keys
from apps.publish.repository import PublishError, Repository, _size_of_lists
from tests.content.helpers import NOW, PASSPHRASE, Aircraft, DiskReader, Ground

GOOD = b"the newspaper of today"


@pytest.fixture
def flying(ground: Ground, aircraft: Aircraft) -> Aircraft:
    """An aircraft with content."""
    ground.publish("news", "today", {"today.pdf": GOOD})
    ground.publish("firmware", "player", {"player.bin": b"firmware 1"})
    aircraft.load(ground.source())
    assert aircraft.shows("news/today.pdf") == GOOD
    return aircraft


def _refused(aircraft: Aircraft, source: Source) -> str:
    """Why an import is refused; nothing has changed then, nor is anything else trusted."""
    before, trusted = aircraft.tree(), aircraft.trust.trusted
    with pytest.raises(RefusedError) as caught:
        aircraft.load(source)
    assert aircraft.tree() == before
    assert aircraft.trust.trusted == trusted
    return caught.value.slug


# -- arbitrary software: other bytes than those that were signed -------------------------------


def test_another_file_under_the_name_of_a_signed_one(ground: Ground, flying: Aircraft) -> None:
    ground.publish("firmware", "player", {"player.bin": b"firmware 2"})
    ground.object("firmware/player.bin").write_bytes(b"firmware X")
    outcome = flying.load(ground.source())
    assert outcome.wrong == (ground.repository.files()["firmware/player.bin"].digest,)
    assert flying.shows("firmware/player.bin") == b"firmware 1"


def test_another_catalogue(ground: Ground, flying: Aircraft) -> None:
    ground.publish("news", "today", {"today.pdf": b"more"})
    catalogue = ground.object("news/catalogue.json")
    catalogue.write_bytes(catalogue.read_bytes().replace(b"Today", b"Lies!"))
    assert _refused(flying, ground.source()) == "damaged"


def test_one_byte_changed_in_any_metadata(ground: Ground, tmp_path: Path) -> None:
    ground.publish("news", "today", {"today.pdf": GOOD})
    for path in ground.repository.metadata():
        if path.name == "1.root.json":
            continue  # it came with the aircraft, and is not asked for
        whole = path.read_bytes()
        for place in (len(whole) // 3, len(whole) // 2, len(whole) - 20):
            changed = bytearray(whole)
            changed[place] ^= 1
            path.write_bytes(changed)
            fresh = Aircraft(tmp_path / f"{path.name} {place}", ground.root)
            assert _refused(fresh, ground.source()) in {"damaged", "unsigned", "malformed"}
        path.write_bytes(whole)
    assert Aircraft(tmp_path / "store", ground.root).load(ground.source()).in_force


def test_a_repository_of_other_keys(ground: Ground, flying: Aircraft, tmp_path: Path) -> None:
    """That of another airline, say."""
    other = Ground(tmp_path / "other")
    other.repository.begin("OTH")
    other.publish("news", "today", {"today.pdf": b"not ours"})
    other.repository.expire("timestamp", 20)
    assert _refused(flying, other.source()) == "unsigned"


def test_a_catalogue_of_another_airline_signed_by_ours(ground: Ground, tmp_path: Path) -> None:
    """One that keeps repositories for two, and mixes them up."""
    ground.publish("news", "today", {"today.pdf": GOOD})
    aircraft = Aircraft(tmp_path / "store", ground.root, airline="OTH")
    with pytest.raises(RefusedError) as caught:
        aircraft.load(ground.source())
    assert caught.value.slug == "airline"
    assert aircraft.tree() == {}


# -- rollback: what was right once ------------------------------------------------------------


def test_an_older_set(ground: Ground, flying: Aircraft, tmp_path: Path) -> None:
    older = shutil.copytree(ground.published, tmp_path / "older")
    ground.publish("firmware", "player", {"player.bin": b"firmware 2"})
    flying.load(ground.source())
    assert _refused(flying, FolderSource(older, "an old disk")) == "older"
    flying.start()
    assert _refused(flying, FolderSource(older, "an old disk")) == "older"
    assert flying.shows("firmware/player.bin") == b"firmware 2"


def test_an_older_set_with_the_newest_timestamp(ground: Ground, flying: Aircraft) -> None:
    """Who has the timestamp's key signs that an old snapshot is the newest."""
    ground.publish("firmware", "player", {"player.bin": b"firmware 2"})
    flying.load(ground.source())
    timestamp = ground.load("timestamp")
    timestamp.signed.version += 1
    timestamp.signed.snapshot_meta = ground.repository._meta_of("snapshot", 2)
    for signer in ground.keys.of("timestamp"):
        timestamp.sign(signer)
    (ground.published / METADATA / "timestamp.json").write_bytes(timestamp.to_bytes())
    assert _refused(flying, ground.source()) == "older"


def test_one_kind_of_an_older_set(ground: Ground, flying: Aircraft) -> None:
    """Who has the online keys signs a snapshot with the firmware of before."""
    ground.publish("firmware", "player", {"player.bin": b"firmware 2"})
    flying.load(ground.source())
    (ground.published / METADATA / "3.firmware.json").unlink()
    ground.repository.expire("snapshot", 30)
    assert ground.load("snapshot").signed.meta["firmware.json"].version == 2
    assert _refused(flying, ground.source()) == "older"


# -- freeze: nothing newer is let through ------------------------------------------------------


def test_a_set_that_nobody_stands_by_any_more(ground: Ground, flying: Aircraft) -> None:
    """What is on board plays on, what has expired is not imported."""
    ground.publish("news", "today", {"today.pdf": b"of tomorrow"})
    flying.now = NOW + timedelta(days=31)
    flying.start()
    assert _refused(flying, ground.source()) == "expired"
    assert flying.shows("news/today.pdf") == GOOD


@pytest.mark.parametrize("role", ["snapshot", "targets", "news", "root"])
def test_any_part_that_has_expired(ground: Ground, flying: Aircraft, role: str) -> None:
    ground.publish("news", "today", {"today.pdf": b"of tomorrow"})
    ground.repository.expire(role, 5)
    flying.now = NOW + timedelta(days=6)
    flying.start()
    assert _refused(flying, ground.source()) == "expired"


def test_what_nobody_has_changed_for_a_year_does_not_end_what_is_new(
    ground: Ground, flying: Aircraft
) -> None:
    """Of the kinds whose keys are at hand: `sign` signs them anew before they expire."""
    for days in (300, 600, 640):
        ground.now = flying.now = NOW + timedelta(days=days)
        ground.publish("news", "today", {"today.pdf": f"of day {days}".encode()})
    ground.repository.expire("targets", 730)
    flying.start()
    assert flying.load(ground.source()).in_force
    assert ground.load("maps").signed.expires > ground.now + timedelta(days=90)


def test_a_disk_is_good_for_its_time_from_the_day_on_which_it_was_signed(
    ground: Ground, flying: Aircraft, tmp_path: Path
) -> None:
    """Though nothing is new, and the snapshot would expire before."""
    for days in (25, 50):
        ground.now = NOW + timedelta(days=days)
        assert "timestamp" in ground.repository.sign().published
        assert ground.repository.sign().published == {}
    disk = ground.disk(tmp_path / "disk")
    flying.now = ground.now + timedelta(days=29)
    flying.start()
    flying.load(disk)
    assert flying.trust.reference is not None


@pytest.mark.parametrize("years", [-30, 80])
def test_a_clock_that_nobody_told_the_time_locks_nothing_out(
    ground: Ground, aircraft: Aircraft, years: int
) -> None:
    """Neither one that begins in 1996, nor one that is far ahead."""
    aircraft.now, aircraft.told = NOW + timedelta(days=365 * years), False
    aircraft.start()
    ground.publish("news", "today", {"today.pdf": GOOD})
    assert aircraft.load(ground.source()).in_force
    ground.publish("news", "today", {"today.pdf": b"of tomorrow"})
    assert aircraft.load(ground.source()).in_force


def test_what_was_over_when_the_newest_word_was_signed_is_over_for_any_clock(
    ground: Ground, aircraft: Aircraft
) -> None:
    """The day on which the ground signed has surely come."""
    aircraft.now, aircraft.told = NOW - timedelta(days=3650), False
    aircraft.start()
    ground.publish("news", "today", {"today.pdf": GOOD})
    aircraft.load(ground.source())
    assert aircraft.trust.reference == NOW
    ground.repository.expire("news", 5)
    ground.now = NOW + timedelta(days=6)
    ground.repository.expire("timestamp", 30)
    assert _refused(aircraft, ground.source()) == "expired"


def test_a_clock_that_nobody_told_the_time_learns_from_what_is_signed(
    ground: Ground, aircraft: Aircraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What expired before the newest word that was ever accepted, has expired for sure."""
    aircraft.told = False
    aircraft.start()
    ground.publish("news", "today", {"today.pdf": GOOD})
    ground.now = NOW + timedelta(days=40)
    ground.repository.expire("timestamp", 30)
    aircraft.load(ground.source())
    assert aircraft.trust.reference == ground.now
    # Signed by who has the online keys, with a higher version, as of a day that is over.
    monkeypatch.setattr(ground.repository, "check_clock", lambda: None)
    ground.now = NOW
    ground.publish("news", "today", {"today.pdf": b"of tomorrow"})
    assert _refused(aircraft, ground.source()) == "expired"


def test_who_tells_the_clock_a_day_of_long_ago_lets_nothing_in(
    ground: Ground, aircraft: Aircraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who plays the time server at a gate: what the ground has signed shows that it is later."""
    ground.publish("news", "today", {"today.pdf": GOOD})
    aircraft.load(ground.source())
    aircraft.now = NOW - timedelta(days=365)
    aircraft.start()
    assert aircraft.trust.reference == NOW
    monkeypatch.setattr(ground.repository, "check_clock", lambda: None)
    ground.now = NOW - timedelta(days=31)
    ground.publish("news", "today", {"today.pdf": b"of a day that is over"})
    assert _refused(aircraft, ground.source()) == "expired"


# -- mix and match: parts that never were together ---------------------------------------------


def test_a_kind_of_another_set(ground: Ground, flying: Aircraft) -> None:
    """Each is signed and fresh, the snapshot tells that they do not belong together."""
    ground.publish("news", "today", {"today.pdf": b"second"})
    second = (ground.published / METADATA / "3.news.json").read_bytes()
    ground.publish("news", "today", {"today.pdf": b"third"})
    (ground.published / METADATA / "4.news.json").write_bytes(second)
    assert _refused(flying, ground.source()) == "damaged"


def test_a_snapshot_that_the_timestamp_does_not_mean(ground: Ground, flying: Aircraft) -> None:
    ground.publish("news", "today", {"today.pdf": b"second"})
    version = ground.repository.version
    former = (ground.published / METADATA / f"{version - 1}.snapshot.json").read_bytes()
    (ground.published / METADATA / f"{version}.snapshot.json").write_bytes(former)
    assert _refused(flying, ground.source()) == "damaged"


def test_a_snapshot_without_hashes_is_held_to_its_versions(
    ground: Ground, flying: Aircraft
) -> None:
    ground.publish("news", "today", {"today.pdf": b"second"})
    second = (ground.published / METADATA / "3.news.json").read_bytes()
    ground.publish("news", "today", {"today.pdf": b"third"})
    (ground.published / METADATA / "4.news.json").write_bytes(second)
    snapshot = ground.load("snapshot")
    snapshot.signed.version += 1
    for meta in snapshot.signed.meta.values():
        meta.hashes = meta.length = None
    for signer in ground.keys.of("snapshot"):
        snapshot.sign(signer)
    path = ground.published / METADATA / f"{snapshot.signed.version}.snapshot.json"
    path.write_bytes(snapshot.to_bytes())
    timestamp = ground.load("timestamp")
    timestamp.signed.version += 1
    timestamp.signed.snapshot_meta = ground.repository._meta_of("snapshot")
    for signer in ground.keys.of("timestamp"):
        timestamp.sign(signer)
    (ground.published / METADATA / "timestamp.json").write_bytes(timestamp.to_bytes())
    assert _refused(flying, ground.source()) in {"older", "malformed"}


# -- endless data -----------------------------------------------------------------------------


class _Endless(Source):
    """Serves a repository, but one file of it never ends."""

    name = "endless"

    def __init__(self, inner: Source, endless: str) -> None:
        self._inner = inner
        self._endless = endless
        self.given = 0

    def read(self, path: str, max_bytes: int) -> bytes:
        if path.endswith(self._endless):
            self.given += max_bytes + 1
            return bytes(max_bytes + 1)
        return self._inner.read(path, max_bytes)

    @contextmanager
    def open(self, path: str, offset: int) -> Iterator[Reader]:
        if path.endswith(self._endless):
            yield self
        else:
            with self._inner.open(path, offset) as reader:
                yield reader

    def readinto(self, buffer: memoryview, /) -> int:
        self.given += len(buffer)
        return len(buffer)


@pytest.mark.parametrize(
    ("endless", "most"),
    [
        ("timestamp.json", 100_000),
        ("2.root.json", 700_000),
        ("snapshot.json", 100_000),
        ("3.news.json", 100_000),
    ],
)
def test_metadata_without_end(ground: Ground, flying: Aircraft, endless: str, most: int) -> None:
    ground.publish("news", "today", {"today.pdf": b"second"})
    source = _Endless(ground.source(), endless)
    assert _refused(flying, source) == "damaged"
    assert 0 < source.given <= most < MAX_KIND


@pytest.mark.parametrize("name", ["news/catalogue.json", "news/today.pdf"])
def test_a_file_without_end(ground: Ground, flying: Aircraft, name: str) -> None:
    before = flying.tree()
    ground.publish("news", "today", {"today.pdf": b"second"})
    file = ground.repository.files()[name]
    source = _Endless(ground.source(), file.digest)
    try:
        assert flying.load(source).wrong == (file.digest,)
    except RefusedError as error:
        assert error.slug == "damaged"  # noqa: PT017 - the one or the other
    assert 0 < source.given <= file.length + 1
    assert flying.tree() == before


# -- slow retrieval ---------------------------------------------------------------------------


@pytest.mark.parametrize("slow", ["head", "metadata/timestamp.json", "object"])
def test_a_source_that_trickles(
    ground: Ground, flying: Aircraft, short_tmp: Path, slow: str
) -> None:
    """It is left within seconds, whatever it trickles, and what is on board stays."""
    before = flying.tree()
    ground.publish("news", "today", {"today.pdf": b"second" * 1000})
    if slow == "object":
        slow = object_path(ground.repository.files()["news/today.pdf"].digest)
    with DiskReader(ground.published, short_tmp / "s") as disk:
        disk.trickle = slow
        source = SocketSource(short_tmp / "s", "slow", slow_after=0.5, slowest=10_000)
        began = time.monotonic()
        with pytest.raises(TooSlowError):
            flying.load(source)
        assert time.monotonic() - began < 20
        source.close()
    assert flying.tree() == before


def test_a_source_that_is_slow_but_not_as_slow_as_that(
    ground: Ground, flying: Aircraft, short_tmp: Path
) -> None:
    ground.publish("news", "today", {"today.pdf": b"second" * 10})
    with DiskReader(ground.published, short_tmp / "s") as disk:
        disk.trickle = object_path(ground.repository.files()["news/today.pdf"].digest)
        source = SocketSource(short_tmp / "s", "slow", slow_after=0.15, slowest=5)
        assert flying.load(source).in_force
        source.close()


def test_a_source_that_takes_its_time_to_say_that_it_has_nothing(
    ground: Ground, short_tmp: Path
) -> None:
    """Each answer by itself would be quick enough."""
    with DiskReader(ground.published, short_tmp / "s") as disk:
        disk.dawdle = 0.19
        source = SocketSource(short_tmp / "s", "slow", slow_after=2.0, slowest=50_000)
        began = time.monotonic()
        for number in range(10):
            with pytest.raises(NotThereError):
                source.read(object_path(f"{number:064x}"), 100)
        with pytest.raises(TooSlowError):
            source.read(object_path(f"{10:064x}"), 100)
        assert time.monotonic() - began < 5
        source.close()


TRAILERS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n"


@pytest.mark.parametrize(
    ("begin", "more", "why"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "gives nothing"),
        (TRAILERS, b"More: and more\r\n", "it answers 200"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"{", "it answers 200"),
    ],
    ids=["heads", "trailers", "no length"],
)
def test_a_source_that_answers_for_ever(
    short_tmp: Path, begin: bytes, more: bytes, why: str
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_tmp / "s"))
        listener.listen()

        def answer() -> None:
            client, _ = listener.accept()
            with client, suppress(OSError):
                client.recv(1000)
                client.sendall(begin)
                while True:
                    client.sendall(more * 1000)

        thread = threading.Thread(target=answer)
        thread.start()
        source = SocketSource(short_tmp / "s", "endless")
        with pytest.raises(GoneError, match=why):
            source.read("metadata/timestamp.json", 100)
        source.close()
        thread.join(timeout=5)
        assert not thread.is_alive()


# -- keys -------------------------------------------------------------------------------------


def test_the_news_desk_cannot_sign_firmware(ground: Ground, flying: Aircraft) -> None:
    """Though it has the online keys, too."""
    signed = ground.load("firmware")
    signed.signed.version += 1
    digest = ground.repository._add_bytes(b"firmware X").digest
    signed.signed.targets["firmware/player.bin"].hashes["sha256"] = digest
    ground.force("firmware", signed, "news", "snapshot", "timestamp")
    assert _refused(flying, ground.source()) == "unsigned"


def test_the_news_desk_cannot_put_firmware_among_its_news(ground: Ground, flying: Aircraft) -> None:
    signed = ground.load("news")
    signed.signed.version += 1
    file = ground.repository._add_bytes(b"firmware X")
    signed.signed.targets["firmware/player.bin"] = TargetFile(
        file.length, {"sha256": file.digest}, "firmware/player.bin"
    )
    ground.force("news", signed, "news")
    flying.load(ground.source())
    assert flying.shows("firmware/player.bin") == b"firmware 1"
    assert not flying.store.has(file.digest)


def test_the_news_desk_cannot_name_who_signs_firmware(ground: Ground, flying: Aircraft) -> None:
    """It has the keys of every day, too, and names a role of its own ``firmware``."""
    ground.publish("firmware", "player", {"player.bin": b"firmware X"})
    before = ground.load("news").signed
    (key,) = (signer.public_key for signer in ground.keys.of("news"))
    role = DelegatedRole("firmware", [key.keyid], 1, terminating=False, paths=["news/*"])
    before.delegations = Delegations({key.keyid: key}, {"firmware": role})
    before.version += 1
    del before.targets["news/today.pdf"]  # so that it is looked for further down
    ground.force("news", Metadata(before), "news")
    firmware = ground.load("firmware").signed
    firmware.version += 1
    firmware.targets["news/today.pdf"] = TargetFile.from_data("news/today.pdf", GOOD, ["sha256"])
    ground.force("firmware", Metadata(firmware), "news")
    assert _refused(flying, ground.source()) == "unsigned"
    assert flying.shows("firmware/player.bin") == b"firmware 1"


def test_one_key_of_two_is_not_enough_for_firmware(ground: Ground, flying: Aircraft) -> None:
    (ground.folder / "keys" / "firmware-2.pem").rename(ground.folder / "elsewhere.pem")
    signed = ground.publish("firmware", "player", {"player.bin": b"firmware 2"})
    assert signed.waiting == {"firmware": (1, 2)}
    ground.force(
        "firmware", Metadata.from_file(str(ground.folder / "unsigned/firmware.json")), "firmware"
    )
    assert _refused(flying, ground.source()) == "unsigned"
    (ground.folder / "elsewhere.pem").rename(ground.folder / "keys" / "firmware-2.pem")


def test_one_signature_twice_is_one(ground: Ground, flying: Aircraft) -> None:
    """A key cannot stand in for the other by another name."""
    (ground.folder / "keys" / "firmware-2.pem").unlink()
    ground.publish("firmware", "player", {"player.bin": b"firmware 2"})
    signed = Metadata[Targets].from_file(str(ground.folder / "unsigned/firmware.json"))
    (one,) = signed.signatures.values()
    for other in ground.load("targets").signed.delegations.roles["firmware"].keyids:
        signed.signatures[other] = type(one)(other, one.signature)
    (ground.published / METADATA / "3.firmware.json").write_bytes(signed.to_bytes())
    ground.repository.expire("snapshot", 30)
    assert _refused(flying, ground.source()) == "unsigned"


def test_a_root_that_too_few_have_signed(ground: Ground, flying: Aircraft) -> None:
    """With one of three keys an attacker names a key of his own for firmware."""
    root = ground.load("root")
    root.signed.version = 2
    root.signed.roles["targets"].threshold = 1
    root.signatures.clear()
    root.sign(ground.keys.of("root")[0], append=True)
    (ground.published / METADATA / "2.root.json").write_bytes(root.to_bytes())
    assert _refused(flying, ground.source()) == "unsigned"
    assert flying.trust.root_version == 1


def test_a_key_that_was_rotated_away_signs_no_more(ground: Ground, flying: Aircraft) -> None:
    (stolen,) = ground.keys.of("news")
    ground.repository.rotate("news", 1)
    flying.load(ground.source())
    signed = ground.load("news")
    signed.signed.version += 1
    signed.sign(stolen)
    (ground.published / METADATA / "4.news.json").write_bytes(signed.to_bytes())
    ground.repository.expire("snapshot", 30)
    assert _refused(flying, ground.source()) == "unsigned"


def test_a_root_is_kept_though_nothing_else_is_new(ground: Ground, flying: Aircraft) -> None:
    """A key that was replaced is not believed again after a restart."""
    flying.load(ground.source())
    timestamp = ground.published / METADATA / "timestamp.json"
    same = timestamp.read_bytes()
    ground.repository.rotate("root", 1)
    timestamp.write_bytes(same)
    flying.load(ground.source())
    assert flying.trust.root_version == 2
    flying.start()
    assert flying.trust.root_version == 2


def test_root_and_every_other_key_can_be_replaced(ground: Ground, flying: Aircraft) -> None:
    """An aircraft that was away meanwhile follows root by root."""
    for role in ("root", "root", "targets", "snapshot", "timestamp", "firmware", "news"):
        assert not ground.repository.rotate(role, 1).waiting
    ground.publish("news", "today", {"today.pdf": b"signed with new keys"})
    flying.load(ground.source())
    assert flying.shows("news/today.pdf") == b"signed with new keys"
    assert flying.trust.root_version > 4
    flying.start()
    assert flying.trust.root_version > 4


@pytest.mark.parametrize(
    ("role", "hers", "lost"),
    [
        ("firmware", ["keys/firmware-2"], []),
        ("targets", ["offline/targets-2"], ["offline/targets-3"]),
        ("news", ["offline/targets-2", "offline/targets-3"], ["keys/news-1"]),
        ("snapshot", ["offline/root-2", "offline/root-3"], ["keys/snapshot-1"]),
        ("timestamp", ["offline/root-2", "offline/root-3"], ["keys/timestamp-1"]),
    ],
)
def test_a_key_is_replaced_while_somebody_else_has_others(
    ground: Ground, flying: Aircraft, tmp_path: Path, role: str, hers: list[str], lost: list[str]
) -> None:
    """Aircraft believe what is published at each step."""
    for name in lost:
        (ground.folder / f"{name}.pem").unlink()
    if role == "targets":
        ground.repository.expire("targets", 700)  # the key that is lost has signed it no more
    (tmp_path / "hers").mkdir()
    for name in hers:
        path = ground.folder / f"{name}.pem"
        path.rename(tmp_path / "hers" / path.name)
    done = ground.repository.rotate(role, 1)
    assert done.waiting
    assert not done.published
    flying.load(ground.source())

    ground.publish("shop", "tea", {"tea.jpg": b"tea"})
    flying.load(ground.source())
    if role not in {"snapshot", "timestamp"}:
        assert flying.shows("shop/tea.jpg") == b"tea", "what has its keys is published"

    keys = Keys((*ground.keys.folders, tmp_path / "hers"), PASSPHRASE)
    done = Repository(ground.folder, keys, lambda: ground.now).sign()
    assert {role, "targets" if role in KINDS else "root"} <= done.published.keys()
    assert not done.waiting
    assert not done.held
    flying.load(ground.source())
    assert flying.shows("shop/tea.jpg") == b"tea"
    assert not list((ground.folder / "unsigned").iterdir())


def test_recovery_from_a_stolen_timestamp_key(ground: Ground, flying: Aircraft) -> None:
    """The thief signed a version that nobody ever reaches; with the key that goes, too."""
    timestamp = ground.load("timestamp")
    timestamp.signed.version = 2**31
    for signer in ground.keys.of("timestamp"):
        timestamp.sign(signer)
    path = ground.published / METADATA / "timestamp.json"
    honest = path.read_bytes()
    path.write_bytes(timestamp.to_bytes())
    flying.load(ground.source())
    path.write_bytes(honest)
    ground.publish("news", "today", {"today.pdf": b"more"})
    assert _refused(flying, ground.source()) == "older"
    ground.repository.rotate("timestamp", 1)
    flying.load(ground.source())
    assert flying.shows("news/today.pdf") == b"more"


@pytest.mark.parametrize("restarted", [False, True])
def test_recovery_from_a_day_far_ahead_that_a_stolen_timestamp_key_has_signed(
    ground: Ground, flying: Aircraft, restarted: bool
) -> None:
    """It would lock out what is fresh, where nobody tells the clock the time."""
    flying.told = False
    flying.start()
    ground.now = NOW + timedelta(days=55)  # the snapshot is good for 60
    ground.repository.expire("timestamp", 30)
    flying.load(ground.source())
    assert flying.trust.reference == ground.now
    ground.now = NOW + timedelta(days=1)
    with pytest.raises(PublishError, match="rotate DIR timestamp"):
        ground.publish("news", "today", {"today.pdf": b"more"})
    ground.repository.rotate("timestamp", 1)
    ground.publish("news", "today", {"today.pdf": b"more"})
    if restarted:
        flying.start()
    flying.load(ground.source())
    assert flying.shows("news/today.pdf") == b"more"
    assert flying.trust.reference == ground.now


# -- what is kept of what was trusted decays ------------------------------------------------------


def _decay(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)


@pytest.mark.parametrize(
    "lost", ["catalogue", "news", "targets", "snapshot", "timestamp", "root", "all"]
)
def test_what_decays_on_board_opens_no_way_back(
    ground: Ground, flying: Aircraft, tmp_path: Path, lost: str
) -> None:
    """One part of it, or all in that place: the other has the state before, and that is older."""
    oldest = shutil.copytree(ground.published, tmp_path / "oldest")
    (stolen,) = ground.keys.of("timestamp")
    ground.repository.rotate("timestamp", 1)
    flying.load(ground.source())
    older = shutil.copytree(ground.published, tmp_path / "older")
    ground.publish("news", "today", {"today.pdf": b"second"})
    former = shutil.copytree(ground.published, tmp_path / "former")
    flying.load(ground.source())
    ground.publish("news", "today", {"today.pdf": b"third"})
    flying.load(ground.source())

    kept = (flying.folder / "tuf" / "trusted").resolve()
    if lost == "catalogue":
        _decay(kept / object_path(ground.repository.files()["news/catalogue.json"].digest))
    elif lost == "all":
        shutil.rmtree(kept)
        kept.mkdir()
    else:
        (path,) = [
            path
            for path in (kept / METADATA).glob(f"*{lost}.json")
            if path.name != "1.root.json"  # that of the configuration
        ]
        _decay(path)
    flying.start()
    assert flying.trust.trouble is not None
    assert flying.trust.root_version == 2
    assert _refused(flying, FolderSource(oldest, "an old disk")) == "unsigned"
    assert _refused(flying, FolderSource(older, "an old disk")) == "older"
    if lost not in {"timestamp", "all"}:
        assert _refused(flying, FolderSource(former, "an old disk")) == "older"
    flying.told = False
    assert flying.trust.reference == ground.now
    timestamp = Metadata.from_file(str(former / METADATA / "timestamp.json"))
    timestamp.signed.version += 10
    timestamp.sign(stolen)
    (former / METADATA / "timestamp.json").write_bytes(timestamp.to_bytes())
    assert _refused(flying, FolderSource(former, "the thief's")) == "unsigned"

    # The newest disk mends it.
    flying.load(ground.source())
    assert not flying.trust.trouble
    flying.start()
    assert not flying.trust.trouble
    assert flying.trust.trusted is not None
    assert flying.trust.trusted.version == ground.repository.version


def test_what_a_newer_image_does_not_understand_opens_no_way_back(
    ground: Ground, flying: Aircraft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = shutil.copytree(ground.published, tmp_path / "older")
    ground.publish("news", "today", {"today.pdf": b"second"})
    flying.load(ground.source())
    with monkeypatch.context() as patch:
        patch.setattr(trust, "MAX_CATALOGUE", 1)
        flying.start()
    assert "too long" in (flying.trust.trouble or "")
    assert _refused(flying, FolderSource(older, "an old disk")) == "older"


# -- who has a kind's keys, and would keep the others from coming ---------------------------------


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        ("expired", "it has expired"),
        ("another airline's", "one of news for OTH"),
        ("unnamed", "names news/more.pdf, which is not signed"),
        ("no catalogue", "no catalogue"),
        ("damaged", "wrong"),
        ("another length", "news/today.pdf has another length in another kind"),
    ],
)
def test_what_aircraft_would_refuse_of_one_kind_is_not_published_with_the_others(
    ground: Ground, flying: Aircraft, harm: str, why: str
) -> None:
    desk = ground.repository
    ground.add("news", "today", {"today.pdf": b"second", "more.pdf": b"more"})
    signed = ground.load("news")
    signed.signed.version += 1
    targets = signed.signed.targets = desk._targets("news")
    ours = targets["news/catalogue.json"].hashes["sha256"]
    match harm:
        case "expired":
            signed.signed.expires = NOW - timedelta(days=1)
        case "another airline's":
            text = (ground.published / object_path(ours)).read_bytes()
            file = desk._add_bytes(text.replace(b'"EXA"', b'"OTH"'))
            targets["news/catalogue.json"].hashes["sha256"] = file.digest
            targets["news/catalogue.json"].length = file.length
        case "unnamed":
            del targets["news/more.pdf"]
        case "no catalogue":
            del targets["news/catalogue.json"]
        case "damaged":
            targets["news/catalogue.json"].length += 1
        case "another length":
            firmware = desk.files()["firmware/player.bin"]
            targets["news/today.pdf"].hashes["sha256"] = firmware.digest
            targets["news/today.pdf"].length = 1
    desk._submit("news", Metadata(signed.signed))
    ground.add("firmware", "player", {"player.bin": b"firmware 2"})
    done = desk.sign(["firmware"])
    assert why in done.unfit["news"]
    assert "news" not in done.published
    flying.load(ground.source())
    assert flying.shows("firmware/player.bin") == b"firmware 2"
    assert flying.shows("news/today.pdf") == GOOD


def test_lists_that_take_too_much_memory_together_are_neither_published_nor_taken(
    ground: Ground, flying: Aircraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind's is short enough."""
    size = sum(_size_of_lists(ground.load(kind)) for kind in KINDS)
    monkeypatch.setattr(repository, "MAX_SET", size + 3000)
    ground.add("news", "today", {"today.pdf": b"second"}, texts={"en": "a" * 4000})
    ground.add("firmware", "player", {"player.bin": b"firmware 2"})
    done = ground.repository.sign()
    assert "with the other kinds its lists have more than" in done.unfit["news"]
    flying.load(ground.source())
    assert flying.shows("firmware/player.bin") == b"firmware 2"
    monkeypatch.undo()
    ground.repository.sign()
    monkeypatch.setattr(trust, "MAX_SET", size + 3000)
    assert _refused(flying, ground.source()) == "malformed"
    monkeypatch.undo()
    flying.load(ground.source())
    assert flying.shows("news/today.pdf") == b"second"


# -- extraneous dependencies: what was not asked for -------------------------------------------


def test_only_what_the_catalogue_names_is_fetched(ground: Ground, flying: Aircraft) -> None:
    """A kind that signs more than it shows fills no disk."""
    signed = ground.load("news")
    signed.signed.version += 1
    more = ground.repository._add_bytes(b"ballast" * 1000)
    signed.signed.targets["news/ballast.bin"] = TargetFile(
        more.length, {"sha256": more.digest}, "news/ballast.bin"
    )
    ground.force("news", signed, "news")
    flying.load(ground.source())
    assert not flying.store.has(more.digest)
    assert "news/ballast.bin" not in flying.tree()


def test_a_catalogue_cannot_name_what_nobody_signed(ground: Ground, flying: Aircraft) -> None:
    ground.add("news", "today", {"today.pdf": b"second", "more.pdf": b"more"})
    signed = ground.load("news")
    signed.signed.version += 1
    signed.signed.targets = ground.repository._targets("news")
    del signed.signed.targets["news/more.pdf"]
    ground.force("news", signed, "news")
    assert _refused(flying, ground.source()) == "malformed"
