"""What a delta takes of the disk, and what it does without."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from apps.content_sync.carry import Carrier, Wanted, _Floor
from apps.content_sync.planner import Item, Piece, plan
from apps.content_sync.tests.test_gate_planner import NOW

DIGEST = "ab" * 32


@pytest.fixture
def wanted(tmp_path: Path) -> Wanted:
    """A film of 1,000 bytes with a former version of 800."""
    former = tmp_path / "former"
    former.write_bytes(b"f" * 800)
    return Wanted(DIGEST, 1000, former)


def _come(carrier: Carrier, wanted: Wanted, count: int) -> None:
    path = carrier.staging / "incoming" / wanted.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"n" * count)


@pytest.mark.parametrize(("free", "basis"), [(10_000, b"n" * 300 + b"f" * 800), (0, b"f" * 800)])
def test_a_basis_of_two_parts_is_made_where_there_is_room(
    tmp_path: Path, wanted: Wanted, free: int, basis: bytes
) -> None:
    carrier = Carrier(tmp_path / "gate", free=lambda: free)
    _come(carrier, wanted, 300)
    carrier._make_basis(wanted)
    made = carrier.staging / "basis" / wanted.path
    assert made.read_bytes() == basis
    assert made.samefile(tmp_path / "former") == (free == 0)


def test_what_has_a_basis_is_written_anew(tmp_path: Path, wanted: Wanted) -> None:
    carrier = Carrier(tmp_path / "gate")
    plain = Wanted("cd" * 32, 1000, None)
    for one in (wanted, plain):
        _come(carrier, one, 300)
    assert carrier.room(wanted) == 1000
    assert carrier.room(plain) == 700
    carrier._under_way = {wanted.path}
    assert carrier.room(wanted) == 700
    carrier.start_over(wanted)
    assert (carrier.has(wanted), carrier.has(plain)) == (0, 300)


def test_what_has_decayed_on_board_comes_by_the_gate(tmp_path: Path) -> None:
    """Else what the Hangar has to give would be found wrong again and again."""
    carrier = Carrier(tmp_path / "gate")
    on_board = tmp_path / "catalogue"
    on_board.write_bytes(b"a catalogue")
    wanted = Wanted(hashlib.sha256(b"a catalogue").hexdigest(), 11)
    on_board.write_bytes(b"a catalogur")
    carrier.seed(wanted, on_board)
    assert not carrier.is_whole(wanted)
    on_board.write_bytes(b"a catalogue")
    carrier.seed(wanted, on_board)
    assert carrier.is_whole(wanted)


def test_what_comes_must_come_on_and_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all files of a run together; also after much came at first."""
    files = [tmp_path / "a", tmp_path / "b"]
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[-1])
    files[0].write_bytes(b"of an earlier run")
    floor = _Floor(files, 10.0, 100.0)
    for moment, count, crawls in (
        (1009.0, 0, False),
        (1011.0, 5000, False),
        (1020.0, 0, False),
        (1022.0, 100, False),
        (1033.0, 99, True),
    ):
        clock.append(moment)
        with files[1].open("ab") as file:
            file.write(b"b" * count)
        assert (floor.too_little() is not None) == crawls


def test_an_item_that_has_no_room_while_it_comes_holds_up_no_other() -> None:
    large = Item("films", "a", "a", 300, (Piece("a" * 64, 1000, 300, delta=True, more=700),))
    small = Item("films", "b", "b", 400, (Piece("b" * 64, 400, 400),))
    made = plan([large, small], NOW, 1000.0, None, 900)
    assert [item.id for item in made.order] == ["b"]
    assert [item.id for item in made.no_room] == ["a"]
    assert [item.id for item in plan([large], NOW, 1000.0, None, 1000).order] == ["a"]
