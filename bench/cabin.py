"""The simulated cabin: the seats' own agent, once a seat, in one process.

Each seat has its own certificate, its own connection and its own multicast socket, and all the
code of a real player; simulated are the hardware (`SimulatedPlatform`) and, for a single seat,
its cable. The process runs in the cabin's network namespace, see `bench.network`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import random
import resource
import secrets
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from pydantic import BaseModel

from apps.common import log as logs
from apps.common.commands import AnyAction
from apps.common.multicast import Membership, receiving_socket
from apps.common.pa import ALL_AREAS, PORT, PaError, Receiver, Verifier, group
from apps.common.protocol import PROTOCOL
from apps.player.agent import HTTP_TIMEOUT, Player
from apps.player.keys import read_keys
from apps.player.machine import Answer
from apps.player.media import NullBackend
from apps.player.pa_hearing import Ear, Override
from apps.player.pa_report import WHILE_ON, PaReport
from apps.player.settings import PlayerSettings
from bench.orders import MAX_LINE, Applied, Order

log = logging.getLogger(__name__)

PA_DELAY = 0.010
MAX_PA_DATAGRAM = 1500

REBOOT_SECONDS = 4.0
"""How long a seat is silent when it restarts; a real player takes longer."""

MAX_APPLIED = 200_000
FILES_PER_SEAT = 4
FILES_BESIDES = 200


class CabinSettings(BaseModel):
    """What the cabin is told, in a JSON file.

    `certificates` has ``<seat>.crt`` and ``<seat>.key``; `state` is a folder for what each
    seat remembers. `pa_areas` has the number of each seat's PA area.
    """

    seats: list[str]
    registration: str
    server_url: str
    ca_file: Path
    certificates: Path
    command_public_keys_file: Path
    state: Path
    socket: Path
    multicast_interface: str
    multicast_group: IPv4Address
    multicast_port: int
    multicast_source: IPv4Address
    pa_areas: dict[str, int]
    pa_public_keys_file: Path


class SimulatedPlatform:
    """Hardware that does not exist: a warm box whose restart is up to the cabin."""

    def __init__(self, restart: Callable[[], None]) -> None:
        self._restart = restart
        self._temperature = round(random.uniform(38.0, 46.0), 1)  # noqa: S311 - no secret

    async def reboot(self) -> None:
        """Let the cabin restart this seat."""
        self._restart()

    def temperature(self) -> float:
        """Of a box that stays as warm as it is."""
        return self._temperature

    def set_screen(self, on: bool, brightness: int) -> None:
        """There is no screen."""

    def set_reading_light(self, on: bool) -> None:
        """There is no light."""


class AreaPa:
    """The PA as the seats of one area hear it: the player's own code, once for all of them.

    Each would do the same with the same packets, and 312 have only a part of one processor here.
    It listens from its first seat on.
    """

    def __init__(self, settings: CabinSettings, area: int) -> None:
        self._settings = settings
        self._groups = sorted({ALL_AREAS, area})
        self._receiver = Receiver(Verifier(read_keys(settings.pa_public_keys_file)), area)
        self._ear = Ear(self._groups, PA_DELAY)
        self._listeners: dict[object, Callable[[PaReport], None]] = {}
        self._told: Override | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._sockets: list[socket.socket] = []

    def add(self, seat: object, listener: Callable[[PaReport], None]) -> None:
        """Tell a seat, too, at each change and regularly."""
        self._listeners[seat] = listener
        if not self._sockets:
            self._open()

    def remove(self, seat: object) -> None:
        """It is switched off."""
        self._listeners.pop(seat, None)
        if not self._listeners:
            self._close()

    def _open(self) -> None:
        loop = asyncio.get_running_loop()
        settings = self._settings
        for one in self._groups:
            sock = receiving_socket(group(one), PORT)
            Membership(settings.multicast_interface, group(one), settings.multicast_source).renew(
                sock
            )
            loop.add_reader(sock, self._readable, sock)
            self._sockets.append(sock)
        self._tick()

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for sock in self._sockets:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def _readable(self, sock: socket.socket) -> None:
        now = time.monotonic()
        try:
            self._ear.hear(self._receiver.accept(sock.recv(MAX_PA_DATAGRAM), now), now)
        except (OSError, PaError):
            return
        if self._ear.override != self._told:
            self._tell()

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(WHILE_ON / 2, self._tick)
        self._ear.tick(time.monotonic())
        self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        override = self._told = self._ear.override
        report = PaReport(
            on=override is not None,
            number=0 if override is None else override.number,
            area=0 if override is None else override.area,
            relied_on=self._ear.relied_on(now),
            faults=() if self._ear.is_heard(now) else ("pa-multicast",),
        )
        for listener in list(self._listeners.values()):
            listener(report)


class SimulatedPa:
    """A `PaSource`: a seat's part of its area's."""

    def __init__(self, area: AreaPa, media: NullBackend) -> None:
        self._area = area
        self._media = media
        self.cut = False

    def start(self, on_report: Callable[[PaReport], None]) -> None:
        """Listen along."""

        def hear(report: PaReport) -> None:
            if not self.cut:
                self._media.announce(report.on)
                on_report(report)

        self._area.add(self, hear)

    async def close(self) -> None:
        """Listen no more."""
        self._area.remove(self)


class SimulatedPlayer(Player):
    """A player whose cable can be pulled: nothing comes in, and no answer to what goes out.

    `dropped`, the share of datagrams that are lost on the way to this seat, is one for all.
    """

    cut = False
    dropped = 0.0

    def _datagram(self, datagram: bytes) -> None:
        if not self.cut and random.random() >= self.dropped:  # noqa: S311 - no secret
            super()._datagram(datagram)

    async def _post(self, body: bytes) -> Answer | None:
        if self.cut:
            await asyncio.sleep(HTTP_TIMEOUT)
            raise TimeoutError("the cable is pulled")
        return await super()._post(body)


@dataclass
class _Place:
    """A seat, whatever runs in it just now."""

    protocol: int = PROTOCOL
    cut: bool = False
    player: SimulatedPlayer | None = None
    pa: SimulatedPa | None = None
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)


class Cabin:
    """All the seats."""

    def __init__(self, settings: CabinSettings) -> None:
        self._settings = settings
        self._places = {seat: _Place() for seat in settings.seats}
        self._areas: dict[int, AreaPa] = {}
        self._applied: deque[Applied] = deque(maxlen=MAX_APPLIED)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Switch every seat on."""
        for seat, place in self._places.items():
            await self._boot(seat, place)

    async def stop(self) -> None:
        """Switch every seat off."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*map(self._halt, self._places.values()))

    async def obey(self, order: Order) -> object:
        """Carry out an order; what it answers.

        Raises:
            ValueError: it makes no sense.
        """
        if order.order == "applied":
            wanted = (a for a in self._applied if order.seq in {None, a.seq})
            return [applied.model_dump() for applied in wanted]
        if order.order == "drop":
            SimulatedPlayer.dropped = order.percent / 100
            return None
        place = self._places.get(order.seat or "")
        if place is None or order.seat is None:
            raise ValueError(f"this cabin has no seat {order.seat}")
        await self._obey_at(order, order.seat, place)
        return None

    async def _obey_at(self, order: Order, seat: str, place: _Place) -> None:
        match order.order:
            case "cut" | "restore":
                place.cut = order.order == "cut"
                if place.player is not None and place.pa is not None:
                    place.player.cut = place.pa.cut = place.cut
            case "reboot":
                self._reboot(seat, place)
            case "protocol":
                if order.protocol is None:
                    raise ValueError("which protocol?")
                place.protocol = order.protocol
                self._reboot(seat, place)
            case "call":
                if place.player is None:
                    raise ValueError(f"seat {seat} is restarting")
                place.player.call_attendant()

    async def _boot(self, seat: str, place: _Place) -> None:
        state = self._settings.state / seat
        state.mkdir(exist_ok=True)
        area = self._settings.pa_areas[seat]
        if area not in self._areas:
            self._areas[area] = AreaPa(self._settings, area)
        media = NullBackend(time.monotonic)
        place.pa = SimulatedPa(self._areas[area], media)
        player = SimulatedPlayer(
            PlayerSettings(
                registration=self._settings.registration,
                seat=seat,
                boot_id=secrets.token_hex(16),
                state_directory=state,
                server_url=self._settings.server_url,
                ca_file=self._settings.ca_file,
                seat_certificate=self._settings.certificates / f"{seat}.crt",
                seat_key=self._settings.certificates / f"{seat}.key",
                command_public_keys_file=self._settings.command_public_keys_file,
                multicast_interface=self._settings.multicast_interface,
                multicast_group=self._settings.multicast_group,
                multicast_port=self._settings.multicast_port,
                multicast_source=self._settings.multicast_source,
                pa_area=area,
                media_url=f"{self._settings.server_url}/media",
            ),
            media,
            SimulatedPlatform(lambda: self._reboot(seat, place)),
            pa=place.pa,
            protocol=place.protocol,
            on_applied=self.note,
        )
        player.cut = place.pa.cut = place.cut
        await player.start()
        place.player = player

    async def _halt(self, place: _Place) -> None:
        player, place.player = place.player, None
        if player is not None:
            await player.stop()

    def _reboot(self, seat: str, place: _Place) -> None:
        task = asyncio.create_task(self._power_cycle(seat, place))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _power_cycle(self, seat: str, place: _Place) -> None:
        async with place.changing:
            await self._halt(place)
            await asyncio.sleep(REBOOT_SECONDS)
            await self._boot(seat, place)

    def note(self, seat: str, epoch: int, seq: int, action: AnyAction, at: float) -> None:
        """Remember that a seat carried a command out, see `apps.player.agent.OnApplied`."""
        self._applied.append(Applied(seat=seat, epoch=epoch, seq=seq, action=action.name, at=at))


Obey = Callable[[Order], Awaitable[object]]


async def serve_orders(path: Path, obey: Obey) -> asyncio.Server:
    """Take orders at a Unix socket, in a folder that only the cabin's user and root can enter."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(await _answer(line, obey) + b"\n")
                await writer.drain()
        except (OSError, ValueError):
            log.debug("an order was broken off")
        finally:
            writer.close()

    return await asyncio.start_unix_server(connected, path, limit=MAX_LINE)


async def _answer(line: bytes, obey: Obey) -> bytes:
    try:
        return json.dumps({"done": await obey(Order.model_validate_json(line))}).encode()
    except ValueError as error:  # pydantic's is one
        return json.dumps({"error": str(error)}).encode()


async def run(settings: CabinSettings) -> None:
    """Run the cabin until a signal."""
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    cabin = Cabin(settings)
    orders = await serve_orders(settings.socket, cabin.obey)
    await cabin.start()
    # As in `apps.seat_control.asgi`: here a full collection would hold up every seat at once.
    gc.collect()
    gc.freeze()
    log.info("the cabin is on", extra={"seats": len(settings.seats)})
    await end.wait()
    orders.close()
    await cabin.stop()


def main() -> None:
    """Run with the settings in the file that is the only argument."""
    logs.setup("warning")
    settings = CabinSettings.model_validate_json(Path(sys.argv[1]).read_bytes())
    settings.socket.unlink(missing_ok=True)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FILES_PER_SEAT * len(settings.seats) + FILES_BESIDES
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, most), most))
    asyncio.run(run(settings))


if __name__ == "__main__":
    main()
