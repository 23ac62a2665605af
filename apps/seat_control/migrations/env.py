"""Alembic's entry: runs on the connection of `apps.common.migrations`."""

from alembic import context

from apps.seat_control.audit_log import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table="seat_control_alembic_version",
)
with context.begin_transaction():
    context.run_migrations()
