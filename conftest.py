"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# A busy machine makes an example slow, not wrong; pytest-timeout ends what hangs.
settings.register_profile("ife", deadline=None)
settings.load_profile("ife")
