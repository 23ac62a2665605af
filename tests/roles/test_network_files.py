"""The networks of an aircraft: what is refused before a change, and what does not stay."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.roles.helpers import ROOT, ansible_playbook

CABIN = {"name": "cabin", "mac": "52:54:00:00:00:01", "network": "10.20.0.0/22"} | {
    "address": "10.20.0.1"
}
CREW = {"name": "crew", "path": "pci-0000:02:00.0", "network": "10.22.0.0/24"} | {
    "address": "10.22.0.1"
}
STATIC = {"name": "ground", "mac": "52:54:00:00:00:04", "network": "10.24.0.0/24"} | {
    "address": "10.24.0.9",
    "gateway": "10.24.0.1",
}
GROUND = {"name": "ground", "mac": "52:54:00:00:00:04", "address": "dhcp"}


def _problems(*interfaces: dict[str, Any]) -> list[str]:
    path = ROOT / "roles/network/filter_plugins/network_problems.py"
    spec = importlib.util.spec_from_file_location("network_problems", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: list[str] = module.network_problems(interfaces)
    return found


def test_networks_that_fit_together_have_no_problems() -> None:
    assert _problems(CABIN, CREW, GROUND) == []
    assert _problems(CABIN, CREW, STATIC) == []


@pytest.mark.parametrize(
    ("interfaces", "problem"),
    [
        ([CABIN | {"address": "10.24.0.1"}], "cabin: address '10.24.0.1' is neither"),
        ([CABIN | {"address": "10.20.0.0"}], "cabin: address '10.20.0.0' is neither"),
        ([CABIN | {"address": "10.20.3.255"}], "cabin: address '10.20.3.255' is neither"),
        ([CABIN | {"address": "cabin"}], "cabin: address 'cabin' is neither"),
        ([CABIN | {"address": "dhcp"}], "cabin: only the ground's address may be dhcp"),
        ([CABIN | {"gateway": "10.20.0.2"}], "cabin: only the ground has a gateway"),
        ([GROUND | {"gateway": "10.24.0.1"}], "ground: only the ground has a gateway"),
        ([STATIC | {"gateway": "10.25.0.1"}], "ground: gateway '10.25.0.1' is not another host"),
        ([STATIC | {"gateway": "10.24.0.9"}], "ground: gateway '10.24.0.9' is not another host"),
        ([CABIN | {"network": "10.20.0.1/22"}], "cabin: network '10.20.0.1/22' is not like"),
        ([CREW | {"network": "10.20.1.0/24", "address": "10.20.1.1"}, CABIN], "crew: network 10"),
        ([CABIN | {"mac": "52-54-00-00-00-01"}], "cabin: mac 52-54-00-00-00-01 is not like"),
        ([CREW | {"path": "../etc"}], "crew: path ../etc is not like"),
        ([CREW | {"mac": "52:54:00:00:00:02"}], "crew: it needs a mac or a path, and not both"),
        ([GROUND, CABIN | {"mac": GROUND["mac"]}], "mac 52:54:00:00:00:04 is there twice"),
        ([GROUND, GROUND | {"mac": "52:54:00:00:00:05"}], "name ground is there twice"),
    ],
)
def test_a_problem_is_told(interfaces: list[dict[str, Any]], problem: str) -> None:
    (told,) = _problems(*interfaces)
    assert told.startswith(problem)


def test_a_network_that_has_left_the_inventory_goes(tmp_path: Path) -> None:
    """Its card would keep the name, and what is not sent from it."""
    folder = tmp_path / "network"
    folder.mkdir()
    kept = {"10-cabin.link", "10-cabin.network", "99-default.link"}
    for name in kept | {"10-avionics.link", "10-avionics.network"}:
        (folder / name).touch()
    text = (ROOT / "roles/network/tasks/main.yml").read_text()
    tasks = YAML(typ="safe").load(text.replace("/etc/systemd/network", str(folder)))
    (at,) = (n for n, task in enumerate(tasks) if task.get("register") == "_network_files")
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable, "network_interfaces": [CABIN, CREW]},
        "tasks": [{k: v for k, v in task.items() if k != "notify"} for task in tasks[at : at + 2]],
    }
    (tmp_path / "play.json").write_text(json.dumps([play]))
    done = ansible_playbook(tmp_path / "play.json", ANSIBLE_NOCOLOR="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in folder.iterdir()} == kept
    again = ansible_playbook(tmp_path / "play.json", ANSIBLE_NOCOLOR="1")
    assert "changed=0" in again.stdout
