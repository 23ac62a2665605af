"""The PA child tells first of all."""

from __future__ import annotations

import logging
import socket
import time
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from apps.common.pa import Source
from apps.player.pa import PaChild
from apps.player.pa_hearing import Override
from apps.player.pa_report import MAX_REPORT, PaReport
from apps.player.settings import PaSettings


def test_who_shows_the_pa_hears_of_it_before_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "pa.keys"
    keys.write_text("A" * 43 + "\n")
    settings = PaSettings(
        registration="EC-LAB",
        multicast_interface="lo",
        multicast_source=IPv4Address("127.0.0.1"),
        pa_area=2,
        pa_public_keys_file=keys,
    )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    happened: list[str | bool] = []

    class Log(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # What was told by then.
            report = PaReport.model_validate_json(ours.recv(MAX_REPORT, socket.MSG_DONTWAIT))
            happened.extend((report.on, record.getMessage()))

    logger = logging.getLogger("apps.player.pa")
    monkeypatch.setattr(logger, "handlers", [Log()])
    monkeypatch.setattr(logger, "level", logging.INFO)
    with ours, theirs:
        child = PaChild(settings, [theirs])
        now = time.monotonic()
        child._changed(Override(Source.CREW, 7, 0), now)
        child._changed(None, now)
        for group in child._groups:
            group.socket.close()
    assert happened == [True, "the PA has the seat", False, "the PA is over"]
