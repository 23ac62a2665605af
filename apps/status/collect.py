"""Finds out how the server is. Each part by itself: one that fails or hangs costs no other."""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import http.client
import os
import platform
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from apps.common.cabin import CabinView
from apps.common.protocol import CREW_HEADER
from apps.common.settings import Settings
from apps.status.facts import (
    Certificate,
    Clock,
    Disk,
    Facts,
    Network,
    Seats,
    Trust,
    Unit,
    Unknown,
    Versions,
)

TIMEOUT = 15.0
"""Seconds for everything; a command and an answer have less each. At boot the machine is busy."""

COMMAND_TIMEOUT = 8.0
ANSWER_TIMEOUT = 5.0

MAX_ANSWER = 4 * 1024 * 1024
"""Bytes; a cabin of 1,000 seats is a tenth of it."""

UNITS = (
    "ife.target",
    "ife-seat_control.service",
    "ife-crew_web.service",
    "ife-*.service",
    "ife-*.socket",
    "nginx.service",
    "redis-server.service",
    "postgresql@17-main.service",
    "chrony.service",
    "nftables.service",
    "ssh.service",
)
"""Names, and patterns for whatever else of ours there is."""

OURSELVES = "ife-status.service"

TRACKING = ("chronyc", "-n", "-c", "tracking")

_PROPERTIES = (
    *("Id", "LoadState", "ActiveState", "SubState", "StateChangeTimestampMonotonic"),
    *("ConditionResult", "ConditionTimestampMonotonic"),
    *("NRestarts", "MemoryCurrent", "StatusText"),
)

_SLOTS: dict[str, Literal["A", "B"]] = {"2": "A", "4": "B"}
"""By the number of root's partition on the disk (image/README.md)."""

_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
"""UEFI 2.10, 3.3: four bytes of attributes, then 1 or 0."""

_HOST_KEY = "etc/ssh/ssh_host_ed25519_key.pub"

_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
"""From linux/if.h."""


class CollectError(Exception):
    """A part cannot be found out; the message says why."""


def collect(root: Path = Path("/")) -> Facts:
    """Everything there is to know, within `TIMEOUT`. Files are looked for below `root`."""
    settings = root / "etc/ife/seat_control.env"
    provisioned = settings.exists()
    parts: dict[str, Callable[[], object]] = {
        "versions": versions,
        "trust": lambda: trust(root),
        "units": units,
        "networks": lambda: networks(root / "etc/systemd/network"),
        "clock": clock,
        "disk": lambda: disk(root / "var"),
    }
    if provisioned:
        parts["registration"] = lambda: registration(settings)
        parts["certificates"] = lambda: certificates(root / "etc/ife/keys")
        parts["seats"] = lambda: seats(root / "run/ife/seat_control.sock")
    found, unknown = gather(parts, TIMEOUT)
    return Facts(provisioned=provisioned, unknown=unknown, **found)


def gather(
    parts: Mapping[str, Callable[[], object]], timeout: float
) -> tuple[dict[str, Any], tuple[Unknown, ...]]:
    """What the parts return, and which did not within `timeout` seconds, or failed."""
    futures: dict[str, Future[object]] = {part: Future() for part in parts}
    for part, find in parts.items():
        # Daemons, so that one that hangs does not keep the process from ending.
        threading.Thread(target=_settle, args=(futures[part], find), daemon=True).start()
    wait(futures.values(), timeout)
    found: dict[str, Any] = {}
    unknown = []
    for part, future in futures.items():
        if not future.done():
            unknown.append(Unknown(part=part, why=f"no answer within {timeout:g} s"))
        elif error := future.exception():
            unknown.append(Unknown(part=part, why=_printable(str(error) or repr(error))))
        else:
            found[part] = future.result()
    return found, tuple(unknown)


def _settle(future: Future[object], find: Callable[[], object]) -> None:
    try:
        future.set_result(find())
    except Exception as error:  # noqa: BLE001 - it is told as the reason why the part is unknown
        future.set_exception(error)


