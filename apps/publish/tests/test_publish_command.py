"""``ife-publish`` as it is installed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Snapshot, Targets, Timestamp

from apps.common.content import object_path
from apps.publish import disk, repository
from apps.publish import push as pushing
from apps.publish.__main__ import main
from apps.publish.keys import PASSPHRASE, Keys
from apps.publish.repository import Repository

PROGRAM = Path(sys.executable).with_name("ife-publish")
WORDS = "a passphrase of tests"
SECRET = {PASSPHRASE: WORDS}
ENTRY = {
    "id": "metropolis",
    "titles": {"en": "Metropolis", "de": "Metropolis"},
    "rights": {"from": "2026-01-01T00:00:00Z", "until": "2027-01-01T00:00:00Z"},
    "files": [{"name": "metropolis.mp4", "role": "video", "languages": ["de"]}],
    "images": [{"name": "metropolis.jpg", "role": "poster"}],
}


def run(*arguments: object, secret: str = WORDS, status: int = 0) -> str:
    """Run the command in this process; what it prints."""
    said = io.StringIO()
    os.environ[PASSPHRASE] = secret
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            found = main([str(argument) for argument in arguments])
        except SystemExit as error:
            found = int(error.code or 0)
    assert found == status, said.getvalue()
    return said.getvalue()


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `run` puts there is gone after the test."""
    monkeypatch.setenv(PASSPHRASE, "")


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with its keys, made once, by the command as it is installed."""
    folder = tmp_path_factory.mktemp("publisher") / "p"
    done = subprocess.run(
        [PROGRAM, "init", folder, "--airline", "EXA"],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | SECRET,
    )
    assert done.returncode == 0, done.stderr
    assert f"move {folder}/offline to where nobody gets at it" in done.stdout
    return folder


@pytest.fixture
def folder(empty: Path, tmp_path: Path) -> Path:
    """A repository, and a film beside it that is not in it yet."""
    (tmp_path / "metropolis.json").write_text(json.dumps(ENTRY))
    (tmp_path / "metropolis.mp4").write_bytes(b"a film" * 100_000)
    (tmp_path / "metropolis.jpg").write_bytes(b"a picture")
    shutil.copytree(empty, tmp_path / "p")
    return tmp_path


@pytest.fixture
def hers(folder: Path) -> Path:
    """The keys of a second person, who has one of firmware's two."""
    hers = folder / "hers"
    hers.mkdir()
    (folder / "p/keys/firmware-2.pem").rename(hers / "firmware-2.pem")
    return hers


def _objects(folder: Path) -> int:
    return len(list(folder.glob("objects/??/*")))


def test_from_an_empty_folder_to_a_crew_disk(folder: Path) -> None:
    publisher = folder / "p"
    assert "Next: ife-publish sign" in run("add", publisher, "films", folder / "metropolis.json")
    said = run("sign", publisher)
    assert "films 2 is published" in said
    assert "The newest set is 2." in said
    assert "Nothing has changed." in run("sign", publisher)
    assert "expires" in run("status", publisher)
    run("disk", publisher, folder / "disk")
    assert _objects(folder / "disk") == 3
    names = {path.name for path in (folder / "disk/metadata").iterdir()}
    assert {"1.root.json", "timestamp.json", "2.snapshot.json", "2.films.json"} <= names
    assert not {name for name in names if name.startswith(".")}
    # Once more writes nothing anew.
    times = {path: path.stat().st_mtime_ns for path in (folder / "disk/objects").rglob("*")}
    run("disk", publisher, folder / "disk")
    assert times == {path: path.stat().st_mtime_ns for path in (folder / "disk/objects").rglob("*")}


def test_a_disk_that_comes_back_is_made_right(folder: Path) -> None:
    """An object that has decayed, or was changed, keeps its size."""
    publisher, stick = folder / "p", folder / "disk"
    run("add", publisher, "films", folder / "metropolis.json")
    run("sign", publisher)
    run("disk", publisher, stick)
    film = next(path for path in stick.glob("objects/??/*") if path.stat().st_size == 600_000)
    film.write_bytes(b"A film" * 100_000)
    run("disk", publisher, stick)
    assert film.read_bytes() == b"a film" * 100_000


