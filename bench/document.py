"""Writes results of benchmarks into docs/benchmarks.md, each kind between marks of its own."""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess
from pathlib import Path

DOCUMENT = Path(__file__).parent.parent / "docs/benchmarks.md"


def table(*rows: list[str]) -> str:
    """A table in Markdown; the first row is its head, and all columns but the first are numbers."""
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    rule = "|---" + "|---:" * (len(rows[0]) - 1) + "|"
    return "\n".join([head, rule, *body]) + "\n"


def machine() -> str:
    """When this is, of which revision, and on what."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()
    day = dt.datetime.now(tz=dt.UTC).date()
    return (
        f"{day}, revision {revision}, {os.cpu_count()} x {model}, Linux {platform.release()}, "
        f"Python {platform.python_version()}."
    )


def write(kind: str, results: str) -> None:
    """Put results in the place of those that the document has of this kind; print them as well."""
    begin, end = f"<!-- {kind}: begin -->\n", f"<!-- {kind}: end -->\n"
    print(results)
    text = DOCUMENT.read_text()
    if begin not in text or end not in text:
        raise ValueError(f"{DOCUMENT} has no place for {kind}")
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    DOCUMENT.write_text(before + begin + results + end + after)
    print(f"written to {DOCUMENT}: read it over, then commit it")
