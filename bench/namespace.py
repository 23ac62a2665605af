"""Network namespaces for tests and benchmarks. Making them takes root rights."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

from pyroute2 import NetNS, netns

T = TypeVar("T")


class Namespace:
    """A network namespace, and a thread that lives in it; a context manager."""

    def __init__(self, name: str) -> None:
        self.name = f"ife-test-{os.getpid()}-{name}"
        netns.create(self.name)
        self._thread = ThreadPoolExecutor(1, initializer=netns.setns, initargs=(self.name,))

    def run(self, action: Callable[..., T], *arguments: Any, **more: Any) -> T:
        """Call `action` in there."""
        return self._thread.submit(action, *arguments, **more).result(timeout=30)

    def start(self, action: Callable[..., T], *arguments: Any, **more: Any) -> Future[T]:
        """Have `action` called in there, after what was before; what comes of it."""
        return self._thread.submit(action, *arguments, **more)

    def processes(self) -> list[int]:
        """Every process in there, but for this one."""
        inode = (Path("/run/netns") / self.name).stat().st_ino
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            # It may be gone, or going.
            with contextlib.suppress(OSError):
                if (process / "ns/net").stat().st_ino == inode and process.name != str(os.getpid()):
                    found.append(int(process.name))
        return found

    def kill_processes(self) -> None:
        """End them by SIGKILL."""
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def bring_up(self, interface: str, *addresses: str) -> None:
        """Give an interface its addresses, each like 10.20.0.1/24, and set it up."""
        with NetNS(self.name) as route:
            (index,) = route.link_lookup(ifname=interface)
            for address in addresses:
                route.addr("add", index=index, address=address)
            route.link("set", index=index, state="up")

    def set_down(self, interface: str) -> None:
        """Set it down; the other end of a pair loses its carrier."""
        with NetNS(self.name) as route:
            (index,) = route.link_lookup(ifname=interface)
            route.link("set", index=index, state="down")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        netns.remove(self.name)