@pytest.mark.parametrize("place", ["objects", "folder", "object", "aside", "metadata", "timestamp"])
def test_a_disk_that_comes_back_with_links_leads_nowhere(folder: Path, place: str) -> None:
    """Nothing beside the stick is written to, nor taken for what is on it."""
    publisher, stick = folder / "p", folder / "disk"
    run("add", publisher, "films", folder / "metropolis.json")
    run("sign", publisher)
    run("disk", publisher, stick)
    film = next(path for path in stick.glob("objects/??/*") if path.stat().st_size == 600_000)
    path = {
        "objects": stick / "objects",
        "folder": film.parent,
        "object": film,
        "aside": film.with_name(f".{film.name}.new"),
        "metadata": stick / "metadata",
        "timestamp": stick / "metadata/timestamp.json",
    }[place]
    others = folder / "others"
    if place == "aside":
        film.unlink()
        others.write_bytes(b"precious")
    else:
        path.rename(others)
    path.symlink_to(others)
    before = {one: one.lstat() for one in (others, *others.rglob("*"))}
    run("disk", publisher, stick)
    assert before == {one: one.lstat() for one in (others, *others.rglob("*"))}
    assert not [one for one in stick.rglob("*") if one.is_symlink()]
    assert film.read_bytes() == b"a film" * 100_000
    assert (stick / "metadata/timestamp.json").is_file()


def test_a_disk_keeps_nothing_of_former_sets_or_of_what_was_cut_off(folder: Path) -> None:
    publisher, disk = folder / "p", folder / "disk"
    run("add", publisher, "films", folder / "metropolis.json")
    run("sign", publisher)
    run("disk", publisher, disk)
    former = _objects(disk)
    shelf = next((disk / "objects").iterdir())
    (shelf / f".{64 * '0'}.new").write_bytes(b"half of it")
    run("retire", publisher, "films", "metropolis")
    run("sign", publisher)
    run("disk", publisher, disk)
    assert _objects(disk) == former - 3 + 1, "two files and a catalogue for an empty one"
    assert not list((disk / "objects").glob("*/.*"))


