"""The networks of an aircraft: what is refused before a change."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from tests.roles.helpers import ROOT

CABIN = {"name": "cabin", "mac": "52:54:00:00:00:01", "network": "10.20.0.0/22"} | {
    "address": "10.20.0.1"
}
CREW = {"name": "crew", "path": "pci-0000:02:00.0", "network": "10.22.0.0/24"} | {
    "address": "10.22.0.1"
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


@pytest.mark.parametrize(
    ("interfaces", "problem"),
    [
        ([CABIN | {"address": "10.24.0.1"}], "cabin: address 10.24.0.1 is not one for a host"),
        ([CABIN | {"address": "10.20.0.0"}], "cabin: address 10.20.0.0 is not one for a host"),
        ([CABIN | {"address": "10.20.3.255"}], "cabin: address 10.20.3.255 is not one"),
        ([CABIN | {"address": "cabin"}], "cabin: address 'cabin' is neither"),
        ([CABIN | {"address": "dhcp"}], "cabin: only the ground's address may be dhcp"),
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
