"""The tables of a store, and their version: made when a database is new, migrated when it is old.

The tables are written twice, here for queries and in ``migrations``; a test holds the two together. So are the
guards, triggers by which the database itself refuses to change or delete what was written.

In PostgreSQL the owner is who made the tables: that role alone creates campaigns and migrates tables. A teller
appends: events, arrays, and the counter of a campaign, which a trigger lets go forward only. A reader reads.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    inspect,
    text,
)
from sqlalchemy.dialects import postgresql

from inverse_design.campaign.store.chain import WAY_BACK
from inverse_design.campaign.store.database import Database
from inverse_design.campaign.store.files import copied, former_names, place_new, require_sound
from inverse_design.errors import SettingsError, StoreError

METADATA = MetaData()

CAMPAIGNS = Table(
    "campaigns",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("head", Integer, nullable=False),  # number of the last event; its row is the lock of the campaign
    Column("hash", Text, nullable=False, server_default=""),  # of the last event, and so of all
    UniqueConstraint("name", name="campaigns_name"),
)

ARTEFACTS = Table(
    "artefacts", METADATA, Column("hash", Text, primary_key=True), Column("content", LargeBinary, nullable=False)
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
    Column("digest", Text),  # of what was recorded: the same table counts once
    Column("hash", Text, nullable=False, server_default=""),  # see chain.py
    UniqueConstraint("campaign", "digest", name="events_digest"),
)

HEAD = "0003"
# By name, and in SQLite with the beginning of the hash of its text.
GUARDS: dict[str, dict[str, str]] = {
    "sqlite": {
        "artefacts_no_delete": "74340237895c9571",
        "artefacts_no_update": "d763ea8e8a6864dd",
        "artefacts_once": "da912ce89486f4be",
        "campaigns_no_delete": "420431a55cc55bb5",
        "campaigns_only_forward": "87fe540ba22adcc3",
        "events_in_turn": "ca86c26071af486e",
        "events_no_delete": "5a17ee680574222a",
        "events_no_update": "47561cf815d8ab65",
    },
    "postgresql": dict.fromkeys(
        (
            "artefacts_append_only", "artefacts_no_truncate", "campaigns_no_truncate", "campaigns_only_forward",
            "events_append_only", "events_in_turn", "events_no_truncate",
        ),
        "",
    ),
}  # fmt: skip
_STEPS = Path(__file__).parent / "migrations"
_EVERYONE = 5_720_519  # number of the advisory lock under which a PostgreSQL database is made or migrated


def schema_version(connection: Connection) -> str | None:
    """Read the version."""
    tables = inspect(connection).get_table_names()
    if "alembic_version" in tables and CAMPAIGNS.name in tables:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
        if len(found) == 1 and isinstance(found[0], str):
            return found[0]
        raise StoreError(f"the version of the tables cannot be read; {WAY_BACK}")
    if tables:
        raise StoreError(
            f"{connection.engine.url.database!r} is a database of another program (with a table"
            f" {tables[0]!r:.80}), or damaged; name another one, or {WAY_BACK}"
        )
    return None


def require_guards(connection: Connection) -> None:
    """Refuse a database whose guards are not those that were set: what it holds may have been changed."""
    kind = connection.dialect.name
    asked = "SELECT name, sql FROM sqlite_master WHERE type IN ('trigger', 'view')"
    if kind == "postgresql":
        asked = (
            "SELECT tgname, '' FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
            " WHERE relnamespace = current_schema()::regnamespace AND NOT tgisinternal AND tgenabled = 'O'"
        )
    rows = [(str(name), str(said)) for name, said in connection.execute(text(asked))]
    found = {name: hashlib.sha256(said.encode()).hexdigest()[:16] if said else "" for name, said in rows}
    odd = sorted(name for name, _ in GUARDS[kind].items() - found.items())
    if kind == "sqlite":  # others may keep tables and triggers of their own in a server
        odd = odd or sorted(found.keys() - GUARDS[kind].keys())
    if odd:
        raise StoreError(
            f"the guards of the log are not those that were set (see {odd[0]!r:.80}): it may have been"
            f" changed since; {WAY_BACK}"
        )


def migrate(connection: Connection, version: str = "head") -> None:
    """Run the steps that are missing, in the transaction of the connection."""
    from alembic import command  # noqa: PLC0415 - only for new and old databases: it takes a while to import
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_STEPS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    try:
        command.upgrade(config, version)
    except CommandError as error:
        raise StoreError(f"the tables cannot be migrated ({error}); {WAY_BACK}") from error


def prepare(database: Database) -> None:
    """Bring a database to the version of this package.

    A PostgreSQL database is migrated in one transaction. Of an SQLite file a copy is migrated and put in its place
    when all went well, so that no failure can leave a half of it; the old file is kept beside it.
    """
    with database.reading() as connection:
        version = schema_version(connection)
        if version == HEAD:
            require_guards(connection)
            return
    if version is not None and version > HEAD:
        raise newer(database, version)
    if version is None or database.path is None:
        _migrate_in_place(database)
    else:
        _migrate_copy(database, database.path, version)


def newer(database: Database, version: str) -> StoreError:
    """Say that a database is too new."""
    return StoreError(
        f"{database.shown!r} has version {version:.20} of the tables, this package knows {HEAD}: it was written by"
        " a newer release; upgrade the package"
    )


def _migrate_in_place(database: Database) -> None:
    with database.writing() as connection:
        if database.engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _EVERYONE})
        if schema_version(connection) != HEAD:  # another process may have been faster
            migrate(connection)


def _migrate_copy(database: Database, path: Path, version: str) -> None:
    """Migrate a copy under the writer's lock of the original: whoever waits for it sees the new file."""
    with database.writing() as connection:
        if schema_version(connection) == HEAD:
            return
        with copied(path) as copy:
            with Database.at(copy, timeout=0.0).writing() as steps:
                migrate(steps)
            require_sound(copy)
            _keep_former(path, version)
            place_new(copy, path, over=True)


