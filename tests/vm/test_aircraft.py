"""An aircraft's server: the image, provisioned by playbooks/site.yml, after a boot of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from apps.common.multicast import RECEIVE_BUFFER
from apps.common.testing import wait_until
from apps.pa_audio.real_time import PRIORITY
from bench.site import (
    AVIONICS,
    CABIN,
    CREW,
    GROUND,
    NETWORKS,
    ROOT,
    UNTIL_IT_ANSWERS,
    WIRELESS,
    make_secrets,
    provision,
    start,
)
from image.vm.machine import Machine, Network
from image.vm.vm import VM
from tests.vm.conftest import Provisioned, StartVm

MEMORY_AT_REST = 1024
"""MiB."""

EXPOSURE = 20
"""Tenths, of 10: there 10 is no protection at all (systemd-analyze security)."""

RUN_TIMEOUT = 300.0
"""Seconds within which a run has come to the firewall, or the machine has gone down."""

OPEN = [(CABIN, [443, 8080]), (WIRELESS, []), (CREW, [443]), (GROUND, [22]), (AVIONICS, [])]

UDP = {
    *("127.0.0.53%lo:53", "127.0.0.54:53", f"{GROUND.guest.ip}%ground0:68"),
    *(f"239.192.74.{area}:5004" for area in range(3)),
}
"""resolved, for the server itself; networkd's lease; the PA, which hears itself in each area."""

UDP_LET_IN = {CABIN: [5004]}

KINDS = ("-sS", "-sU")
"""nmap's, for TCP and UDP. Each takes half a minute, and they are not in each other's way."""

SPEED = ("--min-rate=4000", "--max-retries=1", "--disable-arp-ping")


def _server(network: Network) -> str:
    """The server's own address in a network: those of the lab end in .1, but on the ground."""
    if network is GROUND:
        return str(network.guest.ip)
    return str(network.host.network.network_address + 1)


# -- provisioning -----------------------------------------------------------------------------


def test_a_second_run_changes_nothing(provisioned: Provisioned) -> None:
    assert provisioned.again.failures == ()
    assert provisioned.again.changed == ()


@pytest.mark.long
def test_a_check_tells_what_a_run_does(
    new_vm: StartVm, image: Path, provisioned: Provisioned
) -> None:
    vm = new_vm(Machine(image, networks=NETWORKS, direct=True))
    vm.boot()
    vm.wait_for_ssh()
    check = provision(vm, "--check", "--diff")
    assert check.failures == ()
    assert set(check.changed) == set(provisioned.run.changed)


# -- what runs --------------------------------------------------------------------------------


def test_no_unit_has_failed(aircraft: VM) -> None:
    assert aircraft.run("systemctl list-units --failed --plain --no-legend").stdout == ""
    assert aircraft.run("systemctl is-system-running").stdout == "running\n"
    assert aircraft.run("systemctl is-active ife.target").stdout == "active\n"


def test_the_kernel_is_not_tainted(aircraft: VM) -> None:
    """With the modules for sound, screens and USB that it has loaded meanwhile."""
    assert aircraft.run("cat /proc/sys/kernel/tainted").stdout == "0\n"


def test_units_are_ordered_without_a_cycle(aircraft: VM) -> None:
    journal = aircraft.run("journalctl --boot --quiet --grep='ordering cycle'", check=False)
    assert journal.stdout == ""


def test_systemd_has_nothing_to_say_of_a_unit(aircraft: VM) -> None:
    units = "ife*.service ife*.socket ife*.path ife.target clock-floor.service clock-floor.timer"
    analyze = f"systemd-analyze verify --man=no {units}"
    done = aircraft.run(f"cd /usr/lib/systemd/system && {analyze}")
    assert done.stderr == ""


def test_a_receiver_of_multicast_has_the_buffer_that_it_asks_for(aircraft: VM) -> None:
    assert int(aircraft.run("cat /proc/sys/net/core/rmem_max").stdout) >= RECEIVE_BUFFER


def test_units_are_not_exposed(aircraft: VM) -> None:
    units = aircraft.run("cd /usr/lib/systemd/system && ls ife-*.service").stdout.split()
    assert "ife-seat_control.service" in units
    for unit in units:
        analyze = f"systemd-analyze security --no-pager --threshold={EXPOSURE} {unit}"
        done = aircraft.run(analyze, check=False)
        assert done.returncode == 0, done.stdout


def test_units_have_what_they_say(aircraft: VM) -> None:
    """A drop-in for all of them is read after the unit itself."""
    tasks = aircraft.run("systemctl show --property=TasksMax --value ife-vlc_stream").stdout
    assert tasks == "1024\n"
    assert aircraft.run("stat --format='%a %G' /var/lib/ife/content").stdout == "750 ife\n"


def test_the_pa_goes_before_all_else_and_waits_for_no_disk(aircraft: VM) -> None:
    """Its unit allows what it asks for: SCHED_FIFO, and memory that is locked."""
    group = aircraft.run("systemctl show --property=ControlGroup --value ife-pa_audio").stdout
    processes = f"/sys/fs/cgroup{group.strip()}/cgroup.procs"
    told = aircraft.run(
        f"for one in $(cat {processes}); do"
        " grep VmLck /proc/$one/status; chrt -a -p $one || :; done"
    ).stdout
    assert f"priority: {PRIORITY}\n" in told
    assert "SCHED_FIFO" in told
    assert re.search(r"VmLck:\s+[1-9]", told)


def test_at_rest_it_takes_little_memory(aircraft: VM) -> None:
    used = int(aircraft.run("free --mebi | awk '/^Mem/ {print $3}'").stdout)
    print(f"memory at rest: {used} MiB")
    assert used <= MEMORY_AT_REST


@pytest.mark.parametrize("user", ["www-data", "ife-status"])
def test_redis_is_for_the_apps_of_the_bus_alone(aircraft: VM, user: str) -> None:
    """nginx, which has the group of the apps' sockets, does not reach it."""
    reach = "test -w /run/ife/redis/redis.sock"
    stranger = f"setpriv --reuid={user} --regid=ife --clear-groups -- {reach}"
    assert aircraft.run(stranger, check=False).returncode == 1
    for app in ("ife-seat_control", "ife-crew_web"):
        aircraft.run(f"runuser -u {app} -- {reach}")


def test_redis_keeps_nothing_though_somebody_saves(aircraft: VM) -> None:
    cli = "redis-cli -s /run/ife/redis/redis.sock"
    aircraft.run(f"{cli} set forged 1 && {cli} save && systemctl restart redis-server")
    aircraft.run(f"until {cli} ping; do sleep 0.2; done", timeout=60)
    assert aircraft.run(f"{cli} exists forged").stdout == "0\n"


# -- what is open -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scanned(aircraft: VM) -> Iterator[VM]:
    """It bounds no more how fast a device may try port after port, which would hide open ones."""
    anything = (
        "s/over [0-9]*.second burst [0-9]* packets/over 1000000\\/second burst 1000000 packets/"
    )
    aircraft.run(f"sed '{anything}' /etc/nftables.conf | nft -f -")
    assert "over 1000000/second" in aircraft.run("nft list ruleset").stdout
    for network, _ in OPEN:
        # As somebody would set it who is not told: nobody is, among the avionics.
        known = [_server(network), "lladdr", network.mac, "dev", network.name, "nud", "permanent"]
        _ip(aircraft, "neigh", "replace", *known)
    yield aircraft
    aircraft.run("systemctl reload nftables")


@pytest.mark.parametrize("tried", ["1-10000", pytest.param("-", marks=pytest.mark.long, id="all")])
@pytest.mark.parametrize(("network", "ports"), OPEN, ids=[network.name for network, _ in OPEN])
def test_open_ports_are_exactly_those_listed(
    scanned: VM, network: Network, ports: list[int], tried: str
) -> None:
    def let_in(kind: str) -> list[int]:
        return _let_in(scanned, _server(network), kind, f"-p{tried}")

    with ThreadPoolExecutor() as pool:
        tcp, udp = pool.map(let_in, KINDS)
    assert tcp == ports
    assert udp == UDP_LET_IN.get(network, [])


def test_what_listens_to_udp_is_known(aircraft: VM) -> None:
    """A program that is silent would not be told from the firewall by trying its port."""
    listening = aircraft.run("ss --no-header --numeric --listening --udp").stdout.splitlines()
    assert {line.split()[3] for line in listening} == UDP


@pytest.mark.parametrize(("network", "_ports"), OPEN, ids=[network.name for network, _ in OPEN])
def test_no_address_can_be_reached_from_another_network(
    scanned: VM, network: Network, _ports: list[int]
) -> None:
    """The crew's page has the port that the seats' door has in the cabin."""
    others = [other for other, ports in OPEN if other is not network and ports]
    for other in others:
        # As somebody would who knows the server's address on the other side.
        route = [f"{_server(other)}/32", "via", _server(network), "dev", network.name]
        _ip(scanned, "route", "add", *route)
        try:
            assert _let_in(scanned, _server(other), "-sS", "-p22,80,443,8080") == []
        finally:
            _ip(scanned, "route", "del", *route)


def test_the_avionics_hear_nothing(scanned: VM) -> None:
    """Since it was switched on, and whatever was sent to it above."""
    assert heard(scanned, AVIONICS) == 0


