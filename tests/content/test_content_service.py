"""content_sync put together: a real Redis, disks that come and go, its API."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask.testing import FlaskClient
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import ignored_auth, unsupported_method

from apps.common import disks, testing
from apps.common.bus import Bus, Followed
from apps.common.content import TOPIC, ContentState, Job
from apps.common.disks import Disk, Disks
from apps.common.testing import RedisServer, wait_until
from apps.content_sync.app import create_app
from apps.content_sync.clock import Clock
from apps.content_sync.openapi import document
from apps.content_sync.service import ContentSync
from apps.content_sync.settings import ContentSyncSettings
from tests.content.helpers import NOW, DiskReader, Ground, shown

CREW = {"Ife-Crew": "anna"}


class Aboard:
    """The service with its bus, and somebody in usb_lockdown's place who puts disks in."""

    def __init__(self, ground: Ground, folder: Path, url: str, **settings: Any) -> None:
        self.folder = folder
        self.now = NOW
        self.service = ContentSync(
            ContentSyncSettings(
                registration="EC-LAB",
                redis_url=url,
                boot_id="0" * 32,
                runtime_directory=folder,
                airline="EXA",
                content_directory=folder / "store",
                content_root=ground.folder / "root.json",
                content_reserve=0,
                **settings,
            ),
            Clock(lambda: self.now, lambda: True),
        )
        self.service.start()
        self.client: FlaskClient = create_app(self.service).test_client()
        self.bus = Bus(url)
        self.bus.start()
        self.states: list[ContentState] = []
        Followed(self.bus, TOPIC, ContentState, on_value=self._tell)
        self.ports: dict[str, Disk] = {}

    def _tell(self, state: ContentState | None) -> None:
        if state is not None:
            self.states.append(state)

    def close(self) -> None:
        self.service.close()
        self.bus.close()

    def insert(self, port: str, **fields: Any) -> None:
        """A disk, ready at the socket of the port's name."""
        fields = {"state": "ready", "socket": str(self.folder / port)} | fields
        self.ports[port] = Disk(port=port, name="a stick", **fields)
        self.bus.publish(disks.TOPIC, Disks(disks=tuple(self.ports.values())))

    def remove(self, port: str) -> None:
        del self.ports[port]
        self.bus.publish(disks.TOPIC, Disks(disks=tuple(self.ports.values())))

    def load(self, published: Path) -> None:
        """Have a disk with that loaded, in the front; it stays in."""
        with DiskReader(published, self.folder / "front"):
            self.insert("front")
            self.wait_for_disk("front", "done")

    def degraded(self) -> dict[str, str]:
        """The parts that it does without, and why."""
        health = self.client.get("/healthz").get_json()
        assert health["ready"]
        return {part["part"]: part["why"] for part in health["degraded"]}

    def told(self) -> ContentState | None:
        return self.states[-1] if self.states else None

    def wait(self, condition: Callable[[ContentState], object], what: str) -> ContentState:
        """Until the bus tells so."""
        wait_until(lambda: (told := self.told()) and condition(told), what, 20)
        told = self.told()
        assert told is not None
        return told

    def wait_for_disk(self, port: str, state: str) -> str:
        """Until a disk is in a state; what it says then."""

        def is_so(told: ContentState) -> bool:
            return (port, state) in {(disk.port, disk.state) for disk in told.disks}

        told = self.wait(is_so, f"{port} is {state}")
        return next(disk.says for disk in told.disks if disk.port == port)


@pytest.fixture
def redis(short_tmp: Path) -> Iterator[RedisServer]:
    with RedisServer(short_tmp) as server:
        yield server


@pytest.fixture
def board(ground: Ground, short_tmp: Path, redis: RedisServer) -> Iterator[Callable[..., Aboard]]:
    """Makes the service."""
    with ExitStack() as stack:

        def make(**settings: Any) -> Aboard:
            made = Aboard(ground, short_tmp, redis.url, **settings)
            stack.callback(made.close)
            return made

        yield make


def test_without_a_hangar_nothing_stays_of_what_came_half(
    board: Callable[..., Aboard], short_tmp: Path
) -> None:
    half = short_tmp / "store/gate/incoming/objects/ab/abcd"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half of a film")
    board()
    assert not (short_tmp / "store/gate").exists()


@contextmanager
def _slowly(disk: DiskReader) -> Iterator[threading.Event]:
    """The disk gives no object until that is set."""
    go = threading.Event()
    file = disk.file

    def wait(path: str) -> bytes | None:
        if path.startswith("objects/"):
            go.wait(20)
        return file(path)

    disk.file = wait  # type: ignore[method-assign]
    yield go
    go.set()


