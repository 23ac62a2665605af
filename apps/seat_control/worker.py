"""The gunicorn worker that seat control runs under: uvicorn's HTTP server on asyncio's own loop.

uvloop is faster still, but under load it leaves some connections unserved for up to a second,
and a seat that is late is a seat that looks lost (docs/benchmarks.md).
"""

from __future__ import annotations

from uvicorn_worker import UvicornWorker


class Worker(UvicornWorker):  # type: ignore[misc]  # it carries no types
    """Answers carry nothing that nobody reads: no `Date`, no `Server`."""

    CONFIG_KWARGS = {  # noqa: RUF012 - uvicorn's own name and type
        "loop": "asyncio",
        "http": "httptools",
        "lifespan": "on",
        "ws": "none",
        "date_header": False,
        "server_header": False,
    }
