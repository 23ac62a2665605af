"""What `ife-status` makes of a real seat control, as its unit runs it."""

from __future__ import annotations

from pathlib import Path

import httpx

from apps.common.protocol import SEAT_HEADER
from apps.common.testing import wait_until
from apps.seat_control import testing
from apps.seat_control.tests.test_seat_table import status
from apps.status.collect import collect, seats


def test_it_counts_the_seats_that_seat_control_sees(tmp_path: Path) -> None:
    (tmp_path / "run/ife").mkdir(parents=True)
    (tmp_path / "var").mkdir()
    path, port = tmp_path / "run/ife/seat_control.sock", testing.free_port()
    (tmp_path / "etc/ife").mkdir(parents=True)
    (tmp_path / "etc/ife/seat_control.env").write_text("IFE_REGISTRATION=EC-LAB\n")
    command = [
        *testing.GUNICORN,
        *("--bind", f"unix:{path}", "--bind", f"127.0.0.1:{port}", "apps.seat_control.asgi:app"),
    ]
    with testing.server(command, port, testing.variables(tmp_path)):
        found = seats(path)
        assert (found.layout, found.total, found.live) == ("a320", found.waiting, 0)
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=5) as seat:
            seat.post(
                "http://seat_control/api/v1/seats/12C/status",
                content=status().model_dump_json(),
                headers={SEAT_HEADER: "12C"},
            ).raise_for_status()
        wait_until(lambda: seats(path).live == 1, "a seat is live")
        wait_until(lambda: "12D" in seats(path).silent, "the others are silent")
        facts = collect(tmp_path)
        assert facts.registration == "EC-LAB"
        assert facts.seats
        assert facts.seats.layout == "a320"
