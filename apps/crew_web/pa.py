"""The state of the PA, as its app last said on the bus."""

from __future__ import annotations

import logging
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from apps.common.bus import Bus

log = logging.getLogger(__name__)

TOPIC = "pa_audio/state"

Word = Annotated[str, StringConstraints(max_length=64)]


class PaState(BaseModel):
    """`areas` are the cabin's PA areas that hear it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    state: Literal["idle", "announcement"]
    source: Word = ""
    areas: Annotated[tuple[Word, ...], Field(max_length=64)] = ()


class PaFollower:
    """Follows the topic. `state` is None while nobody knows."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._state: PaState | None = None
        bus.subscribe([TOPIC], self._receive)

    @property
    def state(self) -> PaState | None:
        """The last value; None when there is none or the bus is away."""
        return None if self._bus.trouble else self._state

    def _receive(self, _topic: str, value: Any) -> None:
        try:
            self._state = None if value is None else PaState.model_validate(value)
        except ValidationError as error:
            self._state = None
            log.warning("the PA state on the bus is not understood", extra={"error": str(error)})