def _signed(ground: Ground) -> dict[str, str]:
    return {name: file.digest for name, file in ground.repository.files().items()}


def test_a_disk_is_loaded_and_may_be_taken_out(
    ground: Ground, board: Callable[..., Aboard], short_tmp: Path
) -> None:
    ground.publish("news", "today", {"today.pdf": b"news"})
    aboard = board()
    told = aboard.wait(lambda state: state.freshness.state == "none", "it has nothing")
    assert (told.current, told.disks, told.progress) == (None, (), None)
    with DiskReader(ground.published, short_tmp / "front") as disk, _slowly(disk) as go:
        aboard.insert("front", state="reading", socket=None)
        aboard.wait_for_disk("front", "waits")
        aboard.insert("front")
        aboard.wait_for_disk("front", "importing")
        assert not aboard.states[-1].disks[0].safe_to_remove
        assert aboard.states[-1].freshness.state == "none"
        go.set()
        assert "set 2" in aboard.wait_for_disk("front", "done")
        told = aboard.wait(lambda state: state.current, "it is in force")
        assert told.disks[0].safe_to_remove
        assert told.current is not None
        assert (told.current.version, told.current.files, told.current.missing) == (2, 2, 0)
        assert told.freshness.state == "fresh"
        aboard.remove("front")
        aboard.wait(lambda state: not state.disks, "it is out")
    assert shown(short_tmp / "store") == _signed(ground)


def test_a_second_disk_waits_for_its_turn(
    ground: Ground, board: Callable[..., Aboard], short_tmp: Path
) -> None:
    ground.publish("news", "today", {"today.pdf": b"news"})
    aboard = board()
    with (
        DiskReader(ground.published, short_tmp / "front") as front,
        DiskReader(ground.published, short_tmp / "rear"),
        _slowly(front) as go,
    ):
        aboard.insert("front")
        aboard.wait_for_disk("front", "importing")
        aboard.insert("rear")
        aboard.wait_for_disk("rear", "queued")
        assert [disk.safe_to_remove for disk in aboard.states[-1].disks] == [False, False]
        go.set()
        aboard.wait_for_disk("front", "done")
        assert "on board already" in aboard.wait_for_disk("rear", "done")


def test_another_disk_of_the_same_model_is_loaded_though_nobody_told_of_the_change(
    ground: Ground, board: Callable[..., Aboard], short_tmp: Path
) -> None:
    """The bus was away while one was taken out and the other put in."""
    ground.publish("news", "today", {"today.pdf": b"news"})
    aboard = board()
    with DiskReader(ground.published, short_tmp / "front"):
        aboard.insert("front", insertion="1-1 2")
        assert "set 2" in aboard.wait_for_disk("front", "done")
        ground.publish("news", "today", {"today.pdf": b"later news"})
        aboard.insert("front", insertion="1-1 3")
        aboard.wait(lambda state: "set 3" in state.disks[0].says, "the other is loaded")


def test_a_disk_that_is_pulled_out_goes_on_when_it_is_back(
    ground: Ground, board: Callable[..., Aboard], short_tmp: Path
) -> None:
    ground.publish("films", "film", {"film.mp4": bytes(3_000_000)})
    aboard = board()
    with DiskReader(ground.published, short_tmp / "front") as disk:
        disk.yank_after = 2_000_000
        aboard.insert("front")
        aboard.wait(lambda state: state.trouble, "it has broken off")
        aboard.remove("front")
        aboard.wait(lambda state: not state.disks, "it is out")
        assert shown(short_tmp / "store") == {}
        disk.yank_after = None
        aboard.insert("front")
        aboard.wait_for_disk("front", "done")
        assert disk.given < 3_001_000
    assert shown(short_tmp / "store") == _signed(ground)
    aboard.wait(lambda state: state.trouble is None, "all is well")


