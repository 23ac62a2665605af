"""Finding out, from the real things wherever they can be had without systemd as process 1."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyroute2 import IPRoute, netns

from apps.common.testing import wait_until
from apps.status import collect as collecting
from apps.status.collect import (
    CollectError,
    certificates,
    clock,
    collect,
    disk,
    gather,
    networks,
    parse_units,
    registration,
    seats,
    tracking,
    trust,
    units,
    versions,
)
from apps.status.facts import Network

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs a network namespace")
no_systemd = pytest.mark.skipif(
    Path("/run/systemd/system").exists(), reason="needs a machine without systemd"
)

SHOWN = """\
Id=ife.target
LoadState=loaded
ActiveState=active
SubState=active
StateChangeTimestampMonotonic=21000000
ConditionResult=yes
ConditionTimestampMonotonic=20999000

StatusText=degraded: redis (Error 2 = \x1b[31mno such file)
NRestarts=3
MemoryCurrent=136314880
Id=ife-seat_control.service
LoadState=loaded
ActiveState=active
SubState=running
StateChangeTimestampMonotonic=90000000
ConditionResult=yes
ConditionTimestampMonotonic=89000000

StatusText=
NRestarts=0
MemoryCurrent=[not set]
Id=ife-crew_web.service
LoadState=loaded
ActiveState=inactive
SubState=dead
StateChangeTimestampMonotonic=0
ConditionResult=no
ConditionTimestampMonotonic=20000000

StatusText=
NRestarts=0
MemoryCurrent=[not set]
Id=chrony.service
LoadState=not-found
ActiveState=inactive
SubState=dead
StateChangeTimestampMonotonic=0
ConditionResult=no
ConditionTimestampMonotonic=0

StatusText=
NRestarts=0
MemoryCurrent=9000000
Id=ife-status.service
LoadState=loaded
ActiveState=activating
SubState=start
"""
"""What systemctl of Debian 13 prints, in its order of properties."""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a shell script in the place of a program."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def write(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}")
        (folder / name).chmod(0o755)

    return write


def test_units_are_read_from_what_systemctl_shows() -> None:
    found = {unit.name: unit for unit in parse_units(SHOWN, now=100.0)}
    assert list(found) == [
        *("ife.target", "ife-seat_control.service", "ife-crew_web.service", "chrony.service")
    ]
    seat_control = found["ife-seat_control.service"]
    assert (seat_control.state, seat_control.substate) == ("active", "running")
    assert (seat_control.seconds, seat_control.restarts) == (10.0, 3)
    assert seat_control.memory == 130 * 2**20
    assert seat_control.says == "degraded: redis (Error 2 = [31mno such file)"
    assert found["ife.target"].restarts is None
    crew_web, chrony = found["ife-crew_web.service"], found["chrony.service"]
    assert (crew_web.condition_met, crew_web.memory, crew_web.seconds) == (False, None, None)
    assert (chrony.load, chrony.condition_met) == ("not-found", True)


def test_systemctl_is_asked_for_ours_and_for_whatever_has_failed(
    tmp_path: Path, programs: Callable[[str, str], None]
) -> None:
    (tmp_path / "shown").write_text(SHOWN)
    programs(
        "systemctl",
        f'echo "$@" >>{tmp_path}/asked\n'
        'if [ "$1" = list-units ]; then\n'
        '    echo "systemd-networkd.service loaded failed failed Network Configuration"\n'
        f"else\n    cat {tmp_path}/shown\nfi\n",
    )
    assert units()[0].name == "ife.target"
    _, show = (tmp_path / "asked").read_text().splitlines()
    assert show.startswith("show --property=Id,LoadState,ActiveState,SubState,")
    assert show.endswith(" ssh.service systemd-networkd.service")


@no_systemd
def test_without_systemd_the_units_and_the_clock_are_unknown_and_all_else_is_known(
    tmp_path: Path, programs: Callable[[str, str], None]
) -> None:
    programs("chronyc", "echo '506 Cannot talk to daemon'; exit 1")
    (tmp_path / "var").mkdir()
    facts = collect(tmp_path)
    assert {unknown.part for unknown in facts.unknown} == {"units", "clock"}
    assert all("has not been booted with systemd" in unknown.why for unknown in facts.unknown)
    assert facts.units is None
    assert facts.disk
    assert facts.networks
    assert facts.versions
    assert (facts.provisioned, facts.registration, facts.seats) == (False, None, None)


def test_a_part_that_hangs_or_fails_costs_only_itself() -> None:
    never = threading.Event()

    def fails() -> None:
        raise ValueError("no\nsuch\x1b[31m thing")

    begin = time.monotonic()
    found, unknown = gather({"clock": never.wait, "disk": fails, "seats": lambda: 42}, 0.2)
    never.set()
    assert time.monotonic() - begin < 5
    assert found == {"seats": 42}
    assert [(each.part, each.why) for each in unknown] == [
        ("clock", "no answer within 0.2 s"),
        ("disk", "no such[31m thing"),
    ]


def test_a_command_that_hangs_is_ended(
    programs: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "COMMAND_TIMEOUT", 0.2)
    programs("systemctl", "exec sleep 60")
    with pytest.raises(CollectError, match=r"systemctl gave no answer within 0\.2 s"):
        units()


def test_the_fingerprint_is_what_ssh_shows(tmp_path: Path) -> None:
    assert trust(tmp_path).host_key is None
    folder = tmp_path / "etc/ssh"
    folder.mkdir(parents=True)
    key = folder / "ssh_host_ed25519_key"
    keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
    subprocess.run(keygen, check=True, timeout=10)
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(key)], capture_output=True, text=True, check=True, timeout=10
    )
    assert trust(tmp_path).host_key == shown.stdout.split()[1]
    (folder / "ssh_host_ed25519_key.pub").write_text("ssh-ed25519\n")
    with pytest.raises(CollectError, match="no right SSH key"):
        trust(tmp_path)


def test_secure_boot_is_what_the_firmware_says(tmp_path: Path) -> None:
    assert trust(tmp_path).secure_boot is None
    variable = tmp_path / collecting._SECURE_BOOT
    variable.parent.mkdir(parents=True)
    for value, on in ((b"\x01", True), (b"\x00", False)):
        variable.write_bytes(b"\x06\x00\x00\x00" + value)
        assert trust(tmp_path).secure_boot is on


def test_the_versions_are_those_of_this_machine() -> None:
    found = versions()
    assert found.kernel == os.uname().release
    assert found.software


def test_who_it_is_stands_in_seat_controls_settings(tmp_path: Path) -> None:
    settings = tmp_path / "seat_control.env"
    settings.write_text("# Made by Ansible\nIFE_REGISTRATION=EC-LAB\nIFE_LAYOUT=/x/a320.yml\n")
    assert registration(settings) == "EC-LAB"
    settings.write_text("IFE_REGISTRATION=ec lab\n")
    with pytest.raises(CollectError, match="no right IFE_REGISTRATION"):
        registration(settings)


@pytest.fixture
def namespace() -> Iterator[str]:
    """An aircraft's networks: the cabin's with a link, the crew's without, and a strange one."""
    name = f"ife-status-{os.getpid()}"
    netns.create(name)
    try:
        with IPRoute(netns=name) as route:
            for interface, peer in (("cabin0", "seats"), ("crew0", "panel")):
                route.link("add", ifname=interface, kind="veth", peer=peer)
            (cabin,) = route.link_lookup(ifname="cabin0")
            (seats,) = route.link_lookup(ifname="seats")
            (crew,) = route.link_lookup(ifname="crew0")
            route.addr("add", index=cabin, address="10.20.0.1", prefixlen=22)
            for index in (cabin, seats, crew):
                route.link("set", index=index, state="up")
        yield name
    finally:
        netns.remove(name)


@as_root
def test_networks_are_those_that_are_configured_and_then_the_others(
    tmp_path: Path, namespace: str
) -> None:
    files = {
        "10-cabin": "Address=10.20.0.1/22\nConfigureWithoutCarrier=yes",
        "10-crew": "Address=10.22.0.1/24",
        "10-ground": "DHCP=ipv4\n\n[DHCPv4]\nUseDNS=yes",
        "99-unprovisioned": "DHCP=ipv4",
    }
    for name, lines in files.items():
        (tmp_path / f"{name}.network").write_text(
            f"[Match]\nPermanentMACAddress=52:54:00:1f:e0:01\n\n[Network]\n{lines}\n"
        )
    found: list[Network] = []

    def look() -> None:
        # Of this thread alone.
        netns.setns(namespace)
        found.extend(networks(tmp_path))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(timeout=20)
    cabin, crew, ground, panel, strange = found
    assert (cabin.name, cabin.interface, cabin.wanted) == ("cabin", "cabin0", "10.20.0.1/22")
    assert (cabin.present, cabin.up, cabin.carrier) == (True, True, True)
    assert cabin.addresses == ("10.20.0.1/22",)
    assert cabin.mac
    assert len(cabin.mac) == 17
    assert (crew.present, crew.up, crew.carrier, crew.addresses) == (True, True, False, ())
    assert (ground.name, ground.wanted, ground.present) == ("ground", "dhcp", False)
    assert (panel.name, panel.interface, panel.up) == (None, "panel", False)
    assert (strange.name, strange.interface) == (None, "seats")


@pytest.fixture
def chrony(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """A real chronyd that has only its own clock to go by; the command that asks it."""
    # Its socket has to be in a folder that is nobody else's.
    folder = tmp_path / "chrony"
    folder.mkdir(mode=0o700)
    (folder / "chrony.conf").write_text(
        f"bindcmdaddress {folder}/sock\npidfile {folder}/pid\ncmdport 0\nport 0\nlocal stratum 5\n"
    )
    process = subprocess.Popen(
        ["chronyd", "-d", "-x", "-u", "root", "-f", str(folder / "chrony.conf")],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until((folder / "sock").exists, "chronyd listens")
        yield ("chronyc", "-h", str(folder / "sock"), "-n", "-c", "tracking")
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("chronyd"), reason="needs chronyd, and root for it"
)
def test_chrony_tells_root_of_source_and_offset(
    chrony: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "TRACKING", chrony)
    found = clock()
    assert found.synchronised
    assert found.behind is not None
    assert abs(found.behind) < 1


def test_a_clock_without_a_source_is_not_synchronised() -> None:
    row = "00000000,,0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,1.0,0.0,Not synchronised\n"
    assert not tracking(row).synchronised
    row = "0A180001,10.24.0.1,3,1.0,0.000012,0.0,0.0,0.0,0.0,0.0,1.0,1.0,64.2,Normal\n"
    assert (tracking(row).source, tracking(row).behind) == ("10.24.0.1", 0.000012)
    with pytest.raises(CollectError, match="not understood"):
        tracking("506 Cannot talk to daemon\n")


@pytest.mark.parametrize(("said", "synchronised"), [("yes", True), ("no", False)])
def test_whoever_chrony_does_not_answer_asks_systemd(
    programs: Callable[[str, str], None], said: str, synchronised: bool
) -> None:
    programs("chronyc", "echo '506 Cannot talk to daemon'; exit 1")
    programs("timedatectl", f"echo {said}")
    assert clock().synchronised == synchronised


def test_the_disk_is_the_one_that_the_folder_is_on(tmp_path: Path) -> None:
    found = disk(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    assert found.size == usage.total
    assert abs(found.free - usage.free) < 0.05 * usage.total
    assert (found.read_only, found.state_is_lost, found.encrypted) == (False, False, False)
    (tmp_path / "state-is-lost").touch()
    assert disk(tmp_path).state_is_lost


@as_root
def test_a_disk_that_cannot_be_written_is_told_from_one_that_only_we_may_not_write(
    tmp_path: Path,
) -> None:
    with contextlib.ExitStack() as mounts:

        def mount(*arguments: str) -> None:
            subprocess.run(["mount", *arguments, str(tmp_path)], check=True, timeout=10)
            mounts.callback(subprocess.run, ["umount", str(tmp_path)], check=True, timeout=10)

        mount("-t", "tmpfs", "tmpfs")
        assert not disk(tmp_path).read_only
        subprocess.run(["mount", "-o", "remount,bind,ro", str(tmp_path)], check=True, timeout=10)
        assert not disk(tmp_path).read_only
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True, timeout=10)
        assert disk(tmp_path).read_only


@pytest.mark.skipif(
    Path("/proc/self/mounts").read_text().find(" / ext4 ") < 0, reason="needs an ext4 root"
)
def test_a_file_system_of_ours_counts_its_errors() -> None:
    assert disk(Path("/")).errors is not None


def test_a_seat_control_that_is_not_there_or_does_not_answer_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "ANSWER_TIMEOUT", 0.2)
    path = tmp_path / "seat_control.sock"
    with pytest.raises(CollectError, match=r"does not answer: .*No such file"):
        seats(path)
    # systemd listens for it while it does not come up.
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with pytest.raises(CollectError, match="does not answer: timed out"):
            seats(path)


def test_certificates_are_read_where_we_may_read_them(tmp_path: Path) -> None:
    """Key and certificate are one file."""
    path = tmp_path / "server.pem"
    request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]
    out = [
        "-days",
        "100",
        "-subj",
        "/CN=server",
        "-keyout",
        str(path),
        "-out",
        str(tmp_path / "crt"),
    ]
    subprocess.run(["openssl", *request, *out], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (tmp_path / "crt").read_bytes())
    (server,) = certificates(tmp_path)
    assert server.name == "server"
    assert 99 < (server.ends - datetime.now(UTC)).days + 1 <= 100
    path.write_text("no certificate")
    with pytest.raises(CollectError):
        certificates(tmp_path)
