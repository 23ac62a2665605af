"""Overhead screens on a real serial device, a pseudo-terminal with a simulated bus behind it."""

from __future__ import annotations

import os
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.common.screens import ScreensOrder, ScreenView
from apps.common.testing import wait_until
from apps.vlc_stream.screens import config, keeper
from apps.vlc_stream.screens.config import ScreensError, ScreensFile
from apps.vlc_stream.screens.drivers import (
    CecDriver,
    LineDriver,
    ScreenError,
    Status,
    Wanted,
)
from apps.vlc_stream.screens.keeper import Screens
from bench.media.screens import SimulatedBus

DOWN = ScreensOrder(deployed=True, power=True, input="2")

FILE = """\
buses:
  forward:
    driver: line
    device: {device}
    baud: 19200
    input: "2"
    screens:
      f1: {{label: Forward left, address: 1}}
      f2: {{label: Forward right, address: 2}}
"""

Make = Callable[..., tuple[Screens, SimulatedBus]]


def load(folder: Path, text: str) -> ScreensFile:
    path = folder / "screens.yml"
    path.write_text(text)
    return config.load(path)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Screens on a simulated bus, started. They are looked at more often than in service."""
    monkeypatch.setattr(keeper, "LOOK_EVERY", 0.1)
    with ExitStack() as stack:

        def start(motor: float = 0.0) -> tuple[Screens, SimulatedBus]:
            bus = stack.enter_context(SimulatedBus((1, 2), motor))
            screens = Screens(load(tmp_path, FILE.format(device=bus.device)), lambda: None)
            stack.callback(screens.close)
            screens.start()
            wait_until(lambda: screens.trouble() is None, "the screens answer")
            return screens, bus

        yield start


def view(screens: Screens, name: str) -> ScreenView:
    return next(screen for screen in screens.view().screens if screen.id == name)


def is_so(screens: Screens, name: str, deployed: bool, power: bool) -> Callable[[], bool]:
    return lambda: (view(screens, name).deployed, view(screens, name).power) == (deployed, power)


def test_screens_do_as_they_are_told(make: Make) -> None:
    screens, bus = make()
    screens.order(DOWN.model_copy(update={"screens": ("f1",)}))
    wait_until(is_so(screens, "f1", True, True), "f1 is down and on")
    assert (bus.screens[1].input, bus.screens[2].deployed) == ("2", False)
    screens.order(ScreensOrder(power=False))
    wait_until(is_so(screens, "f1", True, False), "f1 is dark")
    screens.order(ScreensOrder(deployed=False))
    wait_until(is_so(screens, "f1", False, False), "f1 is up")


def test_at_its_start_every_screen_is_stowed(make: Make) -> None:
    _, bus = make()
    assert "01 STOW" in bus.heard
    assert "02 STOW" in bus.heard


def test_a_motor_takes_its_time(make: Make) -> None:
    screens, bus = make(motor=0.5)
    screens.order(DOWN)
    wait_until(lambda: bus.screens[1].deployed, "it was told")
    assert view(screens, "f1").deployed is False
    wait_until(is_so(screens, "f1", True, True), "f1 is down and on")


def test_they_follow_the_video(make: Make) -> None:
    screens, bus = make()
    screens.show_video(True)
    wait_until(is_so(screens, "f2", True, True), "f2 is down and on")
    assert bus.screens[2].input == "2"
    screens.show_video(False)
    wait_until(is_so(screens, "f2", False, False), "f2 is up")


def test_in_a_decompression_they_are_stowed_and_stay_so(make: Make) -> None:
    screens, bus = make()
    screens.show_video(True)
    wait_until(is_so(screens, "f1", True, True), "f1 is down and on")
    screens.lock(True)
    wait_until(is_so(screens, "f1", False, False), "f1 is up")
    assert screens.view().locked
    bus.heard.clear()
    screens.order(DOWN)
    screens.show_video(True)
    wait_until(lambda: len(bus.heard) > 6, "they were looked at some times")
    assert not [line for line in bus.heard if "DEPLOY" in line]
    screens.lock(False)
    screens.order(DOWN)
    wait_until(is_so(screens, "f1", True, True), "f1 is down again")


def test_an_unknown_screen_is_refused_and_nothing_is_done(make: Make) -> None:
    screens, bus = make()
    with pytest.raises(KeyError, match="f9"):
        screens.order(DOWN.model_copy(update={"screens": ("f1", "f9")}))
    assert not bus.screens[1].deployed


@pytest.mark.parametrize(("mood", "why"), [("silence", "no answer"), ("garble", "garbled")])
def test_a_line_that_is_disturbed_is_told_and_then_all_is_as_wanted(
    make: Make, mood: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    screens, bus = make()
    bus.mood = mood
    wait_until(lambda: why in (screens.trouble() or ""), "that is told", 5)
    assert view(screens, "f1").power is None
    screens.order(DOWN)
    bus.screens[1].power = False
    bus.mood = ""
    wait_until(is_so(screens, "f1", True, True), "f1 is as was wanted meanwhile", 20)
    assert screens.trouble() is None or "f2" in (screens.trouble() or "")


def test_a_screen_that_lost_its_power_is_told_again(make: Make) -> None:
    screens, bus = make()
    screens.order(DOWN)
    wait_until(is_so(screens, "f1", True, True), "f1 is down and on")
    bus.screens[1].power = False
    wait_until(lambda: bus.screens[1].power, "it is switched on again")


def test_an_adapter_that_is_pulled_is_told(make: Make) -> None:
    screens, bus = make()
    bus.unplug()
    wait_until(lambda: screens.trouble() is not None, "that is told")
    wait_until(lambda: view(screens, "f2").power is None, "nothing is said to be known")


def test_one_that_is_pulled_while_it_is_opened_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LOOK_EVERY", 0.1)
    device = Path(f"/dev/shm/ife-test-{os.getpid()}")  # noqa: S108 - the file takes none but /dev
    ask = termios.tcgetattr
    with SimulatedBus((1, 2)) as pulled, SimulatedBus((1, 2)) as bus:

        def ask_and_pull(fd: int) -> list[Any]:
            answer = ask(fd)
            if device.readlink() == Path(pulled.device):
                pulled.unplug()
                device.unlink()
                device.symlink_to(bus.device)
            return answer

        monkeypatch.setattr(termios, "tcgetattr", ask_and_pull)
        device.symlink_to(pulled.device)
        screens = Screens(load(tmp_path, FILE.format(device=device)), lambda: None)
        screens.start()
        try:
            wait_until(lambda: screens.trouble() is None, "the other one answers")
        finally:
            screens.close()
            device.unlink()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_has_died_is_replaced(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    screens, bus = make()

    def die(_driver: LineDriver, _address: int) -> Status:
        monkeypatch.undo()
        sys.exit()

    monkeypatch.setattr(LineDriver, "look", die)
    wait_until(lambda: LineDriver.look is not die, "one has died")
    screens.order(DOWN)

    def is_down() -> bool:
        screens.tend()
        return bus.screens[1].deployed

    wait_until(is_down, "another speaks on the bus")


def test_a_bus_that_hangs_gets_another_thread_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[LineDriver] = []
    hanging: list[LineDriver] = []

    class Hanging(LineDriver):
        """Waits in the kernel for as long as the adapter takes nothing, whatever its time-outs."""

        def _ask(self, address: int, words: str) -> list[str]:
            if bus.mood == "hang":
                os.set_blocking(self._port.fileno(), True)
                hanging.append(self)
                os.write(self._port.fileno(), b"\r" * 50_000)  # more than the kernel keeps
                hanging.remove(self)
            return super()._ask(address, words)

    def open_hanging(line: config.Bus) -> LineDriver:
        opened.append(Hanging(line.device, line.baud))
        return opened[-1]

    def threads() -> int:
        return sum(thread.name == "screens forward" for thread in threading.enumerate())

    def is_well() -> bool:
        screens.tend()
        return screens.trouble() is None

    def all_hang() -> bool:
        screens.tend()
        return len(hanging) == keeper.MAX_HUNG

    monkeypatch.setattr(keeper, "open_driver", open_hanging)
    monkeypatch.setattr(keeper, "HUNG_AFTER", 0.5)
    monkeypatch.setattr(keeper, "LOOK_EVERY", 0.1)
    with SimulatedBus((1, 2)) as bus:
        screens = Screens(load(tmp_path, FILE.format(device=bus.device)), lambda: None)
        screens.start()
        for _ in range(2):
            wait_until(is_well, "it answers")
            bus.mood = "hang"
            wait_until(all_hang, "as many hang as may", 20)
            count = len(opened)
            end = time.monotonic() + 2 * keeper.HUNG_AFTER
            while time.monotonic() < end:
                screens.tend()
                screens.order(DOWN)  # nobody waits for the bus
            assert (len(opened), threads()) == (count, keeper.MAX_HUNG)
            assert "its bus hangs" in (screens.trouble() or "")
            # Each call comes back, and its thread ends.
            bus.mood = ""
        wait_until(is_well, "it answers")
        screens.close()
        wait_until(lambda: threads() == 0, "each thread has ended")


def test_a_driver_tells_what_a_screen_refuses() -> None:
    with SimulatedBus((1,)) as bus:
        driver = LineDriver(bus.device, 9600)
        with pytest.raises(ScreenError, match="it refuses: cannot inp 9"):
            driver.apply(1, Wanted(deployed=True, power=True, input="9"))
        with pytest.raises(ScreenError, match="no answer"):
            driver.look(7)
        assert driver.look(1) == Status(deployed=True, power=True, input="1")
        driver.close()


def test_two_may_let_go_of_a_line_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who hung in it, and who took over."""
    close = os.close
    failed: list[BaseException] = []

    def close_slowly(descriptor: int) -> None:
        close(descriptor)
        time.sleep(0.1)

    def let_go() -> None:
        try:
            driver.close()
        except TypeError as error:
            failed.append(error)

    with SimulatedBus((1,)) as bus:
        driver = LineDriver(bus.device, 9600)
        threads = [threading.Thread(target=let_go) for _ in range(2)]
        with monkeypatch.context() as patched:
            patched.setattr(os, "close", close_slowly)
            for thread in threads:
                thread.start()
                time.sleep(0.15)  # the port is shut, and its pipes are not
            for thread in threads:
                thread.join(5)
    assert failed == []


