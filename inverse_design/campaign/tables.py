"""The tables of a store: an append-only log, the blocks of numbers it names, and what follows from both.

``experiments`` and ``measurements`` are projections: replaying the log makes them again. The shape is written
twice, here for queries and in ``migrations`` for the databases that exist; a test holds the two together.
"""

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, MetaData, Table, Text, UniqueConstraint

METADATA = MetaData()

CAMPAIGNS = Table(
    "campaigns",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("head", Integer, nullable=False),  # number of the last event; its row is the lock of the campaign
    UniqueConstraint("name", name="campaigns_name"),
)

ARTEFACTS = Table(
    "artefacts",
    METADATA,
    Column("hash", Text, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

EVENTS = Table(
    "events",
    METADATA,
    Column("campaign", Integer, ForeignKey("campaigns.id"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("time", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("artefact", Text, ForeignKey("artefacts.hash")),
    Column("digest", Text),  # of what was told: the same table counts once
    UniqueConstraint("campaign", "digest", name="events_digest"),
    Index("events_kind", "campaign", "kind", "sequence"),
)

EXPERIMENTS = Table(
    "experiments",
    METADATA,
    Column("campaign", Integer, ForeignKey("campaigns.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("perturbation", Text, nullable=False),
    Column("round", Integer, nullable=False),  # 0: told without having been asked for
    Column("state", Text, nullable=False),
    Index("experiments_perturbation", "campaign", "perturbation"),
    Index("experiments_state", "campaign", "state"),
    Index("experiments_round", "campaign", "round"),
)

MEASUREMENTS = Table(
    "measurements",
    METADATA,
    Column("campaign", Integer, ForeignKey("campaigns.id"), primary_key=True),
    Column("number", Integer, primary_key=True),  # of the experiment
    Column("replicate", Text, primary_key=True),
    Column("sequence", Integer, nullable=False),  # of the event that told it
    Column("row", Integer, nullable=False),  # of the block of that event
)
