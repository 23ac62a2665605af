"""The unit parser, against systemd.unit(5) and against our own units."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.prepare import CONTENT_UNITS, NOT_HERE, READER, UNITS
from bench.units import UnitError, Where, load, parse, read_environment_file, service_names

WHERE = Where(
    prefixes={
        "/opt/ife": Path("/b/venv"),
        "/etc/ife": Path("/b/etc/ife"),
        "/run/ife": Path("/b/run/ife"),
    },
    specifiers={"S": "/b/var/lib", "C": "/b/var/cache", "t": "/b/run", "b": "0123"},
    credentials=Path("/b/run/credentials"),
)


def write(folder: Path, service: str, socket: str = "", drop_in: str = "") -> Path:
    (folder / "ife-x.service").write_text(service)
    if socket:
        (folder / "ife-x.socket").write_text(socket)
    (folder / "ife-.service.d").mkdir()
    (folder / "ife-.service.d/hardening.conf").write_text(drop_in)
    return folder


def test_repeated_keys_are_kept_in_order() -> None:
    unit = parse("[Service]\nEnvironment=A=1\nEnvironment=B=2\n", "[Service]\nEnvironment=C=3\n")
    assert unit["Service"]["Environment"] == ["A=1", "B=2", "C=3"]


def test_an_empty_value_forgets_those_before() -> None:
    assert parse("[Service]\nExecStart=/a\nExecStart=\nExecStart=/b")["Service"]["ExecStart"] == [
        "/b"
    ]


def test_comments_and_continued_lines() -> None:
    unit = parse("# one\n; two\n[Service]\n\nExecStart=/a \\\n  b\n")
    assert unit["Service"]["ExecStart"] == ["/a    b"]


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with contextlib.suppress(UnitError):
        sections = parse(text)
        assert all(values is not None for keys in sections.values() for values in keys.values())


@pytest.mark.parametrize("text", ["ExecStart=/a", "[Service]\nnonsense"])
def test_what_is_no_unit_file_is_refused(text: str) -> None:
    with pytest.raises(UnitError, match="not a line of a unit file"):
        parse(text)


OF_ONE_SHAPE = sorted(set(service_names(UNITS)) - NOT_HERE - CONTENT_UNITS - {READER})


@pytest.mark.parametrize("name", OF_ONE_SHAPE)
def test_our_units_can_be_followed(name: str) -> None:
    unit = load(UNITS, name, WHERE)
    assert unit.argv[0].startswith("/b/venv/bin/")
    assert unit.user == f"ife-{name}"
    assert "ife" in unit.groups
    assert unit.umask & 0o007 == 0o007, "no file is for everyone"
    assert unit.state_directories == (Path("/b/var/lib/ife") / name,)
    assert unit.state_mode == 0o700
    assert unit.environment["IFE_STATE_DIRECTORY"] == f"/b/var/lib/ife/{name}"
    assert unit.environment_files == (Path(f"/b/etc/ife/{name}.env"),)
    assert unit.socket is not None
    assert unit.socket.path == Path(f"/b/run/ife/{name}.sock")
    assert (unit.socket.mode, unit.socket.group) == (0o660, "ife")


@pytest.mark.parametrize("name", sorted(CONTENT_UNITS))
def test_the_units_of_content_can_be_followed(name: str) -> None:
    unit = load(UNITS, name, WHERE)
    assert unit.user == f"ife-{name}"
    assert unit.socket is not None
    assert unit.socket.path == Path(f"/b/run/ife/{name}.sock")
    assert unit.socket.most is None


def test_the_real_seats_unit_can_be_followed() -> None:
    unit = load(UNITS, "player", WHERE)
    assert unit.user == "ife-player"
    assert unit.cache_directories == (Path("/b/var/cache/ife/player"),)
    assert unit.environment["XDG_CACHE_HOME"] == "/b/var/cache/ife/player"


def test_a_template_is_started_by_its_socket_for_each_connection() -> None:
    unit = load(UNITS, READER, WHERE)
    assert unit.user == "ife-usb_lockdown-reader"
    assert unit.socket is not None
    assert unit.socket.path == Path("/b/run/ife/usb_lockdown-reader.sock")
    assert (unit.socket.mode, unit.socket.user) == (0o600, "ife-usb_lockdown")
    assert unit.socket.most == 8


def test_what_a_unit_adds_for_itself_is_read_by_the_names_of_its_drop_ins(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        "[Service]\nExecStart=/a\nRuntimeDirectory=ife/x\nLimitRTPRIO=21\nLimitMEMLOCK=2M\n",
        drop_in="[Service]\nUMask=0077\nRuntimeDirectoryMode=0750\n",
    )
    (folder / "ife-x.service.d").mkdir()
    (folder / "ife-x.service.d/after.conf").write_text("[Service]\nUMask=0022\n")
    (folder / "ife-x.service.d/zero.conf").write_text("[Service]\nUMask=0027\n")
    unit = load(folder, "x", WHERE)
    assert unit.runtime_directories == (Path("/b/run/ife/x"),)
    assert (unit.runtime_mode, unit.umask) == (0o750, 0o027)
    assert unit.limits == {"RTPRIO": 21, "MEMLOCK": 2 << 20}


def test_credentials_are_where_the_unit_looks_for_them() -> None:
    unit = load(UNITS, "seat_control", WHERE)
    assert unit.credentials == {"command.key": Path("/b/etc/ife/keys/command.key")}
    assert unit.environment["IFE_COMMAND_KEY"] == "/b/run/credentials/seat_control/command.key"


def test_the_drop_in_comes_after_the_unit(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        "[Service]\nUMask=0022\nExecStart=/opt/ife/bin/x 'a b' --path=/opt/ife %%d\n",
        drop_in="[Service]\nUMask=0077\nTimeoutStopSec=7s\n",
    )
    unit = load(folder, "x", WHERE)
    assert (unit.umask, unit.stop_seconds) == (0o077, 7)
    assert unit.argv == ("/b/venv/bin/x", "a b", "--path=/opt/ife", "%d")
    assert unit.socket is None


@pytest.mark.parametrize(
    ("service", "told"),
    [
        ("ExecStart=/a\nExecStartPre=/b", "ExecStartPre"),
        ("ExecStart=/a\nWorkingDirectory=/b", "WorkingDirectory"),
        ("ExecStart=/a\nLimitNOFILE=infinity", "infinity"),
        ("ExecStart=/a %H", "specifier %H"),
        ("ExecStart=/a\nExecStart=/b", "there are 2"),
        ("User=x", "there are 0"),
        ("ExecStart=/a\nType=forking", "type forking"),
        ("ExecStart=/a\nTimeoutStopSec=1min", "1min"),
    ],
)
def test_what_the_bench_would_do_differently_is_refused(
    tmp_path: Path, service: str, told: str
) -> None:
    with pytest.raises(UnitError, match=told):
        load(write(tmp_path, f"[Service]\n{service}\n"), "x", WHERE)


def test_a_socket_of_another_kind_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, "[Service]\nExecStart=/a\n", socket="[Socket]\nListenStream=80\n")
    with pytest.raises(UnitError, match="ListenStream"):
        load(folder, "x", WHERE)


def test_an_environment_file_is_read_as_systemd_reads_it() -> None:
    text = "# a remark\n\nIFE_A=1\nIFE_B='two words'\nIFE_C=a=b\n"
    assert read_environment_file(text) == {"IFE_A": "1", "IFE_B": "two words", "IFE_C": "a=b"}
