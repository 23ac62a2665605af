"""A ground that signs content, and an aircraft that is to believe it; both real."""

from __future__ import annotations

import hashlib
import http.server
import shutil
import socketserver
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from tuf.api.metadata import Metadata

from apps.common.content import METADATA, Entry, Kind, object_path
from apps.content_sync.clock import Clock
from apps.content_sync.importer import Importer, Outcome
from apps.content_sync.source import FolderSource, Source
from apps.content_sync.store import Store
from apps.content_sync.trust import Trust
from apps.publish.disk import to_folder
from apps.publish.keys import Keys
from apps.publish.repository import Repository, Signed

NOW = datetime.now(UTC).replace(microsecond=0)
"""Today, so that what is signed in a test is fresh for processes too, which have no other clock."""

PASSPHRASE = b"a passphrase of tests"


def entry(name: str, *files: str, role: str = "data", **fields: Any) -> Entry:
    """An entry with such files."""
    return Entry.model_validate(
        {
            "id": name,
            "titles": {"en": name.capitalize()},
            "files": [{"name": file, "role": role} for file in files],
            **fields,
        }
    )


@dataclass
class Ground:
    """A publisher's folder, and a day that can be changed."""

    folder: Path
    now: datetime = NOW
    repository: Repository = field(init=False)
    keys: Keys = field(init=False)

    def __post_init__(self) -> None:
        self.keys = Keys((self.folder / "keys", self.folder / "offline"), PASSPHRASE)
        self.repository = Repository(self.folder, self.keys, lambda: self.now)

    def begin(self) -> None:
        """Make the repository of EXA, empty, and the root that its aircraft are given."""
        self.repository.begin("EXA")
        shutil.copy(self.repository.root_path, self.folder / "root.json")

    @property
    def published(self) -> Path:
        """The repository as it is to be had."""
        return self.repository.published

    @property
    def root(self) -> bytes:
        """What an aircraft was given."""
        return (self.folder / "root.json").read_bytes()

    def add(self, kind: Kind, name: str, files: dict[str, bytes], **fields: Any) -> None:
        """An entry with files of these bytes, in the draft."""
        folder = self.folder / "files"
        folder.mkdir(exist_ok=True)
        for file, data in files.items():
            (folder / file).write_bytes(data)
        self.repository.add(kind, entry(name, *files, **fields), folder)

    def publish(self, kind: Kind, name: str, files: dict[str, bytes], **fields: Any) -> Signed:
        """An entry, published."""
        self.add(kind, name, files, **fields)
        return self.repository.sign()

    def source(self) -> FolderSource:
        """All that is published."""
        return FolderSource(self.published, "the ground")

    def disk(self, folder: Path) -> FolderSource:
        """A crew disk of the newest set."""
        to_folder(self.repository, folder, lambda _done, _total: None)
        return FolderSource(folder, "disk front")

    def load(self, role: str) -> Metadata[Any]:
        """The newest metadata of a role, to be changed."""
        return self.repository._load(role)

    def force(self, role: str, metadata: Metadata[Any], *by: str) -> None:
        """Publish metadata that the keys of other roles have signed, with a snapshot that fits."""
        metadata.signatures.clear()
        for other in by:
            for signer in self.keys.of(other):
                metadata.sign(signer, append=True)
        name = f"{metadata.signed.version}.{role}.json"
        (self.published / METADATA / name).write_bytes(metadata.to_bytes())
        self.repository._release(Signed(published={role: metadata.signed.version}))

    def object(self, name: str) -> Path:
        """The object of a target, in what is published."""
        return self.published / object_path(self.repository.files()[name].digest)