def test_a_disk_without_room_for_both_sets_gives_up_the_former(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher, disk = folder / "p", folder / "disk"
    run("add", publisher, "films", folder / "metropolis.json")
    run("sign", publisher)
    run("disk", publisher, disk)
    (folder / "metropolis.mp4").write_bytes(b"its cut" * 90_000)
    run("add", publisher, "films", folder / "metropolis.json")
    run("sign", publisher)

    def usage(place: Path) -> SimpleNamespace:
        taken = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        return SimpleNamespace(free=1_000_000 - taken)

    monkeypatch.setattr("shutil.disk_usage", usage)
    run("disk", publisher, disk)


def test_what_the_killed_leave_behind_is_pruned(folder: Path) -> None:
    publisher = folder / "p"
    (publisher / ".stage-killed/objects").mkdir(parents=True)
    (publisher / "repository/objects/.1.new").touch()
    with Repository(publisher, Keys((), b"")).stage() as stage:
        run("prune", publisher)
        assert stage.is_dir(), "somebody is at work there"
    assert not list(publisher.glob(".stage-*"))
    assert not (publisher / "repository/objects/.1.new").exists()


def test_a_disk_as_a_file_system(folder: Path) -> None:
    publisher, image = folder / "p", folder / "stick.img"
    run("add", publisher, "films", folder / "metropolis.json")
    run("sign", publisher)
    run("disk", publisher, image, "--image")
    subprocess.run(["e2fsck", "-fn", image], check=True, capture_output=True, timeout=60)
    listing = subprocess.run(
        ["debugfs", "-R", "ls -l metadata", image],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    assert "timestamp.json" in listing
    catalogue = Metadata[Targets].from_file(str(publisher / "repository/metadata/2.films.json"))
    digest = catalogue.signed.targets["films/metropolis.mp4"].hashes["sha256"]
    subprocess.run(
        ["debugfs", "-R", f"dump objects/{digest[:2]}/{digest} {folder / 'back'}", image],
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert (folder / "back").read_bytes() == b"a film" * 100_000


def test_a_disk_has_one_set_also_where_somebody_signs_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher, stick = folder / "p", folder / "disk"
    run("add", publisher, "films", folder / "metropolis.json")
    run("sign", publisher)
    _meanwhile(monkeypatch, disk, "_copy", lambda: _sign_another(folder))
    said = run("disk", publisher, stick)
    assert _named(stick) <= _files(stick)
    assert "has set 2" in said
    assert "The newest set is 3." in run("status", publisher)
    assert "has set 3" in run("disk", publisher, stick)
    assert _named(stick) <= _files(stick)


def test_a_file_system_has_one_set_also_where_somebody_signs_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who would, while it is put together, is told to wait."""
    monkeypatch.setattr(repository, "ALONE_WITHIN", 0.1)
    publisher, image, stick = folder / "p", folder / "stick.img", folder / "disk"
    run("add", publisher, "films", folder / "metropolis.json")
    run("sign", publisher)

    def sign() -> None:
        with contextlib.suppress(AssertionError):
            _sign_another(folder)

    _meanwhile(monkeypatch, os, "link", sign)
    said = run("disk", publisher, image, "--image")
    stick.mkdir()
    for name in ("metadata", "objects"):
        subprocess.run(
            ["debugfs", "-R", f"rdump {name} {stick}", image],
            check=True,
            capture_output=True,
            timeout=60,
        )
    assert _named(stick) <= _files(stick)
    assert "has set 2" in said


def test_a_hangar_has_at_any_moment_all_that_its_timestamp_means(folder: Path) -> None:
    """Wherever a push breaks off: here, at a folder in the place of a file."""
    publisher, hangar = folder / "p", folder / "hangar"
    hangar.mkdir()
    run("add", publisher, "films", folder / "metropolis.json")
    run("sign", publisher)
    assert "has set 2" in run("push", publisher, hangar)
    assert _files(hangar / "objects") == _files(publisher / "repository/objects")
    timestamp = (hangar / "metadata/timestamp.json").read_bytes()
    first = Repository(publisher, Keys((), b"")).files().values()

    run("retire", publisher, "films", "metropolis")
    run("sign", publisher)
    run("prune", publisher)
    new = _files(publisher / "repository") - _files(hangar)
    objects = {name for name in new if name.startswith("objects")}
    assert objects
    for name in (*objects, "metadata/3.snapshot.json"):
        (hangar / name / "in the way").mkdir(parents=True)
        assert "rsync fails with status 23" in run("push", publisher, hangar, status=1)
        (hangar / name / "in the way").rmdir()
        (hangar / name).rmdir()
        if name in objects:
            assert "metadata/3.films.json" not in _files(hangar)
        assert (hangar / "metadata/timestamp.json").read_bytes() == timestamp
    (hangar / "metadata/timestamp.json").unlink()
    (hangar / "metadata/timestamp.json/in the way").mkdir(parents=True)
    run("push", publisher, hangar, status=1)
    assert {object_path(file.digest) for file in first} <= _files(hangar), "it means these yet"
    (hangar / "metadata/timestamp.json/in the way").rmdir()

    assert "has set 3" in run("push", publisher, hangar)
    assert _files(hangar / "objects") == _files(publisher / "repository/objects")
    assert (hangar / "metadata/timestamp.json").read_bytes() != timestamp
    assert not {name for name in _files(publisher) if name.startswith(".push")}


@pytest.mark.parametrize("another", [True, False], ids=["pushed", "pruned"])
def test_a_hangar_has_the_newest_set_whole_also_where_somebody_signs_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch, another: bool
) -> None:
    """Whoever pushes, and whatever is pruned, while a push carries its objects."""
    publisher, hangar = folder / "p", folder / "hangar"
    hangar.mkdir()
    run("add", publisher, "films", folder / "metropolis.json")
    run("sign", publisher)

    def sign_and_push() -> None:
        _sign_another(folder)
        assert "has set 3" in run("push", publisher, hangar)

    def sign_and_prune() -> None:
        run("retire", publisher, "films", "metropolis")
        run("sign", publisher)
        assert "3 files are gone" in run("prune", publisher)

    _meanwhile(monkeypatch, pushing, "_rsync", sign_and_push if another else sign_and_prune)
    said = run("push", publisher, hangar)
    assert _named(hangar) <= _files(hangar)
    timestamp, published = "metadata/timestamp.json", publisher / "repository"
    assert (hangar / timestamp).read_bytes() == (published / timestamp).read_bytes()
    assert "has set 3" in said
    assert _files(hangar / "objects") == _files(published / "objects")


def _meanwhile(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, does: Callable[[], None]
) -> None:
    """Have somebody else do this after the first call of a function."""
    function = getattr(module, name)

    def call(*arguments: Any) -> None:
        monkeypatch.setattr(module, name, function)
        function(*arguments)
        does()

    monkeypatch.setattr(module, name, call)


def _sign_another(folder: Path) -> None:
    """Publish a second film."""
    entry = ENTRY | {"id": "other", "files": [{"name": "other.mp4", "role": "video"}], "images": []}
    (folder / "other.json").write_text(json.dumps(entry))
    (folder / "other.mp4").write_bytes(b"another film")
    run("add", folder / "p", "films", folder / "other.json")
    run("sign", folder / "p")


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def _named(folder: Path) -> set[str]:
    """The objects that the timestamp in a folder means."""
    metadata = folder / "metadata"
    timestamp = Metadata[Timestamp].from_file(str(metadata / "timestamp.json")).signed
    version = timestamp.snapshot_meta.version
    snapshot = Metadata[Snapshot].from_file(str(metadata / f"{version}.snapshot.json")).signed
    kinds = [metadata / f"{meta.version}.{name}" for name, meta in snapshot.meta.items()]
    return {
        object_path(target.hashes["sha256"])
        for kind in kinds
        for target in Metadata[Targets].from_file(str(kind)).signed.targets.values()
    }


def test_what_an_aircraft_would_fetch(folder: Path) -> None:
    publisher = folder / "p"
    run("add", publisher, "films", folder / "metropolis.json")
    run("sign", publisher)
    said = run("plan", publisher, "--rate", "0.1")
    assert re.search(r"films +3 +600\.\d kB +48 s", said)
    # The same film under another name is not carried twice.
    entry = ENTRY | {"id": "again", "files": [{"name": "again.mp4", "role": "video"}], "images": []}
    (folder / "again.json").write_text(json.dumps(entry))
    (folder / "again.mp4").write_bytes(b"a film" * 100_000)
    run("add", publisher, "films", folder / "again.json")
    run("sign", publisher)
    assert re.search(r"all +1 +\d{3} B", run("plan", publisher, "--has", "2"))
    assert "there is no set 9" in run("plan", publisher, "--has", "9", status=1)


def test_two_people_sign_firmware(folder: Path, hers: Path) -> None:
    """Each with a folder of keys of her own."""
    publisher = folder / "p"
    run("add", publisher, "firmware", folder / "metropolis.json")
    said = run("sign", publisher, status=1)
    assert "firmware waits: it has 1 of 2 signatures." in said
    assert "firmware waits for signatures" in run("status", publisher)
    # Once more the same key is no more.
    run("sign", publisher, "firmware", status=1)
    said = run("--keys", hers, "sign", publisher, "firmware", status=1)
    assert "firmware 2 is published." in said
    assert "snapshot waits" in said
    assert "The newest set is 2." in run("sign", publisher)


def test_what_was_retired_before_the_second_signed_is_not_published(
    folder: Path, hers: Path
) -> None:
    publisher = folder / "p"
    run("add", publisher, "firmware", folder / "metropolis.json")
    assert "firmware waits" in run("sign", publisher, status=1)
    run("retire", publisher, "firmware", "metropolis")
    run("sign", publisher)
    assert "firmware" not in run("--keys", hers, "sign", publisher, "firmware")
    assert "The newest set is 1." in run("status", publisher)


def test_a_key_of_another_kind_is_replaced_and_what_waits_is_not_signed(
    folder: Path, hers: Path
) -> None:
    publisher = folder / "p"
    run("add", publisher, "firmware", folder / "metropolis.json")
    run("sign", publisher, status=1)
    (hers / "firmware-2.pem").rename(publisher / "keys/firmware-2.pem")
    said = run("rotate", publisher, "news", status=1)
    assert "news 2 is published." in said
    assert "firmware waits: it has 1 of 2 signatures." in said


@pytest.mark.parametrize("role", ["timestamp", "news", "firmware", "root"])
def test_a_wrong_passphrase_makes_no_key(folder: Path, role: str) -> None:
    publisher = folder / "p"
    before = {path for path in publisher.rglob("*") if path.name != ".lock"}
    run("rotate", publisher, role, secret="not what it was", status=1)
    assert {path for path in publisher.rglob("*") if path.name != ".lock"} == before
    run("rotate", publisher, role)


@pytest.mark.usefixtures("hers")
def test_a_key_is_replaced_once_though_the_command_is_given_twice(folder: Path) -> None:
    """Else the second time the other person's would go."""
    publisher = folder / "p"
    run("rotate", publisher, "firmware", status=1)
    keys = sorted((publisher / "keys").iterdir())
    said = run("rotate", publisher, "firmware", status=1)
    assert "firmware's key 1 is being replaced already" in said
    assert sorted((publisher / "keys").iterdir()) == keys


def test_who_signs_at_once_signs_one_after_the_other(folder: Path) -> None:
    """No version is given twice, and the newest timestamp names what is there."""
    command = [str(PROGRAM), "expire", str(folder / "p"), "snapshot", "--days", "60"]
    several = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | SECRET)
        for _ in range(4)
    ]
    said = "".join(one.communicate(timeout=60)[0] for one in several)
    assert sorted(re.findall(r"snapshot (\d+) is", said)) == ["2", "3", "4", "5"]
    metadata = folder / "p/repository/metadata"
    named = Metadata[Timestamp].from_file(str(metadata / "timestamp.json")).signed.snapshot_meta
    assert named.version == 5
    named.verify_length_and_hashes((metadata / "5.snapshot.json").read_bytes())


def test_while_somebody_else_is_at_work_nothing_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "ALONE_WITHIN", 0.1)
    publisher = folder / "p"
    run("status", publisher)
    with Repository(publisher, Keys((), b"")).alone():
        told = f"somebody else is at work in {publisher}"
        assert told in run("add", publisher, "films", folder / "metropolis.json", status=1)
        assert told in run("sign", publisher, status=1)
        run("status", publisher)
    assert "Nothing has changed." in run("sign", publisher)


