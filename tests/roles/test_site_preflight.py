"""A wrong inventory stops before the first change, and the message names host and variable."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.site import ALSO_EC_LAB
from tests.roles.helpers import AIRLINE, AUTHORITY, ROOT, Pki, ansible_playbook, told_by_preflight

CREW = [{"id": "anna", "name": "Anna", "pin_hash": "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA"}]
NETWORKS = [
    {"name": "cabin", "mac": "52:54:00:00:00:01"}
    | {"network": "10.20.0.0/22", "address": "10.20.0.1"},
    {"name": "crew", "path": "pci-0000:02:00.0"}
    | {"network": "10.22.0.0/24", "address": "10.22.0.1"},
    {"name": "ground", "mac": "52:54:00:00:00:04", "address": "dhcp"},
]


PORT = "pci-0000:00:14.0-usbv2-0:2"

LIVE = {"group": "239.255.1.1", "port": 6000, "source": "10.20.0.9", "interface": "cabin0"}
CHANNELS = {
    "channels": {
        "news": {"names": {"en": "News"}, "group": "239.192.80.1", "playlist": ["news.ts"]},
        "tail": {"names": {"en": "Tail"}, "group": "239.192.80.2", "port": 5008, "live": LIVE},
    },
    "imposed": {
        "safety": {"names": {"en": "S"}, "group": "239.192.81.1", "files": {"en": "safety.ts"}},
    },
}


LIVE_ELSEWHERE = {
    "channels": {
        "tail": {"names": {"en": "Tail"}, "group": "239.192.80.2"}
        | {"live": LIVE | {"interface": "camera0"}}
    },
}


@pytest.fixture(scope="module")
def right(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The variables of an aircraft that may be provisioned."""
    root = tmp_path_factory.mktemp("airline") / "root.json"
    root.write_text('{"signed": {"_type": "root"}, "signatures": []}')
    return {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "registration": "EC-LAB",
        "cabin_layout": "a320",
        "network_interfaces": NETWORKS,
        "pki_directory": str(pki.directory),
        "nginx_airline": AIRLINE,
        "nginx_cabin_listen": "10.20.0.1:443",
        "nginx_crew_listen": "10.22.0.1:443",
        "nginx_media_listen": "10.20.0.1:8080",
        "seat_control_multicast_source": "10.20.0.1",
        "pa_audio_multicast_source": "10.20.0.1",
        "pa_audio_pilot_input": "alsa:hw:CARD=pilot",
        "pa_audio_crew_input": "rtp:10.20.0.9@239.1.1.1:5006%cabin0",
        "vlc_stream_multicast_source": "10.20.0.1",
        "vlc_stream_channels": CHANNELS,
        "content_sync_airline": "EXA",
        "content_sync_root": str(root),
        "usb_lockdown_places": {"front": [PORT], "aft": ["pci-0000:00:14.0-usbv2-0:3.1"]},
        "crew_web_crew": CREW,
        "hardening_ssh_authorities": [AUTHORITY],
    }


def _site(folder: Path, hosts: dict[str, Any], *arguments: str) -> tuple[int, str]:
    """`hosts` have the variables of each."""
    inventory = folder / "hosts.json"
    inventory.write_text(json.dumps({"aircraft": {"hosts": hosts}}))
    done = ansible_playbook(
        ROOT / "playbooks/site.yml",
        f"--inventory={inventory}",
        # No task of a role has it, so only what is checked always runs, and nothing changes.
        "--tags=nothing",
        "--check",
        *arguments,
        ANSIBLE_NOCOLOR="1",
    )
    return done.returncode, done.stdout + done.stderr


def _changed(at: int, **fields: str) -> list[dict[str, str]]:
    return [
        network | fields if number == at else network for number, network in enumerate(NETWORKS)
    ]


