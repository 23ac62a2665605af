"""Orders to the simulated cabin: one JSON object a line, over a Unix socket, each answered."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from apps.common.commands import SeatName
from apps.common.protocol import PROTOCOL
from bench.instance import BenchError

MAX_LINE = 1024 * 1024
TIMEOUT = 10.0


class Order(BaseModel):
    """What the cabin is to do.

    `cut` and `restore` are a seat's cable; `reboot` its power switch; `protocol` reboots it
    with software that speaks no more than that version; `call` its call button. `drop` loses
    that share of each seat's datagrams. `applied`
    asks for the commands that were applied, all or those of one sequence number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    order: Literal["cut", "restore", "reboot", "protocol", "call", "drop", "applied"]
    seat: SeatName | None = None
    protocol: Annotated[int, Field(ge=1, le=PROTOCOL)] | None = None
    percent: Annotated[int, Field(ge=0, le=100)] = 0
    seq: int | None = None


class Applied(BaseModel):
    """A command that a seat carried out; `at` is `time.monotonic()`, the same machine-wide."""

    seat: str
    epoch: int
    seq: int
    action: str
    at: float


def give(path: Path, order: Order) -> Any:
    """Give an order to the cabin at `path`; what it answers.

    Raises:
        BenchError: there is no cabin, or it refuses; the message says why.
    """
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(TIMEOUT)
            sock.connect(str(path))
            sock.sendall(order.model_dump_json(exclude_none=True).encode() + b"\n")
            with sock.makefile("rb") as lines:
                answer = json.loads(lines.readline())
    except (OSError, ValueError) as error:
        raise BenchError(
            f"the simulated cabin does not answer ({error}): is the bench up?"
        ) from error
    if "error" in answer:
        raise BenchError(answer["error"])
    return answer["done"]