def test_keys_are_rotated_and_expiry_is_set(folder: Path) -> None:
    publisher = folder / "p"
    assert "news 2 is published." in run("rotate", publisher, "news")
    assert "root 2 is published." in run("rotate", publisher, "timestamp")
    assert "root 3 is published." in run("rotate", publisher, "root", "--number", 3)
    assert "there is no number 4" in run("rotate", publisher, "root", "--number", 4, status=1)
    run("expire", publisher, "timestamp", "--days", 3)
    timestamp = Metadata.from_file(str(publisher / "repository/metadata/timestamp.json")).signed
    made = timestamp.unrecognized_fields["x-ife-made"]
    assert (timestamp.expires - type(timestamp.expires).fromisoformat(made)).days == 3
    # Without the offline keys nobody replaces a key.
    (publisher / "offline").rename(folder / "safe")
    assert "root waits: it has 0 of 2" in run("rotate", publisher, "snapshot", status=1)
    said = run("--offline", folder / "safe", "sign", publisher, "news")
    assert "root 4 is published." in said


def test_a_key_of_firmware_is_replaced_by_two_people(folder: Path, hers: Path) -> None:
    """Nothing is published before the other has signed with the new one, too."""
    publisher = folder / "p"
    before = {path: path.read_bytes() for path in (publisher / "repository").rglob("*.json")}
    said = run("rotate", publisher, "firmware", status=1)
    assert "firmware waits: it has 1 of 2 signatures." in said
    assert "targets is signed, and waits: enough keys have to sign firmware first." in said
    assert before == {
        path: path.read_bytes() for path in (publisher / "repository").rglob("*.json")
    }
    said = run("--keys", hers, "sign", publisher, status=1)
    assert "firmware 2 is published." in said
    assert "targets 2 is published." in said
    assert "The newest set is 2." in run("sign", publisher)


