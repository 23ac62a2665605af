"""The whole cabin at work: a click reaches every seat, whatever state seats and network are in."""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any

import httpx
import pytest

from apps.common.commands import ACTIONS, DeliveryReport
from apps.common.protocol import PROTOCOL
from apps.common.testing import wait_until
from bench.services import postgresql_folder
from bench.testing import Cabin

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the cabin's own network takes root")


def issue(client: httpx.Client, action: dict[str, Any], **selector: Any) -> int:
    body: dict[str, Any] = {"selector": selector or {"all": True}, "action": action}
    if ACTIONS[action["name"]].model_validate(action).retained is None:
        body["expires_in"] = 60
    answer = client.post("/api/v1/commands", json=body)
    assert answer.status_code == 202, answer.text
    return int(answer.json()["seq"])


def report(client: httpx.Client, seq: int) -> DeliveryReport:
    answer = client.get(f"/api/v1/commands/{seq}").raise_for_status()
    return DeliveryReport.model_validate_json(answer.content)


def wait_for_all(
    cabin: Cabin, client: httpx.Client, seq: int, timeout: float = 15
) -> DeliveryReport:
    """Until every seat has confirmed."""
    wait_until(lambda: not report(client, seq).missing, f"command {seq} reached all", timeout)
    return report(client, seq)


def test_a_click_reaches_every_seat_and_each_confirms(cabin: Cabin) -> None:
    with cabin.crew_client() as client:
        told = wait_for_all(cabin, client, issue(client, {"name": "set_volume", "volume": 42}))
        assert told.applied == len(cabin.seats)
        assert told.crew == cabin.crew[0].id
        wait_until(
            lambda: all(seat.volume == 42 for seat in cabin.view().seats.values()),
            "every seat shows its volume",
            10,
        )


def test_a_zone_less_a_seat_is_exactly_that(cabin: Cabin) -> None:
    with cabin.crew_client() as client:
        lucky = cabin.seats[40]
        seq = issue(
            client,
            {"name": "set_brightness", "brightness": 7},
            classes=["economy"],
            exclude={"seats": [lucky]},
        )
        told = wait_for_all(cabin, client, seq)
        assert {entry.seat for entry in cabin.applied(seq)} == set(cabin.seats[36:]) - {lucky}
        assert told.targets == len(cabin.seats) - 37


def test_a_rebooted_seat_gets_what_is_in_force(cabin: Cabin) -> None:
    seat = cabin.seats[100]
    with cabin.crew_client() as client:
        wait_for_all(cabin, client, issue(client, {"name": "set_volume", "volume": 31}))
        wait_for_all(cabin, client, issue(client, {"name": "lock_screen", "locked": True}))
        cabin.reboot_seat(seat)
        wait_until(lambda: cabin.view().seats[seat].presence == "lost", "it is lost", 15)
        wait_until(
            lambda: (
                (shown := cabin.view().seats[seat]).presence == "live"
                and (shown.volume, shown.locked) == (31, True)
            ),
            "it is back with what is in force",
            20,
        )
        wait_for_all(cabin, client, issue(client, {"name": "lock_screen", "locked": False}))


def test_a_seat_out_of_reach_is_missing_and_catches_up(cabin: Cabin) -> None:
    seat = cabin.seats[200]
    cabin.cut_seat(seat)
    with cabin.crew_client() as client:
        wait_until(lambda: cabin.view().seats[seat].presence == "lost", "it is lost", 15)
        seq = issue(client, {"name": "mute", "muted": True})
        late = issue(client, {"name": "pause"})
        wait_until(lambda: report(client, seq).missing == [seat], "only it is missing", 15)
        cabin.restore_seat(seat)
        assert wait_for_all(cabin, client, seq).applied == len(cabin.seats)
        wait_for_all(cabin, client, late)
        wait_for_all(cabin, client, issue(client, {"name": "mute", "muted": False}))


