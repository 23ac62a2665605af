"""A whole cabin for tests: a bench of its own beside any demo, and hands to shake it with."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from pydantic import TypeAdapter

from apps.common.cabin import CabinView
from apps.common.testing import wait_until
from bench import network, people, publisher, supervise, up, usb
from bench.instance import BenchError, Instance, default_directory, load_instance
from bench.orders import Applied, Order, give

INSTANCES = range(1, 10)
"""Benches that tests take: number 0 is the demo's."""

UP_TIMEOUT = 300.0
DOWN_TIMEOUT = 60.0
MAX_OUTPUT = 64 * 1024

_APPLIED = TypeAdapter(list[Applied])


def log_in(client: httpx.Client, person: str, pin: str) -> None:
    """Log somebody of the crew in, and have the client send what unsafe requests need.

    Raises:
        AssertionError: that does not work.
    """
    client.post("/session", data={"person": person, "pin": pin})
    page = client.get("/").raise_for_status().text
    token = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert token, f"{person} cannot log in:\n{page[:2000]}"  # noqa: S101 - a test's helper
    client.headers["X-CSRF-Token"] = token[1]


class Cabin:
    """A cabin that is up.

    Attributes:
        instance: its addresses and folder.
        crew: who may log in.
        seats: their names, in cabin order.
    """

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.crew = people.load(instance.paths.crew)
        self.seats = list(self.view().seats)

    @property
    def directory(self) -> Path:
        """The bench's folder; its logs are in ``log/``."""
        return self.instance.directory

    @property
    def crew_url(self) -> str:
        """Of the crew's page."""
        return self.instance.crew_url

    @property
    def seats_url(self) -> str:
        """That the seats report to."""
        return self.instance.seats_url

    def tls(self) -> ssl.SSLContext:
        """Trusts the bench's own authority."""
        return ssl.create_default_context(cafile=self.instance.paths.pki / "root.crt")

    def view(self) -> CabinView:
        """The cabin as seat control sees it, asked past nginx.

        Raises:
            httpx.HTTPError: seat control does not answer.
        """
        return up.cabin(self.instance.paths)

    def live(self) -> int:
        """How many seats are live; 0 while seat control does not answer."""
        try:
            seats = self.view().seats.values()
        except (httpx.HTTPError, ValueError):
            return 0
        return sum(seat.presence == "live" for seat in seats)

    def wait_until_healthy(self, timeout: float = 20.0) -> None:
        """Wait until every seat is live and nothing is degraded.

        Raises:
            AssertionError: that takes longer than `timeout`, in seconds.
        """
        wait_until(lambda: self.live() == len(self.seats), "every seat is live", timeout)
        wait_until(lambda: not self.view().degraded, "nothing is degraded", timeout)

    @contextlib.contextmanager
    def crew_client(self, person: int = 0) -> Iterator[httpx.Client]:
        """Somebody of the crew, logged in, with the token that unsafe requests need."""
        with httpx.Client(base_url=self.crew_url, verify=self.tls(), timeout=10.0) as client:
            log_in(client, self.crew[person].id, self.crew[person].pin)
            yield client

    # -- what happens to a cabin --------------------------------------------------------------

    def cut_seat(self, seat: str) -> None:
        """Pull its cable."""
        self._order(Order(order="cut", seat=seat))

    def restore_seat(self, seat: str) -> None:
        """Plug it in."""
        self._order(Order(order="restore", seat=seat))

    def reboot_seat(self, seat: str) -> None:
        """Restart it; it is silent for `bench.cabin.REBOOT_SECONDS`."""
        self._order(Order(order="reboot", seat=seat))

    def set_protocol(self, seat: str, protocol: int) -> None:
        """Restart it with software that speaks no newer version of the cabin protocol."""
        self._order(Order(order="protocol", seat=seat, protocol=protocol))

    def call(self, seat: str) -> None:
        """Press its call button."""
        self._order(Order(order="call", seat=seat))

    def applied(self, seq: int | None = None) -> list[Applied]:
        """The commands that seats carried out, in that order: all, or those of one number."""
        return _APPLIED.validate_python(self._order(Order(order="applied", seq=seq)))

    def make_disk(self, port: str = "front") -> int:
        """Make a crew disk with a new issue of the newspaper, but leave it out; its set."""
        publisher.publish_issue(self.instance.paths.ground)
        return publisher.make_disk(self.instance.paths.ground, self._image(port))

    def plug_disk(self, port: str = "front") -> None:
        """Plug the disk in that was made last for this port."""
        plug = usb.Plug.model_validate({"port": port, "image": self._image(port)})
        usb.put(self.instance.paths.usb_socket, plug)

    def plug_keyboard(self, port: str = "side") -> None:
        """Plug a keyboard in."""
        plug = usb.Plug.model_validate({"port": port, "keyboard": True})
        usb.put(self.instance.paths.usb_socket, plug)

    def pull(self, port: str = "front") -> None:
        """Pull out what is there."""
        usb.put(self.instance.paths.usb_socket, usb.Plug.model_validate({"port": port}))

    def publish_issue(self) -> str:
        """Have the Hangar publish a new issue of the newspaper; its title."""
        return publisher.publish_issue(self.instance.paths.ground)

    def _image(self, port: str) -> Path:
        return self.instance.paths.disks / f"{port}.img"

    def drop(self, percent: int) -> None:
        """Drop packets between server and cabin, both ways. Needs root."""
        up.drop(self.instance, percent)

    def set_link(self, up: bool) -> None:
        """Plug in or pull the cable between server and cabin. Needs root."""
        network.set_link(self.instance, up)

    def kill(self, *names: str) -> None:
        """`SIGKILL` for programs, for example ``nginx``; supervisor starts them again."""
        for name in names:
            supervise.kill(self.instance.paths, name)

    def _order(self, order: Order) -> object:
        return give(self.instance.paths.cabin_socket, order)


