"""All of it: a sysfs of files, a real reader for each disk, a real Redis, and the API."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from schemathesis.specs.openapi.checks import unsupported_method

from apps.common import disks, testing, web
from apps.common.bus import Bus, Followed
from apps.common.disks import Disk, Disks
from apps.common.testing import PostgresServer, RedisServer, wait_until
from apps.common.usage import Bite, parse
from apps.usb_lockdown import reading
from apps.usb_lockdown.app import create_app
from apps.usb_lockdown.openapi import document
from apps.usb_lockdown.service import MAX_AN_HOUR, UsbLockdown
from apps.usb_lockdown.settings import UsbLockdownSettings
from apps.usb_lockdown.testing import DISK, HUB, KEYBOARD, PORTS, Kernel
from apps.usb_lockdown.tests import images
from apps.usb_lockdown.tests.reading import get

NO_DATABASE = "postgresql+psycopg:///usage?host=/nowhere"
CREW = {"Ife-Crew": "anna"}
ROOT = "metadata/1.root.json"


class Server:
    """usb_lockdown on a kernel of files, which goes on by itself."""

    def __init__(
        self,
        folder: Path,
        starter: Path,
        redis_url: str,
        denies: bool = True,
        usage_url: str = NO_DATABASE,
    ) -> None:
        (folder / "sys").mkdir()
        (folder / "run").mkdir()
        self.kernel = Kernel(folder / "sys", denies)
        self.service = UsbLockdown(
            UsbLockdownSettings(
                registration="EC-LAB",
                runtime_directory=folder / "run",
                reader_socket=starter,
                crew_disk_ports=" ".join(f"{name}={path}" for path, name in PORTS.items()),
                sysfs=self.kernel.root,
                devices=self.kernel.dev,
                redis_url=redis_url,
                usage_database_url=usage_url,
            )
        )
        self.app = create_app(self.service)
        self.client = self.app.test_client()

    def state(self) -> Disks:
        """As the API tells it, while the kernel goes on."""
        self.kernel.settle()
        self.service._wake.set()
        answer = self.client.get("/api/v1/usb", headers=CREW)
        return Disks.model_validate_json(answer.data)

    def disk(self, state: str) -> Disk:
        """The one disk, once it is in that state."""
        wait_until(
            lambda: [disk.state for disk in self.state().disks] == [state], f"it is {state}", 20
        )
        return self.state().disks[0]

    def degraded(self) -> dict[str, str]:
        return {part.part: part.why for part in self.service.health.report().degraded}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def server(tmp_path: Path, starter: Path, redis: RedisServer) -> Iterator[Server]:
    server = Server(tmp_path, starter, redis.url)
    server.service.start()
    yield server
    server.service.close()


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    return images.make(tmp_path / "stick.img", "exfat", images.content(b"film"))


def test_a_disk_is_let_in_read_and_pulled_out(server: Server, stick: Path) -> None:
    server.kernel.plug("1-1", DISK, medium=stick, label="Content 7")
    disk = server.disk("ready")
    assert (disk.port, disk.name, disk.bytes) == ("front", "Content 7", stick.stat().st_size)
    assert disk.socket is not None
    assert get(disk.socket, ROOT) == (200, images.content()[ROOT])
    server.kernel.pull("1-1")
    wait_until(lambda: server.state().disks == (), "it is gone")
    assert not Path(disk.socket).exists()
    # The next one, in the same port.
    server.kernel.plug("1-1", DISK, medium=stick, label="Content 8")
    assert server.disk("ready").name == "Content 8"


def test_a_disk_without_content_is_told(server: Server, tmp_path: Path) -> None:
    empty = tmp_path / "empty.img"
    empty.write_bytes(bytes(1 << 20))
    server.kernel.plug("1-1", DISK, medium=empty)
    disk = server.disk("unreadable")
    assert "no file system" in (disk.why or "")
    assert disk.socket is None


def test_the_bus_tells_all_of_it(server: Server, stick: Path, redis: RedisServer) -> None:
    bus = Bus(redis.url)
    bus.start()
    try:
        followed = Followed(bus, disks.TOPIC, Disks, disks.GOOD_FOR)
        server.kernel.plug("1-1", DISK, medium=stick)
        server.kernel.plug("1-2", KEYBOARD, label="Typist")
        server.disk("ready")

        def told() -> bool:
            value = followed.value
            return (
                value is not None
                and [disk.state for disk in value.disks] == ["ready"]
                and [blocked.name for blocked in value.blocked] == ["Typist"]
            )

        wait_until(told, "the bus tells it")
    finally:
        bus.close()


def test_the_ground_is_told_of_what_was_not_let_in_and_not_without_end(
    tmp_path: Path, starter: Path, redis: RedisServer, postgres: PostgresServer
) -> None:
    """Also of what is pulled out at once, which the crew do not see any more."""
    postgres.create("ife-usb_lockdown")
    database = postgres.create("ife-content_sync")
    postgres.run(
        database,
        "CREATE TABLE usage_outbox (kind text, line text); "
        "GRANT INSERT (kind, line) ON usage_outbox TO PUBLIC",
    )
    url = postgres.url(database, "ife-usb_lockdown")
    server = Server(tmp_path, starter, redis.url, usage_url=url)
    server.service.start()
    try:
        for times in range(1, MAX_AN_HOUR + 3):
            server.kernel.plug("1-2", KEYBOARD, label="Typist")
            wait_until(lambda: server.state().blocked_ever == times, "it is seen")  # noqa: B023
            server.kernel.pull("1-2")
            wait_until(lambda: not any(b.present for b in server.state().blocked), "it is gone")
    finally:
        server.service.close()
    lines = postgres.run(database, "SELECT line FROM usage_outbox WHERE kind = 'bite'").splitlines()
    assert len(lines) == MAX_AN_HOUR
    record = parse("bite", lines[0].encode())
    assert isinstance(record, Bite)
    assert (record.part, record.fault) == ("usb-pci-0000-00-1d.0-usbv2-0-2", "not-let-in")
    assert record.detail.startswith("Typist (")
    assert server.degraded().keys().isdisjoint({"usage"})


def test_what_is_blocked_is_in_its_health(server: Server) -> None:
    server.kernel.plug("1-2", KEYBOARD, label="Typist")
    wait_until(lambda: len(server.state().blocked) == 1, "it is seen")
    report = server.service.health.report()
    assert report.ready
    assert "Typist at pci-0000:00:1d.0-usbv2-0:2 is not let in" in server.degraded()["blocked"]
    server.kernel.pull("1-2")
    wait_until(lambda: not any(b.present for b in server.state().blocked), "it is gone")
    assert "blocked" not in server.degraded()


def test_without_redis_disks_are_read_all_the_same(
    server: Server, stick: Path, redis: RedisServer
) -> None:
    redis.kill()
    server.kernel.plug("1-1", DISK, medium=stick)
    server.disk("ready")
    wait_until(lambda: "redis" in server.degraded(), "it is told")


def test_a_kernel_that_lets_everything_in_is_told(
    tmp_path: Path, starter: Path, redis: RedisServer
) -> None:
    server = Server(tmp_path, starter, redis.url, denies=False)
    server.service.start()
    try:
        wait_until(lambda: "lockdown" in server.degraded(), "it is told")
        assert "usbcore.authorized_default=0" in server.degraded()["lockdown"]
    finally:
        server.service.close()


def test_a_reader_that_is_killed_is_told(server: Server, stick: Path) -> None:
    server.kernel.plug("1-1", DISK, medium=stick)
    server.disk("ready")
    reader = server.service._keeper._tracked
    (tracked,) = reader.values()
    # Its end of the connection is gone with it.
    tracked.reader._control.shutdown(2)  # type: ignore[union-attr]
    assert "has ended" in (server.disk("unreadable").why or "")


def test_a_disk_that_does_not_answer_keeps_no_other_waiting(
    server: Server, stick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe stands for it: to open it takes until somebody writes to it."""
    monkeypatch.setattr(reading, "READY_WITHIN", 3.0)
    mute = tmp_path / "mute"
    os.mkfifo(mute)
    server.kernel.plug("1-1", DISK, medium=mute)
    with ExitStack() as stack:
        stack.callback(lambda: os.close(os.open(mute, os.O_RDWR)))
        sizes = "devices/*/*/*/*/*/host0/*/*/block/*/size"
        wait_until(lambda: server.state() and [*server.kernel.root.glob(sizes)], "it is a disk")
        (size,) = server.kernel.root.glob(sizes)
        size.write_text("99\n")
        wait_until(lambda: server.state().disks[0].bytes, "it is opened")
        server.kernel.plug("1-4", HUB, shows=((9, 0, 0),))
        wait_until(lambda: server.state() and server.kernel.is_driven("1-4"), "the hub is in")
        server.kernel.plug("1-4.1", DISK, medium=stick)

        def states() -> dict[str, str]:
            return {disk.port: disk.state for disk in server.state().disks}

        wait_until(lambda: states().get("aft") == "ready", "the other is read", 20)
        wait_until(lambda: states()["front"] == "unreadable", "it is told", 20)
        assert states()["aft"] == "ready"
        (why,) = (disk.why for disk in server.state().disks if disk.port == "front")
        assert why == "it did not answer within 3 s"
    # When it answers after all, it is left alone until it is plugged in again.
    time.sleep(0.5)
    assert states()["front"] == "unreadable"
    assert server.degraded().keys().isdisjoint({"devices"})


