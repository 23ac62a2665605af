"""A child process that is kept running."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable
from subprocess import DEVNULL

from apps.common.backoff import BackOff

log = logging.getLogger(__name__)

AGAIN_FIRST, AGAIN_MAX = 0.1, 5.0
"""Seconds before a child is started again."""

STEADY = 10.0
"""Seconds after which a child that ends had nothing to do with the one before."""


class Child:
    """``python -m <module>``, started again whenever it ends.

    Args:
        arguments: what it is to be told, and the descriptors that it inherits; asked at each start.
        started: called when it was started.
    """

    def __init__(
        self,
        module: str,
        arguments: Callable[[], tuple[list[str], list[int]]],
        started: Callable[[], None] = lambda: None,
    ) -> None:
        self._module = module
        self._arguments = arguments
        self._started = started
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, while one runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._task = asyncio.create_task(self._keep())

    def kill(self) -> None:
        """End the process, whatever it hangs in; another follows."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def close(self) -> None:
        """End it for good."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        back_off = BackOff(AGAIN_FIRST, AGAIN_MAX)
        while True:
            began = time.monotonic()
            try:
                await self._run()
            except OSError as error:
                log.warning("%s cannot be started", self._module, extra={"error": str(error)})
            if time.monotonic() - began > STEADY:
                back_off.reset()
            await asyncio.sleep(back_off.delay())

    async def _run(self) -> None:
        arguments, descriptors = self._arguments()
        self._process = process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", self._module, "--parent", str(os.getpid()), *arguments),
            stdin=DEVNULL,
            pass_fds=descriptors,
        )
        try:
            self._started()
            code = await process.wait()
            log.warning("%s ended", self._module, extra={"code": code})
        finally:
            self.kill()
            self._process = None
            await process.wait()
