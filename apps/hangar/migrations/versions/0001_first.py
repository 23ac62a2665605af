"""Aircraft that were heard, requests, batches, usage."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "heard",
        sa.Column("registration", sa.String(16), primary_key=True),
        sa.Column("heard_at", _TIME, nullable=False),
        sa.Column("online_since", _TIME, nullable=False),
        sa.Column("flight_from", _TIME),
        sa.Column("flight_to", _TIME),
        sa.Column("heartbeat", JSONB, nullable=False),
        # A row a heartbeat: there is room for the next version of it beside the one before.
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "asked",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("registration", sa.String(16), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("asked_by", sa.String(64), nullable=False),
        sa.Column("asked_at", _TIME, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("changed_at", _TIME, nullable=False),
    )
    op.create_index("ix_asked_registration", "asked", ["registration"])
    op.create_table(
        "taken",
        sa.Column("registration", sa.String(16), primary_key=True),
        sa.Column("spool", sa.Uuid, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("records", sa.Integer, nullable=False),
        sa.Column("first_at", _TIME, nullable=False),
        sa.Column("taken_at", _TIME, nullable=False),
    )
    op.create_index("ix_taken_first_at", "taken", ["registration", "first_at"])
    op.create_table(
        "usage",
        sa.Column("registration", sa.String(16), primary_key=True),
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("record", JSONB, nullable=False),
    )
    op.create_index("ix_usage_at", "usage", ["registration", "at"])


def downgrade() -> None:
    """Drop the tables, and all that is in them."""
    for table in ("usage", "taken", "asked", "heard"):
        op.drop_table(table)
