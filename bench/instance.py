"""One bench: where its files lie, and the names, addresses and ports it uses.

Several may run side by side, each with a number of its own that everything else follows from.
"""

from __future__ import annotations

import os
import pwd
import shutil
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from apps.common.commands import SeatName

MAX_INSTANCE = 63
"""The highest number of a bench: as many networks fit where they are taken from."""

FIRST_PORT = 8443
MAX_PORT = 65531
"""The four above it are taken as well."""

MULTICAST_GROUP = "239.192.73.1"
FIRST_MULTICAST_PORT = 5773
REGISTRATION = "EC-LAB"
AIRLINE = "Bench Airline"

MAX_DIRECTORY = 70
"""Characters: the path of a Unix socket holds 107, and ours lie up to 35 below the folder."""


class BenchError(Exception):
    """The bench cannot do it; the message says what to do."""


class Instance(BaseModel):
    """What `up` was asked for. It is kept in the folder, so that the other commands know.

    Attributes:
        number: tells benches that run side by side apart, 0 to `MAX_INSTANCE`.
        port: of the crew's page, on this machine's own address only.
        seats: how many there are.
        loopback: without root rights the cabin shares the machine's own loopback interface.
        content: whether crew disks, the gate and a Hangar are there.
        real_seat: the one of them that has a real player; None: all are simulated.
    """

    model_config = ConfigDict(frozen=True)

    number: Annotated[int, Field(ge=0, le=MAX_INSTANCE)]
    directory: Path
    port: Annotated[int, Field(ge=1, le=MAX_PORT)]
    layout: str
    seats: Annotated[int, Field(ge=1)]
    loopback: bool
    content: bool = False
    real_seat: SeatName | None = None

    @property
    def paths(self) -> Paths:
        """Where its files lie."""
        return Paths(self.directory)

    @property
    def name(self) -> str:
        """Of its network namespace, and of the server's end of the cabin link."""
        return f"ife-bench-{self.number}"

    @property
    def interface(self) -> str:
        """Where the server meets the cabin."""
        return "lo" if self.loopback else self.name

    @property
    def server(self) -> IPv4Interface:
        """The server's address on the cabin link.

        From 198.18.0.0/15, which is set aside for benchmarks (RFC 2544, RFC 6890), so that it
        is nobody's own network.
        """
        return IPv4Interface("127.0.0.1/8" if self.loopback else f"198.18.{4 * self.number}.1/22")

    @property
    def cabin(self) -> IPv4Interface:
        """The cabin's address on the cabin link."""
        return IPv4Interface("127.0.0.1/8" if self.loopback else f"198.18.{4 * self.number}.2/22")

    @property
    def seats_port(self) -> int:
        """Where the seats report."""
        return self.port + 1

    @property
    def media_port(self) -> int:
        """Where the seats get titles."""
        return self.port + 2

    @property
    def hangar_port(self) -> int:
        """Where aircraft and operators reach the Hangar."""
        return self.port + 3

    @property
    def ssh_port(self) -> int:
        """Where the Hangar's sshd listens."""
        return self.port + 4

    @property
    def hangar_url(self) -> str:
        """The Hangar's page."""
        return f"https://localhost:{self.hangar_port}"

    @property
    def media_url(self) -> str:
        """What the seats find titles below."""
        return f"http://{self.server.ip}:{self.media_port}/media"

    @property
    def multicast_port(self) -> int:
        """Where the commands go. Of its own, for benches that share the loopback interface."""
        return FIRST_MULTICAST_PORT + self.number

    @property
    def seats_memory(self) -> Path:
        """Where the simulated seats remember what they hold.

        In memory: three hundred players that write through to one disk would measure the disk.
        """
        return Path("/dev/shm") / f"{self.name}-{os.geteuid()}"  # noqa: S108 - see Host.own_among_others

    @property
    def crew_url(self) -> str:
        """The crew's page."""
        return f"https://localhost:{self.port}"

    @property
    def seats_url(self) -> str:
        """What the seats know the server as."""
        return f"https://{self.server.ip}:{self.seats_port}"


