"""Brings a bench up, watches over it, and takes it down again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from apps.common.cabin import CabinView
from apps.common.files import take_lock
from apps.common.protocol import CREW_HEADER
from bench import ground, layouts, network, people, preflight, prepare, processes
from bench.host import Host
from bench.instance import BenchError, Instance, Paths, claim_directory, load_instance
from bench.orders import Order, give

READY_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0
PROGRAM_STOP_TIMEOUT = 5.0
REQUEST_TIMEOUT = 3.0
LOG_LINES = 15

SUPERVISOR = "supervisor"
"""What its process id is kept under, beside those of the programs."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Bench:
    """A bench that is up."""

    instance: Instance
    crew: list[people.Person]
    supervisor: subprocess.Popen[bytes]


@contextlib.contextmanager
def running(instance: Instance, say: Say) -> Iterator[Bench]:
    """A bench, from all its seats being live until the block ends; then nothing of it runs.

    Args:
        instance: what to bring up.
        say: told of each step.

    Raises:
        BenchError: it does not come up; the message says what to do.
    """
    layout, layout_text = layouts.load(instance.layout, instance.seats)
    preflight.check_programs()
    claim_directory(instance.directory)
    with _locked(instance.paths):
        if clean(instance.directory):
            say("what an earlier run had left is gone")
        preflight.check(instance)
        try:
            paths = instance.paths
            paths.make_folders()
            paths.instance.write_text(instance.model_dump_json())
            layout_file = paths.etc / f"ife/layouts/{instance.layout}.yml"
            layout_file.write_text(layout_text)

            prepare.code(instance)
            say("code: installed as on an aircraft")
            made = prepare.media(instance)
            say(f"content: clips, announcements, music{'' if made else ', as before'}")
            made = prepare.certificates(instance, layout_file)
            if instance.content:
                made |= ground.certificates(instance)
            say(f"certificates: {len(layout.seats)} seats{'' if made else ', as before'}")
            if instance.content:
                made = prepare.ground_content(instance)
                say(f"the ground: films and a newspaper{', signed' if made else ', as before'}")
            crew = people.ensure(paths.crew, paths.etc / "ife/crew.json")
            if not instance.loopback:
                network.create(instance)
                say(f"network: {instance.server.network}, the cabin's own")
            programs = prepare.configure(instance, layout, layout_file, Host.here())
            bench = Bench(instance, crew, _supervisor(paths))
            say(f"programs: {', '.join(program.name for program in programs)}")
            if not instance.content:
                prepare.usage_tables(instance, Host.here())
            _wait_until_ready(bench, say)
            yield bench
        finally:
            # What has begun to end is not to be stopped half-way.
            _on_signals(signal.SIG_IGN)
            clean(instance.directory)
            say("nothing is left running")


def stay(bench: Bench) -> None:
    """Wait for a signal, see `end_on_signals`.

    Raises:
        BenchError: supervisor ended, and with it everything.
    """
    with contextlib.suppress(KeyboardInterrupt):
        bench.supervisor.wait()
        raise BenchError(f"supervisor ended:\n{_tail(bench.instance.paths, 'supervisord')}")


def end_on_signals() -> None:
    """Have the signals that end a program raise `KeyboardInterrupt`, as Ctrl-C does."""
    _on_signals(signal.default_int_handler)
    # A child that a library forks must die of a signal, not tidy up in our place.
    os.register_at_fork(after_in_child=lambda: _on_signals(signal.SIG_DFL))


