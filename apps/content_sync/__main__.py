"""``ife-content``: the content on board, for engineers. Exit status: 0 done, 1 not, 2 wrong use."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from apps.common.calls import Client, RefusedError, UnavailableError
from apps.common.content import ContentState, ImportRequest, Job, SetView

SOCKET = Path("/run/ife/content_sync.sock")
WHO = "ife-content"
"""In whose name it asks: the log has it."""

POLL = 0.5
TIMEOUT = 20.0
"""Seconds; it may just be starting."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    client = Client(options.socket, TIMEOUT)
    try:
        match options.command:
            case "status":
                return _status(client, options.json)
            case "rollback":
                return _rollback(client, options.json)
            case "verify":
                job = client.ask(Job, "POST", "/api/v1/verifications", WHO)
            case _:
                request = ImportRequest(folder=str(options.folder.absolute()))
                job = client.ask(Job, "POST", "/api/v1/imports", WHO, request)
        return _follow(client, job, options.json)
    except RefusedError as error:
        print(f"ife-content: {error.detail}", file=sys.stderr)
    except UnavailableError as error:
        print(
            f"ife-content: content_sync does not answer at {options.socket}: {error}.\n"
            "See `systemctl status ife-content_sync`.",
            file=sys.stderr,
        )
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ife-content", description="The content on board: how it is, and what to do with it."
    )
    parser.add_argument("--socket", type=Path, default=SOCKET, help=f"else {SOCKET}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, about in (
        ("status", "What is on board, what is coming, and the disks"),
        ("verify", "Read everything again, and compare it with what was signed"),
        ("import", "Import the repository in a folder of this server"),
        ("rollback", "Put the former set in force, at once"),
    ):
        one = commands.add_parser(name, help=about, description=about)
        one.add_argument("--json", action="store_true", help="for machines")
        if name == "import":
            one.add_argument("folder", type=Path)
    return parser


def _status(client: Client, json: bool) -> int:
    state = client.ask(ContentState, "GET", "/api/v1/content", None)
    if json:
        print(state.model_dump_json(indent=2))
        return 0
    print(f"In force: {_set(state.current)}")
    print(f"Former:   {_set(state.former)}")
    if state.coming:
        print(f"Coming:   {_set(state.coming)}")
    print(f"Good:     {state.freshness.says}")
    if state.progress:
        progress = state.progress
        done, whole = progress.bytes_done, progress.bytes
        print(f"Now:      {progress.title} from {progress.source}, {_share(done, whole)}")
    for disk in state.disks:
        safe = "safe to remove" if disk.safe_to_remove else "LEAVE IT IN"
        print(f"Disk {disk.port}: {disk.says} ({safe})")
    if state.trouble:
        print(f"Trouble:  {state.trouble}")
    print(f"Free:     {_size(state.free)}")
    return 0


def _rollback(client: Client, json: bool) -> int:
    state = client.ask(ContentState, "POST", "/api/v1/content/rollback", WHO)
    if json:
        print(state.model_dump_json(indent=2))
    else:
        print(f"In force: {_set(state.current)}")
        print("To go forward again, run it once more.")
    return 0


def _follow(client: Client, job: Job, json: bool) -> int:
    """Show how a job comes along, to its end. With `json` each look is a line."""
    shown = ""
    while job.state in {"queued", "running"}:
        line = job.model_dump_json() if json else _line(job)
        if line != shown:
            shown = line
            _show(line, json)
        time.sleep(POLL)
        job = client.ask(Job, "GET", f"/api/v1/jobs/{job.id}", None)
    if json:
        print(job.model_dump_json())
    else:
        _show("", json)
        print(job.says)
    return 0 if job.state == "done" else 1


def _show(line: str, json: bool) -> None:
    if json:
        print(line, flush=True)
    elif sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def _line(job: Job) -> str:
    if job.progress is None:
        return f"{job.title}: {job.state}"
    progress = job.progress
    left = f", {progress.seconds_left:.0f} s left" if progress.seconds_left is not None else ""
    return (
        f"{_share(progress.bytes_done, progress.bytes)}, {_size(progress.rate)}/s{left}: "
        f"{progress.title}"
    )


def _set(view: SetView | None) -> str:
    if view is None:
        return "none"
    kinds = ", ".join(f"{kind} {version}" for kind, version in view.kinds.items())
    missing = f", {view.missing} files are missing" if view.missing else ""
    return (
        f"set {view.version} of {view.made:%Y-%m-%d}, {view.files} files, "
        f"{_size(view.bytes)}{missing} ({kinds})"
    )


def _share(done: int, whole: int) -> str:
    return f"{_size(done)} of {_size(whole)}"


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
