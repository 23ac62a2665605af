"""What is let in by USB, by what a device says and where it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.usb_lockdown.descriptors import DescriptorsError, ids, parse
from apps.usb_lockdown.policy import PROTOCOLS, STORAGE, decide
from apps.usb_lockdown.settings import UsbLockdownSettings
from apps.usb_lockdown.testing import (
    AFT,
    BAD,
    BULK,
    CONTROLLER,
    DISK,
    DISK_AND_KEYBOARD,
    FRONT,
    HUB,
    KEYBOARD,
    PORTS,
    UAS,
    configuration,
    device,
    interface,
)

ELSEWHERE = f"pci-{CONTROLLER}-usbv2-0:3"
ON_THE_WAY = f"pci-{CONTROLLER}-usbv2-0:4"


@pytest.mark.parametrize("disk", [DISK, UAS], ids=["bulk-only", "uas"])
@pytest.mark.parametrize("path", [FRONT, AFT])
def test_a_disk_in_a_named_port_is_let_in(path: str, disk: bytes) -> None:
    decision = decide(path, disk, PORTS)
    assert (decision.let_in, decision.port) == ("disk", PORTS[path])


@pytest.mark.parametrize("path", [ELSEWHERE, f"{FRONT}.1", f"{FRONT}1", "platform-x-usbv2-0:1"])
def test_a_disk_elsewhere_is_not(path: str) -> None:
    decision = decide(path, DISK, PORTS)
    assert decision.let_in is None
    assert "not for crew disks" in decision.why


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("path", [FRONT, ELSEWHERE])
def test_what_is_no_disk_is_let_in_nowhere(path: str, name: str) -> None:
    decision = decide(path, BAD[name], PORTS)
    assert decision.let_in is None
    assert decision.why


def test_a_hub_is_let_in_where_a_named_port_is_behind_it() -> None:
    assert decide(ON_THE_WAY, HUB, PORTS).let_in == "hub"
    # Of high speed, with one translator or one for each port: USB 2.0, 11.23.1.
    single = interface(0, (9, 0, 1), (3,))
    multiple = interface(0, (9, 0, 2), (3,), alternate=1)
    both = device((9, 0, 2)) + configuration(single, multiple, count=1)
    assert decide(ON_THE_WAY, both, PORTS).let_in == "hub"


@pytest.mark.parametrize("path", [FRONT, AFT, ELSEWHERE, f"{FRONT}.1", f"{AFT}.1"])
def test_a_hub_from_outside_is_not(path: str) -> None:
    assert decide(path, HUB, PORTS).let_in is None


@pytest.mark.parametrize(
    "raw",
    [
        DISK,
        KEYBOARD,
        device((9, 0, 0)) + configuration(interface(0, (9, 0, 0), (3,)), interface(1, (3, 1, 1))),
        device((9, 0, 0)) + configuration(interface(0, (9, 0, 0), (3, BULK))),
    ],
)
def test_nothing_else_is_let_in_where_a_hub_is_to_be(raw: bytes) -> None:
    assert decide(ON_THE_WAY, raw, PORTS).let_in is None


def test_a_reason_says_what_it_is() -> None:
    assert "keyboard" in decide(FRONT, KEYBOARD, PORTS).why
    assert "several devices in one" in decide(FRONT, DISK_AND_KEYBOARD, PORTS).why


def test_descriptors_are_understood() -> None:
    found = parse(UAS)
    assert ids(UAS) == "46f4:0001"
    assert (found.vendor, found.product) == (0x46F4, 1)
    assert [str(part) for part in found.interfaces] == ["08/06/50", "08/06/62"]
    assert found.interfaces[1].transfers == (BULK,) * 4
    assert found.other == {0x24}


@given(st.binary(max_size=300))
def test_whatever_it_says_is_understood_or_refused(raw: bytes) -> None:
    ids(raw)
    assert decide(FRONT, raw, PORTS).let_in is None or parse(raw)


@given(st.data())
def test_what_is_let_in_has_interfaces_of_disks_alone(data: st.DataObject) -> None:
    """However a disk's descriptors are changed: read again by the simplest of means."""
    raw = bytearray(data.draw(st.sampled_from([DISK, UAS, DISK_AND_KEYBOARD, HUB])))
    for _ in range(data.draw(st.integers(0, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    if decide(FRONT, bytes(raw), PORTS).let_in != "disk":
        return
    kinds, numbers, at = set(), set(), 0
    while at < len(raw):
        assert raw[at + 1] in {1, 2, 4, 5, 0x24, 0x30}
        if raw[at + 1] == 4:
            kinds.add((raw[at + 5], raw[at + 6], raw[at + 7]))
            numbers.add(raw[at + 2])
        at += raw[at]
    assert kinds <= {(*STORAGE, protocol) for protocol in PROTOCOLS}
    assert kinds
    assert numbers == {0}


@given(st.binary(min_size=1, max_size=64))
def test_a_device_says_all_of_itself_or_nothing(rest: bytes) -> None:
    with pytest.raises(DescriptorsError):
        parse(DISK + rest)


def test_ports_come_from_the_settings(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IFE_REGISTRATION", "EC-LAB")
    monkeypatch.setenv("IFE_RUNTIME_DIRECTORY", "/run/ife/usb_lockdown")
    monkeypatch.setenv("IFE_CREW_DISK_PORTS", f"front={FRONT} aft={AFT}  front={ELSEWHERE}")
    ports = UsbLockdownSettings.load().ports
    assert ports == {FRONT: "front", AFT: "aft", ELSEWHERE: "front"}


@pytest.mark.parametrize(
    "ports", ["front", "front=1-2", "Front=" + FRONT, f"a={FRONT} b={FRONT}", f"../x={FRONT}"]
)
def test_wrong_ports_are_told(ports: str) -> None:
    with pytest.raises(ValueError, match=r"port|twice"):
        UsbLockdownSettings(registration="EC-LAB", runtime_directory="/run", crew_disk_ports=ports)
