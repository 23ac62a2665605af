"""The aircraft on a workstation: brings it up, and does to its cabin what a flight does."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import httpx

from apps.common.protocol import PROTOCOL
from bench import (
    announce,
    content,
    ground,
    layouts,
    network,
    people,
    preflight,
    processes,
    publisher,
    ramp,
    supervise,
    usb,
)
from bench.instance import (
    FIRST_PORT,
    MAX_INSTANCE,
    MAX_PORT,
    BenchError,
    Instance,
    default_directory,
    load_instance,
)
from bench.orders import Order, give
from bench.up import Bench, cabin, down, drop, end_on_signals, is_up, running, stay

DEFAULT_LAYOUT = "a330-300"
PROGRAMS = (
    *("redis", "postgresql", "nginx", "seat_control", "crew_web", "pa_audio", "vlc_stream"),
    *("player", "handset", "content_sync", "usb_lockdown", "hangar"),
)

Options = argparse.Namespace


def main(arguments: list[str]) -> int:
    """Run the command line; returns the exit status."""
    end_on_signals()
    options = _parser().parse_args(arguments)
    try:
        options.function(options, arguments)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        name: str, function: Callable[[Options, list[str]], None], what: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=what, description=what[0].upper() + what[1:])
        command.set_defaults(function=function)
        command.add_argument(
            "--instance",
            metavar="N",
            type=int,
            choices=range(MAX_INSTANCE + 1),
            default=0,
            help=f"which of several benches, 0 (unless given) to {MAX_INSTANCE}",
        )
        command.add_argument(
            "--directory", type=Path, help=f"its folder, {default_directory(0, 0)} unless given"
        )
        return command

    command = add("up", _up, "bring a cabin up and stay until Ctrl-C")
    command.add_argument("--seats", type=int, help="only the first so many of the cabin")
    command.add_argument("--layout", default=DEFAULT_LAYOUT, help=f"{DEFAULT_LAYOUT} or another")
    command.add_argument("--port", type=int, help="of the crew's page; the next is the seats'")
    command.add_argument(
        "--loopback",
        action="store_true",
        help="work without root rights: no network and no users of their own",
    )
    command.add_argument("--no-player", action="store_true", help="simulate every seat")
    command.add_argument(
        "--no-content", action="store_true", help="without crew disks, the gate and a Hangar"
    )
    command = add("down", _down, "end a bench that was left running")
    command.add_argument("--wipe", action="store_true", help="remove its folder too")
    add("status", _status, "tell what runs, and how many seats are live")
    command = add("drop", _drop, "drop packets between the server and the cabin, both ways")
    command.add_argument("percent", type=int, choices=range(101), metavar="PERCENT")
    add("cut-server", _cut_server, "pull the cable between the server and the cabin")
    add("restore-server", _restore_server, "plug that cable in")
    for order, what in (
        ("cut", "pull the cable of a seat"),
        ("restore", "plug the cable of a seat in"),
        ("reboot", "restart a seat"),
        ("call", "press the call button of a seat"),
    ):
        command = add(order, _order, what)
        command.set_defaults(order=order)
        command.add_argument("seat", metavar="SEAT", help="for example 12C")
    command = add("seat-protocol", _order, "restart a seat with software of another version")
    command.set_defaults(order="protocol")
    command.add_argument("seat", metavar="SEAT", help="for example 12C")
    command.add_argument(
        "protocol", type=int, choices=range(1, PROTOCOL + 1), help="the newest that it speaks"
    )
    command = add("announce", _announce, "speak through the PA")
    command.add_argument("text", metavar="TEXT", help="what to say")
    command.add_argument("--source", choices=announce.SOURCES, default="crew", help="who speaks")
    command.add_argument("--area", action="append", default=[], help="a PA area; without: all")
    command.add_argument("--language", default="en", help="of the voice, en unless given")
    command = add("disk", _disk, "make a crew disk with a new issue of the newspaper, plug it in")
    command.add_argument("--port", choices=usb.CREW_PORTS, default="front", help="front, or aft")
    command = add("plug", _plug, "plug something in by USB: an image of a disk, or a keyboard")
    command.add_argument("image", nargs="?", type=Path, metavar="IMAGE", help="else a keyboard")
    command.add_argument("--port", choices=usb.PORTS, default="front", help="front unless given")
    command = add("pull", _pull, "pull out what is plugged in by USB")
    command.add_argument("--port", choices=usb.PORTS, default="front", help="front unless given")
    add("publish", _publish, "have the Hangar publish a new issue of the newspaper")
    command = add("gate", _gate, "have the aircraft stand at the gate, or fly")
    command.add_argument("to", choices=("open", "close"))
    command = add("kill", _kill, "end a program with SIGKILL; it is started again")
    command.add_argument("name", choices=PROGRAMS)
    return parser


# -- up and down ------------------------------------------------------------------------------


def _up(options: Options, arguments: list[str]) -> None:
    loopback = options.loopback or (os.geteuid() != 0 and not _become_root(arguments))
    layout, _ = layouts.load(options.layout, options.seats)
    directory = options.directory or default_directory(options.instance, os.geteuid())
    port = options.port or FIRST_PORT + 10 * options.instance
    if not 1 <= port <= MAX_PORT:
        raise BenchError(f"PORT can be 1 to {MAX_PORT}, not {port}")
    instance = Instance(
        number=options.instance,
        directory=directory.absolute(),
        port=port,
        layout=options.layout,
        seats=len(layout.seats),
        loopback=loopback,
        content=not options.no_content,
        real_seat=None if options.no_player else layouts.real_seat(layout),
    )
    begin = time.monotonic()
    with running(
        instance, lambda text: print(f"[{time.monotonic() - begin:5.1f} s] {text}", flush=True)
    ) as bench:
        print(_welcome(bench, options), flush=True)
        stay(bench)


def _become_root(arguments: list[str]) -> bool:
    """Start again through sudo; returns False where that is not possible."""
    why = "The cabin gets a network of its own and each program its user, which takes root rights"
    sudo = preflight.find("sudo")
    asks = sudo and subprocess.run([sudo, "-n", "true"], capture_output=True).returncode != 0
    if sudo is None or (asks and not sys.stdin.isatty()):
        print(f"{why}. Without sudo, the cabin shares the loopback interface.", flush=True)
        return False
    if asks:
        print(f"{why}: sudo asks for your password. LOOPBACK=1 works without.", flush=True)
    return _sudo(sudo, arguments)


def _sudo(sudo: str, arguments: list[str]) -> NoReturn:
    # -B: root is to leave no compiled files in a checkout that is not root's.
    os.execv(sudo, [sudo, "--", sys.executable, "-B", "-m", "bench", *arguments])


def _welcome(bench: Bench, options: Options) -> str:
    instance = bench.instance
    pins = "\n".join(f"    {person.name:8}PIN {person.pin}" for person in bench.crew)
    this = f" --directory {instance.directory}"
    if options.directory is None:
        this = f" --instance {instance.number}" if instance.number else ""
    seat = _some_seat(bench)
    tries = [
        (f"reboot {seat}", "one seat restarts, and gets what is in force"),
        (f"cut {seat}", "it is lost after 3 s; heal it with `restore`"),
        (f"call {seat}", "somebody calls"),
        ("kill seat_control", "it comes back, and no command is lost"),
        ("kill redis", "the page says what is degraded"),
        ("announce 'Boarding is complete'", "every seat pauses, and hears it"),
    ]
    if not instance.loopback:
        tries.append(("drop 30", "a third of all packets vanish; `drop 0` ends that"))
    real = ""
    if instance.real_seat is not None:
        tries.append(("kill player", f"seat {instance.real_seat} goes on where it was"))
        real = f"""
