"""Somebody of the crew who presses a button, again and again, until standard input ends.

    python -m tests.vm.pressing URL PKI PERSON PIN-FILE

It prints ``pressing`` once a command was acknowledged, and at its end the numbers of all that were,
and what became of the others, as JSON.
"""

from __future__ import annotations

import json
import ssl
import sys
import threading
from pathlib import Path

import httpx

from apps.common.testing import wait_until
from bench.testing import log_in

PAUSE = 0.3
"""Seconds between two presses."""

TIMEOUT = 120.0

COMMAND = {"selector": {"all": True}, "action": {"name": "identify"}, "expires_in": 60}


def main(url: str, pki: str, person: str, pin: str) -> None:
    """Press until standard input ends."""
    trust = ssl.create_default_context(cafile=Path(pki) / "root.crt")
    acknowledged: list[int] = []
    failures: list[str] = []
    over = threading.Event()
    with httpx.Client(base_url=url, verify=trust, trust_env=False, timeout=TIMEOUT) as client:
        wait_until(
            lambda: client.get("/").status_code < 500,
            "the page is there, which an emulated server has to load",
            180,
        )
        log_in(client, person, Path(pin).read_text().strip())

        def press() -> None:
            try:
                answer = client.post("/api/v1/commands", json=COMMAND)
            except httpx.HTTPError as error:
                failures.append(repr(error))
                return
            if answer.status_code == 202:
                acknowledged.append(answer.json()["seq"])
            else:
                failures.append(f"{answer.status_code} {answer.text}")

        def press_until_over() -> None:
            while not over.wait(PAUSE):
                press()

        press()
        thread = threading.Thread(target=press_until_over)
        thread.start()
        print("pressing", flush=True)
        sys.stdin.read()
        over.set()
        thread.join()
    print(json.dumps({"acknowledged": acknowledged, "failures": failures}))


if __name__ == "__main__":
    main(*sys.argv[1:])
