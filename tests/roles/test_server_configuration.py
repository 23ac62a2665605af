"""What the roles write on a server, read by the programs that it is for."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from dotenv import dotenv_values

from apps.crew_web.settings import CrewWebSettings
from apps.seat_control.settings import SeatControlSettings
from apps.usb_lockdown.settings import UsbLockdownSettings
from tests.roles.ground import sshd_told
from tests.roles.helpers import AUTHORITY, ROOT, render


def _run(*arguments: str | Path) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("servers", [[], ["10.24.0.9", "ntp.example.com"]])
def test_chrony_takes_its_time_from_the_servers_named_or_from_none(
    tmp_path: Path, servers: list[str]
) -> None:
    file = render(tmp_path, "baseline", "chrony.conf.j2", baseline_ntp_servers=servers)
    lines = _run("chronyd", "-p", "-f", file).splitlines()
    assert [line.split()[1] for line in lines if line.startswith("server")] == servers
    assert {"makestep 1 3", "port 0", "cmdport 0"} <= set(lines)


@pytest.mark.skipif(os.geteuid() != 0, reason="sshd wants its folder in /run, which takes root")
@pytest.mark.parametrize("authorities", [[], [AUTHORITY]])
def test_ssh_takes_keys_and_nothing_else(tmp_path: Path, authorities: list[str]) -> None:
    render(tmp_path, "hardening", "user_authorities.pub.j2", hardening_ssh_authorities=authorities)
    file = render(tmp_path, "hardening", "sshd.conf.j2")
    told = set(sshd_told(file, tmp_path))
    assert {
        "authenticationmethods publickey",
        "passwordauthentication no",
        "kbdinteractiveauthentication no",
        "permitrootlogin without-password",
        "allowtcpforwarding no",
    } <= told
    # Not one algorithm that is weaker than the rest, and none that is there by default.
    (signatures,) = (line for line in told if line.startswith("pubkeyacceptedalgorithms "))
    assert re.search("rsa|ecdsa|dss", signatures) is None


def test_every_kernel_parameter_is_one_of_the_kernel(tmp_path: Path) -> None:
    """One that is misspelt would protect nothing. Those with a hyphen need not be there."""
    render(tmp_path, "hardening", "sysctl.conf.j2")
    lines = (tmp_path / "sysctl.conf").read_text().splitlines()
    names = [line.partition("=")[0].strip() for line in lines if line and line[0] not in "#-"]
    assert len(names) > 20
    unknown = [n for n in names if not (Path("/proc/sys") / n.replace(".", "/")).exists()]
    assert unknown == []


@pytest.mark.parametrize(
    ("role", "template", "unit", "key"),
    [
        ("baseline", "journald.conf.j2", "systemd/journald.conf", "Journal"),
        ("hardening", "system.conf.j2", "systemd/system.conf", "Manager"),
    ],
)
def test_systemd_knows_every_setting(
    tmp_path: Path, role: str, template: str, unit: str, key: str
) -> None:
    """The file that systemd comes with lists each setting with its default."""
    file = render(tmp_path, role, template)
    known = (Path("/etc") / unit).read_text()
    lines = [line for line in file.read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == f"[{key}]"
    for line in lines[1:]:
        assert f"\n#{line.partition('=')[0]}=" in known, line


def test_tmp_can_be_mounted_as_asked(tmp_path: Path) -> None:
    folder = tmp_path / "etc/systemd/system/tmp.mount.d"
    folder.mkdir(parents=True)
    render(folder, "hardening", "tmp.mount.conf.j2")
    (folder.parent / "tmp.mount").write_text("[Mount]\nWhat=tmpfs\nWhere=/tmp\nType=tmpfs\n")
    done = subprocess.run(
        ["systemd-analyze", f"--root={tmp_path}", "verify", "--man=no", "tmp.mount"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert "tmp.mount" not in done.stderr


def test_the_apps_understand_their_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for role, more in (
        ("seat_control", {"seat_control_multicast_source": "10.20.0.1"}),
        ("crew_web", {}),
    ):
        file = render(
            tmp_path, role, f"{role}.env.j2", registration="EC-LAB", cabin_layout="a320", **more
        )
        for name, value in dotenv_values(file).items():
            assert value is not None
            monkeypatch.setenv(name, value)
    # What the units add.
    monkeypatch.setenv("IFE_BOOT_ID", "0" * 32)
    monkeypatch.setenv("IFE_STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("IFE_COMMAND_KEY", str(tmp_path / "command.key"))
    monkeypatch.setenv("IFE_CREW_FILE", str(tmp_path / "crew.json"))
    seats = SeatControlSettings.load()
    crew = CrewWebSettings.load()
    assert seats.registration == crew.registration == "EC-LAB"
    assert seats.multicast_interface == "cabin0"
    assert seats.layout == crew.layout == Path("/usr/share/ife/layouts/a320.yml")
    assert (ROOT / "inventory/layouts" / seats.layout.name).exists()


@pytest.mark.parametrize(
    "ports",
    [
        {},
        {"front": ["pci-0000:00:14.0-usbv2-0:2", "pci-0000:00:14.0-usbv3-0:10"]},
        {"front": ["pci-0000:00:14.0-usbv2-0:2"], "aft": ["pci-0000:00:14.0-usbv2-0:3.1"]},
    ],
    ids=len,
)
def test_usb_lockdown_understands_the_ports_that_its_role_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ports: dict[str, list[str]]
) -> None:
    file = render(
        tmp_path,
        "usb_lockdown",
        "usb_lockdown.env.j2",
        registration="EC-LAB",
        usb_lockdown_places=ports,
    )
    for name, value in dotenv_values(file).items():
        assert value is not None
        monkeypatch.setenv(name, value)
    # What the unit adds.
    monkeypatch.setenv("IFE_RUNTIME_DIRECTORY", str(tmp_path))
    told = UsbLockdownSettings.load().ports
    assert told == {path: name for name, paths in ports.items() for path in paths}