# -- the API ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    folder = tmp_path_factory.mktemp("api")
    server = Server(folder, folder / "starter.sock", f"unix://{folder}/redis.sock")
    server.kernel.plug("1-2", KEYBOARD)
    server.service.start()
    wait_until(lambda: server.state().blocked, "it has looked")
    yield server.app
    server.service.close()


@pytest.fixture(scope="module")
def url(app: Flask) -> Iterator[str]:
    with testing.served(app) as url:
        yield url


schema = schemathesis.openapi.from_dict(document())


@schema.parametrize()
@hypothesis_settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_openapi_document_is_true(url: str, case: schemathesis.Case[Any]) -> None:
    case.call_and_validate(
        base_url=url, headers=CREW, excluded_checks=[unsupported_method], timeout=10
    )


def test_every_route_is_documented_and_only_reads(app: Flask) -> None:
    served = {
        (rule.rule, method)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if not rule.rule.startswith("/static") and rule.rule != "/openapi.json"
    }
    documented = {
        (path, method.upper())
        for path, methods in document()["paths"].items()
        for method in methods
    }
    assert served == documented
    assert {method for _, method in served} == {"GET"}


def test_the_crew_must_be_known(app: Flask) -> None:
    client = app.test_client()
    for headers in ({}, {"Ife-Crew": ""}, {"Ife-Crew": "A b"}):
        assert client.get("/api/v1/usb", headers=headers).status_code == 401
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("IFE_CREW_DISK_PORTS", "front=1-2", "IFE_CREW_DISK_PORTS"),
        ("IFE_REDIS_URL", "nonsense", "IFE_REDIS_URL"),
    ],
)
def test_a_wrong_setting_ends_it_with_its_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
    said: str,
) -> None:
    monkeypatch.setenv("IFE_REGISTRATION", "EC-LAB")
    monkeypatch.setenv("IFE_RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        create_app()
    assert ended.value.code == web.CANNOT_LOAD
    assert said in capsys.readouterr().err
