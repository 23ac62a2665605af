"""A bound on the outbox: nobody empties it once the Hangar was taken away."""

from alembic import op

revision = "0002"
down_revision = "0001"

# What must not be lost stays (apps/common/usage.py). The spool's row is locked first, as it is
# when records are sealed, so that neither waits for the other.
_BOUND = """
CREATE FUNCTION usage_outbox_bound() RETURNS trigger
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
    """Keep the newest million records, and all that must not be lost."""
    op.execute("CREATE INDEX usage_outbox_may_go ON usage_outbox (seq) WHERE kind <> 'sale'")
    op.execute(_BOUND)
    op.execute(
        "CREATE TRIGGER bound AFTER INSERT ON usage_outbox "
        "FOR EACH STATEMENT EXECUTE FUNCTION usage_outbox_bound()"
    )


def downgrade() -> None:
    """Remove it."""
    op.execute("DROP TRIGGER bound ON usage_outbox")
    op.execute("DROP FUNCTION usage_outbox_bound")
    op.execute("DROP INDEX usage_outbox_may_go")
