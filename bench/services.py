"""The bench's own Redis, PostgreSQL and nginx, configured by the roles' templates."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from bench import preflight, render
from bench.host import Host, run
from bench.instance import AIRLINE, REGISTRATION, BenchError, Instance, Paths
from bench.supervise import Program

INITDB_TIMEOUT = 120
MADE = "ife-databases"
"""Tells, in the folder of PostgreSQL, which databases were made there."""


def redis_socket(paths: Paths) -> Path:
    """Where Redis listens."""
    return paths.run / "ife/redis/redis.sock"


def postgresql_folder(paths: Paths) -> Path:
    """Where the socket of PostgreSQL is."""
    return paths.run / "postgresql"


def database_url(paths: Paths, database: str, user: str) -> str:
    """What an app that runs as `user` finds a database by."""
    return f"postgresql+psycopg://{user}@/{database}?host={postgresql_folder(paths)}"


def redis(instance: Instance, host: Host) -> Program:
    """Redis, with nothing in it."""
    paths = instance.paths
    # Set-group-id, so that the socket is the group's: on an aircraft Redis runs as the group.
    host.own(redis_socket(paths).parent, "redis", 0o2750, "ife-redis")
    folder = host.own(paths.state / "redis", "redis", 0o700)
    text = render.render(
        "redis", "redis.conf.j2", redis_socket=redis_socket(paths), redis_directory=folder
    )
    configuration = paths.etc / "redis.conf"
    configuration.write_text(text)
    return Program(
        name="redis",
        argv=(program("redis-server"), str(configuration)),
        user=host.user("redis"),
        priority=1,
    )


def postgresql(instance: Instance, host: Host) -> Program:
    """PostgreSQL, with the databases of the role; they last from one start to the next."""
    paths = instance.paths
    programs = preflight.postgresql_folder()
    if programs is None:
        raise BenchError("PostgreSQL is not installed: run `make install`")
    parent = host.own(paths.state / "postgresql", "postgres", 0o700)
    # Another version could not read it, so each has a folder of its own.
    data = parent / programs.parent.name
    if not data.exists():
        _initialise(data, programs, host)
    _make_databases(data, programs, host)
    # Whoever comes in is asked who they are; where they are trusted, nobody else comes in.
    socket = host.own(postgresql_folder(paths), "postgres", 0o755 if host.as_root else 0o700)
    etc = paths.etc / "postgresql"
    etc.mkdir(mode=0o755, exist_ok=True)
    variables = {
        "postgresql_data_directory": data,
        "postgresql_hba_file": etc / "pg_hba.conf",
        "postgresql_ident_file": etc / "pg_ident.conf",
        "postgresql_pid_file": socket / "postgresql.pid",
        "postgresql_socket_directory": socket,
        "postgresql_auth_method": "peer" if host.as_root else "trust",
        "postgresql_log_destination": "stderr",
        "postgresql_databases": databases(),
    }
    for name in ("postgresql.conf", "pg_hba.conf"):
        (etc / name).write_text(render.render("postgresql", f"{name}.j2", **variables))
    (etc / "pg_ident.conf").touch()
    return Program(
        name="postgresql",
        argv=(str(programs / "postgres"), "-c", f"config_file={etc / 'postgresql.conf'}"),
        user=host.user("postgres"),
        # Fast shutdown (postgres(1)): TERM would wait for every client to leave.
        stop_signal="INT",
        priority=1,
    )


def _initialise(data: Path, programs: Path, host: Host) -> None:
    """Make the cluster, whole or not at all."""
    aside = data.with_name(data.name + ".new")
    shutil.rmtree(aside, ignore_errors=True)
    run(
        [programs / "initdb", "--username=postgres", "--auth=reject", "--no-instructions"],
        "make a database",
        INITDB_TIMEOUT,
        user=host.user("postgres"),
        PGDATA=str(aside),
        LC_ALL="C.UTF-8",
    )
    aside.rename(data)


def databases() -> list[dict[str, Any]]:
    """The role's, and that of the Hangar, which has a server of its own on the ground."""
    found: list[dict[str, Any]] = render.defaults("postgresql")["postgresql_databases"]
    return [*found, {"name": "hangar", "owner": "ife-hangar", "writers": []}]


def _make_databases(data: Path, programs: Path, host: Host) -> None:
    """Make what is missing: PostgreSQL refuses to make another of what is there, and goes on."""
    wanted = databases()
    # Inside, so that it goes with what it tells of.
    made = data / MADE
    if made.exists() and made.read_text() == repr(wanted):
        return
    roles = {role for each in wanted for role in (each["owner"], *each["writers"])}
    statements = [f'CREATE ROLE "{role}" LOGIN;' for role in sorted(roles)]
    statements += [f'CREATE DATABASE "{db["name"]}" OWNER "{db["owner"]}";' for db in wanted]
    run(
        [programs / "postgres", "--single", "-D", data, "postgres"],
        "make the databases",
        INITDB_TIMEOUT,
        user=host.user("postgres"),
        stdin="\n".join(statements) + "\n",
    )
    made.write_text(repr(wanted))


def nginx(instance: Instance, host: Host) -> Program:
    """nginx, for the seats and the crew."""
    paths = instance.paths
    (static,) = paths.venv.glob("lib/python3*/site-packages/apps/crew_web/static")
    temporary = paths.run / "nginx"
    temporary.mkdir(mode=0o755, exist_ok=True)
    text = render.render(
        "nginx",
        "nginx.conf.j2",
        registration=REGISTRATION,
        nginx_airline=AIRLINE,
        nginx_user=host.user("www-data"),
        nginx_pid_file=paths.run / "nginx.pid",
        nginx_temp_directory=temporary,
        nginx_cache_directory=temporary / "cache",
        nginx_certificate=paths.pki / "server.crt",
        nginx_certificate_key=paths.pki / "server.key",
        nginx_seats_authority=paths.pki / "root.crt",
        nginx_cabin_listen=f"{instance.server.ip}:{instance.seats_port}",
        nginx_crew_listen=f"127.0.0.1:{instance.port}",
        nginx_seat_control_socket=paths.run / "ife/seat_control.sock",
        nginx_crew_web_socket=paths.run / "ife/crew_web.sock",
        nginx_pa_audio_socket=paths.run / "ife/pa_audio.sock",
        nginx_vlc_stream_socket=paths.run / "ife/vlc_stream.sock",
        nginx_media_listen=f"{instance.server.ip}:{instance.media_port}",
        nginx_media_directory=paths.content / "media/channels",
        nginx_crew_static=static,
    )
    configuration = paths.etc / "nginx.conf"
    configuration.write_text(text)
    command = (program("nginx"), "-e", "stderr", "-c", str(configuration))
    run([*command, "-q", "-t"], "configure nginx", 10)
    return Program(name="nginx", argv=(*command, "-g", "daemon off;"), priority=2)


def program(name: str) -> str:
    """Where a program is.

    Raises:
        BenchError: it is not installed.
    """
    path = preflight.find(name)
    if path is None:
        raise BenchError(f"{name} is not installed: run `make install`")
    return path