class DiskReader:
    """Serves a folder by GET, with Range, on a Unix socket, as the reader of a crew disk does.

    Args:
        folder: of the repository.
        path: of the socket.

    Attributes:
        given: bytes of objects that were sent.
        yank_after: so many bytes of objects, and the disk is gone in the middle of a file. It is
            back once this is set anew.
        bad_spot: a path of which the second half cannot be read.
        dawdle: seconds that each answer takes.
        trickle: this path comes byte by byte; ``head``: the head of every answer.
    """

    def __init__(self, folder: Path, path: Path) -> None:
        self.given = 0
        self.yank_after: int | None = None
        self.bad_spot = ""
        self.dawdle = 0.0
        self.trickle = ""
        self.over = threading.Event()
        self._folder = folder
        self._path = path

    def __enter__(self) -> Self:
        reader: DiskReader = self

        class Handler(_Handler):
            disk: DiskReader = reader

        self._server = _Server(str(self._path), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._path.unlink()

    def file(self, path: str) -> bytes | None:
        """What is there."""
        file = self._folder / path
        return file.read_bytes() if file.is_file() else None


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """A client that went is no error."""


class _Handler(http.server.BaseHTTPRequestHandler):
    disk: DiskReader
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def do_GET(self) -> None:
        """Answer one."""
        path = self.path.lstrip("/")
        if self.disk.yank_after is not None and self.disk.given >= self.disk.yank_after:
            self.close_connection = True
            return
        time.sleep(self.disk.dawdle)
        data = self.disk.file(path)
        begin = int(self.headers.get("Range", "bytes=0-")[len("bytes=") : -1])
        if data is None:
            head, data = b"HTTP/1.1 404 Not Found\r\n", b""
        elif begin:
            head = b"HTTP/1.1 206 Partial Content\r\n"
            head += f"Content-Range: bytes {begin}-{len(data) - 1}/{len(data)}\r\n".encode()
            data = data[begin:]
        else:
            head = b"HTTP/1.1 200 OK\r\n"
        head += f"Content-Length: {len(data)}\r\n\r\n".encode()
        self._send(head, slow=self.disk.trickle == "head")
        if path.startswith("objects/"):
            whole, data = data, self._until_yanked(data)
            if path == self.disk.bad_spot:
                data = data[: len(whole) // 2]
                self.close_connection = True
            self.disk.given += len(data)
        self._send(data, slow=self.disk.trickle == path)

    def _until_yanked(self, data: bytes) -> bytes:
        if self.disk.yank_after is None or self.disk.given + len(data) <= self.disk.yank_after:
            return data
        self.close_connection = True
        return data[: max(0, self.disk.yank_after - self.disk.given)]

    def _send(self, data: bytes, *, slow: bool) -> None:
        if not slow:
            self.wfile.write(data)
            return
        for byte in data:
            self.wfile.write(bytes([byte]))
            if self.disk.over.wait(0.02):
                return


@dataclass
class Aircraft:
    """A store with what belongs to it."""

    folder: Path
    root: bytes
    now: datetime = NOW
    told: bool = True
    airline: str = "EXA"
    reserve: int = 0
    store: Store = field(init=False)
    trust: Trust = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """As after a restart."""
        self.store = Store(self.folder, self.reserve)
        clock = Clock(lambda: self.now, lambda: self.told)
        clock._asked = None
        runtime = self.folder.with_name(f"{self.folder.name}.run")
        self.trust = Trust(self.folder / "tuf", runtime, self.root, self.airline, clock)

    def load(self, source: Source, **options: Any) -> Outcome:
        """Import."""
        return Importer(self.store, self.trust).run(source, **options)

    def shows(self, target: str) -> bytes | None:
        """What is in force under a name."""
        path = self.folder / "current" / target
        return path.read_bytes() if path.exists() else None

    def tree(self) -> dict[str, str]:
        """All that is in force, by name, with its SHA-256."""
        return shown(self.folder)


def shown(store: Path) -> dict[str, str]:
    """All that a store has in force: by name, with the SHA-256 of what is really there."""
    found = {}
    for path in (store / "current").resolve().rglob("*"):
        if path.is_file() and path.name != "slot.json":
            name = str(path.relative_to((store / "current").resolve()))
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
