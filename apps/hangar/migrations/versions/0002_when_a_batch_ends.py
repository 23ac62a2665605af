"""When the latest record of a batch is of: a batch that begins before a flight has more of it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; batches that are there count as they did."""
    op.add_column("taken", sa.Column("last_at", sa.DateTime(timezone=True)))
    op.execute("UPDATE taken SET last_at = first_at")
    op.alter_column("taken", "last_at", nullable=False)
    op.create_index("ix_taken_last_at", "taken", ["registration", "last_at"])
    op.drop_index("ix_taken_first_at")


def downgrade() -> None:
    """Remove it."""
    op.create_index("ix_taken_first_at", "taken", ["registration", "first_at"])
    op.drop_index("ix_taken_last_at")
    op.drop_column("taken", "last_at")
