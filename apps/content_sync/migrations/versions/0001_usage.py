"""The outbox, the spool, and the batches in it."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "usage_outbox",
        sa.Column("seq", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("line", sa.Text, nullable=False),
        # content_sync checks each record; this is so that nobody fills the disk with one.
        sa.CheckConstraint("length(kind) <= 32 AND octet_length(line) <= 8192"),
    )
    # Who may connect to this database is in pg_hba.conf: its owner, and the apps that write.
    op.execute("GRANT INSERT (kind, line) ON usage_outbox TO PUBLIC")
    op.create_table(
        "usage_spool",
        sa.Column("one", sa.Boolean, primary_key=True, server_default=sa.true()),
        sa.Column("id", sa.Uuid, nullable=False, server_default=sa.func.gen_random_uuid()),
        sa.Column("next_number", sa.BigInteger, nullable=False, server_default="1"),
        sa.Column("dropped", sa.BigInteger, nullable=False, server_default="0"),
        sa.CheckConstraint("one"),
    )
    op.execute("INSERT INTO usage_spool DEFAULT VALUES")
    op.create_table(
        "usage_batch",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("records", sa.Integer, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("batch", sa.LargeBinary, nullable=False),
        sa.Column("refused", sa.Text),
    )
    # They are compressed already.
    op.execute("ALTER TABLE usage_batch ALTER COLUMN batch SET STORAGE EXTERNAL")


def downgrade() -> None:
    """Drop the tables, and all usage that the Hangar does not have with them."""
    for table in ("usage_batch", "usage_spool", "usage_outbox"):
        op.drop_table(table)
