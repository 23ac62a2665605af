"""Debian's Chromium, for tests that look at pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

AXE = Path(__file__).parents[1] / "apps/crew_web/node_modules/axe-core/axe.min.js"

PANEL = (1280, 800)
PHONE = (390, 844)

# Each language once, and each size twice: what axe finds hardly depends on both. Two of them do for
# each change.
in_all_looks = pytest.mark.parametrize(
    ("language", "size"),
    [
        pytest.param("en", PANEL, id="en-panel"),
        pytest.param("de", PHONE, id="de-phone"),
        pytest.param("es", PANEL, id="es-panel", marks=pytest.mark.long),
        pytest.param("fr", PHONE, id="fr-phone", marks=pytest.mark.long),
    ],
)

WATCH_POLICY = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`);
});
"""
"""A script for a page: what its content security policy stopped is in `window.violations`."""


@contextmanager
def chromium(program: Path = Path("/usr/bin/chromium")) -> Iterator[Browser]:
    """A browser, while it lasts; `program` starts it."""
    with sync_playwright() as playwright:
        # Its sandbox wants user namespaces, which a container or root may not have.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def axe(page: Page, where: str) -> list[str]:
    """Serious and critical findings of axe-core; `where` in the page it is, for the message."""
    page.evaluate(AXE.read_text())
    result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{where}: {finding['id']}: {node['html'][:200]} {node['failureSummary']}"
        for finding in result["violations"]
        if finding["impact"] in {"serious", "critical"}
        for node in finding["nodes"]
    ]
