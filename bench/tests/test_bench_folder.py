"""The folder of a bench: whose it is, what is in it, and who may read it."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from apps.crew_web import crew
from bench import people, preflight, render, services
from bench.host import Host
from bench.instance import (
    MAX_INSTANCE,
    BenchError,
    Instance,
    claim_directory,
    default_directory,
    load_instance,
)


def instance(number: int, *, loopback: bool = False) -> Instance:
    return Instance(
        number=number,
        directory=default_directory(number, 0),
        port=8443 + 10 * number,
        layout="a320",
        seats=180,
        loopback=loopback,
    )


def test_no_two_benches_share_anything() -> None:
    benches = [instance(number) for number in range(MAX_INSTANCE + 1)]
    for what in ("name", "directory", "server", "multicast_port", "seats_memory"):
        assert len({getattr(bench, what) for bench in benches}) == len(benches), what
    networks = [bench.server.network for bench in benches]
    assert not any(a.overlaps(b) for a in networks for b in networks if a is not b)
    assert all(bench.server.network == bench.cabin.network for bench in benches)
    ports = {port for bench in benches for port in (bench.port, bench.seats_port)}
    assert len(ports) == 2 * len(benches)
    assert all(len(bench.interface) <= 15 for bench in benches), "IFNAMSIZ"


def test_without_root_rights_it_is_all_on_loopback() -> None:
    bench = instance(3, loopback=True)
    assert bench.interface == "lo"
    assert bench.seats_url == f"https://127.0.0.1:{bench.seats_port}"


def test_an_instance_is_found_again(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="make demo"):
        load_instance(tmp_path)
    (tmp_path / "instance.json").write_text(instance(1).model_dump_json())
    assert load_instance(tmp_path) == instance(1)
    (tmp_path / "instance.json").write_text('{"number": 1')
    with pytest.raises(BenchError):
        load_instance(tmp_path)


def test_a_link_to_a_folder_is_refused() -> None:
    # Not pytest's folder: its path may be too long for a bench.
    with tempfile.TemporaryDirectory(prefix="ife-") as name:
        folder = Path(name)
        (folder / "real").mkdir()
        (folder / "link").symlink_to("real")
        with pytest.raises(BenchError, match="choose another"):
            claim_directory(folder / "link")
        claim_directory(folder / "real")
        claim_directory(folder / "new/one")
        assert (folder / "new/one").is_dir()


def test_the_seats_memory_is_ours_alone(tmp_path: Path) -> None:
    host, memory = Host(as_root=False), tmp_path / "memory"
    host.own_among_others(memory, "ife-player")
    memory.chmod(0o755)
    host.own_among_others(memory, "ife-player")  # left over from an earlier start
    assert stat.S_IMODE(memory.stat().st_mode) == 0o700


def test_a_link_in_the_place_of_the_seats_memory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir(mode=0o755)
    (tmp_path / "memory").symlink_to("secret")
    with pytest.raises(BenchError, match="in the way"):
        Host(as_root=False).own_among_others(tmp_path / "memory", "ife-player")
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a folder of another user")
def test_the_seats_memory_of_somebody_else_is_not_taken(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    memory.mkdir(mode=0o777)
    os.chown(memory, 65534, 65534)
    with pytest.raises(BenchError, match="somebody else's"):
        Host(as_root=True).own_among_others(memory, "root")
    assert memory.stat().st_uid == 65534


def test_a_database_that_trusts_everybody_is_entered_by_nobody_else(tmp_path: Path) -> None:
    bench = instance(1, loopback=True).model_copy(update={"directory": tmp_path})
    programs = preflight.postgresql_folder()
    assert programs is not None, "run `make install`"
    bench.paths.make_folders()
    data = bench.paths.state / "postgresql" / programs.parent.name  # as if made
    data.mkdir(parents=True)
    (data / services.MADE).write_text(repr(services.databases()))
    services.postgresql(bench, Host(as_root=False))
    assert "trust" in (bench.paths.etc / "postgresql/pg_hba.conf").read_text()
    folder = services.postgresql_folder(bench.paths)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_path_too_long_for_sockets_is_refused() -> None:
    with pytest.raises(BenchError, match="too long"):
        claim_directory(Path("/var/tmp") / ("x" * 100))  # noqa: S108 - never made


def test_pins_are_kept_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    notes, crew_file = tmp_path / "crew.json", tmp_path / "hashes.json"
    os.umask(0o000)
    try:
        first = people.ensure(notes, crew_file)
        second = people.ensure(notes, crew_file)
    finally:
        os.umask(0o022)
    assert [person.name for person in first] == ["Anna", "Bruno"]
    assert first == second == people.load(notes)
    known = crew.load(crew_file)
    assert all(known.pin_is_right(person.id, person.pin) for person in first)
    assert not known.pin_is_right(first[0].id, "0000")
    for path in (notes, crew_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not any(person.pin in crew_file.read_text() for person in first)


def test_templates_are_rendered_with_the_defaults_of_their_role() -> None:
    text = render.render("redis", "redis.conf.j2", redis_directory="/somewhere")
    assert 'unixsocket "/run/ife/redis/redis.sock"' in text
    assert 'dir "/somewhere"' in text


def test_a_variable_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render.render("nginx", "nginx.conf.j2")
