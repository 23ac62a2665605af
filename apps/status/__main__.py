"""``ife-status``: prints how this server is. Exit status: 0 all is well, 1 not, 2 wrong use."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from datetime import UTC, datetime

from apps.status.collect import collect
from apps.status.judge import judge
from apps.status.show import plain, short


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="ife-status", description="How this server is, what is wrong, and what to do."
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="all of it, for machines")
    shape.add_argument("--short", action="store_true", help="who it is and what is wrong, only")
    options = parser.parse_args()
    # Libraries grumble about what the unit keeps from them; nobody on the console wants to know.
    logging.basicConfig(level=logging.ERROR)
    report = judge(collect(), datetime.now(UTC))
    # `ife-status | head` ends when head has read enough.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if options.json:
        print(report.model_dump_json(indent=2))
    else:
        show = short if options.short else plain
        print(show(report, colour=sys.stdout.isatty()), end="")
    return 0 if report.well else 1


if __name__ == "__main__":
    sys.exit(main())
