"""Lays out the folder of a bench: code, certificates, configuration, programs."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

from apps.common.layout import Layout
from bench import announce, content, ground, network, pki, publisher, services, units, usb
from bench.cabin import CabinSettings
from bench.host import Host, run
from bench.instance import AIRLINE, MULTICAST_GROUP, REGISTRATION, Instance
from bench.people import write_private
from bench.supervise import Program, configuration, program_of

ROOT = Path(__file__).parent.parent
UNITS = ROOT / "units"
NOT_HERE = {"player", "status", "tunnel"}
"""Units that run on other machines, or need systemd; the cabin has the players."""

CONTENT_UNITS = {"content_sync", "hangar", "usb_lockdown"}
"""Those of a bench with content."""

READER = "usb_lockdown-reader@"
"""Started once for each disk (`_reader`)."""

PLAYERS = 999
"""Supervisor's priority: last to start, first to stop."""

EXTRAS = (
    *("seat_control", "crew_web", "pa_audio", "vlc_stream", "player"),
    *("content_sync", "usb_lockdown", "hangar"),
)
CONTENT = ROOT / "build/content"
PUBLISHER = ROOT / "build/publisher"
UV_TIMEOUT = 600


def code(instance: Instance) -> None:
    """Install the project into the folder's virtual environment, as an aircraft has it.

    Not from the checkout itself: that may lie where the service users cannot read, and what
    the wheel lacks would not be noticed.
    """
    paths = instance.paths
    run(
        [
            *(str(Path(sys.executable).with_name("uv")), "sync", "--quiet", "--frozen"),
            *("--no-dev", "--no-editable", "--reinstall-package", "ife", "--group", "bench"),
            # The service users cannot write here, so Python could not keep what it compiles.
            "--compile-bytecode",
            *(f"--extra={extra}" for extra in EXTRAS),
            *("--python", "/usr/bin/python3", "--project", str(ROOT)),
        ],
        "install the code",
        UV_TIMEOUT,
        UV_PROJECT_ENVIRONMENT=str(paths.venv),
    )
    (site_packages,) = paths.venv.glob("lib/python3*/site-packages")
    shutil.rmtree(site_packages / "bench", ignore_errors=True)
    shutil.copytree(
        Path(__file__).parent,
        site_packages / "bench",
        ignore=shutil.ignore_patterns("__pycache__", "tests"),
    )