def test_what_is_retired_goes(folder: Path) -> None:
    publisher = folder / "p"
    run("add", publisher, "films", folder / "metropolis.json")
    run("sign", publisher)
    assert "there is no entry x" in run("retire", publisher, "films", "x", status=1)
    run("retire", publisher, "films", "metropolis")
    run("sign", publisher)
    assert "3 files are gone" in run("prune", publisher)
    run("disk", publisher, folder / "disk")
    assert _objects(folder / "disk") == 1, "the empty catalogue"


def test_keys_are_encrypted_and_private(folder: Path) -> None:
    paths = [*folder.glob("p/keys/*.pem"), *folder.glob("p/offline/*.pem")]
    assert len(paths) == 16
    for path in paths:
        assert "BEGIN ENCRYPTED PRIVATE KEY" in path.read_text()
        assert path.stat().st_mode & 0o077 == 0
    said = run("expire", folder / "p", "timestamp", "--days", 3, secret="another one", status=1)
    assert "12 characters" in said
    said = run("expire", folder / "p", "timestamp", "--days", 3, secret="x" * 20, status=1)
    assert "is it that passphrase?" in said


def test_the_passphrase_may_be_in_a_file(folder: Path) -> None:
    (folder / "secret").write_text(WORDS)
    run(
        "--passphrase-file",
        folder / "secret",
        "expire",
        folder / "p",
        "timestamp",
        "--days",
        3,
        secret="",
    )
    said = run("--passphrase-file", folder / "none", "sign", folder / "p", status=1)
    assert "No such file" in said


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"id": "Not so"}, "id: String should match"),
        ({"titles": {}}, "titles: "),
        ({"files": [{"name": "nowhere.mp4", "role": "video"}]}, "nowhere.mp4 is not there"),
        ({"more": 1}, "more: Extra"),
    ],
    ids=str,
)
def test_a_wrong_entry_is_told(folder: Path, change: dict[str, object], told: str) -> None:
    (folder / "wrong.json").write_text(json.dumps(ENTRY | change))
    assert told in run("add", folder / "p", "films", folder / "wrong.json", status=1)


