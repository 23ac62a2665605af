"""The screens file: which overhead screens an aircraft has, and on which bus each is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from apps.common import yaml_files
from apps.common.channels import Label
from apps.common.commands import Strict
from apps.common.screens import InputName, ScreenName

BusName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]


BAUDS = (9600, 19200, 38400, 57600, 115200)


class ScreensError(Exception):
    """A screens file is wrong; the message has a line for each mistake."""


def _baud(baud: int) -> int:
    if baud not in BAUDS:
        raise ValueError(f"one of {', '.join(map(str, BAUDS))}")
    return baud


class Screen(Strict):
    """A screen and its address on the bus; a CEC bus has one, at address 0 (the TV)."""

    label: Label
    address: Annotated[int, Field(ge=0, le=31)]


class Bus(Strict):
    """A bus. `line`: a serial line, RS-232 or RS-485; `cec`: HDMI-CEC, by an adapter.

    `input` is where the imposed video comes in.
    """

    driver: Literal["line", "cec"]
    device: Annotated[str, StringConstraints(pattern=r"^/dev/[A-Za-z0-9/._-]{1,64}$")]
    baud: Annotated[int, AfterValidator(_baud)] = 9600
    input: InputName = "1"
    screens: Annotated[dict[ScreenName, Screen], Field(min_length=1, max_length=31)]


class ScreensFile(Strict):
    """A screens file."""

    buses: Annotated[dict[BusName, Bus], Field(min_length=1, max_length=8)]


def load(path: Path) -> ScreensFile:
    """The screens file.

    Raises:
        ScreensError: it cannot be read, or is wrong; every mistake is named.
    """
    file, problems = yaml_files.read(path, ScreensFile, _contradictions)
    if file is None or problems:
        raise ScreensError("\n".join(problems))
    return file


def _contradictions(file: ScreensFile, lines: yaml_files.Lines) -> Iterator[yaml_files.Problem]:
    names: dict[str, str] = {}
    devices: dict[str, str] = {}
    for bus_name, bus in file.buses.items():
        if (other := devices.setdefault(bus.device, bus_name)) != bus_name:
            yield lines["buses", bus_name, "device"], f"{bus.device} is also that of {other}"
        addresses: dict[int, str] = {}
        for name, screen in bus.screens.items():
            here = lines["buses", bus_name, "screens", name]
            if (other := names.setdefault(name, bus_name)) != bus_name:
                yield here, f"there is a screen {name} on the bus {other} too"
            if (other := addresses.setdefault(screen.address, name)) != name:
                yield here, f"{other} has address {screen.address} too"
