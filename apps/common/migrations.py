"""Brings an app's tables in PostgreSQL to its version, by the migrations that lie beside it."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text


def upgrade(connection: Connection, folder: Path) -> None:
    """Run what is new of an app's `folder` of migrations, in `connection`'s transaction.

    It may take as long as it takes: what bounds a request would have a large table never done.
    """
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
