"""An aircraft's usage out on its own: ``python -m bench.gate.aircraft``, with variables `GATE_*`.

It hands over until it is killed, and has no patience: a real one waits longer between two tries.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from nacl.signing import SigningKey

from apps.common import log
from apps.content_sync import usage_out
from apps.content_sync.hangar import HangarClient
from apps.content_sync.pace import Pace
from apps.content_sync.spool import Spool
from apps.content_sync.usage_out import UsageOut
from bench.gate.hangar import LOOPBACK


def variables(database_url: str, registration: str, keys: Path) -> dict[str, str]:
    """The environment of an aircraft whose keys the role pki made, but for `GATE_HANGAR_URL`."""
    return {
        "PATH": os.environ["PATH"],
        "GATE_DATABASE_URL": database_url,
        "GATE_REGISTRATION": registration,
        "GATE_KEYS": str(keys),
    }


def main() -> None:
    """Hand over until SIGTERM."""
    log.setup("error")
    usage_out.EVERY, usage_out.RETRY_FIRST, usage_out.RETRY_MAX = 0.05, 0.05, 0.2
    keys = Path(os.environ["GATE_KEYS"])
    spool = Spool(
        os.environ["GATE_DATABASE_URL"],
        os.environ["GATE_REGISTRATION"],
        SigningKey((keys / "usage.key").read_bytes()),
        limit=1_000_000_000,
    )
    url = os.environ["GATE_HANGAR_URL"]
    out = UsageOut(
        spool,
        lambda: HangarClient(
            url, LOOPBACK, keys / "root.crt", keys / "gate.crt", keys / "gate.key", Pace(None)
        ),
    )
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    out.start()
    out.link(up=True)
    signal.sigwait([signal.SIGTERM])
    out.close()


if __name__ == "__main__":
    main()
