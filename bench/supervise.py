"""Supervisor: its configuration, and what it lacks for us."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import processes
from bench.instance import BenchError, Paths
from bench.units import ServiceUnit, SocketUnit, read_environment_file

LOG_BYTES = 5_000_000


@dataclass(frozen=True)
class Program:
    """One program that supervisor runs.

    Without `user` it runs as whoever runs supervisor, without `namespace` in this machine's own
    network namespace.
    """

    name: str
    argv: tuple[str, ...]
    user: str | None = None
    groups: tuple[str, ...] = ()
    umask: int = 0o022
    environment: Mapping[str, str] = field(default_factory=dict)
    socket: SocketUnit | None = None
    stop_signal: str = "TERM"
    stop_seconds: int = 10
    limits: Mapping[str, int] = field(default_factory=dict)
    namespace: str | None = None
    priority: int = 500


def program_of(unit: ServiceUnit, credentials: Path, as_root: bool) -> Program:
    """The program that a unit describes.

    Args:
        unit: whose environment files are read.
        credentials: the folder with one folder of credentials for each service.
        as_root: whether users can be changed.
    """
    environment = dict(unit.environment)
    for path in unit.environment_files:
        environment |= read_environment_file(path.read_text())
    if unit.credentials:
        environment["CREDENTIALS_DIRECTORY"] = str(credentials / unit.name)
    return Program(
        name=unit.name,
        argv=unit.argv,
        user=unit.user if as_root else None,
        groups=unit.groups,
        umask=unit.umask,
        environment=environment,
        socket=unit.socket,
        stop_seconds=unit.stop_seconds,
        # Nobody else may raise them.
        limits=unit.limits if as_root else {},
    )


def configuration(programs: Iterable[Program], paths: Paths, as_root: bool) -> str:
    """``supervisord.conf``. Whoever ends is started again at once, for ever."""
    head = f"""\
[supervisord]
nodaemon=true
directory=/
{"user=root" if as_root else ""}
pidfile={paths.run}/supervisord.pid
logfile={paths.log}/supervisord.log
logfile_maxbytes={LOG_BYTES}
logfile_backups=1
childlogdir={paths.log}

[unix_http_server]
file={paths.supervisor_socket}
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[rpcinterface:sockets]
supervisor.rpcinterface_factory=bench.supervise:hold_sockets
"""
    return head + "".join(_section(program, paths, as_root) for program in programs)


def _section(program: Program, paths: Paths, as_root: bool) -> str:
    launch = [
        str(paths.venv / "bin/python"),
        *("-m", "bench.launch", "--pid-file", str(paths.pids / program.name)),
        *("--umask", f"{program.umask:04o}", "--end-with", program.stop_signal),
    ]
    lines = {}
    if program.namespace:
        launch = ["ip", "netns", "exec", program.namespace, *launch]
    if program.user:
        launch += ["--user", program.user, *(f"--group={group}" for group in program.groups)]
    launch += [f"--limit={name}={limit}" for name, limit in program.limits.items()]
    if program.socket:
        launch.append("--socket")
        lines["socket"] = f"unix://{program.socket.path}"
        lines["socket_mode"] = f"{program.socket.mode:04o}"
        if as_root and (program.socket.user or program.socket.group):
            owner = (program.socket.user or "root", program.socket.group or program.socket.user)
            lines["socket_owner"] = ":".join(filter(None, owner))
        if program.socket.backlog:
            lines["socket_backlog"] = str(program.socket.backlog)
    lines |= {
        "command": shlex.join([*launch, "--", *program.argv]),
        "environment": ",".join(f'{name}="{value}"' for name, value in program.environment.items()),
        "autorestart": "true",
        # Zero: however soon it ends it is started again, and never given up.
        "startsecs": "0",
        "stopsignal": program.stop_signal,
        "stopwaitsecs": str(program.stop_seconds),
        "killasgroup": "true",
        "priority": str(program.priority),
        "redirect_stderr": "true",
        "stdout_logfile": f"{paths.log}/{program.name}.log",
        "stdout_logfile_maxbytes": str(LOG_BYTES),
        "stdout_logfile_backups": "1",
    }
    if any("\n" in text for text in lines.values()) or '"' in "".join(program.environment.values()):
        raise ValueError(f"{program.name}: supervisor can pass on neither line breaks nor quotes")
    kind = "fcgi-program" if program.socket else "program"
    body = "\n".join(f"{key}={value.replace('%', '%%')}" for key, value in lines.items())
    return f"\n[{kind}:{program.name}]\n{body}\n"


def hold_sockets(supervisord: Any, **_: str) -> object:
    """Keep every listening socket open; supervisor calls this at its start, as configured.

    By itself it closes a socket when its program ends, and whoever connects before the program
    is back is refused. systemd lets them wait.
    """
    for group in supervisord.process_groups.values():
        if hasattr(group, "socket_manager"):
            group.socket_manager.ref_ctr.increment()
    return object()


def kill(paths: Paths, name: str) -> None:
    """`SIGKILL` for a program and all that it started, as the kernel does when memory is out.

    Raises:
        BenchError: there is no such program, or it is just being started.
    """
    programs = sorted(path.name for path in paths.pids.glob("*"))
    if name not in programs:
        raise BenchError(f"there is no program {name}, but {', '.join(programs)}")
    if not processes.kill(paths.pids / name):
        raise BenchError(f"{name} is being started just now: try again")
