"""QEMU's monitor (QMP), for callers that know nothing of asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import time
from collections.abc import Coroutine
from pathlib import Path
from threading import Thread
from typing import Any

from qemu.qmp import QMPClient, QMPError

from image.vm import VmError

# That QEMU is gone is told by whoever waits for it.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)

TIMEOUT = 30.0
"""Seconds for an answer; a guest under TCG can hold QEMU up for some."""

POLL = 0.05


class Monitor:
    """Listens at `socket` until QEMU, which is started after this, connects.

    Its event loop has a thread of its own, so that it works beside any other loop in the caller's.
    """

    def __init__(self, socket: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="qmp", daemon=True)
        self._thread.start()
        self._client = QMPClient()
        socket.unlink(missing_ok=True)
        self._wait(self._client.start_server(str(socket)))

    def accept(self, qemu: subprocess.Popen[bytes]) -> None:
        """Wait for QEMU.

        Raises:
            VmError: it does not come.
        """
        accepting = asyncio.run_coroutine_threadsafe(self._client.accept(), self._loop)
        deadline = time.monotonic() + TIMEOUT
        while qemu.poll() is None and time.monotonic() < deadline:
            try:
                return accepting.result(POLL)
            except TimeoutError:
                continue
            except QMPError:
                break
        accepting.cancel()
        raise VmError("QEMU does not start")

    def execute(self, command: str, **arguments: object) -> Any:
        """What QEMU answers to a command; ``_`` in the arguments' names stands for ``-``.

        Raises:
            VmError: it refuses, is gone, or does not answer in time.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        return self._wait(self._client.execute(command, named))

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(VmError, EOFError, OSError):
            self._wait(self._client.disconnect())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, doing: Coroutine[Any, Any, Any]) -> Any:
        try:
            return asyncio.run_coroutine_threadsafe(doing, self._loop).result(TIMEOUT)
        except QMPError as error:
            raise VmError(f"QEMU: {error}") from error
        except TimeoutError as error:
            raise VmError(f"QEMU does not answer within {TIMEOUT:.0f} s") from error
