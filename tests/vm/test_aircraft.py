"""An aircraft's server: the image, provisioned by playbooks/site.yml, after a boot of its own."""

from __future__ import annotations

import re
import subprocess

import pytest

from bench.site import AVIONICS, CABIN, CREW, GROUND, WIRELESS
from image.vm.machine import Network
from image.vm.vm import VM
from tests.vm.conftest import Provisioned

MEMORY_AT_REST = 1024
"""MiB."""

EXPOSURE = 20
"""Tenths, of 10: there 10 is no protection at all (systemd-analyze security)."""

OPEN = [(CABIN, [443]), (WIRELESS, []), (CREW, [443]), (GROUND, [22]), (AVIONICS, [])]


def _server(network: Network) -> str:
    """The server's own address in a network: those of the lab end in .1, but on the ground."""
    if network is GROUND:
        return str(network.guest.ip)
    return str(network.host.network.network_address + 1)


# -- provisioning -----------------------------------------------------------------------------


def test_a_second_run_changes_nothing(provisioned: Provisioned) -> None:
    assert provisioned.again.failures == ()
    assert provisioned.again.changed == ()


def test_a_check_tells_what_a_run_does(provisioned: Provisioned) -> None:
    assert provisioned.check.failures == ()
    assert set(provisioned.check.changed) == set(provisioned.run.changed)


# -- what runs --------------------------------------------------------------------------------


def test_no_unit_has_failed(aircraft: VM) -> None:
    assert aircraft.run("systemctl list-units --failed --plain --no-legend").stdout == ""
    assert aircraft.run("systemctl is-system-running").stdout == "running\n"
    assert aircraft.run("systemctl is-active ife.target").stdout == "active\n"


def test_units_are_ordered_without_a_cycle(aircraft: VM) -> None:
    journal = aircraft.run("journalctl --boot --quiet --grep='ordering cycle'", check=False)
    assert journal.stdout == ""


def test_systemd_has_nothing_to_say_of_a_unit(aircraft: VM) -> None:
    units = "ife*.service ife*.socket ife.target"
    analyze = f"systemd-analyze verify --man=no {units}"
    done = aircraft.run(f"cd /usr/lib/systemd/system && {analyze}")
    assert done.stderr == ""


def test_units_are_not_exposed(aircraft: VM) -> None:
    units = aircraft.run("cd /usr/lib/systemd/system && ls ife-*.service").stdout.split()
    assert "ife-seat_control.service" in units
    for unit in units:
        analyze = f"systemd-analyze security --no-pager --threshold={EXPOSURE} {unit}"
        done = aircraft.run(analyze, check=False)
        assert done.returncode == 0, done.stdout


def test_at_rest_it_takes_little_memory(aircraft: VM) -> None:
    used = int(aircraft.run("free --mebi | awk '/^Mem/ {print $3}'").stdout)
    print(f"memory at rest: {used} MiB")
    assert used <= MEMORY_AT_REST


# -- what is open -----------------------------------------------------------------------------


@pytest.mark.parametrize(("network", "ports"), OPEN, ids=[network.name for network, _ in OPEN])
def test_open_ports_are_exactly_those_listed(
    aircraft: VM, network: Network, ports: list[int]
) -> None:
    assert open_ports(aircraft, _server(network)) == ports


@pytest.mark.parametrize(("network", "_ports"), OPEN, ids=[network.name for network, _ in OPEN])
def test_no_address_can_be_reached_from_another_network(
    aircraft: VM, network: Network, _ports: list[int]
) -> None:
    """The crew's page has the port that the seats' door has in the cabin."""
    others = [other for other, ports in OPEN if other is not network and ports]
    for other in others:
        # As somebody would who knows the server's address on the other side.
        route = [f"{_server(other)}/32", "via", _server(network), "dev", network.name]
        subprocess.run([*aircraft.entering, "ip", "route", "add", *route], check=True, timeout=10)
        try:
            assert open_ports(aircraft, _server(other), "22,80,443") == []
        finally:
            subprocess.run(
                [*aircraft.entering, "ip", "route", "del", *route], check=True, timeout=10
            )


def open_ports(vm: VM, address: str, ports: str = "-") -> list[int]:
    """The TCP ports that answer from our side of a network; all are tried without `ports`."""
    done = subprocess.run(
        [
            *vm.entering,
            "nmap",
            "-n",
            "-Pn",
            "-sS",
            "--min-rate=2000",
            f"-p{ports}",
            "-oG",
            "-",
            address,
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return [int(port) for port in re.findall(r"(\d+)/open/tcp", done.stdout)]