def test_a_name_belongs_to_one_file(folder: Path) -> None:
    """Two entries may share one, but not two under its name."""
    publisher = folder / "p"
    run("add", publisher, "films", folder / "metropolis.json")
    (folder / "other.json").write_text(json.dumps(ENTRY | {"id": "other"}))
    run("add", publisher, "films", folder / "other.json")
    (folder / "metropolis.jpg").write_bytes(b"another picture")
    said = run("add", publisher, "films", folder / "metropolis.json", status=1)
    assert "metropolis.jpg, which is not the same" in said


def test_wrong_use(folder: Path) -> None:
    assert "has a repository already" in run("init", folder / "p", "--airline", "EXA", status=1)
    assert "no repository" in run("sign", folder, status=1)
    assert "three capital letters" in run("init", folder / "q", "--airline", "ex", status=1)
    assert "write firmware=2/3" in run(
        "init", folder / "q", "--airline", "EXA", "--keys-of", "firmware", status=1
    )
    assert "3 of 2" in run(
        "init", folder / "q", "--airline", "EXA", "--keys-of", "firmware=3/2", status=1
    )
    run("sing", folder, status=2)


def test_what_has_expired_is_told_and_is_no_success(folder: Path) -> None:
    publisher = folder / "p"
    run("expire", publisher, "maps", "--days", "20")
    said = run("status", publisher)
    assert "maps expires on" in said
    assert f"ife-publish expire {publisher} maps" in said
    run("expire", publisher, "targets", "--days", "0", status=1)
    assert "targets has expired on" in run("status", publisher, status=1)
    run("add", publisher, "films", folder / "metropolis.json")
    assert "Until it is signed, aircraft refuse all." in run("sign", publisher, status=1)


def test_what_was_signed_by_a_clock_that_was_ahead_is_told_and_mended(folder: Path) -> None:
    """Aircraft would take all that is signed from now on for expired."""
    publisher = folder / "p"
    keys = Keys((publisher / "keys", publisher / "offline"), WORDS.encode())
    ahead = datetime.now(UTC) + timedelta(days=100)
    Repository(publisher, keys, lambda: ahead).expire("timestamp", 30)
    assert f"was signed on {ahead:%Y-%m-%d}" in run("status", publisher, status=1)
    run("add", publisher, "films", folder / "metropolis.json")
    assert "rotate DIR timestamp" in run("sign", publisher, status=1)
    assert "timestamp 3 is published" in run("rotate", publisher, "timestamp")
    assert "was signed" not in run("status", publisher)