WRONG: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("seat_control", {"cabin_layout": "a380"}, "cabin_layout must be the name of a file"),
    ("nginx", {"pki_directory": "/nowhere"}, "pki_directory has no"),
    ("nginx", {"registration": "EC-TWO"}, "must be valid, and of registration (EC-TWO)"),
    (
        "network",
        {"network_interfaces": _changed(0, address="10.30.0.1")},
        "network_interfaces: cabin: address '10.30.0.1' is neither dhcp nor one for a host",
    ),
    (
        "nginx",
        {"nginx_cabin_listen": "10.20.0.11:443"},
        "nginx_cabin_listen is 10.20.0.11:443, and no address of network_interfaces",
    ),
    (
        "nginx",
        {"nginx_crew_listen": "10.22.0.9:443"}
        | {"network_interfaces": _changed(1, address="10.22.0.9")},
        "nginx_crew_listen is 10.22.0.9:443, and pki_directory has a server.crt for",
    ),
    (
        "nginx",
        {"nginx_media_listen": "127.0.0.1:8080"},
        "nginx_media_listen is 127.0.0.1:8080, and",
    ),
    (
        "network",
        {"seat_control_multicast_ttl": 0},
        "seat_control_multicast_ttl must be 1 to 32: it is 0",
    ),
    (
        "network",
        {"pa_audio_multicast_source": "10.2.0.1"},
        "pa_audio_multicast_source is 10.2.0.1, and",
    ),
    (
        "pa_audio",
        {"pa_audio_crew_input": "rtp:10.20.0.9@10.1.1.1:5006%cabin0"},
        "write alsa:DEVICE",
    ),
    (
        "pa_audio",
        {"pa_audio_crew_input": "alsa:hw CARD"},
        "pa_audio_crew_input: alsa:hw CARD: write",
    ),
    (
        "pa_audio",
        {"pa_audio_pilot_input": "rtp:10.23.0.9@239.1.1.1:5006%avionics0"},
        "must come by one of network_interfaces: rtp:10.23.0.9",
    ),
    (
        "vlc_stream",
        {"vlc_stream_channels": LIVE_ELSEWHERE},
        "vlc_stream_channels has a live source at camera0",
    ),
    ("content_sync", {"content_sync_root": "/nowhere"}, "content_sync_root must be the airline's"),
    (
        "content_sync",
        {"content_sync_root": str(ROOT / "pyproject.toml")},
        "content_sync_root must be the",
    ),
    ("content_sync", {"content_sync_airline": "Example"}, "content_sync_airline must be three"),
    (
        "content_sync",
        {"content_sync_hangar_address": "hangar"},
        "content_sync_hangar_address must be an IPv4",
    ),
    (
        "content_sync",
        {"content_sync_hangar_address": "10.24.0.1"},
        "content_sync_hangar_host_keys must be",
    ),
    (
        "content_sync",
        {"content_sync_gate_minutes": 0},
        "content_sync_gate_minutes must be 1 to 1440",
    ),
    ("crew_web", {"crew_web_crew": []}, "crew_web_crew must name somebody"),
    ("crew_web", {"crew_web_imports_want_pin": True}, "content_sync_crew_confirms_disks is not"),
    ("network", {"network_interfaces": None}, "network_interfaces"),
    ("nginx", {"nginx_revoked_serials": ["serial=12"]}, "nginx_revoked_serials must be"),
    ("baseline", {"baseline_ntp_servers": ["a b"]}, "baseline_ntp_servers must be"),
    ("hardening", {"hardening_ssh_networks": ["the moon"]}, "hardening_ssh_networks"),
    ("hardening", {"hardening_ssh_networks": ["avionics"]}, "hardening_ssh_networks"),
    ("hardening", {"hardening_ssh_networks": []}, "hardening_ssh_networks must be networks that"),
    (
        "hardening",
        {"hardening_ssh_networks": ["ground", "wireless"]},
        "hardening_ssh_networks must be",
    ),
    (
        "hardening",
        {"hardening_ssh_authorities": ["ssh-rsa AAAA"]},
        "hardening_ssh_authorities must be",
    ),
    (
        "hardening",
        {"hardening_ssh_authorities": []},
        "hardening_ssh_authorities must have an authority",
    ),
    ("firewall", {"firewall_connections_rate": 0}, "firewall_connections_rate and"),
    ("usb_lockdown", {"usb_lockdown_places": {"Front": []}}, "usb_lockdown_places must have names"),
    (
        "usb_lockdown",
        {"usb_lockdown_places": {"front": ["1-2"]}},
        "usb_lockdown_places must have lists of paths",
    ),
    (
        "usb_lockdown",
        {"usb_lockdown_places": {"front": ["pci-0000:00:14.0-usb-0:2"]}},
        "these are none: pci-0000:00:14.0-usb-0:2",
    ),
    (
        "usb_lockdown",
        {"usb_lockdown_places": {"a": [PORT], "b": [PORT]}},
        "usb_lockdown_places has a path twice",
    ),
)
"""Variables that differ from the right ones, with the role that sees it and what it tells."""


def test_right_inventories_pass(right: dict[str, Any], other_pki: Pki, tmp_path: Path) -> None:
    other = right | {"registration": "EC-TWO", "pki_directory": str(other_pki.directory)}
    by_credential = {"hardening_ssh_authorities": [], "hardening_ssh_by_credential": True}
    status, output = _site(tmp_path, {"ec-lab": right, "ec-two": other | by_credential})
    assert status == 0, output
    assert "PLAY [Provision aircraft]" in output
    assert output.count("changed=0") == 2
    assert "RUNNING HANDLER" not in output


