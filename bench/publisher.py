"""The bench's airline, on the ground: films, a newspaper, a shop and a map, published and signed.

It is made once in ``build/``, by ife-publish's own code; each bench goes on with a copy. Its keys
lie beside it with a passphrase that everybody knows: nobody but this bench trusts them.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from apps.common.content import Entry, Kind
from apps.common.files import write_whole
from apps.publish import disk
from apps.publish.keys import Keys
from apps.publish.repository import PublishError, Repository
from bench.instance import BenchError

AIRLINE = "EXA"
PASSPHRASE = b"for a bench, and nothing else"
FILMS = {
    "metropolis": ("Metropolis", "channels/film.ts"),
    "the-match": ("The match", "channels/sports.ts"),
    "cartoons": ("Cartoons", "channels/cartoons.ts"),
}
LOOPS = 3
"""Times that a film is its clip over again: so that it takes seconds to load."""

MAP_BYTES = 2_000_000
PAGE_BYTES = 60_000
NEWSPAPER = "the-daily"
RENEWED_AFTER = timedelta(days=1)
FFMPEG_TIMEOUT = 60


def make(store: Path, media: Path) -> bool:
    """Make a publisher's folder, unless it is there: then False.

    Args:
        store: where.
        media: the clips of `bench.content`.

    Raises:
        BenchError: it cannot be made.
    """
    if (store / "root.json").exists():
        return False
    shutil.rmtree(store, ignore_errors=True)
    files = store / "files"
    files.mkdir(parents=True)
    repository = open_folder(store)
    try:
        repository.begin(AIRLINE)
        for name, (title, clip) in FILMS.items():
            _film(media / clip, files / f"{name}.ts")
            _add(repository, files, "films", name, title, f"{name}.ts", "video")
        (files / "shop.html").write_text("<h1>Coffee 3.00 EUR</h1>\n")
        _add(repository, files, "shop", "drinks", "Drinks", "shop.html", "document")
        (files / "world.bin").write_bytes(random.Random(1).randbytes(MAP_BYTES))  # noqa: S311
        _add(repository, files, "maps", "world", "World map", "world.bin", "data")
        repository.sign()
    except (PublishError, OSError) as error:
        raise BenchError(f"the demo's content cannot be signed: {error}") from error
    # Last: with it the folder is whole.
    write_whole(store / "root.json", repository.root_path.read_bytes())
    return True


def bring(store: Path, folder: Path) -> None:
    """Have a bench's own copy in `folder`, fresh enough to be believed for weeks.

    Raises:
        BenchError: it cannot be signed.
    """
    root = folder / "root.json"
    if not root.exists():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(store, folder, copy_function=_link_or_copy)
    repository = open_folder(folder)
    signed = datetime.fromtimestamp(
        (repository.published / "metadata/timestamp.json").stat().st_mtime, UTC
    )
    if datetime.now(UTC) - signed > RENEWED_AFTER:
        # A new snapshot, and with it a new timestamp.
        repository.expire("snapshot", 60)
    _let_read(folder)


def publish_issue(folder: Path) -> str:
    """Publish the next issue of the newspaper; its title.

    Raises:
        BenchError: it cannot be signed.
    """
    repository = open_folder(folder)
    number = repository.version
    title = f"The Daily, issue {number}"
    page = folder / "files" / f"the-daily-{number}.html"
    now = datetime.now(UTC)
    lines = "".join(f"<p>{random.Random(n).random()}\n" for n in range(PAGE_BYTES // 24))  # noqa: S311
    page.write_text(f"<h1>{title}</h1><p>{now:%Y-%m-%d %H:%M} Z\n{lines}")
    try:
        entry = Entry.model_validate(
            {
                "id": NEWSPAPER,
                "titles": {"en": title, "de": f"Der Tag, Ausgabe {number}"},
                "rights": {"until": now + timedelta(days=2)},
                "files": [{"name": page.name, "role": "document", "languages": ["en"]}],
            }
        )
        repository.add("news", entry, page.parent)
        repository.sign(["news"])
    except (PublishError, OSError) as error:
        raise BenchError(f"the newspaper cannot be signed: {error}") from error
    page.unlink()
    _let_read(folder)
    return title


def make_disk(folder: Path, image: Path) -> int:
    """Make the image of a crew disk with the newest set; the set's version.

    Raises:
        BenchError: it cannot be made.
    """
    repository = open_folder(folder)
    image.parent.mkdir(mode=0o755, exist_ok=True)
    aside = image.with_name(image.name + ".new")
    try:
        version, _ = disk.to_image(repository, aside)
        # What is plugged in now keeps its own.
        aside.replace(image)
        image.chmod(0o644)
    except (PublishError, OSError) as error:
        raise BenchError(f"the disk cannot be made: {error}") from error
    return version


def open_folder(folder: Path) -> Repository:
    """The publisher's folder with all its keys at hand."""
    return Repository(folder, Keys((folder / "keys", folder / "offline"), PASSPHRASE))


def _add(
    repository: Repository, files: Path, kind: Kind, name: str, title: str, file: str, role: str
) -> None:
    fields: dict[str, Any] = {"id": name, "titles": {"en": title}, "languages": ["en"]}
    fields["files"] = [{"name": file, "role": role}]
    repository.add(kind, Entry.model_validate(fields), files)
    (files / file).unlink()


def _film(clip: Path, film: Path) -> None:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-stream_loop", str(LOOPS - 1)]
    command += ["-i", str(clip), "-c", "copy", "-f", "mpegts", str(film)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=FFMPEG_TIMEOUT)
    except (OSError, subprocess.SubprocessError) as error:
        raise BenchError(f"ffmpeg cannot make a film of {clip}: {error}") from error


def _link_or_copy(source: str, target: str) -> None:
    """Objects are never written again, so all benches may share them."""
    if Path(source).parent.parent.name == "objects":
        try:
            os.link(source, target)
            return
        except OSError:
            pass  # on another file system
    shutil.copy2(source, target)


def _let_read(folder: Path) -> None:
    """The Hangar reads what is published; keys are nobody else's."""
    folder.chmod(0o755)
    published = folder / "repository"
    for path in (published, *published.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for name in ("keys", "offline"):
        (folder / name).chmod(0o700)
