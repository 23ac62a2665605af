"""What it looks like: at most 80 columns, colour for a terminal only."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from apps.status.facts import Clock, Disk, Facts, Network, Report, Seats, Trust, Unit, Versions
from apps.status.judge import judge
from apps.status.show import CONSOLE_WIDTH, plain, short

HOST_KEY = "SHA256:" + 43 * "x"


def report(**changes: object) -> Report:
    """Of a server with the longest names and with most things wrong."""
    unit = Unit(
        name="postgresql@17-main.service",
        load="loaded",
        state="activating",
        substate="auto-restart-queued",
        condition_met=True,
        seconds=3_600_000,
        restarts=100_000,
        memory=2 * 2**30,
    )
    facts = Facts(
        provisioned=True,
        registration="EC-LAB",
        versions=Versions(
            image="ife",
            image_version="0.1.0-bbeeefa1-dirty",
            software="0.1.0",
            kernel="6.12.48+deb13-amd64",
            slot="A",
        ),
        units=(unit, unit.model_copy(update={"name": "x" * 300 + ".service", "load": "error"})),
        networks=(
            Network(name="avionics", interface="avionics0", wanted="10.23.0.1/24"),
            Network(
                name=None,
                interface="enp0s31f6np0abc",
                present=True,
                up=True,
                mac="52:54:00:1f:e0:01",
                addresses=("255.255.255.255/32", "10.0.0.1/8"),
            ),
        ),
        clock=Clock(synchronised=True, source="203.0.113.255", behind=-0.0012345),
        trust=Trust(secure_boot=True, host_key=HOST_KEY),
        disk=Disk(
            size=2**32, free=0, read_only=True, errors=3, state_is_lost=False, encrypted=True
        ),
        seats=Seats(
            layout="a330-300",
            total=312,
            live=0,
            waiting=0,
            silent=tuple(f"{row}A" for row in range(1, 313)),
        ),
    )
    return judge(facts.model_copy(update=changes), datetime(2026, 1, 1, tzinfo=UTC))


def test_it_fits_80_columns() -> None:
    assert max(map(len, plain(report(), colour=False).splitlines())) <= 80


def test_on_the_console_it_leaves_room_for_what_the_journal_puts_before_it() -> None:
    lines = short(report(), colour=False).splitlines()
    assert max(map(len, lines)) <= CONSOLE_WIDTH
    assert lines[0].startswith("EC-LAB: ife 0.1.0, image ife 0.1.0-bbeeefa1-dirty")


def test_while_it_is_new_the_console_tells_how_to_reach_it() -> None:
    text = short(report(provisioned=False, registration=None), colour=False)
    assert "\nenp0s31f6np0abc 52:54:00:1f:e0:01 255.255.255.255/32\n" in text
    assert text.endswith(f"\nSSH key:\n  {HOST_KEY}\n")
    assert max(map(len, text.splitlines())) <= CONSOLE_WIDTH
    assert HOST_KEY not in short(report(), colour=False)


def test_each_part_is_in_it() -> None:
    text = plain(report(), colour=False)
    for words in (
        "EC-LAB: ife 0.1.0, image ife 0.1.0-bbeeefa1-dirty (slot A), Linux\n  6.12.48+deb13",
        "postgresql@17-main",
        "activating (auto-restart",
        "41 d   100000   2048",
        "avionics   avionics0       missing",
        "no link      52:54:00:1f:e0:01 255.255.255.255/32",
        "synchronised by 203.0.113.255, 1.234 ms ahead",
        "0.0 of 4.0 GiB free, cannot be written, 3 errors, encrypted",
        "Boot     Secure Boot is on",
        f"SSH key  {HOST_KEY}",
        "0 of 312 live (a330-300); silent: 1A 2A",
        "Wrong: /var can no longer be written.",
    ):
        assert words in text, words


def test_colour_is_for_a_terminal_only() -> None:
    coloured = plain(report(), colour=True)
    without = plain(report(), colour=False)
    assert "\x1b" not in without
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == without
    assert "\x1b[1;31mWrong:\x1b[0m /var" in coloured


def test_what_is_not_known_is_left_out() -> None:
    facts = Facts(provisioned=False)
    text = plain(judge(facts, datetime(2026, 1, 1, tzinfo=UTC)), colour=False)
    assert text.startswith("An aircraft's server\n\nWrong: This server has not been provisioned.\n")