@pytest.fixture(scope="module")
def told(right: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each of `WRONG` is told by its role alone, by its number: all roles take long."""
    hosts = {
        str(number): right | wrong | {"checked": role}
        for number, (role, wrong, _) in enumerate(WRONG)
    }
    return told_by_preflight(tmp_path_factory.mktemp("wrong"), hosts)


@pytest.mark.parametrize("number", range(len(WRONG)), ids=lambda number: WRONG[number][2])
def test_a_wrong_one_is_told_by_its_variable(told: dict[str, str], number: int) -> None:
    assert WRONG[number][2] in told[str(number)]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"cabin_layout": "a380"}, "cabin_layout must be the name of a file"),
        # One that was copied from the other's.
        ({"registration": "EC-TWO"}, "registration must be the aircraft's own"),
    ],
)
def test_a_wrong_one_stops_before_the_first_change_to_any(
    right: dict[str, Any], other_pki: Pki, tmp_path: Path, wrong: dict[str, Any], told: str
) -> None:
    other = right | {"registration": "EC-TWO", "pki_directory": str(other_pki.directory)}
    status, output = _site(tmp_path, {"ec-two": other, "ec-lab": right | wrong})
    assert status != 0
    assert "[ec-lab]: FAILED!" in output or "failed: [ec-lab]" in output
    assert told in " ".join(output.split())
    assert "PLAY [Provision aircraft]" not in output


def test_after_a_run_that_was_cut_off_everything_is_applied(
    right: dict[str, Any], tmp_path: Path
) -> None:
    """What that run had changed, the next finds as it should be."""
    under_way = tmp_path / "under-way"
    under_way.mkdir()
    # Here may be no systemd to ask, which ends it at the first handler; tests/policy sees to all.
    _, output = _site(tmp_path, {"ec-lab": right}, f"--extra-vars=_under_way={under_way}")
    assert "RUNNING HANDLER [baseline : Restart the journal]" in output
    assert under_way.exists()


@pytest.mark.parametrize(
    ("away", "left_out"),
    [
        # One, then a tenth, then half of them at a time: one that was all of its batch ends it.
        (0, {"ec-lab-1", "ec-lab-2", "ec-lab-3", "ec-lab-4"}),
        (2, {"ec-lab-3"}),
    ],
)
@pytest.mark.timeout(200)
def test_one_that_is_away_keeps_out_nobody_beside_it(
    right: dict[str, Any], tmp_path: Path, away: int, left_out: set[str]
) -> None:
    names = [f"ec-lab-{number}" for number in range(1, 5)]
    hosts = {name: right | {"registration": ALSO_EC_LAB} for name in names} | {"ec-lab-1": right}
    nobody = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 9}
    hosts[names[away]] = hosts[names[away]] | nobody
    notes = f"{tmp_path}/{{{{ inventory_hostname }}}}"
    status, output = _site(tmp_path, hosts, f"--extra-vars=_under_way={notes}")
    provisioned = output.partition("PLAY [Provision aircraft]")[2].partition("PLAY RECAP")[0]
    assert status != 0
    assert f"fatal: [{names[away]}]: UNREACHABLE!" in provisioned
    ended = {name for name in names if f"ok: [{name}]" in provisioned}
    assert ended == set(names) - left_out


def test_the_firewall_lets_in_what_streams_are_heard_by(tmp_path: Path) -> None:
    """vlc_stream listens to each channel that it sends, and starts one anew that it does not hear.

    Live sources send to it.
    """
    playbook = tmp_path / "ports.yml"
    tasks = [
        {"ansible.builtin.include_vars": str(ROOT / "roles/vlc_stream/vars/main.yml")},
        {"ansible.builtin.copy": {"content": "{{ vlc_stream_ports }}", "dest": "{{ out }}"}},
    ]
    playbook.write_text(json.dumps([{"hosts": "localhost", "tasks": tasks}]))
    given = {
        "vlc_stream_channels": CHANNELS,
        "vlc_stream_multicast_interface": "cabin0",
        "out": str(tmp_path / "ports.json"),
        "ansible_python_interpreter": sys.executable,
    }
    done = ansible_playbook(playbook, "--extra-vars", json.dumps(given))
    assert done.returncode == 0, done.stdout
    ports = json.loads((tmp_path / "ports.json").read_text())
    assert {(port["network"], port["protocol"], port["port"]) for port in ports} == {
        ("cabin", "udp", 5004),
        ("cabin", "udp", 5008),
        ("cabin", "udp", 6000),
    }