def test_a_disk_that_breaks_off_but_stays_in_is_tried_again(
    ground: Ground, board: Callable[..., Aboard], short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reader may have crashed, and was started again."""
    monkeypatch.setattr("apps.content_sync.service.RETRY_FIRST", 0.2)
    ground.publish("films", "film", {"film.mp4": bytes(3_000_000)})
    aboard = board()
    with DiskReader(ground.published, short_tmp / "front") as disk:
        disk.yank_after = 2_000_000
        aboard.insert("front")
        aboard.wait_for_disk("front", "failed")
        disk.yank_after = None
        aboard.wait_for_disk("front", "done")


def test_what_is_wrong_with_a_disk_is_told_in_words(
    ground: Ground, board: Callable[..., Aboard], short_tmp: Path, tmp_path: Path
) -> None:
    ground.publish("news", "today", {"today.pdf": b"news"})
    other = Ground(tmp_path / "other")
    other.repository.begin("OTH")
    aboard = board()
    with (
        DiskReader(other.published, short_tmp / "front"),
        DiskReader(tmp_path / "nothing", short_tmp / "rear"),
    ):
        aboard.insert("front")
        assert "not signed" in aboard.wait_for_disk("front", "refused")
        aboard.insert("rear")
        assert "no content" in aboard.wait_for_disk("rear", "failed")
        aboard.insert("middle", state="unreadable", socket=None, why="no file system on it")
        assert aboard.wait_for_disk("middle", "refused") == "no file system on it"
        assert all(disk.safe_to_remove for disk in aboard.states[-1].disks)
    ground.object("news/today.pdf").write_bytes(b"lies")
    with DiskReader(ground.published, short_tmp / "aft"):
        aboard.insert("aft")
        assert "1 files are damaged" in aboard.wait_for_disk("aft", "failed")
    health = aboard.client.get("/healthz").get_json()
    assert health["ready"]
    assert [part["part"] for part in health["degraded"]] == ["content"]


def test_what_was_trusted_and_has_decayed_is_told_until_a_disk_mends_it(
    ground: Ground, board: Callable[..., Aboard], short_tmp: Path
) -> None:
    ground.publish("news", "today", {"today.pdf": b"news"})
    aboard = board()
    aboard.load(ground.published)
    aboard.remove("front")
    aboard.wait(lambda state: not state.disks, "it is out")
    aboard.close()
    (timestamp,) = (short_tmp / "store/tuf/trusted").resolve().rglob("timestamp.json")
    timestamp.write_bytes(timestamp.read_bytes()[:-20])
    aboard = board()
    assert "is not whole" in aboard.degraded()["content"]
    assert "has been lost" in aboard.service.view().freshness.says
    aboard.load(ground.published)
    wait_until(lambda: aboard.service.trust.trouble is None, "it is mended")
    assert "content" not in aboard.degraded()


def test_content_that_was_not_renewed_plays_on_and_crew_and_ground_are_told(
    ground: Ground, board: Callable[..., Aboard], short_tmp: Path
) -> None:
    """The ground by the faults of a heartbeat, which are what the apps' health tells."""
    ground.publish("news", "today", {"today.pdf": b"news"})
    aboard = board()
    aboard.load(ground.published)
    assert "content" not in aboard.degraded()
    aboard.now = NOW + timedelta(days=31)
    told = aboard.wait(lambda state: state.freshness.state == "expired", "it has expired")
    assert "It plays on; load a newer disk." in told.freshness.says
    assert shown(short_tmp / "store") == _signed(ground)
    assert "It plays on" in aboard.degraded()["content"]


def test_a_disk_that_is_older_than_what_is_known_is_not_called_faulty(
    ground: Ground, board: Callable[..., Aboard], short_tmp: Path, tmp_path: Path
) -> None:
    ground.publish("films", "film", {"film.mp4": b"a film"})
    ground.disk(tmp_path / "old")
    ground.publish("films", "other", {"other.mp4": b"another film"})
    aboard = board()
    aboard.service.trust.look(ground.source())
    with DiskReader(tmp_path / "old", short_tmp / "front"):
        aboard.insert("front")
        says = aboard.wait_for_disk("front", "done")
        assert "older than set 3" in says
        assert "1 files are still to come" in says
    assert shown(short_tmp / "store").keys() == {"films/catalogue.json", "films/film.mp4"}
    aboard.wait(lambda state: state.trouble is None, "nothing is wrong")


def test_a_disk_waits_for_the_crew_where_that_is_so(
    ground: Ground, board: Callable[..., Aboard], short_tmp: Path
) -> None:
    ground.publish("news", "today", {"today.pdf": b"news"})
    aboard = board(crew_confirms_disks=True)
    with DiskReader(ground.published, short_tmp / "front"):
        aboard.insert("front")
        assert "crew" in aboard.wait_for_disk("front", "waits")
        url = "/api/v1/disks/front/import"
        assert aboard.client.post(url).status_code == 401
        assert aboard.client.post("/api/v1/disks/rear/import", headers=CREW).status_code == 409
        assert aboard.client.post(url, headers=CREW).status_code == 202
        aboard.wait_for_disk("front", "done")


def test_rollback_by_the_crew(
    ground: Ground, board: Callable[..., Aboard], short_tmp: Path
) -> None:
    aboard = board()
    url = "/api/v1/content/rollback"
    assert aboard.client.post(url).status_code == 401
    assert aboard.client.post(url, headers=CREW).status_code == 409
    for text in (b"first", b"second"):
        ground.publish("news", "today", {"today.pdf": text})
        _import(aboard, ground.published)
    answer = aboard.client.post(url, headers=CREW)
    state = ContentState.model_validate_json(answer.data)
    assert state.current is not None
    assert state.former is not None
    assert (state.current.version, state.former.version) == (2, 3)
    assert (short_tmp / "store/current/news/today.pdf").read_bytes() == b"first"
    aboard.wait(lambda told: told.current and told.current.version == 2, "the bus tells it")


def _import(aboard: Aboard, folder: Path) -> Job:
    body = {"folder": str(folder)}
    answer = aboard.client.post("/api/v1/imports", json=body, headers=CREW)
    return _wait_for_job(aboard, Job.model_validate_json(answer.data))


def _wait_for_job(aboard: Aboard, job: Job) -> Job:
    def now() -> Job:
        return Job.model_validate_json(aboard.client.get(f"/api/v1/jobs/{job.id}").data)

    wait_until(lambda: now().state in {"done", "failed"}, "the job is over")
    return now()


def test_jobs(ground: Ground, board: Callable[..., Aboard], tmp_path: Path) -> None:
    ground.publish("news", "today", {"today.pdf": b"news"})
    aboard = board()
    assert _import(aboard, ground.published).state == "done"
    nothing = _import(aboard, tmp_path)
    assert nothing.state == "failed"
    assert "no content" in nothing.says
    answer = aboard.client.post("/api/v1/verifications", headers=CREW)
    job = _wait_for_job(aboard, Job.model_validate_json(answer.data))
    assert (job.state, job.says) == ("done", "All that is on board is as it was signed.")
    assert aboard.client.get("/api/v1/jobs/99").status_code == 404
    for body in ({}, {"folder": "relative"}, {"folder": "/a\nb"}, {"folder": 1}):
        answer = aboard.client.post("/api/v1/imports", json=body, headers=CREW)
        assert answer.status_code == 400


def test_a_restart_knows_what_it_had(
    ground: Ground, board: Callable[..., Aboard], short_tmp: Path
) -> None:
    ground.publish("films", "film", {"film.mp4": bytes(3_000_000)})
    aboard = board()
    with DiskReader(ground.published, short_tmp / "front") as disk:
        disk.yank_after = 1_500_000
        aboard.insert("front")
        aboard.wait(lambda state: state.trouble, "it has broken off")
        aboard.service.close()
        disk.yank_after = None
        with _slowly(disk):
            again = board()
            told = again.wait(lambda state: state.coming, "it knows what was coming")
            assert told.coming is not None
            assert (told.coming.version, told.coming.missing) == (2, 2)
        # usb_lockdown goes on telling of the disk, and so it goes on.
        again.wait_for_disk("front", "done")
        assert disk.given < 3_001_000


def test_redis_is_away(
    ground: Ground, board: Callable[..., Aboard], redis: RedisServer, short_tmp: Path
) -> None:
    aboard = board()
    redis.kill()
    wait_until(
        lambda: "redis" in str(aboard.client.get("/healthz").get_json()["degraded"]), "it is told"
    )
    ground.publish("news", "today", {"today.pdf": b"news"})
    assert _import(aboard, ground.published).state == "done"
    redis.start()
    aboard.wait(lambda state: state.current, "it is told when Redis is back")


def test_every_path_is_described(board: Callable[..., Aboard]) -> None:
    aboard = board()
    assert aboard.client.get("/openapi.json").get_json() == document()
    routes = {
        rule.rule.replace("<int:", "{").replace("<", "{").replace(">", "}")
        for rule in aboard.client.application.url_map.iter_rules()
    }
    assert set(document()["paths"]) == routes - {"/static/{path:filename}", "/openapi.json"}


@pytest.fixture
def address(ground: Ground, board: Callable[..., Aboard]) -> Iterator[str]:
    """Where a service with content answers."""
    for text in (b"first", b"second"):
        ground.publish("news", "today", {"today.pdf": text})
    aboard = board()
    _import(aboard, ground.published)
    with testing.served(aboard.client.application) as url:
        yield url


schema = schemathesis.openapi.from_dict(
    document(),
    # What is right by the schema may name nothing that is here, or come when too many wait.
    config=schemathesis.Config.from_dict(
        {
            "checks": {
                "positive_data_acceptance": {
                    "expected-statuses": ["2xx", "401", "404", "409", "429"]
                }
            }
        }
    ),
)


@schema.parametrize()
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_openapi_document_is_true(address: str, case: schemathesis.Case[Any]) -> None:
    """Every answer is one that it describes."""
    answer = case.call(base_url=address, headers=CREW, timeout=10)
    case.validate_response(answer, excluded_checks=[ignored_auth, unsupported_method])
