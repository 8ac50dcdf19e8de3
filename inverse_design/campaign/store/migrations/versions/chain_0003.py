"""Events are chained by hashes, and what follows from them is not stored any more; further guards.

The chain is computed over the events as they are, so that a change from here on is seen.
"""

import sqlalchemy as sa
from alembic import op

from inverse_design.campaign.store.chain import WAY_BACK, Entry, Head
from inverse_design.errors import StoreError

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_EVENTS = (
    "SELECT sequence, kind, time, actor, payload, artefact, digest FROM events WHERE campaign = :id"
    " ORDER BY sequence"
)


def upgrade() -> None:
    """Chain the log, and set the guards."""
    op.drop_table("measurements")
    op.drop_table("experiments")
    op.drop_index("events_kind", "events")
    op.add_column("campaigns", sa.Column("hash", sa.Text, nullable=False, server_default=""))
    op.add_column("events", sa.Column("hash", sa.Text, nullable=False, server_default=""))
    if op.get_context().dialect.name == "postgresql":
        op.execute("ALTER TABLE events DISABLE TRIGGER events_append_only")
        _chain()
        op.execute("ALTER TABLE events ENABLE TRIGGER events_append_only")
        _guard_postgresql()
    else:
        op.execute("DROP TRIGGER events_no_update")
        _chain()
        op.execute(
            "CREATE TRIGGER events_no_update BEFORE UPDATE ON events"
            " BEGIN SELECT RAISE(ABORT, 'events can only be appended to'); END"
        )
        _guard_sqlite()


def _chain() -> None:
    connection = op.get_bind()
    for campaign in connection.execute(sa.text("SELECT id, name, key FROM campaigns")).all():
        head = Head.origin(campaign.key, campaign.name)
        for row in connection.execute(sa.text(_EVENTS), {"id": campaign.id}).all():
            said = row._asdict()
            del said["sequence"]
            try:
                entry = Entry.after(head, **said)
            except TypeError as error:  # a word that is none
                raise StoreError(f"event {head.sequence + 1} of the log is damaged; {WAY_BACK}") from error
            if row.sequence != entry.sequence:
                raise StoreError(f"event {entry.sequence} is missing from the log; {WAY_BACK}")
            place = {"hash": entry.hash, "id": campaign.id, "sequence": row.sequence}
            connection.execute(
                sa.text("UPDATE events SET hash = :hash WHERE campaign = :id AND sequence = :sequence"), place
            )
            head = entry.head
        place = {"hash": head.hash, "head": head.sequence, "id": campaign.id}
        connection.execute(sa.text("UPDATE campaigns SET hash = :hash, head = :head WHERE id = :id"), place)


_FORWARD = (
    "NEW.id = OLD.id AND NEW.name = OLD.name AND NEW.key = OLD.key AND NEW.head = OLD.head + 1"
    " AND NEW.hash = (SELECT hash FROM {events} WHERE campaign = OLD.id AND sequence = NEW.head)"
)
_TURN = "NEW.sequence = 1 + (SELECT head FROM {campaigns} WHERE id = NEW.campaign)"


def _guard_sqlite() -> None:
    refuse = "BEGIN SELECT RAISE(ABORT, '{} can only be appended to'); END"
    forward, turn = _FORWARD.format(events="events"), _TURN.format(campaigns="campaigns")
    for trigger in (
        f"campaigns_no_delete BEFORE DELETE ON campaigns {refuse.format('campaigns')}",
        f"campaigns_only_forward BEFORE UPDATE ON campaigns WHEN NOT ({forward}) {refuse.format('campaigns')}",
        f"events_in_turn BEFORE INSERT ON events WHEN ({turn}) IS NOT TRUE {refuse.format('events')}",
        # INSERT OR REPLACE would replace a row without a word to the other guards
        "artefacts_once BEFORE INSERT ON artefacts WHEN EXISTS (SELECT 1 FROM artefacts WHERE hash = NEW.hash)"
        " BEGIN SELECT RAISE(IGNORE); END",
    ):
        op.execute(f"CREATE TRIGGER {trigger}")


def _guard_postgresql() -> None:
    # Tables are named with their schema: a role may make temporary ones of the same names.
    found = op.get_bind().execute(sa.text("SELECT current_schema()")).scalar_one()
    schema = op.get_context().dialect.identifier_preparer.quote_identifier(found)
    for name, rule in (
        ("campaigns_only_forward", _FORWARD.format(events=f"{schema}.events")),
        ("events_in_turn", _TURN.format(campaigns=f"{schema}.campaigns")),
    ):
        op.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF TG_OP = 'DELETE' OR ({rule}) IS NOT TRUE THEN"
            " RAISE EXCEPTION '% can only be appended to', TG_TABLE_NAME; END IF; RETURN NEW; END $$"
        )
    op.execute(
        "CREATE TRIGGER campaigns_only_forward BEFORE UPDATE OR DELETE ON campaigns"
        " FOR EACH ROW EXECUTE FUNCTION campaigns_only_forward()"
    )
    op.execute(
        "CREATE TRIGGER events_in_turn BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION events_in_turn()"
    )
    for table in ("campaigns", "events", "artefacts"):
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