CEC = """
import sys
power = "standby"
print("opening a connection to the CEC adapter...", flush=True)
for line in sys.stdin:
    words = line.split()
    with open(sys.argv[1], "a") as log:
        log.write(line)
    if words[0] in ("on", "standby"):
        power = words[0]
    elif words[0] == "pow":
        print("power status: " + power, flush=True)
"""


def test_hdmi_cec_by_the_words_of_cec_client(tmp_path: Path) -> None:
    log = tmp_path / "log"
    driver = CecDriver((sys.executable, "-c", CEC, str(log)))
    assert driver.look(0) == Status(None, False, None)
    driver.apply(0, Wanted(deployed=True, power=True, input="2"))
    assert driver.look(0) == Status(None, True, "2")
    driver.apply(0, Wanted(deployed=False, power=False, input="2"))
    assert driver.look(0) == Status(None, False, "2")
    assert log.read_text().splitlines() == [
        "pow 0",
        "on 0",
        "tx 1F:82:20:00",
        "pow 0",
        "standby 0",
        "pow 0",
    ]
    driver.close()


def test_a_cec_client_that_hangs_is_started_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    was_there = tmp_path / "was there"
    hangs_once = f"""
import pathlib, time
was_there = pathlib.Path({str(was_there)!r})
if not was_there.exists():
    was_there.touch()
    time.sleep(600)
{CEC}"""
    program = (sys.executable, "-c", hangs_once, str(tmp_path / "log"))
    monkeypatch.setattr(keeper, "LOOK_EVERY", 0.1)
    monkeypatch.setattr(keeper, "open_driver", lambda _: CecDriver(program))
    screens = Screens(load(tmp_path, FILE.format(device="/dev/ttyS1")), lambda: None)
    screens.start()
    try:
        wait_until(was_there.exists, "it is started")
        wait_until(lambda: screens.trouble() is None, "the next one answers", timeout=30)
    finally:
        screens.close()


