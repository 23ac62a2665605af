"""The Hangar's tables, by SQLAlchemy. Each aircraft's rows are its own: `registration` leads."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Integer, LargeBinary, String, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_TIME = DateTime(timezone=True)


class Base(DeclarativeBase):
    """The Hangar's tables."""


class Heard(Base):
    """What an aircraft said last, and when it went and came.

    `flight_from` and `flight_to`: when it was last heard before, and first after, its last long
    silence, which is taken for its last flight.
    """

    __tablename__ = "heard"

    registration: Mapped[str] = mapped_column(String(16), primary_key=True)
    heard_at: Mapped[datetime] = mapped_column(_TIME)
    online_since: Mapped[datetime] = mapped_column(_TIME)
    flight_from: Mapped[datetime | None] = mapped_column(_TIME)
    flight_to: Mapped[datetime | None] = mapped_column(_TIME)
    heartbeat: Mapped[dict[str, Any]] = mapped_column(JSONB)


class Asked(Base):
    """A request for an aircraft, and what it made of it."""

    __tablename__ = "asked"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    registration: Mapped[str] = mapped_column(String(16), index=True)
    kind: Mapped[str] = mapped_column(String(32))
    asked_by: Mapped[str] = mapped_column(String(64))
    asked_at: Mapped[datetime] = mapped_column(_TIME)
    state: Mapped[str] = mapped_column(String(16))
    why: Mapped[str] = mapped_column(Text)
    changed_at: Mapped[datetime] = mapped_column(_TIME)


class Taken(Base):
    """A batch that was taken. `records` of it were new.

    `first_at` and `last_at`: the times of its earliest and its latest record.
    """

    __tablename__ = "taken"

    registration: Mapped[str] = mapped_column(String(16), primary_key=True)
    spool: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    kind: Mapped[str] = mapped_column(String(32))
    records: Mapped[int] = mapped_column(Integer)
    first_at: Mapped[datetime] = mapped_column(_TIME)
    last_at: Mapped[datetime] = mapped_column(_TIME)
    taken_at: Mapped[datetime] = mapped_column(_TIME)


class Usage(Base):
    """A record of usage, as it came: `record` has fields that this version does not know, too."""

    __tablename__ = "usage"

    registration: Mapped[str] = mapped_column(String(16), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    at: Mapped[datetime] = mapped_column(_TIME)
    record: Mapped[dict[str, Any]] = mapped_column(JSONB)