def default_directory(number: int, user: int) -> Path:
    """Where the bench with this number lies unless told otherwise; `user` is its owner's id."""
    name = "ife-bench" + (f"-u{user}" if user else "") + (f"-{number}" if number else "")
    return Path("/var/tmp") / name  # noqa: S108 - its owner is checked, see claim_directory


@dataclass(frozen=True)
class Paths:
    """The folder of a bench: a small root of its own."""

    directory: Path

    @property
    def venv(self) -> Path:
        """A virtual environment that the service users can read (``/opt/ife`` on an aircraft).

        This package is copied into it, for the same reason.
        """
        return self.directory / "venv"

    @property
    def etc(self) -> Path:
        """Configuration, all of it made anew at each start."""
        return self.directory / "etc"

    @property
    def run(self) -> Path:
        """Sockets and process ids."""
        return self.directory / "run"

    @property
    def state(self) -> Path:
        """What lasts from one start to the next."""
        return self.directory / "var/lib"

    @property
    def cache(self) -> Path:
        """What makes the next start quicker, and may be lost."""
        return self.directory / "var/cache"

    @property
    def log(self) -> Path:
        """One file a program."""
        return self.directory / "log"

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.directory / "pki"

    @property
    def content(self) -> Path:
        """What there is to see and hear, see `bench.content`."""
        return self.directory / "content"

    @property
    def ground(self) -> Path:
        """What the bench's airline publishes, see `bench.publisher`."""
        return self.directory / "ground"

    @property
    def disks(self) -> Path:
        """Images of crew disks."""
        return self.directory / "disks"

    @property
    def sysfs(self) -> Path:
        """The kernel's files of USB devices, see `bench.usb`."""
        return self.run / "usb/sys"

    @property
    def usb_socket(self) -> Path:
        """Where things are plugged in."""
        return self.run / "usb/orders.sock"

    @property
    def ramp_socket(self) -> Path:
        """Where the gate is opened and closed, see `bench.ramp`."""
        return self.run / "ramp/gate.sock"

    @property
    def pids(self) -> Path:
        """The process ids of the programs, see `bench.processes`."""
        return self.run / "pids"

    @property
    def lock(self) -> Path:
        """Held by `up` for as long as it runs; its process id is inside."""
        return self.directory / "lock"

    @property
    def instance(self) -> Path:
        """The `Instance`."""
        return self.directory / "instance.json"

    @property
    def crew(self) -> Path:
        """The demo's crew with their PINs, for people to read."""
        return self.directory / "crew.json"

    def make_folders(self) -> None:
        """Make those that hold the others; configuration and sockets begin anew."""
        for folder in (self.etc, self.run):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.etc / "ife/layouts", self.pids, self.run / "ife", self.log, self.state):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)

    @property
    def supervisor_socket(self) -> Path:
        """Where supervisor takes orders."""
        return self.run / "supervisor.sock"

    @property
    def cabin_socket(self) -> Path:
        """Where the simulated cabin takes orders."""
        return self.run / "cabin/orders.sock"

    @property
    def still_socket(self) -> Path:
        """Where the real player gives a picture of its screen."""
        return self.run / "ife/player/still.sock"


def claim_directory(directory: Path) -> None:
    """Make the folder ours, or find that it is.

    Raises:
        BenchError: somebody else's, or a link: others could put their files under our feet.
    """
    if len(str(directory)) > MAX_DIRECTORY:
        raise BenchError(
            f"{directory}: the path is too long for Unix sockets below it; "
            f"choose one of up to {MAX_DIRECTORY} characters with --directory"
        )
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    status = directory.lstat()
    if directory.is_symlink() or not directory.is_dir() or status.st_uid != os.geteuid():
        owner = _user_name(status.st_uid)
        raise BenchError(
            f"the folder {directory} is not {_user_name(os.geteuid())}'s but {owner}'s: "
            f"choose another with --directory, or let {owner} remove it"
        )
    directory.chmod(0o755)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def load_instance(directory: Path) -> Instance:
    """The bench that is, or was, up in this folder.

    Raises:
        BenchError: there is none.
    """
    path = Paths(directory).instance
    try:
        if path.stat().st_uid not in (0, os.geteuid()):
            raise BenchError(f"{path} is another user's: not touched")
        return Instance.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        raise BenchError(f"no bench in {directory}: start one with `make demo`") from None
