"""The aircraft's discretes on the bus, from the hardware app to whoever needs to know them.

The keylines of the PA do not come this way but straight to it (`apps.common.pa.Keylines`).
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

TOPIC = "cabin_hardware/discretes"

EVERY = 1.0
GOOD_FOR = 5.0
"""Seconds between two sendings, and after which without one nothing is known any more."""


class Discretes(BaseModel):
    """How they stand; None for one that is not wired, or whose reading is not valid.

    `wow` is weight on wheels: the aircraft is on the ground.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    wow: bool | None = None