Seat {instance.real_seat} has a real player: play it the title film.ts, and look under Video.
"""
    if instance.content:
        tries += [
            ("disk", "a crew disk is plugged in: look under Content"),
            ("publish", "the Hangar has a new issue; `gate open` brings it"),
            ("plug --port side", "a keyboard, which is kept out"),
        ]
        certificate = instance.paths.pki / "hangar/operators" / f"{ground.OPERATOR}.p12"
        real += f"""
The Hangar is at {instance.hangar_url}, for a browser with the certificate {certificate}
(its passphrase is beside it, in ../passphrase).
"""
    lines = "\n".join(
        f"    .venv/bin/python -m bench {what + this:20}  # {why}" for what, why in tries
    )
    return f"""
The cabin is up: {instance.crew_url}

{pins}
{real}
The browser will warn of the certificate, which this bench has signed itself: go on, or trust
{instance.paths.pki}/root.crt. Logs are in {instance.paths.log}.
Ctrl-C ends it all. To try in another terminal:

{lines}
"""


def _some_seat(bench: Bench) -> str:
    """For examples: one that is simulated, unless there is only the real one."""
    seats = sorted(
        cabin(bench.instance.paths).seats, key=lambda seat: seat == bench.instance.real_seat
    )
    return seats[(len(seats) - 1) // 2]


def _down(options: Options, arguments: list[str]) -> None:
    directory = _directory(options, arguments)
    found = down(directory, options.wipe)
    print("the bench is down" if found else f"no bench was up in {directory}")


# -- while it is up ---------------------------------------------------------------------------


def _directory(options: Options, arguments: list[str]) -> Path:
    """The folder of the bench that is meant; goes on as root, through sudo, where it is root's."""
    mine, roots = (default_directory(options.instance, user) for user in (os.geteuid(), 0))
    directory: Path = options.directory or (mine if mine.exists() else roots)
    owned_by_root = directory.exists() and directory.stat().st_uid == 0
    if os.geteuid() != 0 and owned_by_root and (sudo := preflight.find("sudo")):
        _sudo(sudo, arguments)
    return directory.absolute()


