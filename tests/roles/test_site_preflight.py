"""A wrong inventory stops before the first change, and the message names host and variable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.roles.helpers import AIRLINE, ROOT, Pki, ansible_playbook

CREW = [{"id": "anna", "name": "Anna", "pin_hash": "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA"}]
NETWORKS = [
    {"name": "cabin", "mac": "52:54:00:00:00:01"}
    | {"network": "10.20.0.0/22", "address": "10.20.0.1"},
    {"name": "crew", "path": "pci-0000:02:00.0"}
    | {"network": "10.22.0.0/24", "address": "10.22.0.1"},
    {"name": "ground", "mac": "52:54:00:00:00:04", "address": "dhcp"},
]


@pytest.fixture
def right(pki: Pki) -> dict[str, Any]:
    """The variables of an aircraft that may be provisioned."""
    return {
        "ansible_connection": "local",
        "registration": "EC-LAB",
        "cabin_layout": "a320",
        "network_interfaces": NETWORKS,
        "pki_directory": str(pki.directory),
        "nginx_airline": AIRLINE,
        "nginx_cabin_listen": "10.20.0.1:443",
        "nginx_crew_listen": "10.22.0.1:443",
        "seat_control_multicast_source": "10.20.0.1",
        "crew_web_crew": CREW,
    }


def _site(folder: Path, variables: dict[str, Any], *arguments: str) -> tuple[int, str]:
    inventory = folder / "hosts.json"
    inventory.write_text(json.dumps({"aircraft": {"hosts": {"ec-lab": variables}}}))
    done = ansible_playbook(
        ROOT / "playbooks/site.yml",
        f"--inventory={inventory}",
        # No task of a role has it, so only what is checked always runs, and nothing changes.
        "--tags=nothing",
        *arguments,
        ANSIBLE_NOCOLOR="1",
    )
    return done.returncode, done.stdout + done.stderr


def _changed(at: int, **fields: str) -> list[dict[str, str]]:
    return [
        network | fields if number == at else network for number, network in enumerate(NETWORKS)
    ]


def test_a_right_inventory_passes(right: dict[str, Any], tmp_path: Path) -> None:
    status, output = _site(tmp_path, right)
    assert status == 0, output
    assert "PLAY [Provision aircraft]" in output
    assert "changed=0" in output


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"cabin_layout": "a380"}, "cabin_layout must be the name of a file"),
        ({"pki_directory": "/nowhere"}, "pki_directory has no"),
        ({"registration": "EC-TWO"}, "must be valid, and of registration (EC-TWO)"),
        (
            {"network_interfaces": _changed(0, address="10.30.0.1")},
            "network_interfaces: cabin: address 10.30.0.1 is not one for a host in its network",
        ),
        ({"crew_web_crew": []}, "crew_web_crew must name somebody"),
        ({"network_interfaces": None}, "network_interfaces"),
        ({"nginx_revoked_serials": ["serial=12"]}, "nginx_revoked_serials must be"),
        ({"baseline_ntp_servers": ["a b"]}, "baseline_ntp_servers must be"),
        ({"hardening_ssh_networks": ["the moon"]}, "hardening_ssh_networks"),
        ({"hardening_ssh_authorities": ["ssh-rsa AAAA"]}, "hardening_ssh_authorities must be"),
        ({"firewall_connections_rate": 0}, "firewall_connections_rate and"),
    ],
    ids=str,
)
def test_a_wrong_one_is_told_by_host_and_variable(
    right: dict[str, Any], tmp_path: Path, wrong: dict[str, Any], told: str
) -> None:
    status, output = _site(tmp_path, right | wrong)
    assert status != 0
    assert "[ec-lab]: FAILED!" in output
    assert told in " ".join(output.split())
    assert "PLAY [Provision aircraft]" not in output
