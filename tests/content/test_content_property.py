"""Whatever happens, in any order: what is in force is a set that the ground has signed, whole."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from apps.common.content import KINDS, Kind
from apps.content_sync.source import FolderSource, GoneError, SocketSource
from apps.content_sync.store import StoreError
from apps.content_sync.trust import RefusedError
from tests.content.helpers import Aircraft, DiskReader, Ground

_KINDS = st.sampled_from(("news", "films", "firmware"))
_DATA = st.binary(max_size=64)


class _Flights(RuleBasedStateMachine):
    """Publishes, loads, yanks, spoils, goes back, restarts."""

    empty: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="ife-", dir="/tmp"))
        shutil.copytree(self.empty, self.folder / "ground")
        self.ground = Ground(self.folder / "ground")
        self.aircraft = Aircraft(self.folder / "store", self.ground.root)
        self.signed: set[tuple[Kind, int, frozenset[tuple[str, str]]]] = set()
        self.disks = 0

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @rule(kind=_KINDS, name=st.sampled_from(("one", "two")), one=_DATA, two=_DATA)
    def publish(self, kind: Kind, name: str, one: bytes, two: bytes) -> None:
        self.ground.publish(kind, name, {f"{name}.a": one, f"{name}.b": two})
        files = self.ground.repository.files()
        for signed in KINDS:
            own = {(n, f.digest) for n, f in files.items() if n.startswith(f"{signed}/")}
            self.signed.add((signed, self.ground.load(signed).signed.version, frozenset(own)))

    @rule()
    def load(self) -> None:
        self.aircraft.load(self.ground.source())

    @rule(kind=_KINDS)
    def load_a_kind(self, kind: Kind) -> None:
        self.aircraft.load(self.ground.source(), kinds={kind})

    @rule(after=st.integers(0, 600))
    def load_and_yank(self, after: int) -> None:
        with DiskReader(self.ground.published, self.folder / "s") as disk:
            disk.yank_after = after
            source = SocketSource(self.folder / "s", "disk")
            try:
                self.aircraft.load(source)
            except GoneError:
                pass
            finally:
                source.close()

    @rule(where=st.integers(0, 10_000), flip=st.integers(1, 255))
    def load_what_is_spoiled(self, where: int, flip: int) -> None:
        self.disks += 1
        disk = self.folder / f"disk {self.disks}"
        shutil.copytree(self.ground.published, disk)
        paths = sorted(path for path in disk.rglob("*") if path.is_file() and path.stat().st_size)
        path = paths[where % len(paths)]
        data = bytearray(path.read_bytes())
        data[where % len(data)] ^= flip
        path.write_bytes(data)
        with suppress(RefusedError, GoneError):
            self.aircraft.load(FolderSource(disk, "spoiled"))

    @rule()
    def go_back(self) -> None:
        with suppress(StoreError):
            self.aircraft.store.rollback()

    @rule()
    def restart(self) -> None:
        trusted = self.aircraft.trust.trusted
        self.aircraft.start()
        assert self.aircraft.trust.trusted == trusted

    @rule()
    def collect(self) -> None:
        self.aircraft.store.collect()

    @invariant()
    def what_is_in_force_is_whole_and_signed(self) -> None:
        content = self.aircraft.store.current
        tree = self.aircraft.tree()
        if content is None:
            assert tree == {}
            return
        assert tree == {name: file.digest for name, file in content.files.items()}
        for kind, version in content.kinds.items():
            own = frozenset((n, d) for n, d in tree.items() if n.startswith(f"{kind}/"))
            assert (kind, version, own) in self.signed


def _run(empty: Path, examples: int, steps: int) -> None:
    class Flights(_Flights):
        pass

    Flights.empty = empty
    run_state_machine_as_test(
        Flights,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_what_is_in_force_is_always_whole_and_signed(empty_ground: Path) -> None:
    _run(empty_ground, 10, 20)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_what_is_in_force_is_always_whole_and_signed_for_long(empty_ground: Path) -> None:
    _run(empty_ground, 300, 30)
