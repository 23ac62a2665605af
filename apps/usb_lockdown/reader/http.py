"""A crew disk by HTTP: GET and HEAD of its files, with Range (RFC 9110, section 14)."""

from __future__ import annotations

import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler
from socket import socket
from typing import Any

from apps.usb_lockdown.reader.disk import CHUNK, CrewDisk, DiskFile, NotThereError

CLIENTS = 4
"""So many are served at the same time; content_sync takes one or two."""

CLIENT_TIMEOUT = 600.0
"""Seconds for which a client may send, or take, nothing. The crew may think about an import."""

_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{0,15})")


class _Problem(Exception):  # noqa: N818 - the RFC's word for it
    def __init__(self, status: int, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug


def serve(listener: socket, disk: CrewDisk) -> None:
    """Serve whoever connects, for as long as the process lives."""
    handler = type("Handler", (_Handler,), {"disk": disk})
    threads = [threading.Thread(target=_serve, args=(handler, listener)) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _serve(handler: type[_Handler], listener: socket) -> None:
    """Serve one after the other; whoever comes meanwhile waits in the socket's queue."""
    while True:
        client, _ = listener.accept()
        with client:
            try:
                handler(client, ("", 0), None)
            except OSError as error:
                # The client is gone, or the disk in the middle of a file: it sees that by the end.
                print("broken off:", error, file=sys.stderr)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "ife"
    sys_version = ""
    timeout = CLIENT_TIMEOUT
    disk: CrewDisk

    def __init__(self, client: socket, address: tuple[str, int], server: Any) -> None:
        super().__init__(client, address, server)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Nothing for each request."""

    def do_HEAD(self) -> None:
        """Its size, or why not."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """The file, or a part of it."""
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        try:
            file = self._open()
            start, end, partial = self._wanted(file.size)
        except _Problem as problem:
            self._refuse(problem, body)
            return
        self.send_response(206 if partial else 200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(end - start))
        self.send_header("Accept-Ranges", "bytes")
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{file.size}")
        self.end_headers()
        if body:
            self._send(file, start, end)

    def _open(self) -> DiskFile:
        try:
            return self.disk.open(self.path.removeprefix("/"))
        except NotThereError as error:
            raise _Problem(404, "not-there", str(error)) from error
        except OSError as error:
            raise _Problem(500, "gone", "the disk cannot be read any more") from error

    def _wanted(self, size: int) -> tuple[int, int, bool]:
        """From where to where (not included), and whether that is a part that was asked for."""
        header = self.headers.get("Range")
        if header is None:
            return 0, size, False
        match = _RANGE.fullmatch(header)
        if match is None:  # as RFC 9110 has it: not understood is not there
            return 0, size, False
        start = int(match[1])
        end = min(size, int(match[2]) + 1) if match[2] else size
        if start >= end:
            raise _Problem(416, "no-such-range", f"there are {size} bytes")
        return start, end, True

    def _send(self, file: DiskFile, start: int, end: int) -> None:
        while start < end:
            data = file.read(start, min(CHUNK, end - start))
            self.connection.sendall(data)
            start += len(data)

    def _refuse(self, problem: _Problem, body: bool) -> None:
        document = json.dumps(
            {
                "type": f"urn:ife:problem:{problem.slug}",
                "title": problem.slug.replace("-", " "),
                "status": problem.status,
                "detail": str(problem),
            }
        ).encode()
        self.send_response(problem.status)
        self.send_header("Content-Type", "application/problem+json")
        self.send_header("Content-Length", str(len(document)))
        self.end_headers()
        if body:
            self.wfile.write(document)
