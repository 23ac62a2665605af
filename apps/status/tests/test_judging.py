"""From facts to what a field engineer reads: tables of facts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.status.facts import (
    Certificate,
    Clock,
    Disk,
    Facts,
    Network,
    Report,
    Seats,
    Trust,
    Unit,
    Unknown,
)
from apps.status.judge import judge

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GIB = 2**30

UNIT = Unit(
    name="ife-seat_control.service",
    load="loaded",
    state="active",
    substate="running",
    condition_met=True,
    seconds=7200,
    restarts=0,
    memory=130 * 2**20,
    says="ready",
)
CABIN = Network(
    name="cabin",
    interface="cabin0",
    wanted="10.20.0.1/22",
    present=True,
    up=True,
    carrier=True,
    mac="52:54:00:1f:e0:01",
    addresses=("10.20.0.1/22",),
)
GROUND = CABIN.model_copy(update={"name": "ground", "interface": "ground0", "wanted": "dhcp"})
CLOCK = Clock(synchronised=True)
DISK = Disk(
    size=4 * GIB, free=3 * GIB, read_only=False, errors=0, state_is_lost=False, encrypted=True
)
SEATS = Seats(layout="a320", total=60, live=60, waiting=0, silent=())
WELL = Facts(
    provisioned=True,
    registration="EC-LAB",
    trust=Trust(secure_boot=True, host_key="SHA256:" + 43 * "x"),
    units=(UNIT,),
    networks=(CABIN, GROUND),
    clock=CLOCK,
    disk=DISK,
    seats=SEATS,
)


def judged(**changes: Any) -> Report:
    return judge(WELL.model_copy(update=changes), NOW)


def test_when_all_is_well_there_is_nothing_to_say() -> None:
    report = judged()
    assert (report.well, report.findings) == (True, ())


@pytest.mark.parametrize(
    ("changes", "what", "do"),
    [
        ({"load": "not-found"}, "cannot load ife-seat_control.service: not-found", "status"),
        ({"load": "masked"}, "cannot load", "/etc/systemd/system"),
        (
            {"state": "failed", "substate": "failed"},
            "ife-seat_control.service has failed",
            "journalctl -b -u ife-seat_control.service",
        ),
        (
            {"state": "activating", "substate": "auto-restart", "restarts": 14},
            "again and again (14 restarts)",
            "journalctl -b -u ife-seat_control.service",
        ),
        (
            {"state": "activating", "substate": "auto-restart-queued", "restarts": 14},
            "again and again (14 restarts)",
            "journalctl",
        ),
        ({"state": "inactive", "substate": "dead"}, "is stopped", "systemctl start"),
        (
            {"state": "inactive", "substate": "dead", "condition_met": False},
            "something that it needs is not there",
            "playbooks/site.yml",
        ),
        ({"seconds": 12.4, "restarts": 3}, "started again 12 s ago (3 restarts)", "journalctl"),
        ({"says": "degraded: redis (refused)"}, "says: degraded: redis (refused)", "names"),
    ],
)
def test_what_is_wrong_with_a_unit(changes: dict[str, Any], what: str, do: str) -> None:
    report = judged(units=(UNIT.model_copy(update=changes),))
    (finding,) = report.findings
    assert finding.level == "wrong"
    assert what in finding.what
    assert do in finding.do
    assert not report.well


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"state": "activating", "substate": "start"}, "still starting"),
        ({"restarts": 2}, "has ended by itself 2 times"),
    ],
)
def test_what_is_to_be_known_of_a_unit(changes: dict[str, Any], what: str) -> None:
    report = judged(units=(UNIT.model_copy(update=changes),))
    (finding,) = report.findings
    assert finding.level == "note"
    assert what in finding.what
    assert report.well


def test_what_other_programs_tell_systemd_is_no_fault() -> None:
    redis = UNIT.model_copy(
        update={"name": "redis-server.service", "says": "Ready to accept connections"}
    )
    assert judged(units=(redis,)).findings == ()


def test_a_tunnel_that_does_not_come_up_is_fine_in_flight() -> None:
    tunnel = UNIT.model_copy(update={"name": "ife-tunnel.service", "state": "failed"})
    report = judged(units=(tunnel,))
    assert [finding.level for finding in report.findings] == ["note"]
    not_for_us = tunnel.model_copy(update={"state": "inactive", "condition_met": False})
    assert judged(units=(not_for_us,)).findings == ()


@pytest.mark.parametrize(
    ("network", "changes", "level", "what"),
    [
        (CABIN, {"present": False, "up": False, "carrier": False}, "wrong", "cabin0 is missing"),
        (CABIN, {"up": False, "carrier": False}, "wrong", "cabin0 is switched off"),
        (CABIN, {"carrier": False}, "wrong", "cabin0 has no link"),
        (CABIN, {"addresses": ("10.20.0.9/22",)}, "wrong", "not have its address, 10.20.0.1/22"),
        (GROUND, {"present": False}, "wrong", "ground0 is missing"),
        (GROUND, {"carrier": False, "addresses": ()}, "note", "ground0 has no link"),
        (GROUND, {"addresses": ()}, "note", "ground0 has no address"),
    ],
)
def test_networks(network: Network, changes: dict[str, Any], level: str, what: str) -> None:
    (finding,) = judged(networks=(network.model_copy(update=changes),)).findings
    assert finding.level == level
    assert what in finding.what


def test_an_interface_that_is_no_network_of_the_aircraft_is_nobodys_fault() -> None:
    other = CABIN.model_copy(update={"name": None, "interface": "enp3s0", "up": False})
    assert judged(networks=(CABIN, other)).findings == ()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"free": GIB // 4}, "nearly full: 6 % are free"),
        ({"read_only": True}, "no longer be written"),
        ({"errors": 3}, "has met 3 errors"),
        ({"state_is_lost": True, "errors": None}, "runs as a new one"),
    ],
)
def test_disk(changes: dict[str, Any], what: str) -> None:
    (finding,) = judged(disk=DISK.model_copy(update=changes)).findings
    assert finding.level == "wrong"
    assert what in finding.what


@pytest.mark.parametrize(
    ("changes", "level", "what"),
    [
        ({"live": 0, "silent": ("1A",)}, "wrong", "None of the 60 seats"),
        ({"live": 58, "silent": ("12A", "12C")}, "wrong", "2 of 60 seats are silent: 12A 12C."),
        (
            {"live": 40, "silent": tuple(f"{row}A" for row in range(1, 21))},
            "wrong",
            "10A 11A 12A and 8 more.",
        ),
        ({"live": 3, "waiting": 57}, "note", "57 seats are not heard of yet"),
    ],
)
def test_seats(changes: dict[str, Any], level: str, what: str) -> None:
    (finding,) = judged(seats=SEATS.model_copy(update=changes)).findings
    assert finding.level == level
    assert what in finding.what


def test_a_clock_that_runs_by_itself_is_fine_in_flight() -> None:
    report = judged(clock=Clock(synchronised=False))
    assert [finding.level for finding in report.findings] == ["note"]
    assert report.well


def test_a_server_that_was_not_provisioned_is_told_so_and_nothing_that_follows_from_it() -> None:
    missing = UNIT.model_copy(update={"state": "inactive", "condition_met": False})
    report = judge(
        Facts(
            provisioned=False,
            units=(missing,),
            networks=(CABIN.model_copy(update={"name": None, "up": False}),),
            clock=Clock(synchronised=False),
            disk=DISK,
        ),
        NOW,
    )
    (finding,) = report.findings
    assert finding.what == "This server has not been provisioned."
    assert "playbooks/site.yml" in finding.do
    assert "docs/runbook.md" in finding.do
    assert not report.well


def test_a_server_that_lost_its_state_is_told_so_first() -> None:
    lost = DISK.model_copy(update={"state_is_lost": True})
    report = judge(Facts(provisioned=False, disk=lost), NOW)
    assert [finding.what.split()[1] for finding in report.findings] == ["state", "server"]


def test_without_secure_boot_a_lost_state_is_no_wonder() -> None:
    """No TPM opens it then, and the disk is well."""
    lost = DISK.model_copy(update={"state_is_lost": True})
    trust = Trust(secure_boot=False, host_key=None)
    report = judge(Facts(provisioned=False, disk=lost, trust=trust), NOW)
    assert "Secure Boot is off" in report.findings[-1].what
    assert "broken" not in report.findings[0].do


def test_a_disk_full_of_content_is_well() -> None:
    free = 2 * GIB - 1
    report = judged(disk=DISK.model_copy(update={"size": 256 * GIB, "free": free}))
    assert report.well
    report = judged(disk=DISK.model_copy(update={"size": 256 * GIB, "free": GIB - 1}))
    assert not report.well


def test_a_part_that_nobody_could_look_at_is_not_taken_for_well() -> None:
    report = judged(units=None, unknown=(Unknown(part="units", why="no answer within 6 s"),))
    (finding,) = report.findings
    assert finding.what == "The units could not be looked at: no answer within 6 s."
    assert not report.well


def test_what_is_wrong_comes_before_what_is_to_be_known() -> None:
    report = judged(
        units=(UNIT.model_copy(update={"restarts": 1}),),
        seats=SEATS.model_copy(update={"live": 59, "silent": ("1A",)}),
        clock=Clock(synchronised=False),
    )
    assert [finding.level for finding in report.findings] == ["wrong", "note", "note"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"trust": Trust(secure_boot=False, host_key=None)}, "Secure Boot is off"),
        ({"trust": Trust(secure_boot=None, host_key=None)}, "Secure Boot is off"),
        ({"disk": DISK.model_copy(update={"encrypted": False})}, "/var is not encrypted"),
    ],
)
def test_what_an_aircraft_has_and_the_lab_may_lack_is_noted(
    changes: dict[str, Any], what: str
) -> None:
    report = judged(**changes)
    (finding,) = report.findings
    assert (report.well, finding.level) == (True, "note")
    assert what in finding.what


@pytest.mark.parametrize(
    ("days", "levels"), [(100, []), (80, ["note"]), (20, ["wrong"]), (-1, ["wrong"])]
)
def test_a_certificate_that_ends_soon_is_told_in_time(days: int, levels: list[str]) -> None:
    ends = NOW + timedelta(days=days)
    report = judged(certificates=(Certificate(name="server", ends=ends),))
    assert [finding.level for finding in report.findings] == levels
    assert all(f"{ends:%Y-%m-%d}" in finding.what for finding in report.findings)
