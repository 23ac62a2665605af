"""Channels files: what a good one says, and every way in which one can be wrong."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.common.channels import Channel, ChannelsError, ChannelsFile, Rights, Schedule, load

GOOD = """\
channels:
  news:
    names: {en: News, de: Nachrichten}
    group: 239.192.80.1
    playlist: [news/monday.ts, news/weather.ts]
    schedule: {from: "06:00", until: "22:30"}
    rights: {from: 2026-01-01, until: 2026-12-31}
  tail:
    names: {en: Tail camera}
    group: 239.192.80.2
    port: 5006
    live: {group: 239.255.1.1, port: 6000, source: 10.23.0.7, interface: avionics0}
    loop: false
imposed:
  safety:
    names: {en: Safety}
    group: 239.192.81.1
    files: {en: safety/en.ts, pt-BR: safety/pt.ts}
"""


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "channels.yml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problems(folder: Path, text: str | bytes) -> list[str]:
    path = write(folder, text)
    with pytest.raises(ChannelsError) as caught:
        load(path)
    return str(caught.value).replace(f"{path}:", "").splitlines()


def test_a_good_file(tmp_path: Path) -> None:
    file = load(write(tmp_path, GOOD))
    assert list(file.channels) == ["news", "tail"]
    assert file.channels["news"].names["de"] == "Nachrichten"
    assert file.channels["news"].port == 5004
    assert file.channels["news"].loop
    assert file.channels["tail"].live is not None
    assert not file.channels["tail"].loop
    assert file.imposed["safety"].files["pt-BR"] == "safety/pt.ts"


def test_a_file_without_either_kind_is_good(tmp_path: Path) -> None:
    assert load(write(tmp_path, "imposed: {}\n")) == ChannelsFile()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("group: 239.192.80.2", "group: 239.192.80.1", "10: 239.192.80.1 is also that of news"),
        ("group: 239.192.81.1", "group: 239.192.80.2", "17: 239.192.80.2 is also that of tail"),
        (
            "group: 239.192.80.1",
            "group: 224.0.0.1",
            "4: group: 224.0.0.1 is not in 239.192.80.0/20",
        ),
        ("group: 239.192.80.1", "group: nowhere", "4: group: Input is not a valid IPv4"),
        ("  safety:", "  news:", "15: news is also a channel"),
        ("port: 5006", "port: 80", "11: port: Input should be greater than or equal to 1024"),
        ("news/monday.ts", "/etc/passwd", "5: playlist: a path below the media folder, such as"),
        ("news/monday.ts", "../x.ts", "5: playlist: a path below the media folder, such as"),
        ("playlist: [news/monday.ts, news/weather.ts]", "loop: true", "2: news: give either a"),
        ("loop: false", "playlist: [a.ts]", "8: tail: give either a playlist or a live source"),
        ('"06:00"', '"6"', "6: from: a time of day is written 06:30"),
        ("2026-01-01", "yesterday", "7: from: Input should be a valid date"),
        ("en: News", "english: News", "3: english: String should match pattern"),
        ("{en: Safety}", "{}", "16: names is empty"),
        ("loop: false", "lop: false", "13: lop is not a field here"),
        ("loop: false", "loop: sometimes", "13: loop: Input should be a valid boolean"),
        ("files: {en: safety/en.ts, pt-BR: safety/pt.ts}", "loop: true", "15: files is missing"),
        ("source: 10.23.0.7, ", "", "12: source is missing"),
        ("  tail:", "  news:", "8: news is there twice, also in line 2"),
        ("{en: Safety}", "*names", "16: aliases (*name) are not allowed here"),
        ("{en: Safety}", "{en: [[[[a]]]]}", "16: this is nested too deep"),
        ("{en: Safety}", "{en: 'x", "16: not YAML: while scanning"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert old in GOOD
    found = problems(tmp_path, GOOD.replace(old, new, 1))
    if "not YAML" in problem:
        problem = problem.split(":")[1]
        assert problem in found[0]
    else:
        assert [line for line in found if line.startswith(problem)], found


def test_every_mistake_is_named(tmp_path: Path) -> None:
    text = GOOD.replace("port: 5006", "port: x").replace("2026-01-01", "x").replace("en: N", "e: N")
    assert [int(line.split(":")[0]) for line in problems(tmp_path, text)] == [3, 7, 11]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "1: the file is empty"),
        ("- a\n", "1: the file: fields belong here, each as name: value"),
        ("a: 1\n---\nb: 2\n", "2: here a second document begins"),
        (b"imposed:\n  \xff: 1\n", "2: this is not UTF-8 text"),
        ("#" * 70_000, "1: the file is over 64 KiB, none is that large"),
        ("a: \0\n", "1: not YAML: special characters are not allowed"),
        ("? [a]\n: b\n", "1: a key is a single word"),
    ],
)
def test_what_is_no_channels_file(tmp_path: Path, content: str | bytes, problem: str) -> None:
    assert problems(tmp_path, content) == [problem]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ChannelsError, match="No such file"):
        load(tmp_path / "none.yml")


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_nothing_else_is_raised(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yml"
    path.write_bytes(data)
    with suppress(ChannelsError):
        load(path)


@pytest.mark.parametrize(
    ("start", "until", "on", "off"),
    [
        ("06:00", "22:00", ["06:00", "12:00", "21:59"], ["05:59", "22:00", "00:00"]),
        ("22:00", "06:00", ["22:00", "23:59", "00:00", "05:59"], ["06:00", "12:00", "21:59"]),
    ],
)
def test_a_schedule(start: str, until: str, on: list[str], off: list[str]) -> None:
    schedule = Schedule.model_validate({"from": start, "until": until})
    assert all(schedule.has(time.fromisoformat(moment)) for moment in on)
    assert not any(schedule.has(time.fromisoformat(moment)) for moment in off)


def test_rights_include_their_first_and_last_day() -> None:
    rights = Rights.model_validate({"from": "2026-01-01", "until": "2026-12-31"})
    assert rights.has(date(2026, 1, 1))
    assert rights.has(date(2026, 12, 31))
    assert not rights.has(date(2025, 12, 31))
    assert not rights.has(date(2027, 1, 1))
    assert Rights().has(date(2030, 1, 1))


def test_on_the_air_is_judged_in_utc() -> None:
    channel = Channel.model_validate(
        {
            "names": {"en": "News"},
            "group": "239.192.80.1",
            "playlist": ["a.ts"],
            "schedule": {"from": "06:00", "until": "22:00"},
            "rights": {"until": "2026-05-01"},
        }
    )
    assert channel.on_air(datetime(2026, 5, 1, 21, 59, tzinfo=UTC))
    east = timezone(timedelta(hours=9))
    assert not channel.on_air(datetime(2026, 5, 1, 7, 0, tzinfo=east))
    assert channel.on_air(datetime(2026, 5, 2, 6, 0, tzinfo=east))
    assert not channel.on_air(datetime(2026, 5, 2, 7, 0, tzinfo=UTC))


def test_the_command_checks_files(tmp_path: Path) -> None:
    good = write(tmp_path, GOOD)
    wrong = tmp_path / "wrong.yml"
    wrong.write_text("channels: {a: {}}\n")
    done = subprocess.run(
        [sys.executable, "-m", "apps.common.channels", str(good), str(wrong)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == f"{good}: 2 channels, 1 imposed videos\n"
    assert f"{wrong}:1: names is missing" in done.stderr
