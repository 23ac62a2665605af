"""What becomes of a device step by step, on a sysfs of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.common.disks import MAX_BLOCKED, Disk
from apps.usb_lockdown.keeper import SHOWN_AFTER, Keeper
from apps.usb_lockdown.sysfs import Sysfs, Unit
from apps.usb_lockdown.testing import BAD, CONTROLLER, DISK, HUB, KEYBOARD, PORTS, UAS, Kernel

STORAGE, KEYS = (8, 6, 0x50), (3, 1, 1)


class NotedReader:
    """A reader that reads nothing, and says what it is told to."""

    def __init__(self, port: str, unit: Unit) -> None:
        self.port, self.unit = port, unit
        self.state, self.why, self.socket = "reading", None, f"/run/{port}.sock"
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


class Bench:
    """A keeper on a kernel of files, and the readers that it has started."""

    def __init__(self, folder: Path, denies: bool = True) -> None:
        self.now = 1000.0
        self.kernel = Kernel(folder, denies)
        self.readers: list[NotedReader] = []
        self.keeper = self.new_keeper()
        self.medium = folder / "medium"
        self.medium.write_bytes(bytes(4096))

    def new_keeper(self) -> Keeper:
        return Keeper(Sysfs(self.kernel.root), PORTS, self.start)

    def look(self) -> None:
        """Look as often as the kernel does something new."""
        for _ in range(4):
            self.keeper.look(self.now)
            self.kernel.settle()
        self.keeper.look(self.now)

    def disk(self) -> Disk:
        (disk,) = self.keeper.state().disks
        return disk

    def why_blocked(self) -> str:
        (blocked,) = self.keeper.state().blocked
        return blocked.why

    def start(self, port: str, unit: Unit) -> NotedReader:
        self.readers.append(NotedReader(port, unit))
        return self.readers[-1]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("descriptors", [DISK, UAS])
def test_a_disk_is_let_in_and_read(bench: Bench, descriptors: bytes) -> None:
    bench.kernel.plug("1-1", descriptors, medium=bench.medium)
    bench.keeper.look(bench.now)
    assert bench.kernel.is_in("1-1")
    assert not bench.kernel.is_driven("1-1")
    disk = bench.disk()
    assert disk == Disk(port="front", name="Stick", state="reading", insertion=disk.insertion)
    bench.kernel.settle()
    bench.keeper.look(bench.now)
    bench.kernel.settle()
    assert bench.kernel.is_driven("1-1")
    bench.look()
    (reader,) = bench.readers
    assert (reader.port, reader.unit.bytes) == ("front", 4096)
    assert bench.disk().state == "reading"
    reader.state = "ready"
    assert bench.disk().socket == "/run/front.sock"
    assert bench.disk().bytes == 4096
    assert bench.keeper.state().blocked == ()
    assert bench.keeper.trouble is None


def test_what_is_plugged_in_before_the_start_is_judged_too(bench: Bench) -> None:
    bench.kernel.plug("1-1", DISK, medium=bench.medium)
    bench.kernel.plug("1-2", KEYBOARD)
    bench.look()
    assert bench.kernel.is_in("1-1")
    assert not bench.kernel.is_in("1-2")


def test_a_disk_that_is_pulled_out_is_forgotten(bench: Bench) -> None:
    bench.kernel.plug("1-1", DISK, medium=bench.medium)
    bench.look()
    first = bench.disk()
    bench.kernel.pull("1-1")
    bench.look()
    assert bench.readers[0].is_closed
    assert bench.keeper.state().disks == ()
    bench.kernel.plug("1-1", DISK, medium=bench.medium)
    bench.look()
    assert len(bench.readers) == 2
    assert first.insertion != bench.disk().insertion, "it may be another of the same model"


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_disk_stays_out(bench: Bench, name: str) -> None:
    bench.kernel.plug("1-1", BAD[name], label="Trust me")
    bench.look()
    assert not bench.kernel.is_in("1-1")
    assert bench.readers == []
    (blocked,) = bench.keeper.state().blocked
    assert (blocked.name, blocked.port, blocked.present) == ("Trust me", "front", True)
    assert BAD[name].hex().startswith(blocked.descriptors)
    assert bench.disk().state == "refused"
    assert bench.disk().why == blocked.why


def test_a_disk_in_another_port_stays_out(bench: Bench) -> None:
    bench.kernel.plug("1-3", DISK, medium=bench.medium)
    bench.look()
    assert not bench.kernel.is_in("1-3")
    assert bench.keeper.state().disks == ()
    assert "not for crew disks" in bench.why_blocked()


def test_a_port_of_the_same_number_on_the_controllers_other_bus(bench: Bench) -> None:
    """Of an xHCI, port 1 for USB 3 may be another connector than port 1 for USB 2."""
    bench.kernel.plug("2-1", DISK, medium=bench.medium)
    bench.look()
    assert not bench.kernel.is_in("2-1")
    (blocked,) = bench.keeper.state().blocked
    assert (blocked.path, blocked.port) == (f"pci-{CONTROLLER}-usbv3-0:1", None)


def test_a_connector_that_is_on_both_buses_has_one_name(bench: Bench) -> None:
    ports = PORTS | {f"pci-{CONTROLLER}-usbv3-0:7": "front"}
    bench.keeper = Keeper(Sysfs(bench.kernel.root), ports, bench.start)
    bench.kernel.plug("2-7", DISK, medium=bench.medium)
    bench.look()
    assert bench.kernel.is_driven("2-7")
    assert bench.disk().port == "front"


def test_a_port_behind_a_hub_that_is_built_in(bench: Bench) -> None:
    bench.kernel.plug("1-4", HUB, shows=((9, 0, 0),))
    bench.look()
    assert bench.kernel.is_driven("1-4")
    bench.kernel.plug("1-4.1", DISK, medium=bench.medium)
    bench.kernel.plug("1-4.2", DISK, medium=bench.medium)
    bench.kernel.plug("1-4.3", HUB)
    bench.look()
    assert bench.kernel.is_driven("1-4.1")
    assert not bench.kernel.is_in("1-4.2")
    assert not bench.kernel.is_in("1-4.3")
    assert [reader.port for reader in bench.readers] == ["aft"]


def test_a_device_that_says_something_else_later_is_shut_out(bench: Bench) -> None:
    bench.kernel.plug("1-1", DISK, medium=bench.medium)
    bench.look()
    bench.kernel.changes("1-1", KEYBOARD)
    bench.look()
    assert not bench.kernel.is_in("1-1")
    assert bench.readers[0].is_closed
    assert "changed" in bench.why_blocked()
    # It stays out, whatever it says next.
    bench.kernel.changes("1-1", DISK)
    bench.look()
    assert not bench.kernel.is_in("1-1")


def test_a_device_that_comes_back_from_a_reset_as_something_else_stays_out(bench: Bench) -> None:
    """The kernel has it as a new one at the same place."""
    bench.kernel.plug("1-1", DISK, medium=bench.medium)
    bench.look()
    bench.kernel.pull("1-1")
    bench.kernel.plug("1-1", KEYBOARD)
    bench.look()
    assert bench.readers[0].is_closed
    assert not bench.kernel.is_in("1-1")
    assert "keyboard" in bench.why_blocked()


@pytest.mark.parametrize("shows", [(KEYS,), (STORAGE, KEYS), (STORAGE, STORAGE)])
def test_other_interfaces_than_announced(bench: Bench, shows: tuple[tuple[int, int, int]]) -> None:
    bench.kernel.plug("1-1", DISK, medium=bench.medium, shows=shows)
    bench.look()
    assert not bench.kernel.is_in("1-1")
    assert not bench.kernel.is_driven("1-1")
    assert "interface" in bench.why_blocked()


def test_a_disk_that_the_driver_of_something_else_takes(bench: Bench) -> None:
    bench.kernel.driver = "pl2303"
    bench.kernel.plug("1-1", DISK, medium=bench.medium)
    bench.look()
    assert not bench.kernel.is_in("1-1")
    assert "the driver pl2303 has taken it" in bench.why_blocked()


@pytest.mark.parametrize("units", [("0", "0"), ("0", "5"), ("5",), ("1",)])
def test_units_that_are_not_one_disk(bench: Bench, units: tuple[str, ...]) -> None:
    bench.kernel.plug("1-1", DISK, medium=bench.medium, units=units)
    bench.look()
    assert not bench.kernel.is_in("1-1")
    assert bench.readers == []


def test_another_card_in_the_slot(bench: Bench) -> None:
    bench.kernel.plug("1-1", DISK, medium=bench.medium)
    bench.look()
    for size in bench.kernel.root.glob("devices/*/*/*/*/*/host0/*/*/block/*/size"):
        size.write_text("99\n")
    bench.look()
    assert bench.readers[0].is_closed
    assert "pull it out" in bench.why_blocked()


def test_a_slot_without_a_card_is_waited_for(bench: Bench) -> None:
    bench.kernel.plug("1-1", DISK)
    bench.look()
    assert bench.readers == []
    assert bench.disk().state == "reading"
    bench.now += SHOWN_AFTER + 1
    bench.look()
    assert "is there a card" in (bench.disk().why or "")
    for size in bench.kernel.root.glob("devices/*/*/*/*/*/host0/*/*/block/*/size"):
        size.write_text("99\n")
    bench.look()
    assert len(bench.readers) == 1


def test_a_bus_that_lets_everything_in_is_left_alone(tmp_path: Path) -> None:
    """As on a workstation: neither is anything let in there, nor its keyboard shut out."""
    bench = Bench(tmp_path, denies=False)
    bench.kernel.plug("1-1", DISK, medium=bench.medium)
    bench.kernel.plug("1-2", KEYBOARD)
    bench.look()
    assert bench.kernel.is_in("1-2")
    assert bench.readers == []
    assert Sysfs(tmp_path).open_buses() == ["usb1", "usb2"]


def test_a_bus_that_udev_has_not_come_to_is_waited_for(bench: Bench) -> None:
    default = bench.kernel.root / "bus/usb/devices/usb1/interface_authorized_default"
    default.write_text("1\n")
    bench.kernel.plug("1-1", DISK, medium=bench.medium)
    bench.look()
    assert not bench.kernel.is_in("1-1")
    default.write_text("0\n")
    bench.look()
    assert len(bench.readers) == 1


def test_what_was_let_in_by_somebody_else_is_shut_out_when_it_is_seen(bench: Bench) -> None:
    bench.kernel.plug("1-2", KEYBOARD)
    authorized = bench.kernel.root / "bus/usb/devices/1-2/authorized"
    authorized.write_text("1\n")
    bench.look()
    assert not bench.kernel.is_in("1-2")


def test_a_process_that_comes_after_another_takes_over(bench: Bench) -> None:
    bench.kernel.plug("1-1", DISK, medium=bench.medium)
    bench.look()
    before = bench.disk()
    bench.keeper.close()
    assert bench.readers[0].is_closed
    assert bench.kernel.is_in("1-1")
    bench.keeper = bench.new_keeper()
    bench.look()
    assert bench.disk() == before, "it is the same"
    assert len(bench.readers) == 2
    assert bench.kernel.is_driven("1-1")


def test_a_file_that_udev_has_not_given_us_yet_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(sysfs: Sysfs, name: str, let_in: bool) -> None:
        raise PermissionError(13, "Permission denied")

    bench.kernel.plug("1-1", DISK, medium=bench.medium)
    with monkeypatch.context() as patch:
        patch.setattr(Sysfs, "authorize", refuse)
        bench.look()
    assert not bench.kernel.is_in("1-1")
    assert bench.keeper.trouble is not None
    bench.look()
    assert len(bench.readers) == 1
    assert bench.keeper.trouble is None


def test_a_second_disk_in_a_port_waits_outside(tmp_path: Path) -> None:
    """A connector has two paths, one for each speed."""
    bench = Bench(tmp_path)
    bench.keeper = Keeper(Sysfs(tmp_path), PORTS | {_path("1-2"): "front"}, bench.start)
    bench.kernel.plug("1-1", DISK, medium=bench.medium)
    bench.look()
    bench.kernel.plug("1-2", DISK, medium=bench.medium)
    bench.look()
    assert not bench.kernel.is_in("1-2")
    assert "another disk" in bench.why_blocked()
    assert bench.disk().state == "reading"


def test_a_device_that_comes_and_goes_does_not_fill_the_log(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(MAX_BLOCKED + 10):
        bench.kernel.plug("1-1", KEYBOARD, label="Kbd\n\x1b[31m\u202e" + "x" * 500)
        bench.keeper.look(bench.now)
        bench.kernel.pull("1-1")
    bench.keeper.look(bench.now)
    state = bench.keeper.state()
    assert len(state.blocked) == MAX_BLOCKED
    assert state.blocked_ever == MAX_BLOCKED + 10
    assert not any(blocked.present for blocked in state.blocked)
    refused = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(refused) == 1
    assert KEYBOARD.hex() in refused[0].getMessage()
    assert state.blocked[0].name.isprintable()
    assert len(state.blocked[0].name) <= 100


def test_without_a_controller_there_is_nothing(tmp_path: Path) -> None:
    keeper = Keeper(Sysfs(tmp_path), PORTS, NotedReader)
    keeper.look(0)
    assert keeper.state().disks == ()
    assert keeper.state().ports == ("front", "aft")


def _path(name: str) -> str:
    return next(iter(PORTS)).rpartition(":")[0] + ":" + name.partition("-")[2]