def _on_signals(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


def is_up(instance: Instance) -> bool:
    """Whether somebody has this bench up."""
    return processes.leader(instance.paths.lock) is not None


def down(directory: Path, wipe: bool) -> bool:
    """End the bench in this folder, whatever state it is in; False when there was none.

    Args:
        directory: its folder.
        wipe: remove the folder too.

    Raises:
        BenchError: it does not end.
    """
    try:
        instance = load_instance(directory)
    except BenchError:
        return False
    found = processes.leader(instance.paths.lock)
    if found is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(found, signal.SIGTERM)
    with _locked(instance.paths, patience=STOP_TIMEOUT):
        left = clean(directory)
        if wipe:
            shutil.rmtree(directory)
    return found is not None or left


def clean(directory: Path) -> bool:
    """End all that the last bench in this folder left, if anything; True if it did."""
    try:
        instance = load_instance(directory)
    except BenchError:
        return False
    paths = instance.paths
    found = processes.end(paths.pids / SUPERVISOR, STOP_TIMEOUT)
    for pid_file in paths.pids.glob("*"):
        # By now they have heard of it: see bench.launch.
        found = processes.end(pid_file, PROGRAM_STOP_TIMEOUT) or found
    if not instance.loopback and network.exists(instance):
        network.remove(instance)
        found = True
    shutil.rmtree(instance.seats_memory, ignore_errors=True)
    shutil.rmtree(paths.run, ignore_errors=True)
    return found


@contextlib.contextmanager
def _locked(paths: Paths, patience: float = 0.0) -> Iterator[None]:
    """Be the only one in this folder; the lock goes with the process, however it ends."""
    with paths.lock.open("a+") as file:
        if not take_lock(file.fileno(), patience):
            raise BenchError(f"a bench is up in {paths.directory}: end it first (`make demo-down`)")
        processes.write_pid_file(paths.lock)
        yield
        file.truncate(0)


def _supervisor(paths: Paths) -> subprocess.Popen[bytes]:
    """Start it. It ends with this process, and in a session of its own it hears no Ctrl-C."""
    python = str(paths.venv / "bin/python")
    with (paths.log / "supervisord.out").open("wb") as output:
        return subprocess.Popen(
            [
                *(python, "-m", "bench.launch", "--pid-file", str(paths.pids / SUPERVISOR), "--"),
                *(python, "-m", "supervisor.supervisord"),
                *("-c", str(paths.etc / "supervisord.conf")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"PATH": preflight.SYSTEM_PATH, "LANG": "C.UTF-8"},
            start_new_session=True,
        )


# -- is it ready? ----------------------------------------------------------------------------


def _wait_until_ready(bench: Bench, say: Say) -> None:
    """Wait for the apps, then the page, then every seat.

    Raises:
        BenchError: one of them is not there in time; the message has the end of its log.
    """
    deadline = time.monotonic() + READY_TIMEOUT
    paths = bench.instance.paths
    for app in ("seat_control", "pa_audio", "vlc_stream", "crew_web"):
        _wait(bench, deadline, app, partial(_why_not_ready, paths, app))
    _wait(bench, deadline, "nginx", lambda: _why_no_page(bench.instance))
    say("crew page: ready")
    if (seat := bench.instance.real_seat) is not None:
        _wait(bench, deadline, "player", lambda: _why_not_live(bench.instance, seat))
        say(f"seat {seat}: its real player is live")
    _wait(bench, deadline, "cabin", lambda: _why_not_all_live(bench.instance))
    say(f"seats: {bench.instance.seats} live")


def _wait(bench: Bench, deadline: float, program: str, why_not: Callable[[], str | None]) -> None:
    while (why := why_not()) is not None:
        if bench.supervisor.poll() is not None:
            program, why = "supervisord", "it ended"
        elif time.monotonic() < deadline:
            time.sleep(0.1)
            continue
        raise BenchError(
            f"{program} is not ready: {why}. Its log, {bench.instance.paths.log}/{program}.log, "
            f"ends with\n{_tail(bench.instance.paths, program)}"
        )


def is_ready(paths: Paths, app: str) -> bool:
    """Whether an app is there, and ready."""
    return _why_not_ready(paths, app) is None


def _why_not_ready(paths: Paths, app: str) -> str | None:
    try:
        with local_client(paths, app) as client:
            answer = client.get("/healthz")
    except httpx.HTTPError as error:
        return f"no answer ({error})"
    return None if answer.status_code == 200 else answer.text


def _why_no_page(instance: Instance) -> str | None:
    trusted = ssl.create_default_context(cafile=instance.paths.pki / "root.crt")
    try:
        answer = httpx.get(instance.crew_url, verify=trusted, timeout=REQUEST_TIMEOUT)
    except httpx.HTTPError as error:
        return f"no answer ({error})"
    return None if answer.status_code < 400 else f"status {answer.status_code}"


def _why_not_live(instance: Instance, seat: str) -> str | None:
    try:
        presence = cabin(instance.paths).seats[seat].presence
    except (httpx.HTTPError, ValueError) as error:
        return f"no answer ({error})"
    return None if presence == "live" else f"seat {seat} is {presence}"


def _why_not_all_live(instance: Instance) -> str | None:
    try:
        seats = cabin(instance.paths).seats
    except (httpx.HTTPError, ValueError) as error:
        return f"no answer ({error})"
    live = sum(seat.presence == "live" for seat in seats.values())
    return None if live == instance.seats else f"{live} of {instance.seats} seats are live"


def cabin(paths: Paths) -> CabinView:
    """The cabin as seat control sees it.

    Raises:
        httpx.HTTPError: seat control does not answer.
    """
    with local_client(paths, "seat_control") as client:
        answer = client.get("/api/v1/cabin", headers={CREW_HEADER: "bench"})
        return CabinView.model_validate_json(answer.raise_for_status().content)


def drop(instance: Instance, percent: int) -> None:
    """Lose this share of all packets between server and cabin, each seat its own. 0: none.

    Raises:
        BenchError: nftables or the simulated cabin refuses.
    """
    network.drop(instance, percent)
    give(instance.paths.cabin_socket, Order(order="drop", percent=percent))


def local_client(paths: Paths, app: str) -> httpx.Client:
    """A client of an app's own socket."""
    return httpx.Client(
        transport=httpx.HTTPTransport(uds=str(paths.run / f"ife/{app}.sock")),
        base_url="http://localhost",
        timeout=REQUEST_TIMEOUT,
    )


def _tail(paths: Paths, program: str) -> str:
    try:
        lines = (paths.log / f"{program}.log").read_text(errors="replace").splitlines()
    except OSError:
        lines = ["(there is none)"]
    return "\n".join(f"    {line}" for line in lines[-LOG_LINES:])
