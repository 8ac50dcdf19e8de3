"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "campaigns",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("head", sa.Integer, nullable=False),
        sa.UniqueConstraint("name", name="campaigns_name"),
    )
    op.create_table(
        "artefacts",
        sa.Column("hash", sa.Text, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("campaign", sa.Integer, sa.ForeignKey("campaigns.id"), primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("time", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("artefact", sa.Text, sa.ForeignKey("artefacts.hash")),
        sa.Column("digest", sa.Text),
        sa.UniqueConstraint("campaign", "digest", name="events_digest"),
    )
    op.create_index("events_kind", "events", ["campaign", "kind", "sequence"])
    op.create_table(
        "experiments",
        sa.Column("campaign", sa.Integer, sa.ForeignKey("campaigns.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("perturbation", sa.Text, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
    )
    for column in ("perturbation", "state", "round"):
        op.create_index(f"experiments_{column}", "experiments", ["campaign", column])
    op.create_table(
        "measurements",
        sa.Column("campaign", sa.Integer, sa.ForeignKey("campaigns.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("replicate", sa.Text, primary_key=True),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("row", sa.Integer, nullable=False),
    )
