"""The crew file, and the command that makes hashes for it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import argon2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.crew_web.crew import Crew, CrewFileError, CrewMember, hash_pin, load
from apps.crew_web.pins import end_of_changed
from apps.crew_web.store import Store, StoreError

HASH = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("1234")
ANNA = {"id": "anna", "name": "Anna", "pin_hash": HASH}


def written(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_right_pin_is_right_and_no_other(crew_file: Path) -> None:
    crew = load(crew_file)
    assert crew.pin_is_right("anna", "1234")
    assert not crew.pin_is_right("anna", "1235")
    assert not crew.pin_is_right("bruno", "1234")
    assert not crew.pin_is_right("nobody", "1234")


def test_an_unknown_person_costs_as_much_as_a_known_one(crew_file: Path) -> None:
    """Else the time to answer would tell who is in the file."""
    crew = load(crew_file)
    known = crew.get("anna")
    assert known is not None
    assert argon2.extract_parameters(crew._nobody) == argon2.extract_parameters(known.pin_hash)
    started = time.perf_counter()
    slow = Crew([CrewMember(id="anna", name="Anna", pin_hash=hash_pin("1234"))])
    one_hash = time.perf_counter() - started
    started = time.perf_counter()
    assert not slow.pin_is_right("nobody", "1234")
    assert time.perf_counter() - started > one_hash / 10


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("not JSON", "wrong"),
        ([], "at least 1"),
        ([ANNA, ANNA], "has twice: anna"),
        ([ANNA | {"pin_hash": "1234"}], "0.pin_hash"),
        ([ANNA | {"pin_hash": "$argon2id$nonsense"}], "hash-pin"),
        ([ANNA | {"pin_hash": HASH.replace("m=8", "m=1")}], "of no use"),
        ([ANNA | {"id": "Anna Berg"}], "0.id"),
        ([ANNA | {"pin": "1234"}], "0.pin"),
        ("[" + " " * 300_000 + "]", "over 256 KiB"),
    ],
)
def test_a_wrong_file_is_refused_and_said_why(
    tmp_path: Path, content: object, complaint: str
) -> None:
    with pytest.raises(CrewFileError, match=complaint) as caught:
        load(written(tmp_path / "crew.json", content))
    assert HASH not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CrewFileError, match=r"nowhere\.json cannot be read"):
        load(tmp_path / "nowhere.json")


def test_a_disk_that_cannot_be_written_matters_where_a_pin_is_new(
    tmp_path: Path, crew_file: Path
) -> None:
    people = load(crew_file).members
    store = Store(tmp_path)
    end_of_changed(store, people)
    store._database.execute("PRAGMA query_only=1")
    end_of_changed(store, people)
    with pytest.raises(StoreError):
        end_of_changed(store, [people[0].model_copy(update={"pin_hash": HASH})])
    store.close()


def run_hash_pin(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "apps.crew_web", "hash-pin"],
        input=text,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_command_makes_a_hash_that_logs_in() -> None:
    done = run_hash_pin("2468\n")
    assert done.returncode == 0
    crew = Crew([CrewMember(id="anna", name="Anna", pin_hash=done.stdout.strip())])
    assert crew.pin_is_right("anna", "2468")


def test_the_command_refuses_what_is_no_pin() -> None:
    done = run_hash_pin("12a4\n")
    assert done.returncode == 1
    assert "4 to 8 digits" in done.stderr
    assert done.stdout == ""


@given(st.text(max_size=12).filter(lambda text: not (text.isascii() and text.isdigit())))
def test_only_digits_make_a_pin(text: str) -> None:
    with pytest.raises(ValueError, match="4 to 8 digits"):
        hash_pin(text)
