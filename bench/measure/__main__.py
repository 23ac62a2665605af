"""Measures everything and writes the results into docs/benchmarks.md: `make bench-seats`."""

from __future__ import annotations

import argparse
import os

from bench.benchmark import main
from bench.document import table
from bench.measure import commands, loss, status


def _status(runs: int, seconds: float) -> str:
    figures = status.measure(runs, seconds)
    ours, twisted = figures["seat_control"], figures["Twisted web"]
    flask = figures["Flask, gunicorn gthread"]
    rows = [
        ["server", "updates/s", "p99 ms", "µs CPU, 312", "µs CPU, 2,000", "MiB, 312", "MiB, 2,000"]
    ]
    rows += [
        [
            name,
            f"{f.rate:,.0f}",
            f"{f.p99:.0f}",
            f"{f.cpu:.0f}",
            f"{f.cpu_many:.0f}",
            f"{f.memory:.0f}",
            f"{f.memory_many:.0f}",
        ]
        for name, f in figures.items()
    ]
    return f"""### Status updates

{table(*rows)}
Rate: {ours.rate / twisted.rate:.2f}x Twisted web, {ours.rate / flask.rate:.2f}x plain Flask,
{ours.rate / figures["Starlette, uvicorn"].rate:.2f}x Starlette. Processor time an update, once a
second a seat: {ours.cpu / twisted.cpu:.2f}x Twisted web's at 312 seats,
{ours.cpu_many / twisted.cpu_many:.2f}x at 2,000; {ours.cpu_many / ours.cpu:.2f} of its own at 312
(1 is linear growth).
"""


def _commands(runs: int) -> str:
    times = commands.measure(runs)
    rows = [["sender and seats", "p50 ms", "p99 ms", "last ms"]]
    rows += [[name, f"{t.p50:.1f}", f"{t.p99:.1f}", f"{t.last:.1f}"] for name, t in times.items()]
    ours = times["seat_control"].p99
    alone = times["seat_control's transport alone"].p99
    lines = [
        f"- {name}: seat_control {ours / t.p99:.2f}x, transport alone {alone / t.p99:.2f}x"
        for name, t in times.items()
        if not name.startswith("seat_control")
    ]
    return f"""### From the click to every seat

{table(*rows)}
The p99 against that of:

{chr(10).join(lines)}
"""


def _loss(runs: int) -> str:
    reached = loss.measure(runs)
    rows = [["dropped", "sender", "p99 ms", "last ms", "seats"]]
    rows += [
        [f"{percent} %", name, f"{r.p99:,.0f}", f"{r.last:,.0f}", f"{r.seats} of {status.SEATS}"]
        for (name, percent), r in sorted(reached.items(), key=lambda item: item[0][1])
    ]
    return f"""### The whole bench, while packets vanish

{table(*rows)}"""


def _results(options: argparse.Namespace) -> str:
    cores = os.sched_getaffinity(0)
    sections = [_status(options.runs, options.seconds), _commands(options.runs)]
    os.sched_setaffinity(0, cores)
    sections.append(_loss(options.runs))
    return "\n".join(sections)


if __name__ == "__main__":
    main("results", _results, __doc__, seconds=8.0)
