"""Alembic's entry: runs on the connection of `apps.common.migrations`."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table="content_sync_alembic_version",
)
with context.begin_transaction():
    context.run_migrations()
