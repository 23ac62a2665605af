"""Brings an app's tables in PostgreSQL to its version, by the migrations that lie beside it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection


def upgrade(connection: Connection, folder: Path) -> None:
    """Run what is new of an app's `folder` of migrations, in `connection`'s transaction."""
    # Apps come up without their database, and sooner without what is only needed with it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(folder))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