def test_a_momentary_command_is_not_applied_late(cabin: Cabin) -> None:
    seat = cabin.seats[201]
    cabin.cut_seat(seat)
    with cabin.crew_client() as client:
        wait_until(lambda: cabin.view().seats[seat].presence == "lost", "it is lost", 15)
        body = {
            "selector": {"seats": [seat]},
            "action": {"name": "show_message", "text": "soon"},
            "expires_in": 0.5,
        }
        seq = int(client.post("/api/v1/commands", json=body).raise_for_status().json()["seq"])
        wait_until(lambda: report(client, seq).final, "it expired", 10)
        cabin.restore_seat(seat)
        wait_until(lambda: cabin.view().seats[seat].presence == "live", "it is back", 15)
        assert report(client, seq).expired == [seat]
        assert cabin.applied(seq) == []


def test_an_older_player_is_served_what_it_understands(cabin: Cabin) -> None:
    seat, other = cabin.seats[150], cabin.seats[0]
    cabin.set_protocol(seat, 1)
    try:
        wait_until(lambda: cabin.view().seats[seat].protocol == 1, "it speaks version 1", 25)
        with cabin.crew_client() as client:
            # Blocks of rows are of version 2: the old player asks, and gets its own form.
            action = {"name": "set_volume", "volume": 55}
            told = wait_for_all(
                cabin, client, issue(client, action, all=True, exclude={"seats": [other]})
            )
            assert told.applied == len(cabin.seats) - 1
            told = wait_for_all(cabin, client, issue(client, {"name": "identify"}))
            assert [(r.seat, r.reason) for r in told.refused] == [(seat, "needs protocol 2")]
    finally:
        cabin.set_protocol(seat, PROTOCOL)
        cabin.wait_until_healthy(30)


@needs_root
@pytest.mark.parametrize("percent", [10, 30])
def test_every_command_arrives_while_packets_vanish(cabin: Cabin, percent: int) -> None:
    cabin.drop(percent)
    try:
        with cabin.crew_client() as client:
            seqs = [issue(client, {"name": "show_message", "text": "hi"}) for _ in range(5)]
            for seq in seqs:
                told = wait_for_all(cabin, client, seq, 60)
                assert told.applied == len(cabin.seats)
                seats = [entry.seat for entry in cabin.applied(seq)]
                assert sorted(seats) == sorted(cabin.seats)  # each once
    finally:
        cabin.drop(0)
        cabin.wait_until_healthy(30)


@needs_root
def test_a_pulled_cable_loses_all_seats_and_plugged_in_heals_them(cabin: Cabin) -> None:
    cabin.set_link(up=False)
    try:
        wait_until(lambda: cabin.live() == 0, "all seats are lost", 15)
    finally:
        cabin.set_link(up=True)
    plugged_in = time.monotonic()
    cabin.wait_until_healthy(30)
    print(f"healed {time.monotonic() - plugged_in:.1f} s after the cable was plugged in")


def test_the_audit_log_tells_who_did_what_to_whom(cabin: Cabin) -> None:
    with cabin.crew_client(1) as client:
        seq = issue(client, {"name": "reading_light", "on": True}, seats=[cabin.seats[3]])
        wait_for_all(cabin, client, seq)
    expected = [cabin.crew[1].id, "reading_light", f'["{cabin.seats[3]}"]', "1"]
    wait_until(lambda: audited(cabin, seq) == expected, "PostgreSQL has it", 10)


def audited(cabin: Cabin, seq: int) -> list[str]:
    """Who, what, whom, and how many applied it, from PostgreSQL, as seat control's own user."""
    query = (
        "SELECT crew, action->>'name', targets, applied FROM seat_control_command "
        "WHERE seq = :seq ORDER BY epoch DESC LIMIT 1"
    )
    as_user = [*("setpriv", "--reuid=ife-seat_control"), "--clear-groups"]
    done = subprocess.run(
        [
            *(as_user if os.geteuid() == 0 else []),
            *("psql", "--host", str(postgresql_folder(cabin.instance.paths))),
            *("--username=ife-seat_control", "--tuples-only", "--no-align", "ife"),
            f"--set=seq={seq}",
        ],
        input=query,
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return done.stdout.strip().split("|")
