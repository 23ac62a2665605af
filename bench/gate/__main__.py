"""Measures the gate and writes the results into docs/benchmarks.md: `make bench-gate`."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.benchmark import Worst, in_turn, main
from bench.document import table
from bench.gate import heartbeats, kills, usage
from bench.gate.hangar import Keys
from tests.roles import ground
from tests.roles.helpers import LAYOUT, Pki


@contextmanager
def _keys() -> Iterator[tuple[Keys, Path, Path]]:
    """The Hangar's and EC-LAB's, by the role pki; the authority's folder, and one for more."""
    with tempfile.TemporaryDirectory(prefix="ife-") as top:
        folder = Path(top)
        layout = folder / "layout.yml"
        layout.write_text(LAYOUT)
        pki = Pki(folder / "EC-LAB", "EC-LAB", folder / "offline", layout)
        run = pki.run()
        if run.failed:
            raise SystemExit(f"the certificates cannot be made: {run.errors}")
        yield ground.make(folder, pki).keys, folder / "offline", folder


def _usage(runs: int, keys: Keys) -> str:
    def once() -> tuple[float, ...]:
        found = usage.measure(keys)
        return found.rate, found.on_board, found.at_hangar, found.size

    rate, on_board, at_hangar, size = in_turn(runs, {"usage": once})["usage"]
    rows = [
        ["records/s", "µs CPU on board", "µs CPU at the Hangar", "bytes"],
        [f"{rate:,.0f}", f"{on_board:.0f}", f"{at_hangar:.0f}", f"{size:.0f}"],
    ]
    return f"### Usage, sealed and taken\n\n{table(*rows)}"


def _kills(keys: Keys, times: int) -> str:
    found = kills.run(keys, lambda ends: ends.kill(times, seed=times))
    rows = [["killed", "times"], *([name, str(count)] for name, count in found.disturbed.items())]
    return f"""### Usage, while either side is killed

{table(*rows)}
{found.written:,} records written in {found.batches:,} batches: {len(found.lost)} lost,
{found.doubled} doubled, {len(found.unknown)} that nobody wrote.
"""


def _heartbeats(runs: int, keys: Keys, authority: Path, folder: Path) -> str:
    names = heartbeats.certificates(authority, folder, heartbeats.AIRCRAFT)
    aircraft = {name: folder / name for name in names}
    ways = {"one connection a turnaround": True, "a handshake each": False}

    def measure(keep: bool) -> tuple[float, ...]:
        found = heartbeats.measure(keys, aircraft, keep)
        return found.cpu, found.p50, found.p99, Worst(found.failed)

    measured = in_turn(
        runs,
        {name: lambda keep=keep: measure(keep) for name, keep in ways.items()},  # type: ignore[misc]
    )
    rows = [["1,000 aircraft at 30 s", "% of a core", "p50 ms", "p99 ms", "failed"]]
    rows += [
        [name, f"{cpu:.1f}", f"{p50:.1f}", f"{p99:.1f}", f"{failed:.0f}"]
        for name, (cpu, p50, p99, failed) in measured.items()
    ]
    return f"### Heartbeats\n\n{table(*rows)}"


def _results(options: argparse.Namespace) -> str:
    with _keys() as (keys, authority, folder):
        return "\n".join(
            [
                _usage(options.runs, keys),
                _kills(keys, int(options.kills)),
                _heartbeats(options.runs, keys, authority, folder),
            ]
        )


if __name__ == "__main__":
    main("gate", _results, __doc__, ["nginx"], kills=200)