def _printable(text: str) -> str:
    """In one line, and without what would colour or move a terminal."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())


def _run(command: Sequence[str]) -> str:
    """What `command` prints.

    Raises:
        CollectError: it fails, or takes longer than `COMMAND_TIMEOUT`.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=os.environ | {"LC_ALL": "C"},
            timeout=COMMAND_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise CollectError(f"{command[0]} gave no answer within {COMMAND_TIMEOUT:g} s") from None
    except OSError as error:
        raise CollectError(f"{command[0]}: {error.strerror}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise CollectError(f"{command[0]}: {said or f'exit status {done.returncode}'}")
    return done.stdout


# -- who it is ------------------------------------------------------------------------------


def registration(settings: Path) -> str:
    """The aircraft's, from seat control's settings.

    Raises:
        CollectError: they do not have one.
    """
    try:
        return Settings(_env_file=settings).registration
    except ValidationError as error:
        raise CollectError(f"no right IFE_REGISTRATION in {settings}") from error


def versions() -> Versions:
    """Of the image, the software and the kernel."""
    release = platform.freedesktop_os_release()
    return Versions(
        image=release.get("IMAGE_ID"),
        image_version=release.get("IMAGE_VERSION"),
        software=version("ife"),
        kernel=platform.release(),
        slot=_slot(),
    )


def _slot() -> Literal["A", "B"] | None:
    """By the partitions that root's dm-verity device lies on."""
    for event in sorted(_block_device(Path("/")).glob("slaves/*/uevent")):
        fields = dict(line.split("=", 1) for line in event.read_text().splitlines())
        if slot := _SLOTS.get(fields.get("PARTN", "")):
            return slot
    return None


def _block_device(folder: Path) -> Path:
    """In sysfs; it need not exist."""
    device = folder.stat().st_dev
    return Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")


def trust(root: Path) -> Trust:
    """Whether Secure Boot is on, and the fingerprint of the SSH key."""
    variable, key = root / _SECURE_BOOT, root / _HOST_KEY
    return Trust(
        secure_boot=variable.read_bytes()[4:] == b"\x01" if variable.exists() else None,
        host_key=fingerprint(key.read_text()) if key.exists() else None,
    )


def fingerprint(key: str) -> str:
    """Of a public key in OpenSSH's format, as ``ssh-keygen -l`` shows it.

    Raises:
        CollectError: it is none.
    """
    try:
        digest = hashlib.sha256(base64.b64decode(key.split()[1], validate=True)).digest()
    except (IndexError, ValueError) as error:
        raise CollectError(f"no right SSH key: {key.strip()[:100]}") from error
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


# -- units ----------------------------------------------------------------------------------


def units() -> tuple[Unit, ...]:
    """Those of `UNITS`, and every other one that has failed.

    Raises:
        CollectError: systemd does not answer.
    """
    listing = ("systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--full")
    failed = [line.split()[0] for line in _run(listing).splitlines() if line.strip()]
    show = ("systemctl", "show", f"--property={','.join(_PROPERTIES)}", "--", *UNITS, *failed)
    return tuple(parse_units(_run(show), time.monotonic()))


def parse_units(text: str, now: float) -> Iterable[Unit]:
    """The units in what ``systemctl show`` prints: blocks of properties, an empty line between.

    Args:
        text: what it printed; a unit that was asked for by name and by pattern may be there twice.
        now: seconds on the monotonic clock.
    """
    units = {}
    for block in text.split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        name = values.get("Id", "")
        if not name or name == OURSELVES:
            continue
        changed = _number(values, "StateChangeTimestampMonotonic")
        units[name] = Unit(
            name=_printable(name),
            load=values.get("LoadState", ""),
            state=values.get("ActiveState", ""),
            substate=values.get("SubState", ""),
            # Until its conditions were looked at, the result is `no` too, with a time of 0.
            condition_met=values.get("ConditionResult") != "no"
            or not _number(values, "ConditionTimestampMonotonic"),
            seconds=max(0.0, now - changed / 1e6) if changed else None,
            restarts=_number(values, "NRestarts"),
            memory=_number(values, "MemoryCurrent"),
            says=_printable(values.get("StatusText", "")),
        )
    return units.values()


def _number(values: Mapping[str, str], key: str) -> int | None:
    """None where systemd has none: ``[not set]``, or no such property."""
    text = values.get(key, "")
    return int(text) if text.isdecimal() else None


# -- networks -------------------------------------------------------------------------------


def networks(folder: Path) -> tuple[Network, ...]:
    """Those that `folder` configures for networkd (roles/network), then every other interface."""
    from pyroute2 import IPRoute  # here, where a failure costs the networks alone

    with IPRoute() as route:
        links = {link.get_attr("IFLA_IFNAME"): link for link in route.get_links()}
        addresses: dict[int, list[str]] = {}
        for entry in route.get_addr(family=socket.AF_INET):
            address = f"{entry.get_attr('IFA_LOCAL')}/{entry['prefixlen']}"
            addresses.setdefault(entry["index"], []).append(address)
    found = []
    for file in sorted(folder.glob("10-*.network")):
        name = file.stem.removeprefix("10-")
        link = links.pop(f"{name}0", None)
        found.append(_network(name, f"{name}0", _wanted(file), link, addresses))
    for interface, link in sorted(links.items()):
        if not link["flags"] & _IFF_LOOPBACK:
            found.append(_network(None, interface, None, link, addresses))
    return tuple(found)


def _network(
    name: str | None,
    interface: str,
    wanted: str | None,
    link: Any,
    addresses: Mapping[int, list[str]],
) -> Network:
    if link is None:
        return Network(name=name, interface=interface, wanted=wanted)
    return Network(
        name=name,
        interface=interface,
        wanted=wanted,
        present=True,
        up=bool(link["flags"] & _IFF_UP),
        carrier=bool(link.get_attr("IFLA_CARRIER")),
        mac=link.get_attr("IFLA_ADDRESS"),
        addresses=tuple(addresses.get(link["index"], ())),
    )


def _wanted(file: Path) -> str | None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read(file)
    if parser.get("Network", "DHCP", fallback="no") != "no":
        return "dhcp"
    return parser.get("Network", "Address", fallback=None)


# -- clock, disk, seats ---------------------------------------------------------------------


def clock() -> Clock:
    """By chrony, which answers root alone; else by systemd.

    Raises:
        CollectError: neither knows.
    """
    try:
        return tracking(_run(TRACKING))
    except CollectError:
        told = _run(("timedatectl", "show", "--property=NTPSynchronized", "--value"))
        return Clock(synchronised=told.strip() == "yes")


def tracking(text: str) -> Clock:
    """From what ``chronyc -n -c tracking`` prints: one line of comma-separated values."""
    row = next(csv.reader([text]))
    if len(row) != 14:
        raise CollectError(f"chronyc says what is not understood: {text.strip()[:100]}")
    if row[13] == "Not synchronised":
        return Clock(synchronised=False)
    return Clock(synchronised=True, source=_printable(row[1]), behind=float(row[4]))


def certificates(folder: Path) -> tuple[Certificate, ...]:
    """When those in a folder of keys end, as far as we may look at them.

    Raises:
        CollectError: one cannot be read.
    """
    found = []
    for name in ("server", "gate"):
        path = folder / f"{name}.pem"
        if os.access(path, os.R_OK):
            told = _run(
                ("openssl", "x509", "-in", str(path), "-noout", "-enddate", "-dateopt", "iso_8601")
            )
            ends = datetime.fromisoformat(told.partition("=")[2].strip())
            found.append(Certificate(name=name, ends=ends))
    return tuple(found)


def disk(folder: Path) -> Disk:
    """The file system that `folder` is on."""
    usage = os.statvfs(folder)
    counter = Path("/sys/fs/ext4") / _block_device(folder).resolve().name / "errors_count"
    return Disk(
        size=usage.f_blocks * usage.f_frsize,
        free=usage.f_bavail * usage.f_frsize,
        read_only=_read_only(folder.stat().st_dev),
        errors=int(counter.read_text()) if counter.exists() else None,
        state_is_lost=(folder / "state-is-lost").exists(),
        encrypted=_encrypted(folder),
    )


def _encrypted(folder: Path) -> bool:
    """Whether it lies on a LUKS volume, by the name that cryptsetup gives it."""
    name = _block_device(folder) / "dm/uuid"
    return name.exists() and name.read_text().startswith("CRYPT-LUKS")


def _read_only(device: int) -> bool:
    """Whether a file system is, whatever this process may: the unit may write nowhere."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, system = line.partition(" - ")
        if mount.split()[2] == number:
            return "ro" in system.split()[2].split(",")
    return False


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("seat_control", timeout=ANSWER_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.sock.settimeout(ANSWER_TIMEOUT)
        self.sock.connect(str(self._path))


def seats(path: Path) -> Seats:
    """As seat control says, on its Unix socket.

    Raises:
        CollectError: it does not say.
    """
    connection = _UnixConnection(path)
    try:
        connection.request("GET", "/api/v1/cabin", headers={CREW_HEADER: "ife-status"})
        response = connection.getresponse()
        body = response.read(MAX_ANSWER)
    except (OSError, http.client.HTTPException) as error:
        raise CollectError(f"seat control does not answer: {error or repr(error)}") from error
    finally:
        connection.close()
    try:
        cabin = CabinView.model_validate_json(body)
    except ValidationError:
        raise CollectError(f"seat control answers {response.status}") from None
    presence = [seat.presence for seat in cabin.seats.values()]
    return Seats(
        layout=cabin.layout,
        total=len(presence),
        live=presence.count("live"),
        waiting=presence.count("waiting"),
        silent=tuple(name for name, seat in cabin.seats.items() if seat.presence == "lost"),
    )
