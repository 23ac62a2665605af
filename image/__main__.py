"""Builds the aircraft's image, and shows that it comes out the same twice."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from image.build import build
from image.check import check
from image.settings import Build, ImageError, Source


def main(arguments: list[str]) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    chosen = Build(
        output=options.out.absolute(),
        source=Source(options.mirror, options.suite, options.snapshot),
        lock=options.lock,
        keys=options.keys and options.keys.absolute(),
        cache=options.cache.absolute(),
    )
    try:
        (check if options.command == "check" else build)(chosen)
    except ImageError as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m image", description=__doc__)
    parser.add_argument("command", choices=("build", "check"))
    parser.add_argument("--lock", type=Path, help="build from exactly these packages")
    parser.add_argument("--out", type=Path, default=Build.output, help="where the image goes")
    parser.add_argument("--cache", type=Path, default=Build.cache, help="what was downloaded")
    parser.add_argument("--keys", type=Path, help="secureboot.key and .crt, else a test key")
    parser.add_argument("--mirror", default=Source.mirror, help="URL above Debian's archives")
    parser.add_argument("--suite", default=Source.suite, help="Debian's release")
    parser.add_argument(
        "--snapshot", help="a time like 20251101T000000Z, from the snapshot service"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
