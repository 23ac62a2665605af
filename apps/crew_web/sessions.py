"""Sessions, kept on the server. The browser holds 256 random bits, the file only their hash.

A session ends when its owner logs out, does nothing for the idle time, or after 12 hours.
Times are crew time (`apps.crew_web.clock`): a clock that is set logs nobody out.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from apps.crew_web.store import Store, StoreError

log = logging.getLogger(__name__)

LIFETIME = 12 * 3600.0
"""Seconds after log-in at which a session ends in any case."""

WRITE_EVERY = 20.0
"""Seconds; being active is written down no more often than that, to spare the disk."""

MAX_SESSIONS = 10
"""Of one person; with one more the one that was idle for longest ends."""


@dataclass(frozen=True)
class Session:
    """Someone who is logged in."""

    person: str
    csrf_token: str

    def csrf_token_is(self, token: str) -> bool:
        """Whether `token` is this session's, in constant time."""
        return hmac.compare_digest(self.csrf_token.encode(), token.encode())


class Sessions:
    """Everyone who is logged in.

    Args:
        store: the file.
        idle: seconds without activity after which a session ends.
        now: crew time, in seconds; it never goes back.
    """

    def __init__(self, store: Store, idle: float, now: Callable[[], float]) -> None:
        self._store = store
        self._idle = idle
        self._now = now

    def begin(self, person: str) -> str:
        """Log `person` in; returns the new session's id, for the cookie.

        Raises:
            StoreError: it could not be written.
        """
        session_id = secrets.token_urlsafe(32)
        now = self._now()
        with self._store.transaction() as database:
            database.execute(
                "DELETE FROM session WHERE created < ? OR seen < ?",
                (now - LIFETIME, now - self._idle),
            )
            database.execute(
                "DELETE FROM session WHERE person = ? AND id_hash NOT IN "
                "(SELECT id_hash FROM session WHERE person = ? ORDER BY seen DESC LIMIT ?)",
                (person, person, MAX_SESSIONS - 1),
            )
            database.execute(
                "INSERT INTO session VALUES (?, ?, ?, ?, ?)",
                (_hash(session_id), person, secrets.token_urlsafe(32), now, now),
            )
        return session_id

    def get(self, session_id: str, *, active: bool) -> Session | None:
        """The session with this id, unless it has ended.

        Args:
            session_id: from the cookie.
            active: a person did something, so the idle time begins anew.
        """
        row = self._store.read(
            "SELECT person, csrf_token, created, seen FROM session WHERE id_hash = ?",
            (_hash(session_id),),
        )
        if row is None:
            return None
        person, csrf_token, created, seen = row
        now = self._now()
        if now - created > LIFETIME or now - seen > self._idle:
            return None
        if active and now - seen > WRITE_EVERY:
            self._write_seen(session_id, now)
        return Session(person, csrf_token)

    def _write_seen(self, session_id: str, now: float) -> None:
        try:
            with self._store.transaction() as database:
                database.execute(
                    "UPDATE session SET seen = ? WHERE id_hash = ?", (now, _hash(session_id))
                )
        except StoreError:
            # Whoever is logged in can go on: a full disk must not stop a command.
            log.exception("activity was not written")

    def end(self, session_id: str) -> None:
        """Log out.

        Raises:
            StoreError: it could not be written.
        """
        with self._store.transaction() as database:
            database.execute("DELETE FROM session WHERE id_hash = ?", (_hash(session_id),))


def _hash(session_id: str) -> bytes:
    return hashlib.sha256(session_id.encode()).digest()