def test_a_screen_that_is_dead_holds_no_other_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LOOK_EVERY", 0.1)
    with SimulatedBus((2,), 0.0) as bus:
        screens = Screens(load(tmp_path, FILE.format(device=bus.device)), lambda: None)
        screens.start()
        try:
            wait_until(lambda: view(screens, "f2").trouble is None, "one answers")
            wait_until(lambda: view(screens, "f1").trouble == "no answer", "the other is dead")
            for deployed in (True, False, True):
                began = time.monotonic()
                screens.order(DOWN.model_copy(update={"deployed": deployed}))
                wait_until(is_so(screens, "f2", deployed, True), "it is so")
                assert bus.screens[2].deployed == deployed
                took = time.monotonic() - began
                # The dead one takes its time-out, a second, in each look that is under way.
                assert took < 2.5
        finally:
            screens.close()


@pytest.mark.parametrize(
    "program", ["import time; time.sleep(60)", "print('power status: unknown')"]
)
def test_a_cec_adapter_that_says_nothing_of_use(program: str) -> None:
    driver = CecDriver((sys.executable, "-c", program))
    with pytest.raises((ScreenError, BrokenPipeError)):
        driver.look(0)
    driver.close()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("address: 2", "address: 1", "9: f1 has address 1 too"),
        ("address: 2", "address: 32", "9: address: Input should be less than"),
        ("driver: line", "driver: telepathy", "3: driver: Input should be 'line' or 'cec'"),
        ("device: /dev/ttyS1", "device: /etc/passwd", "4: device: String should match"),
        ("baud: 19200", "baud: 1", "5: baud: one of 9600, 19200"),
        ("f2:", "F2:", "9: F2: String should match"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, old: str, new: str, problem: str) -> None:
    text = FILE.format(device="/dev/ttyS1")
    assert old in text
    with pytest.raises(ScreensError) as caught:
        load(tmp_path, text.replace(old, new))
    assert problem in str(caught.value)


def test_two_buses_share_neither_device_nor_names(tmp_path: Path) -> None:
    text = FILE.format(device="/dev/ttyS1")
    with pytest.raises(ScreensError) as caught:
        load(tmp_path, text + text.replace("buses:\n", "").replace("forward", "aft"))
    assert "12: /dev/ttyS1 is also that of forward" in str(caught.value)
    assert "16: there is a screen f1 on the bus forward too" in str(caught.value)


@given(st.binary(max_size=60))
def test_no_answer_breaks_the_driver(answer: bytes) -> None:
    class Port:
        def reset_input_buffer(self) -> None: ...
        def write(self, _data: bytes) -> None: ...
        def read_until(self, _end: bytes, _size: int) -> bytes:
            return answer

    driver = LineDriver.__new__(LineDriver)
    driver._port = Port()
    with pytest.raises(ScreenError):
        driver.look(1)
