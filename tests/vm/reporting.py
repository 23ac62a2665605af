"""Seats that report to a server over mutual TLS, until standard input ends.

    python -m tests.vm.reporting SERVER[:PORT] PKI SEAT...

It prints ``reporting`` once each of them was answered, and at its end how many statuses of each
were answered, and what became of all others, as JSON.
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import threading
from pathlib import Path

from apps.seat_control.tests.test_seat_table import status

PAUSE = 0.2
"""Seconds between an answer and the next status."""

TIMEOUT = 120.0
"""Seconds: a restart on an emulated processor. A player would give up earlier, and try again."""


class Seat:
    """A seat, with a connection that it keeps."""

    def __init__(self, server: str, pki: Path, name: str) -> None:
        certificate = pki / "seats" / f"{name}.crt"
        context = ssl.create_default_context(cafile=pki / "root.crt")
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        self.name = name
        self._connection = http.client.HTTPSConnection(server, timeout=TIMEOUT, context=context)
        self.answered = 0
        self.failures: list[str] = []

    def report(self) -> None:
        """Send one status, and wait for its answer."""
        path, body = f"/api/v1/seats/{self.name}/status", status().model_dump_json()
        try:
            self._connection.request("POST", path, body)
            answer = self._connection.getresponse()
            told = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(repr(error))
            self._connection.close()
            return
        if answer.status == 200:
            self.answered += 1
        else:
            self.failures.append(f"{answer.status} {told.decode()}")

    def report_until(self, over: threading.Event) -> None:
        """Go on like that."""
        while not over.wait(PAUSE):
            self.report()
        self._connection.close()


def main(server: str, pki: str, *names: str) -> None:
    """Report until standard input ends."""
    seats = [Seat(server, Path(pki), name) for name in names]
    for seat in seats:  # one after the other: an emulated server takes its time to meet each
        seat.report()
    over = threading.Event()
    threads = [threading.Thread(target=seat.report_until, args=(over,)) for seat in seats]
    for thread in threads:
        thread.start()
    print("reporting", flush=True)
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    answered = {seat.name: seat.answered for seat in seats}
    failures = {seat.name: seat.failures for seat in seats if seat.failures}
    print(json.dumps({"answered": answered, "failures": failures}))


if __name__ == "__main__":
    main(*sys.argv[1:])