def media(instance: Instance) -> bool:
    """Bring what there is to see and hear into the folder; False when nothing had to be made."""
    made = content.make(CONTENT)
    # Copied, for the checkout may lie where the service users cannot read.
    shutil.rmtree(instance.paths.content, ignore_errors=True)
    shutil.copytree(CONTENT, instance.paths.content)
    for path in (instance.paths.content, *instance.paths.content.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return made


def ground_content(instance: Instance) -> bool:
    """Have what the bench's airline publishes; False when nothing had to be made."""
    made = publisher.make(PUBLISHER, CONTENT / "media")
    publisher.bring(PUBLISHER, instance.paths.ground)
    return made


def certificates(instance: Instance, layout_file: Path) -> bool:
    """Have playbooks/pki.yml make what is missing; False when all was there."""
    paths = instance.paths
    stamp = paths.pki / "made-for"
    made_from = _digest(instance, layout_file).encode()
    if pki.is_made(stamp, made_from):
        return False
    paths.pki.mkdir(mode=0o755, exist_ok=True)
    variables = {
        "registration": REGISTRATION,
        "pki_airline": AIRLINE,
        "pki_directory": str(paths.pki),
        "pki_layout": str(layout_file),
        "pki_server_names": ["localhost"],
        "pki_server_addresses": sorted({"127.0.0.1", str(instance.server.ip)}),
    }
    pki.make(paths, ROOT / "playbooks/pki.yml", variables, stamp, made_from)
    return True


def _digest(instance: Instance, layout_file: Path) -> str:
    """Changes with everything that the certificates are made from."""
    digest = hashlib.sha256(f"{instance.server}{AIRLINE}{REGISTRATION}".encode())
    role = sorted(path for path in (ROOT / "roles/pki").rglob("*") if path.is_file())
    for path in [layout_file, ROOT / "playbooks/pki.yml", *role]:
        if path.suffix != ".pyc":
            digest.update(path.read_bytes())
    return digest.hexdigest()


def usage_tables(instance: Instance, host: Host) -> None:
    """Have what content_sync makes for the others, where it is not there; see that module."""
    paths = instance.paths
    url = services.database_url(paths, "usage", "ife-content_sync")
    run(
        [paths.venv / "bin/python", "-m", "bench.usage_tables", url],
        "make the tables of usage",
        UV_TIMEOUT,
        user=host.user("ife-content_sync"),
    )


def configure(instance: Instance, layout: Layout, layout_file: Path, host: Host) -> list[Program]:
    """Write all configuration anew, and what starts with it; what is to run.

    Raises:
        UnitError: a unit says what the bench cannot follow.
    """
    paths = instance.paths
    if host.as_root:
        run(["systemd-sysusers", *sorted(UNITS.glob("sysusers.d/*.conf"))], "make the users", 30)
    _write_settings(instance, layout_file)
    programs = [make(instance, host) for make in (services.redis, services.postgresql)]
    host.own_among_others(instance.seats_memory, "ife-player")
    where = units.Where(
        prefixes={
            "/opt/ife": paths.venv,
            "/etc/ife": paths.etc / "ife",
            "/run/ife": paths.run / "ife",
        },
        specifiers={
            "S": str(paths.state),
            "C": str(paths.cache),
            "t": str(paths.run),
            "b": _boot_id(),
        },
        credentials=paths.run / "credentials",
    )
    programs += [
        _app(units.load(UNITS, name, where), where.credentials, host)
        for name in units.service_names(UNITS)
        if name not in {READER, *NOT_HERE} and (instance.content or name not in CONTENT_UNITS)
    ]
    if instance.content:
        programs += _content(instance, where, host)
    for source in announce.SOURCES:
        path = announce.pipe(paths, source)
        os.mkfifo(path)
        host.give(path, "ife-pa_audio", 0o600)
    programs.append(_handset(instance, host))
    programs.append(services.nginx(instance, host))
    programs.append(_cabin(instance, layout, where.credentials, host))
    if instance.real_seat is not None:
        programs.append(_player(instance, instance.real_seat, layout, where, host))
    (paths.etc / "supervisord.conf").write_text(configuration(programs, paths, host.as_root))
    return programs


def _write_settings(instance: Instance, layout_file: Path) -> None:
    """What Ansible puts into ``/etc/ife`` on an aircraft."""
    paths = instance.paths
    etc = paths.etc / "ife"
    (etc / "keys").mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("command.key", "pa.key"):
        write_private(etc / "keys" / name, (paths.pki / name).read_bytes())
    everywhere = {
        "IFE_REGISTRATION": REGISTRATION,
        "IFE_LAYOUT": layout_file,
        "IFE_REDIS_URL": f"unix://{services.redis_socket(paths)}",
    }
    to_the_cabin = {
        "IFE_MULTICAST_INTERFACE": instance.interface,
        "IFE_MULTICAST_SOURCE": instance.server.ip,
    }
    _write_environment(
        etc / "seat_control.env",
        everywhere
        | to_the_cabin
        | {
            "IFE_DATABASE_URL": services.database_url(paths, "ife", "ife-seat_control"),
            "IFE_USAGE_DATABASE_URL": services.database_url(paths, "usage", "ife-seat_control"),
            "IFE_MULTICAST_GROUP": MULTICAST_GROUP,
            "IFE_MULTICAST_PORT": instance.multicast_port,
            "IFE_MULTICAST_TTL": 1,
        },
    )
    seat = instance.real_seat
    _write_environment(
        etc / "crew_web.env",
        everywhere
        | {
            f"IFE_{app.upper()}_SOCKET": paths.run / f"ife/{app}.sock"
            for app in ("seat_control", "pa_audio", "vlc_stream", "content_sync")
        }
        | ({"IFE_DEMO_GATE_SOCKET": paths.ramp_socket} if instance.content else {})
        | ({} if seat is None else {"IFE_SEAT_PICTURE": f"{seat}:{paths.still_socket}"}),
    )
    if instance.content:
        _write_content_settings(instance, everywhere)
    _write_environment(
        etc / "pa_audio.env",
        everywhere
        | to_the_cabin
        | {
            "IFE_PILOT_INPUT": f"fifo:{announce.pipe(paths, 'pilot')}",
            "IFE_CREW_INPUT": f"fifo:{announce.pipe(paths, 'crew')}",
            "IFE_PRAM_DIRECTORY": paths.content / "pram",
            "IFE_MUSIC_DIRECTORY": paths.content / "music",
        },
    )
    _write_environment(
        etc / "vlc_stream.env",
        everywhere
        | to_the_cabin
        | {
            "IFE_CHANNELS_FILE": paths.content / "channels.yml",
            "IFE_MEDIA_DIRECTORY": paths.content / "media",
            "IFE_SEAT_CONTROL_SOCKET": paths.run / "ife/seat_control.sock",
        },
    )


def _write_content_settings(instance: Instance, everywhere: Mapping[str, object]) -> None:
    paths = instance.paths
    etc = paths.etc / "ife"
    aircraft = {name: everywhere[name] for name in ("IFE_REGISTRATION", "IFE_REDIS_URL")}
    _write_environment(
        etc / "usb_lockdown.env",
        aircraft
        | {
            "IFE_CREW_DISK_PORTS": usb.CREW_DISK_PORTS,
            "IFE_READER_SOCKET": paths.run / "ife/usb_lockdown-reader.sock",
            "IFE_SYSFS": paths.sysfs,
            "IFE_DEVICES": paths.sysfs / "dev",
        },
    )
    _write_environment(
        etc / "content_sync.env",
        aircraft
        | {
            "IFE_AIRLINE": publisher.AIRLINE,
            "IFE_CONTENT_ROOT": paths.ground / "root.json",
            "IFE_USAGE_DATABASE_URL": services.database_url(paths, "usage", "ife-content_sync"),
            # Shorter than the unit's: ssh adds to the path of its socket there.
            "IFE_RUNTIME_DIRECTORY": paths.run / "gate",
        }
        | ground.gate_settings(instance, paths.run / "credentials/content_sync"),
    )
    _write_environment(etc / "hangar.env", ground.write_settings(paths))


def _write_environment(path: Path, variables: Mapping[str, object]) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))


