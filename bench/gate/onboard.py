"""content_sync as its unit runs it, in the aircraft's namespace of a `World`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from apps.common.content import TOPIC, ContentState, GateView
from apps.common.discretes import TOPIC as DISCRETES
from apps.common.discretes import Discretes
from apps.common.testing import RedisServer, listens, wait_until
from bench.gate.world import HANGAR, HTTPS_PORT, INTERFACE, World

ROOT = Path(__file__).parents[2]


class OnBoard:
    """An aircraft's server, as far as the gate needs it; a context manager.

    Args:
        world: where it is.
        folder: its state and sockets; short.
        root: the TUF root that it begins with.
        more: settings that differ.
    """

    def __init__(
        self, world: World, folder: Path, root: bytes, more: Mapping[str, str] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.content = folder / "content"
        self._world = world
        self._redis = RedisServer(folder)
        self._socket = folder / "content_sync.sock"
        self._process: subprocess.Popen[str] | None = None
        (folder / "root.json").write_bytes(root)
        account = world.account()
        self._environment = {
            "PATH": os.environ["PATH"],
            "IFE_REGISTRATION": "EC-LAB",
            "IFE_REDIS_URL": self._redis.url,
            "IFE_AIRLINE": "EXA",
            "IFE_BOOT_ID": "0" * 32,
            "IFE_CONTENT_DIRECTORY": str(self.content),
            "IFE_CONTENT_ROOT": str(folder / "root.json"),
            "IFE_CONTENT_RESERVE": "0",
            "IFE_RUNTIME_DIRECTORY": str(folder),
            "IFE_HANGAR_ADDRESS": str(HANGAR),
            "IFE_HANGAR_USER": account.user,
            "IFE_HANGAR_KNOWN_HOSTS": str(account.known_hosts),
            "IFE_HANGAR_URL": f"https://{HANGAR}:{HTTPS_PORT}",
            "IFE_HANGAR_AUTHORITY": str(world.folder / "keys/root.crt"),
            "IFE_GATE_CERTIFICATE": str(world.folder / "keys/gate.crt"),
            "IFE_GATE_KEY": str(world.folder / "keys/gate.key"),
            "IFE_GATE_SSH_KEY": str(account.key),
            "IFE_GATE_NEEDS_WOW": "false",
            "IFE_GROUND_INTERFACE": INTERFACE,
            "IFE_USAGE_KEY": str(world.folder / "keys/usage.key"),
            "IFE_USAGE_DATABASE_URL": f"postgresql+psycopg:///usage?host={folder}",
            **(more or {}),
        }

    def __enter__(self) -> Self:
        try:
            self._redis.start()
            self.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()
        if error is not None:
            print((self.folder / "log").read_text()[-8000:])

    def _end(self) -> None:
        self.kill()
        self._redis.kill()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("a") as log:
            self._process = self._world.aircraft.run(
                subprocess.Popen,
                [
                    *(sys.executable, "-m", "gunicorn", "--worker-class", "gthread"),
                    *("--workers", "1", "--threads", "4", "--no-control-socket"),
                    *("--bind", f"unix:{self._socket}", "apps.content_sync.app:create_app()"),
                ],
                cwd=ROOT,
                env=self._environment,
                stderr=log,
                text=True,
            )
        wait_until(lambda: listens(self._socket), "content_sync answers", 30)

    def kill(self) -> None:
        """End it by SIGKILL; what it has started ends with it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None
            wait_until(lambda: not self._world.aircraft.processes(), "nobody is left", 30)

    def flap(self) -> None:
        """The link goes, and is there again when the gate is closed."""
        self._world.unplug()
        wait_until(lambda: self.gate and not self.gate.open, "the gate is closed")
        self._world.plug()

    @property
    def state(self) -> ContentState | None:
        """What it said last on the bus."""
        with self._redis.client() as client:
            text = client.get(f"ife:{TOPIC}")
        return ContentState.model_validate_json(str(text)) if text else None

    @property
    def gate(self) -> GateView | None:
        """What it said last of the gate."""
        state = self.state
        return state.gate if state else None

    def tell(self, discretes: Discretes) -> None:
        """Say how the discretes stand, as the hardware app does each second."""
        with self._redis.client() as client:
            text = discretes.model_dump_json()
            client.set(f"ife:{DISCRETES}", text)
            client.publish(f"ife:{DISCRETES}", text)

    def shows(self, target: str) -> bytes | None:
        """What is in force under a name."""
        path = self.content / "current" / target
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def version(self) -> tuple[int, int] | None:
        """Of the set in force, and how many of its files are missing."""
        try:
            slot = json.loads((self.content / "current/slot.json").read_bytes())
        except FileNotFoundError:
            return None
        return slot["content"]["version"], slot["content"]["missing"]
