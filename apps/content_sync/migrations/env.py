"""Alembic's entry: runs on the connection that `apps.content_sync.spool.migrate` hands over."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table="content_sync_alembic_version",
)
with context.begin_transaction():
    context.run_migrations()