def _app(unit: units.ServiceUnit, credentials: Path, host: Host) -> Program:
    """An app as its unit says, with what systemd would make for it."""
    user = unit.user or "root"
    for folder in (*unit.state_directories, *unit.cache_directories):
        host.own(folder, user, unit.state_mode)
    for folder in unit.runtime_directories:
        host.own(folder, user, unit.runtime_mode)
    for name, source in unit.credentials.items():
        _entrust(source, credentials / unit.name / name, user, host)
    return program_of(unit, credentials, host.as_root)


def _entrust(source: Path, copy: Path, user: str, host: Host) -> None:
    """Copy a secret for the eyes of `user` alone, who cannot put another in its place."""
    copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_private(copy, source.read_bytes())
    host.give(copy, user, 0o400)


def _content(instance: Instance, where: units.Where, host: Host) -> list[Program]:
    """Beside the units: the keys of the gate, readers of disks, USB, the ramp, and the ground."""
    paths = instance.paths
    python = str(paths.venv / "bin/python")
    (paths.ground / "root.json").chmod(0o644)
    for source, name in (
        *(("gate.crt", "gate.crt"), ("gate.key", "gate.key")),
        *(("gate_ssh", "gate_ssh.key"), ("usage.key", "usage.key")),
    ):
        copy = where.credentials / "content_sync" / name
        _entrust(paths.pki / source, copy, "ife-content_sync", host)
    host.own(paths.run / "gate", "ife-content_sync", 0o700)
    host.own(paths.usb_socket.parent, "ife-usb_lockdown", 0o700)
    # Set-group-id, so that crew_web, of that group, may connect to the socket.
    host.own(paths.ramp_socket.parent, "ife-pa_audio", 0o2750, "ife")
    return [
        _reader(where, host),
        Program(
            name="usb",
            argv=(python, "-m", "bench.usb", str(paths.sysfs), str(paths.usb_socket)),
            user=host.user("ife-usb_lockdown"),
        ),
        Program(
            name="ramp",
            argv=(
                *(python, "-m", "bench.ramp"),
                *(f"unix://{services.redis_socket(paths)}", str(paths.ramp_socket)),
            ),
            # Whose place the hardware app is in, as of the handset.
            user=host.user("ife-pa_audio"),
            umask=0o007,
        ),
        *ground.programs(instance, host),
    ]


def _reader(where: units.Where, host: Host) -> Program:
    """What starts a reader for each disk, as systemd does for its socket."""
    unit = units.load(UNITS, READER, where)
    program = program_of(unit, where.credentials, host.as_root)
    assert unit.socket is not None  # noqa: S101 - units/ has it
    python = str(Path(where.rewrite("/opt/ife")) / "bin/python")
    return replace(
        program,
        name=READER.removesuffix("@"),
        argv=(python, "-m", "bench.inetd", str(unit.socket.most), *program.argv),
    )