def _instance(options: Options, arguments: list[str]) -> Instance:
    """The bench that is up.

    Raises:
        BenchError: it is not.
    """
    directory = _directory(options, arguments)
    instance = load_instance(directory)
    if not is_up(instance):
        raise BenchError(f"no bench is up in {directory}: start it with `make demo`")
    return instance


def _wired(options: Options, arguments: list[str]) -> Instance:
    instance = _instance(options, arguments)
    if instance.loopback:
        raise BenchError("this cabin has no network of its own: bring it up with root rights")
    return instance


def _status(options: Options, arguments: list[str]) -> None:
    instance = _instance(options, arguments)
    print(f"{instance.crew_url}, {instance.layout}, folder {instance.directory}")
    for person in people.load(instance.paths.crew):
        print(f"  {person.name:14}PIN {person.pin}")
    for pid_file in sorted(instance.paths.pids.glob("*")):
        pid = processes.leader(pid_file)
        print(f"  {pid_file.name:14}{'is being started' if pid is None else f'process {pid}'}")
    try:
        view = cabin(instance.paths)
    except (httpx.HTTPError, ValueError) as error:
        raise BenchError(f"seat control does not answer: {error}") from error
    presences = Counter(seat.presence for seat in view.seats.values())
    print("seats: " + ", ".join(f"{count} {presence}" for presence, count in presences.items()))
    for part in view.degraded:
        print(f"degraded: {part.part}: {part.why}")


def _drop(options: Options, arguments: list[str]) -> None:
    drop(_wired(options, arguments), options.percent)


def _cut_server(options: Options, arguments: list[str]) -> None:
    network.set_link(_wired(options, arguments), up=False)


def _restore_server(options: Options, arguments: list[str]) -> None:
    network.set_link(_wired(options, arguments), up=True)


def _order(options: Options, arguments: list[str]) -> None:
    instance = _instance(options, arguments)
    try:
        order = Order(
            order=options.order,
            seat=options.seat.upper(),
            protocol=getattr(options, "protocol", None),
        )
    except ValueError:
        raise BenchError(f"{options.seat} is no seat's name: write it like 12C") from None
    if order.seat == instance.real_seat:
        raise BenchError(
            f"{order.seat} is the real player: `kill player` ends it; the others are simulated"
        )
    give(instance.paths.cabin_socket, order)


def _announce(options: Options, arguments: list[str]) -> None:
    instance = _instance(options, arguments)
    areas = layouts.load(instance.layout, instance.seats)[0].pa_areas
    if unknown := [area for area in options.area if area not in areas]:
        raise BenchError(f"{unknown[0]} is no PA area of this cabin: {', '.join(areas)}")
    with tempfile.TemporaryDirectory() as folder:
        speech = Path(folder) / "speech.wav"
        content.speak(options.text, options.language, speech)
        announce.announce(instance.paths, options.source, options.area, speech)


def _with_content(options: Options, arguments: list[str]) -> Instance:
    instance = _instance(options, arguments)
    if not instance.content:
        raise BenchError("this bench is without content: bring it up without --no-content")
    return instance


def _disk(options: Options, arguments: list[str]) -> None:
    paths = _with_content(options, arguments).paths
    title = publisher.publish_issue(paths.ground)
    image = paths.disks / f"{options.port}.img"
    version = publisher.make_disk(paths.ground, image)
    usb.put(paths.usb_socket, usb.Plug(port=options.port, image=image))
    print(f"A disk with set {version} ({title}) is in port {options.port}.")
    print("Look at the crew's page, under Content. `python -m bench pull` takes it out.")


def _plug(options: Options, arguments: list[str]) -> None:
    paths = _with_content(options, arguments).paths
    image = None if options.image is None else options.image.absolute()
    plug = usb.Plug(port=options.port, image=image, keyboard=image is None)
    usb.put(paths.usb_socket, plug)


def _pull(options: Options, arguments: list[str]) -> None:
    paths = _with_content(options, arguments).paths
    usb.put(paths.usb_socket, usb.Plug(port=options.port))


def _publish(options: Options, arguments: list[str]) -> None:
    paths = _with_content(options, arguments).paths
    print(f"The Hangar has {publisher.publish_issue(paths.ground)}.")


def _gate(options: Options, arguments: list[str]) -> None:
    ramp.order(_with_content(options, arguments).paths.ramp_socket, options.to == "open")


def _kill(options: Options, arguments: list[str]) -> None:
    supervise.kill(_instance(options, arguments).paths, options.name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
