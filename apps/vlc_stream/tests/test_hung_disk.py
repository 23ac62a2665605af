"""A media disk that does not answer any more."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

from apps.common.testing import hung_disk, wait_until
from apps.vlc_stream import service
from apps.vlc_stream.settings import VlcStreamSettings
from apps.vlc_stream.tests.served import SERVER, Cabin
from apps.vlc_stream.tests.test_vlc_stream_api import variables

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a disk takes root rights")


def test_it_costs_what_is_on_it_and_vlc_stream_goes_on(
    cabin: Cabin, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LIBRARY_STUCK_AFTER", 3.0)
    media = tmp_path / "media"
    media.mkdir()
    for name in ("one.ts", "short.ts"):
        shutil.copy(clips / name, media)
    settings = VlcStreamSettings.model_validate(
        variables(tmp_path, media)
        | {"multicast_interface": "cabin0", "multicast_source": str(SERVER)}
    )
    stream = cabin.server.run(service.VlcStream, settings)
    cabin.server.run(stream.start)

    def plays() -> bool:
        return stream.channels()[0].state == "playing"

    def is_well() -> bool:
        return "files" not in [part.part for part in stream.health.report().degraded]

    try:
        wait_until(plays, "it plays", 30)
        with hung_disk(media), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as service_manager:
            service_manager.settimeout(10)
            service_manager.bind(str(tmp_path / "notify"))
            monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
            told = b"files (they are not looked at any more)"
            wait_until(lambda: told in service_manager.recv(4096), "it is told", 20)
            # systemd is not to start it anew, which would not help.
            for _ in range(3):
                wait_until(lambda: service_manager.recv(4096) == b"WATCHDOG=1", "it lives")
            assert stream.health.report().ready
        wait_until(lambda: is_well() and plays(), "it plays again", 30)
    finally:
        stream.close()