def _handset(instance: Instance, host: Host) -> Program:
    """What the hardware app is to the PA."""
    paths = instance.paths
    pa, own = announce.keylines_socket(paths), announce.handset_socket(paths)
    return Program(
        name="handset",
        argv=(str(paths.venv / "bin/python"), "-m", "bench.handset", str(pa), str(own)),
        user=host.user("ife-pa_audio"),
        umask=0o077,
    )


def _cabin(instance: Instance, layout: Layout, credentials: Path, host: Host) -> Program:
    """The simulated seats, with a copy of their keys that their process can read."""
    paths = instance.paths
    user = "ife-player"
    host.own(paths.cabin_socket.parent, user, 0o700)
    keys = credentials / "cabin"
    seats = [seat for seat in layout.seats if seat != instance.real_seat]
    for seat in seats:
        for name in (f"{seat}.crt", f"{seat}.key"):
            _entrust(paths.pki / "seats" / name, keys / name, user, host)
    settings = CabinSettings(
        seats=seats,
        registration=REGISTRATION,
        server_url=instance.seats_url,
        ca_file=paths.pki / "root.crt",
        certificates=keys,
        command_public_keys_file=paths.pki / "command.pub",
        state=instance.seats_memory,
        socket=paths.cabin_socket,
        multicast_interface=_cabin_interface(instance),
        multicast_group=IPv4Address(MULTICAST_GROUP),
        multicast_port=instance.multicast_port,
        multicast_source=instance.server.ip,
        pa_areas={seat: _pa_area(layout, seat) for seat in seats},
        pa_public_keys_file=paths.pki / "pa.pub",
    )
    settings_file = paths.etc / "cabin.json"
    settings_file.write_text(settings.model_dump_json(indent=1))
    return Program(
        name="cabin",
        argv=(str(paths.venv / "bin/python"), "-m", "bench.cabin", str(settings_file)),
        user=host.user(user),
        namespace=None if instance.loopback else instance.name,
        priority=PLAYERS,
    )


def _player(
    instance: Instance, seat: str, layout: Layout, where: units.Where, host: Host
) -> Program:
    """The real player, as its unit says, but for this machine's hardware (`bench.player`)."""
    paths = instance.paths
    etc = paths.etc / "ife"
    key, certificate = (paths.pki / f"seats/{seat}.{kind}" for kind in ("key", "crt"))
    write_private(etc / "keys/seat.key", key.read_bytes())
    _entrust(certificate, where.credentials / "player/seat.crt", "ife-player", host)
    _write_environment(
        etc / "player.env",
        {
            "IFE_REGISTRATION": REGISTRATION,
            "IFE_SEAT": seat,
            "IFE_PA_AREA": _pa_area(layout, seat),
            "IFE_SERVER_URL": instance.seats_url,
            "IFE_MEDIA_URL": instance.media_url,
            "IFE_CA_FILE": paths.pki / "root.crt",
            "IFE_SEAT_CERTIFICATE": where.credentials / "player/seat.crt",
            "IFE_COMMAND_PUBLIC_KEYS_FILE": paths.pki / "command.pub",
            "IFE_PA_PUBLIC_KEYS_FILE": paths.pki / "pa.pub",
            "IFE_MULTICAST_INTERFACE": _cabin_interface(instance),
            "IFE_MULTICAST_SOURCE": instance.server.ip,
            "IFE_MULTICAST_GROUP": MULTICAST_GROUP,
            "IFE_MULTICAST_PORT": instance.multicast_port,
            "IFE_PA_SINK": f"file:{os.devnull}",
            "IFE_VIDEO_OUTPUT": "dummy",
            "IFE_AUDIO_OUTPUT": "dummy",
            "IFE_STILL_SOCKET": paths.still_socket,
        },
    )
    # It begins anew with the bench, as the simulated seats do.
    memory = replace(where, specifiers={**where.specifiers, "S": str(instance.seats_memory)})
    program = _app(units.load(UNITS, "player", memory), where.credentials, host)
    # Set-group-id, so that crew_web, of that group, may connect to the socket.
    host.own(paths.still_socket.parent, "ife-player", 0o2750, "ife")
    return replace(
        program,
        argv=(str(paths.venv / "bin/python"), "-m", "bench.player"),
        # Without those that open this machine's screen and sound, where they are there at all.
        groups=("ife",) if host.as_root else (),
        umask=0o007,
        namespace=None if instance.loopback else instance.name,
        priority=PLAYERS,
    )


def _cabin_interface(instance: Instance) -> str:
    """Where the cabin meets the server."""
    return "lo" if instance.loopback else network.CABIN_INTERFACE


def _pa_area(layout: Layout, seat: str) -> int:
    return layout.pa_area_number(layout.seats[seat].pa_area)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