@contextlib.contextmanager
def cabin(
    seats: int | None = None, *, player: bool = False, content: bool = False
) -> Iterator[Cabin]:
    """A cabin of the first `seats`, or all, with no memory of earlier ones.

    Its code, certificates and PINs may be those of an earlier one. As root it has a network of
    its own, else the loopback interface. With `player` one seat is a real one, see
    `Instance.real_seat`; with `content` there are crew disks, the gate and a Hangar.

    Raises:
        BenchError: it does not come up.
    """
    number = free_instance()
    directory = default_directory(number, os.geteuid())
    shutil.rmtree(directory / "var", ignore_errors=True)
    arguments = ["--instance", str(number)]
    if seats is not None:
        arguments += ["--seats", str(seats)]
    if os.geteuid() != 0:
        arguments += ["--loopback"]
    with running(*arguments, player=player, content=content):
        yield Cabin(load_instance(directory))


def free_instance() -> int:
    """The first of `INSTANCES` that is not up.

    Raises:
        BenchError: all of them are.
    """
    for number in INSTANCES:
        try:
            if not up.is_up(load_instance(default_directory(number, os.geteuid()))):
                return number
        except BenchError:
            return number
    raise BenchError(f"benches {INSTANCES} are all up: end some with `make demo-down`")


@contextlib.contextmanager
def running(
    *arguments: str, player: bool = False, content: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """``python -m bench up …``, from its welcome until Ctrl-C; see `cabin`.

    Raises:
        BenchError: it ends before, or is not up in time; the message has all that it said.
    """
    with tempfile.TemporaryFile() as output:

        def said() -> str:
            return os.pread(output.fileno(), MAX_OUTPUT, 0).decode()

        with subprocess.Popen(
            [
                *(sys.executable, "-m", "bench", "up", *arguments),
                *([] if player else ["--no-player"]),
                *([] if content else ["--no-content"]),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process:
            try:
                deadline = time.monotonic() + UP_TIMEOUT
                while "\nThe cabin is up" not in said():
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise BenchError(said())
                    time.sleep(0.05)
                yield process
            finally:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(DOWN_TIMEOUT)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise
