"""What is wrong with the networks of an aircraft, for Ansible."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations

DOCUMENTATION = """
name: network_problems
author: The ife authors
short_description: What is wrong with the networks of an aircraft
description: Looks at network_interfaces as a whole, which an argument specification cannot.
options:
  _input:
    description: The interfaces, as roles/network/meta/argument_specs.yml describes them.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = """
- ansible.builtin.assert:
    that: network_interfaces | network_problems | length == 0
"""

RETURN = """
_value:
  description: A sentence a problem.
  type: list
  elements: str
"""

MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")
PATH = re.compile(r"[a-z0-9:._-]+")

Interface = Mapping[str, str]


def network_problems(interfaces: Sequence[Interface]) -> list[str]:
    """A sentence a problem; none when the networks fit together."""
    problems = [f"{each['name']}: {said}" for each in interfaces for said in _own(each)]
    for key in ("name", "mac", "path"):
        values = [each[key] for each in interfaces if each.get(key)]
        problems += [
            f"{key} {value} is there twice"
            for value in sorted(set(values))
            if values.count(value) > 1
        ]
    networks = {each["name"]: _network(each) for each in interfaces}
    for (one, first), (other, second) in combinations(networks.items(), 2):
        if first and second and first.overlaps(second):
            problems.append(f"{one}: network {first} overlaps {second} of {other}")
    return problems


def _own(interface: Interface) -> Iterator[str]:
    """What is wrong with one interface, whatever the others are."""
    mac, path = interface.get("mac"), interface.get("path")
    if (mac is None) == (path is None):
        yield "it needs a mac or a path, and not both"
    if mac is not None and not MAC.fullmatch(mac):
        yield f"mac {mac} is not like 52:54:00:12:34:56"
    if path is not None and not PATH.fullmatch(path):
        yield f"path {path} is not like pci-0000:01:00.0"
    address, gateway = interface["address"], interface.get("gateway")
    if gateway is not None and (interface["name"] != "ground" or address == "dhcp"):
        yield "only the ground has a gateway, and where its address is dhcp that is told by DHCP"
    if address == "dhcp":
        if interface["name"] != "ground":
            yield "only the ground's address may be dhcp"
        return
    network = _network(interface)
    if network is None:
        yield f"network {interface.get('network', '')!r} is not like 10.20.0.0/22"
        return
    if not _is_host(address, network):
        yield f"address {address!r} is neither dhcp nor one for a host in its network {network}"
    if gateway is not None and (gateway == address or not _is_host(gateway, network)):
        yield f"gateway {gateway!r} is not another host in its network {network}"


def _is_host(address: str, network: IPv4Network) -> bool:
    try:
        host = IPv4Address(address)
    except ValueError:
        return False
    return host in network and host not in (network.network_address, network.broadcast_address)


def _network(interface: Interface) -> IPv4Network | None:
    try:
        return IPv4Network(interface.get("network", ""))
    except ValueError:
        return None


class FilterModule:
    """``network_interfaces | network_problems``."""

    def filters(self) -> dict[str, Callable[[Sequence[Interface]], list[str]]]:
        """The filter by its name."""
        return {"network_problems": network_problems}
