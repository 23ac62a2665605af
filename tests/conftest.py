"""What tests of the whole share: a cabin that is up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from bench import testing

# Milliseconds. Pages have to come, not to come fast: this machine may have other things to do.
expect.set_options(timeout=20_000)

CABIN_TIMEOUT = 300
"""Seconds for a test with a cabin: the first of them waits for all its seats."""


@pytest.fixture(scope="session")
def cabin() -> Iterator[testing.Cabin]:
    """The whole cabin, 312 seats. Leave it as you found it: other tests go on with it."""
    with testing.cabin() as cabin:
        yield cabin


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses the cabin is a test of the bench, and may take longer than others."""
    for item in items:
        if "cabin" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.bench)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(CABIN_TIMEOUT))
