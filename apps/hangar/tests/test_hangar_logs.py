"""Logs of aircraft: the newest few are kept, whatever the clock says."""

from __future__ import annotations

import os
import time
from pathlib import Path
from uuid import UUID

from apps.hangar.logs import KEPT, Logs


def test_a_clock_that_was_set_back_has_the_oldest_go_and_nothing_that_came_since(
    tmp_path: Path,
) -> None:
    logs = Logs(tmp_path)
    names = [UUID(int=number) for number in range(KEPT + 3)]
    before, since = names[:KEPT], names[KEPT:]
    tomorrow = time.time_ns() + 86_400 * 10**9
    for number, name in enumerate(before):
        logs.keep("EC-LAB", name, b"before")
        os.utime(tmp_path / f"EC-LAB/{name}.zst", ns=(0, tomorrow + number))
    for number, name in enumerate(since, 1):
        logs.keep("EC-LAB", name, b"since")
        assert logs.of("EC-LAB") == set(names[number : KEPT + number])
        assert logs.read("EC-LAB", name) == b"since"
    # The same once more, as where the answer was lost.
    logs.keep("EC-LAB", since[0], b"again")
    assert logs.read("EC-LAB", since[0]) == b"again"
    assert logs.of("EC-LAB") == set(names[3:])
