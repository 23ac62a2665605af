"""What every benchmark does: takes options, measures all in turn, and writes the results down."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from statistics import median

from bench.document import machine, write

Measure = Callable[[], tuple[float, ...]]


class Worst(float):
    """A figure of which the highest of all runs counts: the longest time, how much was lost."""


def in_turn(runs: int, measures: Mapping[str, Measure]) -> dict[str, tuple[float, ...]]:
    """Each measure `runs` times in turn, so that a slow minute hits all alike.

    The medians; of what is `Worst`, the highest.
    """
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in measures}
    for run in range(runs):
        for name, measure in measures.items():
            found[name].append(measure())
            figures = ", ".join(f"{value:,.2f}" for value in found[name][-1])
            print(f"  run {run + 1} of {runs}, {name}: {figures}", file=sys.stderr)
    return {
        name: tuple(
            max(column) if isinstance(column[0], Worst) else median(column)
            for column in zip(*values, strict=True)
        )
        for name, values in found.items()
    }


def main(
    kind: str,
    results: Callable[[argparse.Namespace], str],
    description: str | None,
    programs: Iterable[str] = (),
    **numbers: float,
) -> None:
    """Be a benchmark's program: measure, and put the results between the document's marks.

    Args:
        kind: of the marks.
        results: what measures; gets the options, gives Markdown.
        description: for `--help`.
        programs: what it takes, beside root rights.
        numbers: further options, each with what it is unless given.
    """
    parser = argparse.ArgumentParser(description=description)
    for name, value in {"runs": 5, **numbers}.items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"default {value}")
    parser.add_argument("--print", action="store_true", help="and do not write them down")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("a network of its own takes root rights: sudo make")
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        parser.error(f"not installed: {', '.join(missing)}")
    how = f"Medians of {options.runs} runs; of what is longest, lost or not reached, the highest."
    text = f"{machine()} {how}\n\n{results(options)}"
    if options.print:
        print(text)
    else:
        write(kind, text)
