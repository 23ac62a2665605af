"""The audit log."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "seat_control_command",
        sa.Column("registration", sa.String(16), primary_key=True),
        sa.Column("epoch", sa.BigInteger, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("crew", sa.String(64), nullable=False),
        sa.Column("action", JSONB, nullable=False),
        sa.Column("selector", JSONB, nullable=False),
        sa.Column("targets", JSONB, nullable=False),
        sa.Column("applied", sa.Integer, nullable=False),
        sa.Column("outcome", JSONB, nullable=False),
    )
    op.create_index("ix_seat_control_command_issued_at", "seat_control_command", ["issued_at"])


def downgrade() -> None:
    """Drop the table, and all records with it."""
    op.drop_table("seat_control_command")
