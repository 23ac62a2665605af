"""How long an import takes, and how long `cp` and `sha256sum` of the same: docs/benchmarks.md.

make bench-content
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from apps.common.content import OBJECTS, Entry
from apps.content_sync.clock import Clock
from apps.content_sync.importer import Importer
from apps.content_sync.source import FolderSource
from apps.content_sync.store import Store
from apps.content_sync.trust import Trust
from apps.publish.keys import Keys
from apps.publish.repository import Repository
from bench.benchmark import in_turn, main
from bench.document import table

FILMS_A_GIGABYTE = 2
PLACE = Path(__file__).parents[2] / "build/bench-imports"
CHUNK = 1024 * 1024
TIMEOUT = 3600


def _publish(folder: Path, gigabytes: float) -> Repository:
    """A repository with films of half a gigabyte each, of bytes that nothing compresses."""
    keys = Keys((folder / "keys", folder / "offline"), b"nobody's secret")
    repository = Repository(folder, keys)
    repository.begin("EXA")
    film = folder / "film.mp4"
    for number in range(max(1, round(gigabytes * FILMS_A_GIGABYTE))):
        with film.open("wb") as file:
            for _ in range(10**9 // FILMS_A_GIGABYTE // CHUNK):
                file.write(os.urandom(CHUNK))
        name = f"film-{number}.mp4"
        film.rename(folder / name)
        fields = {"id": f"film-{number}", "titles": {"en": f"Film {number}"}}
        files = [{"name": name, "role": "video"}]
        repository.add("films", Entry.model_validate(fields | {"files": files}), folder)
        (folder / name).unlink()
    repository.sign()
    return repository


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and those of them for which a processor was busy with it; nothing is cached."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")
    before, began = os.times(), time.monotonic()
    work()
    seconds, after = time.monotonic() - began, os.times()
    busy = [after[i] - before[i] for i in range(4)]
    return seconds, sum(busy)


def _import(repository: Repository, target: Path) -> tuple[float, float]:
    shutil.rmtree(target, ignore_errors=True)
    store = Store(target, reserve=0)
    root = repository.root_path.read_bytes()
    trust = Trust(target / "tuf", target / "runtime", root, "EXA", Clock())
    importer = Importer(store, trust, stop=threading.Event())
    source = FolderSource(repository.published, "disk")
    return _timed(lambda: importer.run(source))


def _command(*argv: str | Path) -> tuple[float, float]:
    run = partial(subprocess.run, argv, check=True, stdout=subprocess.DEVNULL, timeout=TIMEOUT)
    return _timed(run)


def _copy(objects: Path, target: Path, *, synced: bool) -> tuple[float, float]:
    shutil.rmtree(target, ignore_errors=True)
    copy = ["cp", "-r", "--reflink=never", str(objects), str(target)]
    if synced:
        copy = ["sh", "-c", '"$@" && sync -f .', "sh", *copy]
    return _command(*copy)


def _sum(objects: Path, *command: str) -> tuple[float, float]:
    return _command(*command, *sorted(objects.glob("*/*")))


def results(options: argparse.Namespace) -> str:
    """The table."""
    shutil.rmtree(PLACE, ignore_errors=True)
    try:
        repository = _publish(PLACE / "ground", options.gigabytes)
        objects, target = repository.published / OBJECTS, PLACE / "target"
        found = in_turn(
            options.runs,
            {
                "import": partial(_import, repository, target),
                "cp": partial(_copy, objects, target, synced=False),
                "cp and sync": partial(_copy, objects, target, synced=True),
                "sha256sum": partial(_sum, objects, "sha256sum"),
                "openssl": partial(_sum, objects, "openssl", "dgst", "-sha256"),
            },
        )
    finally:
        shutil.rmtree(PLACE, ignore_errors=True)
    size = options.gigabytes * 1000
    rows = [
        [name, f"{seconds:.1f}", f"{busy:.1f}", f"{size / seconds:,.0f}"]
        for name, (seconds, busy) in found.items()
    ]
    seconds = {name: values[0] for name, values in found.items()}
    larger = max(seconds["cp"], seconds["sha256sum"])
    return (
        f"{options.gigabytes:g} GB in films of {1000 // FILMS_A_GIGABYTE} MB.\n\n"
        + table(["what", "s", "s of a processor", "MB/s"], *rows)
        + f"\nThe import takes {seconds['import'] / larger:.2f}x the larger of `cp` and "
        f"`sha256sum`,\n{seconds['import'] / seconds['cp']:.2f}x `cp`, "
        f"{seconds['import'] / seconds['cp and sync']:.2f}x `cp` and `sync`, "
        f"{seconds['import'] / seconds['openssl']:.2f}x `openssl dgst -sha256`.\n"
    )


if __name__ == "__main__":
    main("imports", results, __doc__, ["cp", "openssl", "sha256sum"], gigabytes=4.0)
