"""Alembic's entry: runs on the connection of `apps.common.migrations`."""

from alembic import context

from apps.hangar.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table="hangar_alembic_version",
)
with context.begin_transaction():
    context.run_migrations()
