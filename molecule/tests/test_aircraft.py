"""What provisioning makes of a server, whichever aircraft it is; run by `molecule verify`."""

from __future__ import annotations

import json
import os
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest
import testinfra
from ruamel.yaml import YAML
from testinfra.host import Host

from bench.site import UNTIL_ALL_ANSWER

# An emulated server loads all its apps for minutes.
pytestmark = pytest.mark.timeout(300)

PUBLISHED = {
    "nginx_cabin_listen": ("cabin", 443),
    "nginx_media_listen": ("cabin", 8080),
    "nginx_crew_listen": ("crew", 443),
}
SERVICES = (
    "chrony",
    "ife-content_sync",
    "ife-crew_web",
    "ife-pa_audio",
    "ife-seat_control",
    "ife-usb_lockdown",
    "ife-vlc_stream",
    "nginx",
    "nftables",
    "postgresql@17-main",
    "redis-server",
    "ssh",
    "systemd-networkd",
    "systemd-resolved",
)


@pytest.fixture(scope="module")
def host() -> Host:
    """The server, over the ground network, once every app has loaded."""
    server = testinfra.get_host("ssh://vm", ssh_config=f"{os.environ['MACHINE']}/ssh_config")
    assert server.run(UNTIL_ALL_ANSWER).rc == 0
    return server


@pytest.fixture(scope="module")
def aircraft() -> dict[str, Any]:
    """Its variables, as its file in the inventory has them."""
    variables: dict[str, Any] = YAML(typ="safe").load(Path(os.environ["AIRCRAFT"]))
    return variables


@pytest.fixture(scope="module")
def addresses(aircraft: dict[str, Any]) -> dict[str, str]:
    """The addresses that it was given, with the length of the prefix, by network."""
    return {
        network["name"]: f"{network['address']}/{network['network'].split('/')[1]}"
        for network in aircraft["network_interfaces"]
        if network["address"] != "dhcp"
    }


def test_no_unit_has_failed(host: Host) -> None:
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""
    assert host.check_output("systemctl is-active ife.target") == "active"


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_runs_and_starts_at_the_next_boot(host: Host, service: str) -> None:
    assert host.service(service).is_running
    assert host.check_output(f"systemctl is-enabled {service}") == "enabled"


def test_nothing_starts_over_and_over(host: Host) -> None:
    shown = host.check_output("systemctl show --property=Id,NRestarts 'ife-*.service'")
    assert [unit for unit in shown.split("\n\n") if "NRestarts=0" not in unit] == []


def test_it_has_its_name(host: Host, aircraft: dict[str, Any]) -> None:
    assert host.check_output("hostname") == aircraft["registration"].lower()


def test_each_interface_has_its_networks_name_and_address(
    host: Host, aircraft: dict[str, Any], addresses: dict[str, str]
) -> None:
    links = {
        link["ifname"]: link
        for link in json.loads(host.check_output("ip -json -4 address"))
        if link["ifname"] != "lo"
    }
    assert {f"{network['name']}0" for network in aircraft["network_interfaces"]} <= set(links)
    for name, address in addresses.items():
        found = [
            f"{entry['local']}/{entry['prefixlen']}" for entry in links[f"{name}0"]["addr_info"]
        ]
        assert found == [address]


def test_commands_go_out_into_the_cabin(host: Host) -> None:
    route = json.loads(host.check_output("ip -json route get 239.192.73.1"))[0]
    assert route["dev"] == "cabin0"


def test_it_listens_to_its_own_networks_only(
    host: Host, aircraft: dict[str, Any], addresses: dict[str, str]
) -> None:
    expected = {
        aircraft.get(variable, f"{ip_interface(addresses[name]).ip}:{port}")
        for variable, (name, port) in PUBLISHED.items()
    }
    # SSH listens everywhere; the firewall lets it in from the ground.
    expected |= {"0.0.0.0:22"}
    listening = {
        line.split()[3]
        for line in host.check_output("ss --no-header --numeric --listening --tcp -4").splitlines()
    }
    assert {at for at in listening if not at.startswith("127.")} == expected


def test_the_firewall_has_the_roles_rules(host: Host) -> None:
    rules = host.check_output("nft list ruleset")
    assert 'iifname "ground0" tcp dport 22 accept' in rules
    assert 'oifname "avionics0" drop' in rules
    assert "tcp dport { 22, 80 } accept" not in rules  # of a server that is not provisioned


def test_secrets_are_roots(host: Host) -> None:
    folder = host.file("/etc/ife/keys")
    assert (folder.user, folder.mode) == ("root", 0o700)
    for name in folder.listdir():
        secret = host.file(f"/etc/ife/keys/{name}")
        assert (secret.user, secret.mode & 0o077) == ("root", 0)


def test_it_says_that_all_is_well(host: Host, aircraft: dict[str, Any]) -> None:
    """But for the seats and the PA's equipment: there are none."""
    told = json.loads(host.run("ife-status --json").stdout)
    wrong = [finding["what"] for finding in told["findings"] if finding["level"] == "wrong"]
    missing = ("None of the ", "ife-pa_audio.service says: degraded: keylines")
    assert [what for what in wrong if not any(part in what for part in missing)] == []
    assert "real time" not in str(wrong)
    assert told["facts"]["registration"] == aircraft["registration"]
