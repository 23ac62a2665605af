"""Reads unit files (systemd.unit(5), systemd.exec(5)), so that the bench runs what they say.

What matters to a process is obeyed; the hardening is left to systemd, and checked by the policy
tests. A setting that would make a difference and is not known here is an error, so that the
bench never quietly runs something else.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

UnitFile = dict[str, dict[str, list[str]]]
"""Section to key to values, in order: a key may come several times."""

_TYPES = {"simple", "exec", "notify"}


class UnitError(ValueError):
    """A unit file that the bench cannot follow."""


@dataclass(frozen=True)
class SocketUnit:
    """A listening Unix socket that the service manager holds open.

    `most` is how many connections it takes at a time, each with a process of its own; None: one
    process takes them all.
    """

    path: Path
    mode: int
    user: str | None
    group: str | None
    backlog: int | None
    most: int | None = None


@dataclass(frozen=True)
class ServiceUnit:
    """A service, as its unit and the shared drop-in say.

    `environment_files`, `credentials` (name to file), `state_directories`, `cache_directories` and
    `runtime_directories` are as the paths of this machine, `limits` as setrlimit(2) has them
    (``RTPRIO``), `stop_seconds` is how long it may take to stop.
    """

    name: str
    argv: tuple[str, ...]
    user: str | None
    groups: tuple[str, ...]
    umask: int
    environment: Mapping[str, str]
    environment_files: tuple[Path, ...]
    credentials: Mapping[str, Path]
    state_directories: tuple[Path, ...]
    cache_directories: tuple[Path, ...]
    state_mode: int
    runtime_directories: tuple[Path, ...]
    runtime_mode: int
    limits: Mapping[str, int]
    stop_seconds: int
    socket: SocketUnit | None


@dataclass(frozen=True)
class Where:
    """What to put in place of the paths of an aircraft, and of systemd's specifiers.

    `prefixes` maps ``/opt/ife`` and the like to folders here; the longest that fits counts.
    `specifiers` maps a letter (``S`` for ``%S``) to its value; `%d` is the service's own.
    """

    prefixes: Mapping[str, Path]
    specifiers: Mapping[str, str]
    credentials: Path

    def rewrite(self, text: str) -> str:
        """`text` with the prefix of a path replaced."""
        for prefix in sorted(self.prefixes, key=len, reverse=True):
            if text == prefix or text.startswith(prefix + "/"):
                return str(self.prefixes[prefix]) + text[len(prefix) :]
        return text

    def expand(self, text: str, name: str) -> str:
        """`text` with its specifiers replaced, in the service called `name`."""
        values = {"%": "%", "d": str(self.credentials / name), **self.specifiers}

        def value(match: re.Match[str]) -> str:
            if match[1] not in values:
                raise UnitError(f"ife-{name}: the bench does not know the specifier {match[0]}")
            return values[match[1]]

        return re.sub("%(.?)", value, text)


def parse(*texts: str) -> UnitFile:
    """A unit file with its drop-ins. An empty value forgets those before it."""
    sections: UnitFile = {}
    for text in texts:
        section: dict[str, list[str]] | None = None
        for line in text.replace("\\\n", " ").splitlines():
            line = line.strip()
            if not line or line[0] in "#;":
                continue
            if line.startswith("[") and line.endswith("]"):
                section = sections.setdefault(line[1:-1], {})
                continue
            key, equals, value = line.partition("=")
            if section is None or not equals:
                raise UnitError(f"not a line of a unit file: {line!r}")
            values = section.setdefault(key.strip(), [])
            if value.strip():
                values.append(value.strip())
            else:
                values.clear()
    return sections


def load(folder: Path, name: str, where: Where) -> ServiceUnit:
    """The service ``ife-<name>`` with all drop-ins and its socket, if it has one.

    Raises:
        UnitError: it says something that the bench cannot follow.
    """
    # By their names, whichever folder they are in (systemd.unit(5)).
    drop_ins = sorted(
        (*folder.glob("ife-.service.d/*.conf"), *folder.glob(f"ife-{name}.service.d/*.conf")),
        key=lambda path: path.name,
    )
    unit = parse(
        (folder / f"ife-{name}.service").read_text(), *(path.read_text() for path in drop_ins)
    )
    # A template's is that of which it is started for each connection.
    socket = folder / f"ife-{name.removesuffix('@')}.socket"
    return _service(
        name,
        unit.get("Service", {}),
        where,
        _socket(parse(socket.read_text()).get("Socket", {}), where) if socket.exists() else None,
    )


def service_names(folder: Path) -> list[str]:
    """The services that there are units for, without ``ife-``."""
    return sorted(
        path.stem.removeprefix("ife-") for path in folder.glob("ife-*.service") if path.is_file()
    )


def _service(
    name: str, keys: Mapping[str, list[str]], where: Where, socket: SocketUnit | None
) -> ServiceUnit:
    strange = [
        key
        for key in keys
        if key in {"WorkingDirectory", "RootDirectory", "Group"}
        or (key.startswith("Exec") and key != "ExecStart")
    ]
    if strange:
        raise UnitError(f"ife-{name}: the bench does not follow {', '.join(strange)} yet")
    if (kind := _last(keys, "Type", "simple")) not in _TYPES:
        raise UnitError(f"ife-{name}: the bench runs no service of type {kind}")
    commands = keys.get("ExecStart", [])
    if len(commands) != 1:
        raise UnitError(f"ife-{name}: one ExecStart= is needed, there are {len(commands)}")

    def words(key: str) -> list[str]:
        return [word for value in keys.get(key, []) for word in shlex.split(value)]

    def expand(text: str) -> str:
        return where.expand(text, name)

    return ServiceUnit(
        name=name,
        argv=tuple(where.rewrite(expand(word)) for word in shlex.split(commands[0])),
        user=_last(keys, "User") or None,
        groups=tuple(words("SupplementaryGroups")),
        umask=int(_last(keys, "UMask", "0022"), 8),
        environment={
            key: expand(value)
            for key, _, value in (word.partition("=") for word in words("Environment"))
        },
        environment_files=tuple(
            Path(where.rewrite(expand(value))) for value in keys.get("EnvironmentFile", [])
        ),
        credentials={
            key: Path(where.rewrite(path))
            for key, _, path in (value.partition(":") for value in keys.get("LoadCredential", []))
        },
        state_directories=tuple(
            Path(expand("%S")) / directory for directory in words("StateDirectory")
        ),
        cache_directories=tuple(
            Path(expand("%C")) / directory for directory in words("CacheDirectory")
        ),
        state_mode=int(_last(keys, "StateDirectoryMode", "0755"), 8),
        runtime_directories=tuple(
            Path(where.rewrite(f"/run/{directory}")) for directory in words("RuntimeDirectory")
        ),
        runtime_mode=int(_last(keys, "RuntimeDirectoryMode", "0755"), 8),
        limits={
            key.removeprefix("Limit"): _number(values[-1])
            for key, values in keys.items()
            if key.startswith("Limit")
        },
        stop_seconds=_seconds(_last(keys, "TimeoutStopSec", "90")),
        socket=socket,
    )


def _socket(keys: Mapping[str, list[str]], where: Where) -> SocketUnit:
    streams = keys.get("ListenStream", [])
    if len(streams) != 1 or not streams[0].startswith("/"):
        raise UnitError("the bench follows sockets with one ListenStream= of a path only")
    backlog = _last(keys, "Backlog")
    return SocketUnit(
        path=Path(where.rewrite(streams[0])),
        mode=int(_last(keys, "SocketMode", "0666"), 8),
        user=_last(keys, "SocketUser") or None,
        group=_last(keys, "SocketGroup") or None,
        backlog=int(backlog) if backlog else None,
        most=int(_last(keys, "MaxConnections", "64")) if _last(keys, "Accept") == "yes" else None,
    )


def _last(keys: Mapping[str, list[str]], key: str, default: str = "") -> str:
    return (keys.get(key) or [default])[-1]


def _seconds(text: str) -> int:
    """``10`` or ``10s``; whole seconds are all that our units use."""
    number = text.removesuffix("s")
    if not number.isdecimal():
        raise UnitError(f"the bench takes a time in whole seconds, not {text!r}")
    return int(number)


def _number(text: str) -> int:
    """``21`` or ``384M``."""
    digits, factor = (text[:-1], 1 << 20) if text.endswith("M") else (text, 1)
    if not digits.isdecimal():
        raise UnitError(f"the bench takes a limit as a number, or of M, not {text!r}")
    return int(digits) * factor


def read_environment_file(text: str) -> dict[str, str]:
    """The variables of an ``EnvironmentFile=``."""
    variables = {}
    for line in text.splitlines():
        if line.strip() and line.lstrip()[0] not in "#;":
            name, _, value = line.partition("=")
            variables[name.strip()] = " ".join(shlex.split(value))
    return variables
