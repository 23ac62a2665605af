"""A PIN that was changed: who knows only the one before it is logged out, and known nowhere.

The crew file is read at the start, so that is when PINs are another than before. The file of
sessions has a hash of what the crew file had for each.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable

from apps.crew_web.crew import CrewMember
from apps.crew_web.store import Store

log = logging.getLogger(__name__)


def end_of_changed(store: Store, members: Iterable[CrewMember]) -> None:
    """End the sessions, and forget the devices, of everyone whose PIN has changed.

    Raises:
        StoreError: it could not be written, so whoever has the old PIN might still be in.
    """
    changed = []
    for member in members:
        mark = hashlib.sha256(member.pin_hash.encode()).digest()
        if store.read("SELECT mark FROM pin WHERE person = ?", (member.id,)) != (mark,):
            changed.append((member.id, mark))
    if not changed:
        # A full disk is no reason not to start.
        return
    with store.transaction() as database:
        for person, mark in changed:
            database.execute("DELETE FROM session WHERE person = ?", (person,))
            database.execute("DELETE FROM device WHERE person = ?", (person,))
            database.execute("INSERT OR REPLACE INTO pin VALUES (?, ?)", (person, mark))
    log.info("PINs are new", extra={"persons": " ".join(person for person, _ in changed)})
