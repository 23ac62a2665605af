"""``python -m apps.crew_web hash-pin``: read a PIN and print its hash for the crew file."""

from __future__ import annotations

import argparse
import getpass
import sys

from apps.crew_web.crew import hash_pin


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m apps.crew_web")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "hash-pin", help="read a PIN from the terminal or standard input, print its hash"
    )
    parser.parse_args()
    pin = getpass.getpass("PIN: ") if sys.stdin.isatty() else sys.stdin.readline().strip()
    try:
        print(hash_pin(pin))
    except ValueError as error:
        print(f"{error}: try again", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
