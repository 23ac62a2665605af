"""The outbox keeps what is worth most: what is worth least goes first, of it the oldest."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# What is worth least is first (apps/common/usage.py); before it goes what is no record, and sales
# never. To count takes a while, so it is done once for 10,000 records. The spool's row is locked
# first, as it is when records are sealed, so that neither waits for the other.
_BOUND = """
CREATE OR REPLACE FUNCTION usage_outbox_bound() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    newest CONSTANT bigint := coalesce((SELECT max(seq) FROM usage_outbox), 0);
    more bigint;
BEGIN
    IF newest - (SELECT bounded FROM usage_spool) < 10000 THEN
        RETURN NULL;
    END IF;
    PERFORM FROM usage_spool FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
        more := (SELECT count(*) - 1000000 FROM usage_outbox WHERE kind <> 'sale');
        WITH gone AS (
            DELETE FROM usage_outbox WHERE seq IN (
                SELECT seq FROM usage_outbox WHERE kind <> 'sale'
                ORDER BY
                    array_position(ARRAY['stat', 'play', 'bite', 'survey', 'user'], kind)
                    NULLS FIRST,
                    seq
                LIMIT greatest(more, 0)
            )
            RETURNING seq
        )
        UPDATE usage_spool SET bounded = newest, dropped = dropped + (SELECT count(*) FROM gone);
    END IF;
    RETURN NULL;
END
$$
"""

_BOUND_BEFORE = """
CREATE OR REPLACE FUNCTION usage_outbox_bound() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    newest CONSTANT bigint := (SELECT max(seq) FROM usage_outbox);
BEGIN
    IF newest - (SELECT min(seq) FROM usage_outbox WHERE kind <> 'sale') < 1010000 THEN
        RETURN NULL;
    END IF;
    PERFORM FROM usage_spool FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
        WITH gone AS (
            DELETE FROM usage_outbox
            WHERE seq <= newest - 1000000 AND kind <> 'sale'
            RETURNING seq
        )
        UPDATE usage_spool SET dropped = dropped + (SELECT count(*) FROM gone);
    END IF;
    RETURN NULL;
END
$$
"""


def upgrade() -> None:
    """Keep the million records that are worth most, and all that must not be lost."""
    op.add_column(
        "usage_spool", sa.Column("bounded", sa.BigInteger, nullable=False, server_default="0")
    )
    op.execute(_BOUND)
    op.execute("DROP INDEX usage_outbox_may_go")


def downgrade() -> None:
    """Keep the newest million again, as 0002 has it."""
    op.execute("CREATE INDEX usage_outbox_may_go ON usage_outbox (seq) WHERE kind <> 'sale'")
    op.execute(_BOUND_BEFORE)
    op.drop_column("usage_spool", "bounded")
