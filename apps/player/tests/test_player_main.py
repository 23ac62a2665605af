"""The program itself, started as the unit starts it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from apps.common.testing import ask_manhole
from apps.player.settings import PlayerSettings

COMMAND = [sys.executable, "-m", "apps.player"]


def environment(settings: PlayerSettings) -> dict[str, str]:
    values = settings.model_dump(exclude_none=True) | {
        "pa_public_keys_file": settings.command_public_keys_file,
        "pa_sink": f"file:{settings.state_directory / 'sound'}",
        "video_output": "dummy",
        "audio_output": "dummy",
    }
    return os.environ | {f"IFE_{name.upper()}": str(value) for name, value in values.items()}


def test_it_says_that_it_is_ready_and_stops_when_told(
    make_settings: Callable[..., PlayerSettings], tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(20)
        variables = environment(make_settings()) | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        process = subprocess.Popen(COMMAND, env=variables, stderr=subprocess.PIPE, text=True)
        try:
            said = [notified.recv(1000).decode() for _ in range(3)]
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=10)
        finally:
            process.kill()
    assert said[0] == "READY=1"
    assert said[1].startswith("STATUS=degraded: seat control (")
    assert said[2] == "WATCHDOG=1"
    assert process.returncode == 0, log
    assert "Traceback" not in log
    assert (make_settings().state_directory / "held.json").exists()


def test_a_missing_setting_is_named(make_settings: Callable[..., PlayerSettings]) -> None:
    variables = environment(make_settings())
    del variables["IFE_SEAT"]
    variables["IFE_SERVER_URL"] = "http://127.0.0.1"
    done = subprocess.run(
        COMMAND, env=variables, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 1
    assert "IFE_SEAT: " in done.stderr
    assert "IFE_SERVER_URL: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_setting_of_a_child_is_named_by_the_agent(
    make_settings: Callable[..., PlayerSettings],
) -> None:
    for variable, wrong in [("IFE_PA_SINK", "pulse:"), ("IFE_PA_PUBLIC_KEYS_FILE", "/nowhere")]:
        done = subprocess.run(
            COMMAND,
            env=environment(make_settings()) | {variable: wrong},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 1
        assert variable in done.stderr or wrong in done.stderr


def test_its_manhole_knows_the_player(
    make_settings: Callable[..., PlayerSettings], tmp_path: Path
) -> None:
    path = tmp_path / "manhole.sock"
    process = subprocess.Popen(
        COMMAND,
        env=environment(make_settings()) | {"IFE_MANHOLE": str(path)},
        stderr=subprocess.DEVNULL,
    )
    try:
        assert "True <class 'apps.player.agent.Player'>" in ask_manhole(
            path, "print(loop.is_running(), type(player))"
        )
    finally:
        process.kill()
        process.wait()