def heard(vm: VM, network: Network) -> int:
    """Frames that have come from the machine on a network, since it was there."""
    told = json.loads(_ip(vm, "-json", "-statistics", "link", "show", network.tap))
    return int(told[0]["stats64"]["rx"]["packets"])


def open_ports(vm: VM, address: str) -> list[int]:
    """The TCP ports that answer from our side of a network."""
    return [port for port, state in _tried(vm, address, "-sS", "-p-") if state == "open"]


def _let_in(vm: VM, address: str, *scan: str) -> list[int]:
    """The ports from which anything comes back, be it that nobody listens."""
    return [port for port, _ in _tried(vm, address, *scan)]


def _tried(vm: VM, address: str, *scan: str) -> list[tuple[int, str]]:
    """The ports from which anything comes back, and what: they are open, or closed."""
    done = subprocess.run(
        [*vm.entering, "nmap", "-n", "-Pn", *SPEED, *scan, "-oG", "-", address],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "Ignored State: closed" not in done.stdout
    assert "Status: Up" in done.stdout, done.stdout
    return [(int(port), state) for port, state in re.findall(r"(\d+)/(open|closed)/", done.stdout)]


def _ip(vm: VM, *arguments: str) -> str:
    """Run ip(8) on our side of the networks."""
    done = subprocess.run(
        [*vm.entering, "ip", *arguments], capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout


# -- what happens to it, and it is as before --------------------------------------------------


@pytest.mark.long
def test_networks_that_change_cards_take_their_names_along(
    new_vm: StartVm, provisioned: Provisioned
) -> None:
    """The firewall knows networks by their interfaces' names, and who sends knows the cabin's."""
    vm = new_vm(Machine(provisioned.disk, networks=NETWORKS, direct=True))
    vm.boot()
    vm.wait_for_ssh()
    told = YAML(typ="safe").load(ROOT / "inventory/lab/host_vars/ec-lab.yml")
    changed = {"cabin": WIRELESS.mac, "wireless": CABIN.mac}
    interfaces = [
        network | ({"mac": changed[network["name"]]} if network["name"] in changed else {})
        for network in told["network_interfaces"]
    ]
    variables = json.dumps({"network_interfaces": interfaces})
    run = provision(vm, "--tags=network", f"--extra-vars={variables}")
    assert not run.failures, run.output
    links = json.loads(vm.run("ip -json link show").stdout)
    names = {link["ifname"]: link["address"] for link in links}
    assert (names["cabin0"], names["wireless0"]) == (WIRELESS.mac, CABIN.mac)


@pytest.mark.parametrize("unit", ["nginx", "postgresql@17-main", "redis-server", "chrony"])
def test_what_is_killed_comes_back(aircraft: VM, unit: str) -> None:
    main = f"systemctl show --property=MainPID --value {unit}"
    killed = aircraft.run(main).stdout.strip()
    aircraft.run(f"kill -KILL {killed}")
    aircraft.run(f"while [ $({main}) = {killed} ]; do sleep 0.2; done", timeout=60)
    aircraft.run(f"until systemctl is-active --quiet {unit}; do sleep 0.2; done", timeout=60)


def _reboot(vm: VM) -> None:
    vm.run("systemctl reboot", check=False)
    wait_until(lambda: not vm.files.ssh_control.exists(), "it goes down", RUN_TIMEOUT)
    vm.wait_for_ssh()


def test_an_app_that_hangs_is_started_again(aircraft: VM) -> None:
    """It stops telling systemd that it works; its unit's watchdog ends it (`WatchdogSec=`)."""
    unit = "ife-usb_lockdown"
    before = aircraft.run(f"systemctl show --property=NRestarts --value {unit}").stdout
    aircraft.run(f"systemctl kill --kill-whom=all --signal=STOP {unit}")
    restarts = f"[ $(systemctl show --property=NRestarts --value {unit}) -gt {before.strip()} ]"
    aircraft.run(f"until {restarts}; do sleep 1; done", timeout=180)
    aircraft.run(f"until systemctl is-active --quiet {unit}; do sleep 0.2; done", timeout=60)
    told = aircraft.run(f"journalctl --boot --unit={unit}").stdout
    assert "Failed with result 'watchdog'" in told


@pytest.mark.long
def test_with_an_app_that_does_not_start_the_others_do(
    new_vm: StartVm, provisioned: Provisioned
) -> None:
    vm = new_vm(Machine(provisioned.disk, networks=NETWORKS, direct=True))
    vm.boot()
    vm.wait_for_ssh()
    vm.run("echo IFE_LOG_LEVEL=nonsense >>/etc/ife/vlc_stream.env")
    _reboot(vm)
    vm.run("systemctl is-system-running --wait", timeout=300, check=False)
    assert vm.run("systemctl is-active ife.target").stdout == "active\n"
    vm.run(f"app=seat_control; {UNTIL_IT_ANSWERS}", timeout=120)
    told = vm.run("ife-status", check=False).stdout
    assert "ife-vlc_stream" in told


@pytest.mark.long
def test_an_engineer_comes_in_with_a_key_that_the_authority_has_signed(
    new_vm: StartVm, image: Path, tmp_path: Path
) -> None:
    """As docs/runbook.md has it: provisioned by a credential, which the next boot has not."""
    authority, key = tmp_path / "authority", tmp_path / "id"
    for file in (authority, key):
        _ssh_keygen("-q", "-t", "ed25519", "-N", "", "-f", str(file))
    make_secrets()
    vm = new_vm(Machine(image, networks=NETWORKS, direct=True))
    vm.boot()
    vm.wait_for_ssh()
    given = {
        "hardening_ssh_by_credential": False,
        "hardening_ssh_authorities": [authority.with_suffix(".pub").read_text().strip()],
    }
    run = provision(vm, f"--extra-vars={json.dumps(given)}")
    assert not run.failures, run.output
    vm.shut_down()
    disk = tmp_path / "disk.qcow2"
    vm.keep_disk(disk)

    vm = new_vm(Machine(disk, networks=NETWORKS, direct=True, lets_in=False))
    vm.boot()
    login = ["ssh", "-F", "none", "-i", str(key), "-o", "StrictHostKeyChecking=no"]
    login += ["-o", f"UserKnownHostsFile={tmp_path}/known", "-o", "BatchMode=yes"]
    login += ["-o", "ConnectTimeout=20", f"root@{NETWORKS[0].guest.ip}", "ife-status --json"]

    def come_in() -> subprocess.CompletedProcess[str]:
        command = [*vm.entering, *login]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    wait_until(lambda: "Permission denied" in come_in().stderr, "it answers, and refuses", 180)
    sign = ("-q", "-s", str(authority), "-I", "Anna, ticket 42", "-n", "root", "-V", "always:+1d")
    _ssh_keygen(*sign, str(key.with_suffix(".pub")))
    done = come_in()
    assert json.loads(done.stdout)["facts"]["registration"] == "EC-LAB", done.stderr


def _ssh_keygen(*arguments: str) -> None:
    subprocess.run(["ssh-keygen", *arguments], check=True, timeout=30)


@pytest.mark.long
def test_a_run_that_was_cut_off_is_ended_by_the_next(aircraft: VM) -> None:
    """It had changed the firewall's file, and was to load it at its end."""
    asked = '--extra-vars={"firewall_connections_rate": 77}'  # without JSON it is a string
    run = start(aircraft, asked)
    changed = "grep -q 'over 77/second' /etc/nftables.conf"
    aircraft.run(f"until {changed}; do sleep 0.5; done", timeout=RUN_TIMEOUT)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate(timeout=20)
    assert "over 77/second" not in aircraft.run("nft list ruleset").stdout

    told = provision(aircraft, asked, "--check")
    done = provision(aircraft, asked)
    assert done.failures == ()
    assert "over 77/second" in aircraft.run("nft list ruleset").stdout
    assert set(told.changed) == set(done.changed)
    assert provision(aircraft, asked).changed == ()
    assert provision(aircraft).failures == ()


@pytest.mark.long
def test_a_clock_without_a_battery_goes_on_where_it_was(aircraft: VM) -> None:
    aircraft.run("systemctl start clock-floor.service")
    noted = int(aircraft.run("date +%s").stdout)
    aircraft.run("systemctl stop chrony && timedatectl set-time 2001-01-01")
    assert int(aircraft.run("date +%s").stdout) < noted
    _reboot(aircraft)
    assert noted <= int(aircraft.run("date +%s").stdout) < noted + 900
    aircraft.run("systemctl is-system-running --wait", timeout=300, check=False)


@pytest.mark.long
def test_without_the_firewall_no_network_comes_up(
    new_vm: StartVm, provisioned: Provisioned
) -> None:
    vm = new_vm(Machine(provisioned.disk, networks=NETWORKS, direct=True))
    vm.boot()
    vm.wait_for_ssh()
    vm.run("echo 'no rules' >/etc/nftables.conf && sync", timeout=300)
    vm.cut_power()
    before = heard(vm, GROUND)
    assert before > 0
    vm.boot()
    vm.wait_for_console("In-flight entertainment")  # ife.target is reached
    assert not vm.lets_in()
    assert heard(vm, GROUND) == before
