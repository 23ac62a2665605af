"""End to end: seats on our side of the bridge, the crew's page in Chromium, the server in a VM."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from apps.common import layout
from apps.common.testing import listens, wait_until
from bench.cabin import CabinSettings
from bench.orders import Order, give
from bench.site import CABIN, ROOT, UNTIL_IT_ANSWERS
from image.vm.vm import VM
from tests.browser import chromium

pytestmark = pytest.mark.long

SEATS = 60
"""That join: nearly all that a server under TCG has time for."""

REPORTING = 20
RESTARTS = 3
STORE = ROOT / "build/lab"
PKI = STORE / "EC-LAB"
SERVER = "10.20.0.1"
CREW_PAGE = "https://10.22.0.1"

SCREENSHOT = ROOT / ".cache/vm/crew-page.png"

NSENTER = """\
#!/bin/sh
exec {entering} /usr/bin/chromium "$@"
"""


@pytest.fixture(scope="module")
def cabin(aircraft: VM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CabinSettings]:
    """The seats of the first rows, with the certificates that the lab's playbook made."""
    folder = tmp_path_factory.mktemp("cabin")
    a330 = layout.load(ROOT / "inventory/layouts/a330-300.yml")
    seats = list(a330.seats)[:SEATS]
    settings = CabinSettings(
        seats=seats,
        registration="EC-LAB",
        server_url=f"https://{SERVER}",
        ca_file=PKI / "root.crt",
        certificates=PKI / "seats",
        command_public_keys_file=PKI / "command.pub",
        state=folder / "state",
        socket=folder / "orders.sock",
        multicast_interface=CABIN.name,
        multicast_group="239.192.73.1",
        multicast_port=5773,
        multicast_source=SERVER,
        pa_areas={seat: a330.pa_area_number(a330.seats[seat].pa_area) for seat in seats},
        pa_public_keys_file=PKI / "pa.pub",
    )
    settings.state.mkdir()
    file = folder / "cabin.json"
    file.write_text(settings.model_dump_json())
    with subprocess.Popen(
        [*aircraft.entering, sys.executable, "-m", "bench.cabin", str(file)], cwd=ROOT
    ) as process:
        try:
            wait_until(lambda: listens(settings.socket), "the seats are on", 60)
            yield settings
        finally:
            process.terminate()
            process.wait(20)


def test_a_restart_of_seat_control_loses_no_request(aircraft: VM) -> None:
    """Its socket stays open meanwhile, and nginx waits there."""
    seats = list(layout.load(ROOT / "inventory/layouts/a330-300.yml").seats)[-REPORTING:]
    reporting = _beside(aircraft, "reporting", SERVER, str(PKI), *seats)
    pressing = _beside(aircraft, "pressing", CREW_PAGE, str(PKI), "anna", str(STORE / "anna.pin"))
    with reporting as reported, pressing as pressed:
        for _ in range(RESTARTS):
            aircraft.run(f"app=seat_control; systemctl restart ife-$app; {UNTIL_IT_ANSWERS}", 180)
    assert reported["failures"] == {}
    assert min(reported["answered"].values()) > RESTARTS
    assert pressed["failures"] == []
    assert len(pressed["acknowledged"]) == len(set(pressed["acknowledged"])) > RESTARTS


@contextmanager
def _beside(vm: VM, module: str, *arguments: str) -> Iterator[dict[str, Any]]:
    """Run a program on our side of the networks; what it has to tell is there at its end."""
    told: dict[str, Any] = {}
    with subprocess.Popen(
        [*vm.entering, sys.executable, "-m", f"tests.vm.{module}", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == f"{module}\n"
            yield told
            told |= json.loads(process.communicate(timeout=180)[0])
        finally:
            process.kill()


@pytest.fixture
def page(aircraft: VM, tmp_path: Path) -> Iterator[Page]:
    """Chromium on the crew's panel, which is on the crew network."""
    program = tmp_path / "chromium"
    program.write_text(NSENTER.format(entering=" ".join(aircraft.entering)))
    program.chmod(0o755)
    with chromium(program) as browser:
        # The panel's own store trusts the lab's root; the browser's here does not know it.
        page = browser.new_page(
            base_url=CREW_PAGE, ignore_https_errors=True, viewport={"width": 1280, "height": 800}
        )
        page.set_default_timeout(90_000)
        yield page


def test_the_crew_controls_sixty_seats(cabin: CabinSettings, page: Page) -> None:
    page.goto("/")
    page.get_by_label("Anna", exact=True).check()
    page.locator("#pin").fill((STORE / "anna.pin").read_text().strip())
    page.locator(".go").click()
    expect(page.locator(".lamp.live")).to_be_visible(timeout=90_000)
    expect(page.locator('.seat[data-look="idle"]')).to_have_count(SEATS, timeout=90_000)
    page.screenshot(path=SCREENSHOT)

    page.locator('[data-select-look="idle"]').click()
    page.get_by_role("button", name="Mute", exact=True).click()
    report = page.locator("#reports > article").first
    expect(report).to_contain_text(f"{SEATS} of {SEATS}", timeout=90_000)
    applied = give(cabin.socket, Order(order="applied"))
    assert {entry["seat"] for entry in applied if entry["action"] == "mute"} == set(cabin.seats)