def _keep_former(path: Path, version: str) -> None:
    """Keep the file as it was before it was migrated, under a name that says so."""
    with copied(path) as copy:
        place_new(copy, next(former_names(path, f"version-{version}")), over=False)


_TABLES = ("alembic_version", "campaigns", "artefacts", "events")


def grants(*, schema: str, readers: Sequence[str], tellers: Sequence[str]) -> str:
    """Write the statements that give roles what they need, and take everything else."""
    roles = [*readers, *tellers]
    if not roles:
        raise SettingsError("no role is named; name one with --reader or --teller")
    if twice := next((role for role in roles if roles.count(role) > 1), None):
        raise SettingsError(f"the role {twice!r} is named twice; a teller may read, too")
    if odd := next((role for role in (*roles, schema) if not role or not role.isprintable()), None):
        raise SettingsError(f"{odd!r:.80} cannot be the name of a role or schema")
    quote = postgresql.dialect().identifier_preparer.quote_identifier  # type: ignore[no-untyped-call]
    place = quote(schema)
    tables = {name: f"{place}.{name}" for name in _TABLES}
    every = ", ".join(tables.values())
    lines = [f"REVOKE ALL ON {every} FROM PUBLIC;"]
    for role in map(quote, roles):
        lines += [
            f"REVOKE ALL ON {every} FROM {role};",
            f"GRANT USAGE ON SCHEMA {place} TO {role};",
            f"GRANT SELECT ON {every} TO {role};",
        ]
    for role in map(quote, tellers):
        lines += [
            f"GRANT INSERT ON {tables['artefacts']}, {tables['events']} TO {role};",
            f"GRANT UPDATE (head, hash) ON {tables['campaigns']} TO {role};",
        ]
    return "\n".join(lines) + "\n"
